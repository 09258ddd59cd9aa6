/*
 * Waiting for a locked byte with a deadline, Windows.
 *
 * LockFileEx knows no deadline, but a request on an overlapped handle can wait while the caller
 * does something else: the system signals an event once the byte is ours.  Until then the request
 * stays out, over several calls, and keeps its place in the queue.
 *
 * Some systems have no such queue (Wine, and possibly file servers): the request is reported as
 * pending, but there is none, and its event never comes.  So the first request is taken back after
 * POLL_MS.  If it could be taken back it was there, and the next ones are left to wait; if there
 * was nothing to take back, asking every POLL_MS is all that can be done.
 */
#include "lock_windows.h"

#include <string.h>

enum {
    /* Far behind the record, because locked bytes cannot be read; msvcrt.locking by portalocker 3
     * (bytes 0 to 0xffff) and LockFileEx by older ones (from 0xffff on) both meet it. */
    LOCKED_BYTE = 0xffff,
    POLL_MS = 10,
    PENDING = 0x103 /* STATUS_PENDING, which winnt.h and ntstatus.h both define */
};

/* 0 when it is ours, ERROR_IO_PENDING when the request is out, or why not. */
static DWORD ask(struct msalex__byte *byte, DWORD flags) {
    const HANDLE event = byte->overlapped.hEvent;

    (void)ResetEvent(event);
    memset(&byte->overlapped, 0, sizeof byte->overlapped);
    byte->overlapped.hEvent = event;
    byte->overlapped.Offset = LOCKED_BYTE;
    /* So that it says "pending" also where nobody ever writes to it. */
    byte->overlapped.Internal = PENDING;
    if (LockFileEx(byte->file, LOCKFILE_EXCLUSIVE_LOCK | flags, 0, 1, 0, &byte->overlapped))
        return 0;
    byte->pending = GetLastError() == ERROR_IO_PENDING;
    return GetLastError();
}

/* What became of the request: 0 when the byte is ours. */
static DWORD result(struct msalex__byte *byte, BOOL wait) {
    DWORD unused;
    byte->pending = false;
    return GetOverlappedResult(byte->file, &byte->overlapped, &unused, wait) ? 0 : GetLastError();
}

/* Takes the request back: 0 when it was granted just before, ERROR_OPERATION_ABORTED when it was
 * waiting, ERROR_LOCK_VIOLATION when it never was. */
static DWORD take_back(struct msalex__byte *byte) {
    if (!CancelIoEx(byte->file, &byte->overlapped) && GetLastError() == ERROR_NOT_FOUND &&
        byte->overlapped.Internal == PENDING) {
        byte->pending = false;
        return ERROR_LOCK_VIOLATION;
    }
    return result(byte, TRUE);
}

bool msalex__byte_init(struct msalex__byte *byte, HANDLE file) {
    *byte = (struct msalex__byte){.file = file};
    byte->overlapped.hEvent = CreateEventW(NULL, TRUE, FALSE, NULL);
    return byte->overlapped.hEvent != NULL;
}

DWORD msalex__byte_try(struct msalex__byte *byte) {
    DWORD code = ask(byte, LOCKFILE_FAIL_IMMEDIATELY);
    if (code == ERROR_IO_PENDING) /* it is being answered, or (Wine) this is the answer */
        code = take_back(byte);
    return code == ERROR_OPERATION_ABORTED ? ERROR_LOCK_VIOLATION : code;
}

DWORD msalex__byte_wait(struct msalex__byte *byte, int64_t timeout_ms) {
    const int64_t deadline = msalex__now_ms() + timeout_ms;
    int64_t left;
    DWORD code;

    for (;;) {
        code = byte->pending ? ERROR_IO_PENDING : ask(byte, 0);
        left = timeout_ms < 0 ? INT32_MAX : deadline - msalex__now_ms();
        left = left < 0 ? 0 : left > POLL_MS && !byte->queues ? POLL_MS : left;
        if (code == ERROR_LOCK_VIOLATION) { /* where requests do not even seem to wait */
            Sleep((DWORD)left);
        } else if (code != ERROR_IO_PENDING) {
            return code;
        } else if (WaitForSingleObject(byte->overlapped.hEvent, (DWORD)left) == WAIT_OBJECT_0) {
            code = result(byte, FALSE);
            if (code != ERROR_OPERATION_ABORTED) /* the thread that asked has ended: ask again */
                return code;
        } else if (!byte->queues) {
            code = take_back(byte);
            byte->queues = code == ERROR_OPERATION_ABORTED;
            if (code != ERROR_OPERATION_ABORTED && code != ERROR_LOCK_VIOLATION)
                return code;
        }
        if (timeout_ms >= 0 && msalex__now_ms() >= deadline)
            return ERROR_LOCK_VIOLATION;
    }
}

bool msalex__byte_leave(struct msalex__byte *byte) {
    if (byte->pending && take_back(byte) == 0)
        return true;
    return msalex__byte_try(byte) == 0;
}

void msalex__byte_free(struct msalex__byte *byte, bool locked) {
    OVERLAPPED where = {.Offset = LOCKED_BYTE};

    if (locked) /* closing would do, but "depending upon available system resources" */
        (void)UnlockFileEx(byte->file, 0, 1, 0, &where);
    if (byte->overlapped.hEvent != NULL)
        (void)CloseHandle(byte->overlapped.hEvent);
    *byte = (struct msalex__byte){0};
}
