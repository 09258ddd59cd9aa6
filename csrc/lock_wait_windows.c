/*
 * Waiting for the byte of a lock file with a deadline, Windows.  The promise is in lock_windows.h.
 *
 * LockFileEx knows no deadline, but a request on an overlapped handle can wait while the caller
 * does something else: the system signals an event once the byte is ours.  Until then the request
 * stays out, over several calls, and keeps its place.  Windows does not document an order of
 * requests; where it grants them in the order in which they came, waiters are served in that order.
 *
 * Some systems have no such queue (Wine, and possibly file servers): the request is reported as
 * pending, but there is none, and its event never comes.  So after POLL_MS a waiter probes whether
 * a second request can be taken back.  If there is nothing to take back, it asks every POLL_MS, and
 * its announcement goes: a holder must not leave the file to a queue that does not exist.  After
 * that the waiters of this process announce themselves only when a probe has found a queue.
 *
 * A process that is suspended keeps its place in the queue, and may be granted the byte.  If that
 * file has lost its name meanwhile, the others would wait behind it for nothing.  So each waiter
 * looks now and then whether its file still has the name.
 */
#include "lock_windows.h"

enum {
    POLL_MS = 10,
    LOOK_MS = 250 /* between two looks whether the file has its name */
};

/* Did the last probe find no queue?  For local files, and for those on file servers. */
static volatile LONG has_none[2];

bool msalex__lock_wait_join(struct msalex__lock_file *file) {
    if (!has_none[file->remote] && msalex__lock_file_announce(file) == ERROR_LOCK_VIOLATION)
        return false;
    file->looked = msalex__now_ms();
    (void)msalex__lock_file_request(file); /* if it fails, the next one tells why */
    return true;
}

static DWORD slice_of(const struct msalex__lock_file *file, int64_t deadline) {
    const int64_t left = msalex__time_left(deadline);
    const int64_t most = file->queue == MSALEX__HAS_QUEUE ? LOOK_MS : POLL_MS;
    return (DWORD)(left >= 0 && left < most ? left : most);
}

static void stop_queueing(struct msalex__lock_file *file) {
    file->queue = MSALEX__NO_QUEUE;
    (void)InterlockedExchange(&has_none[file->remote], 1);
    msalex__lock_file_unannounce(file);
}

static void probe(struct msalex__lock_file *file) {
    msalex__lock_file_probe(file);
    if (file->queue == MSALEX__NO_QUEUE)
        stop_queueing(file);
    if (file->queue != MSALEX__HAS_QUEUE)
        return;
    (void)InterlockedExchange(&has_none[file->remote], 0);
    if (!file->announced)
        (void)msalex__lock_file_announce(file);
}

/* Waits for the request, a slice long. */
static DWORD wait_in_queue(struct msalex__lock_file *file, int64_t deadline) {
    DWORD code = file->request.out ? ERROR_IO_PENDING : msalex__lock_file_request(file);

    if (code == ERROR_LOCK_VIOLATION) /* here requests do not even seem to wait */
        stop_queueing(file);
    if (code != ERROR_IO_PENDING)
        return code;
    code = msalex__lock_file_answer(file, slice_of(file, deadline));
    if (code == ERROR_OPERATION_ABORTED) /* the thread that asked has ended: ask again */
        return ERROR_LOCK_VIOLATION;
    if (code != WAIT_TIMEOUT)
        return code;
    if (file->queue == MSALEX__QUEUE_UNKNOWN)
        probe(file);
    return file->locked ? 0 : ERROR_LOCK_VIOLATION;
}

static DWORD poll_byte(struct msalex__lock_file *file, int64_t deadline) {
    DWORD code = msalex__lock_file_try(file);

    if (code == WAIT_TIMEOUT)
        code = ERROR_LOCK_VIOLATION;
    if (code == ERROR_LOCK_VIOLATION)
        msalex__pause(slice_of(file, deadline));
    return code;
}

static bool has_lost_its_name(struct msalex__lock_file *file) {
    const int64_t now = msalex__now_ms();

    if (now - file->looked < LOOK_MS)
        return false;
    file->looked = now;
    return msalex__lock_file_check(file) == ERROR_FILE_NOT_FOUND;
}

DWORD msalex__lock_wait_for(struct msalex__lock_file *file, int64_t timeout_ms) {
    const int64_t deadline = msalex__deadline(timeout_ms);
    DWORD code = 0;

    while (!file->locked) {
        code = file->queue == MSALEX__NO_QUEUE ? poll_byte(file, deadline)
                                               : wait_in_queue(file, deadline);
        if (code != ERROR_LOCK_VIOLATION)
            return code;
        if (has_lost_its_name(file))
            return ERROR_FILE_NOT_FOUND;
        if (msalex__time_left(deadline) == 0)
            return ERROR_LOCK_VIOLATION;
    }
    return 0;
}

void msalex__lock_wait_leave(struct msalex__lock_file *file) {
    if (file == NULL)
        return;
    /* First, so that a holder that releases now removes the file, and leaves it to nobody. */
    msalex__lock_file_unannounce(file);
    (void)msalex__lock_file_withdraw(file);
    /* Even a wait that is given up removes the file of a dead holder. */
    if (file->locked || msalex__lock_file_try(file) == 0)
        msalex__lock_file_turn_down(file);
    else
        msalex__lock_file_close(file);
}
