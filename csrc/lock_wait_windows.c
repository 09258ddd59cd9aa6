/*
 * Waiting for the byte of a lock file with a deadline, Windows.  The promise is in lock_windows.h.
 *
 * LockFileEx knows no deadline, but a request on an overlapped handle can wait while the caller
 * does something else: the system signals an event once the byte is ours.  Until then the request
 * stays out, over several calls.  Windows does not document an order of requests, and we promise
 * none.
 *
 * Some systems have no such queue (Wine, and possibly file servers): the request is reported as
 * pending, but there is none, and its event never comes.  So the first request is cancelled after
 * POLL_MS.  If the cancel succeeds, the system has a real queue, and later requests may wait in it.
 * If there was nothing to cancel, we can only ask every POLL_MS.
 */
#include "lock_windows.h"

enum {
    POLL_MS = 10,
    LONGEST_MS = 86400000 /* of one wait: a day fits into a DWORD */
};

void msalex__lock_wait_join(struct msalex__lock_file *file) {
    (void)msalex__lock_file_request(file, 0); /* if it fails, the next one tells why */
}

static DWORD slice_of(const struct msalex__lock_file *file, int64_t deadline) {
    const int64_t left = msalex__time_left(deadline), most = file->queues ? LONGEST_MS : POLL_MS;
    return (DWORD)(left >= 0 && left < most ? left : most);
}

DWORD msalex__lock_wait_for(struct msalex__lock_file *file, int64_t timeout_ms) {
    const int64_t deadline = msalex__deadline(timeout_ms);
    DWORD code;

    while (!file->locked) {
        code = file->asked ? ERROR_IO_PENDING : msalex__lock_file_request(file, 0);
        if (code == ERROR_LOCK_VIOLATION) { /* here requests do not even seem to wait */
            msalex__pause(slice_of(file, deadline));
        } else if (code != ERROR_IO_PENDING) {
            return code;
        } else if (WaitForSingleObject(file->request.hEvent, slice_of(file, deadline)) ==
                   WAIT_OBJECT_0) {
            code = msalex__lock_file_answer(file);
            if (code != ERROR_OPERATION_ABORTED) /* the thread that asked has ended: ask again */
                return code;
        } else if (!file->queues) {
            code = msalex__lock_file_withdraw(file);
            file->queues = code == ERROR_OPERATION_ABORTED;
            if (code != ERROR_OPERATION_ABORTED && code != ERROR_LOCK_VIOLATION)
                return code;
        }
        if (!file->locked && msalex__time_left(deadline) == 0)
            return ERROR_LOCK_VIOLATION;
    }
    return 0;
}

void msalex__lock_wait_leave(struct msalex__lock_file *file) {
    if (file == NULL)
        return;
    if (file->asked)
        (void)msalex__lock_file_withdraw(file);
    /* Even a wait that is given up removes the file of a dead holder. */
    if (file->locked || msalex__lock_file_try(file) == 0)
        msalex__lock_file_turn_down(file);
    else
        msalex__lock_file_close(file);
}
