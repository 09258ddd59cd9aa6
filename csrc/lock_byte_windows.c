/*
 * The locked bytes of a lock file, Windows.  The promises are in lock_windows.h, what the bytes
 * mean is at the top of lock_windows.c.
 *
 * `waiting` is an overlapped handle, so each LockFileEx on it may be answered later
 * (ERROR_IO_PENDING), also one with LOCKFILE_FAIL_IMMEDIATELY: SQLite meets that (os_win.c), and a
 * file server needs a round trip for each.  So an answer that is on its way is waited for.
 *
 * While a request is out, the system may write to its OVERLAPPED.  Every wait here has a bound; if
 * the system keeps a request all the same, `out` says so, and the file must never be freed.
 */
#include "lock_windows.h"

#include <string.h>

enum {
    ANSWER_MS = 2000, /* for an answer, or for the end of a request that was taken back */
    LATE_MS = 20,     /* for an answer that was given when there was nothing to take back */
    LOOKS = 20,       /* for an announcement, while a holder looks whether there is one */
    PENDING = 0x103   /* STATUS_PENDING, which winnt.h and ntstatus.h both define */
};

/* Far behind the record, because locked bytes cannot be read.  Each kind of portalocker locks this
 * byte, too: version 3 by msvcrt.locking (bytes 0 to 0xffff), older ones by LockFileEx. */
static const uint64_t LOCKED_BYTE = 0xffff;

/* Behind the 0xffff0000'00000000 bytes that an older portalocker locks: it would fail as long as
 * one of ours waits.  MS-FSA 2.1.5.8 allows a lock of any byte up to 2^64 - 1, and Samba's tests
 * (smb2.lock) show that Windows does keep locks beyond 2^63 apart. */
static const uint64_t ANNOUNCED_BYTE = 0xffffffff00000000;

bool msalex__lock_requests_new(struct msalex__lock_file *file) {
    file->request.it.hEvent = CreateEventW(NULL, TRUE, FALSE, NULL);
    file->aside.it.hEvent = CreateEventW(NULL, TRUE, FALSE, NULL);
    if (file->request.it.hEvent != NULL && file->aside.it.hEvent != NULL)
        return true;
    msalex__lock_requests_free(file);
    return false;
}

void msalex__lock_requests_free(struct msalex__lock_file *file) {
    if (file->request.it.hEvent != NULL)
        (void)CloseHandle(file->request.it.hEvent);
    if (file->aside.it.hEvent != NULL)
        (void)CloseHandle(file->aside.it.hEvent);
}

/* ---- one request ---- */

static void point_at(OVERLAPPED *it, uint64_t byte) {
    it->Offset = (DWORD)byte;
    it->OffsetHigh = (DWORD)(byte >> 32);
}

/* 0: granted; ERROR_IO_PENDING: the request is out; else the reason why not. */
static DWORD ask(const struct msalex__lock_file *file, struct msalex__lock_request *request,
                 uint64_t byte, DWORD flags) {
    const HANDLE event = request->it.hEvent;
    DWORD code;

    if (request->out) /* the system keeps an earlier one */
        return ERROR_BUSY;
    (void)ResetEvent(event);
    memset(&request->it, 0, sizeof request->it);
    request->it.hEvent = event;
    point_at(&request->it, byte);
    /* So that it says "pending" even where the system never writes to it. */
    request->it.Internal = PENDING;
    code = LockFileEx(file->waiting, flags, 0, 1, 0, &request->it) ? 0 : GetLastError();
    request->out = code == ERROR_IO_PENDING;
    return code;
}

/* Waits for the answer.  WAIT_TIMEOUT: none came, and the request is still out. */
static DWORD answer_within(const struct msalex__lock_file *file,
                           struct msalex__lock_request *request, DWORD ms) {
    DWORD unused;

    if (WaitForSingleObject(request->it.hEvent, ms) != WAIT_OBJECT_0)
        return WAIT_TIMEOUT;
    request->out = false;
    return GetOverlappedResult(file->waiting, &request->it, &unused, FALSE) ? 0 : GetLastError();
}

/* Takes a request back that is out.  0: it was granted just before; ERROR_OPERATION_ABORTED: it was
 * waiting; WAIT_TIMEOUT: the system keeps it; ERROR_LOCK_VIOLATION: it never was, or was refused.
 * ERROR_NOT_FOUND alone proves neither: an answer may be on its way at this moment. */
static DWORD take_back(const struct msalex__lock_file *file, struct msalex__lock_request *request) {
    bool found;
    DWORD code;

    if (request->stuck)
        return WAIT_TIMEOUT;
    found = CancelIoEx(file->waiting, &request->it) || GetLastError() != ERROR_NOT_FOUND;
    code = answer_within(file, request, found ? ANSWER_MS : LATE_MS);
    request->stuck = found && code == WAIT_TIMEOUT;
    if (code != WAIT_TIMEOUT || found)
        return code;
    request->out = false; /* Wine: the request is pending, but there is none */
    return ERROR_LOCK_VIOLATION;
}

/* Asks once, and waits for the answer. */
static DWORD try_once(const struct msalex__lock_file *file, struct msalex__lock_request *request,
                      uint64_t byte, DWORD flags) {
    DWORD code = ask(file, request, byte, flags | LOCKFILE_FAIL_IMMEDIATELY);

    if (code == ERROR_IO_PENDING &&
        (code = answer_within(file, request, ANSWER_MS)) == WAIT_TIMEOUT) {
        code = take_back(file, request);
        return code == 0 ? 0 : WAIT_TIMEOUT;
    }
    return code == ERROR_OPERATION_ABORTED ? ERROR_LOCK_VIOLATION : code;
}

static void unlock(const struct msalex__lock_file *file, uint64_t byte) {
    OVERLAPPED where = {0};

    point_at(&where, byte);
    (void)UnlockFileEx(file->waiting, 0, 1, 0, &where);
}

/* ---- the locked byte ---- */

DWORD msalex__lock_file_request(struct msalex__lock_file *file) {
    const DWORD code = ask(file, &file->request, LOCKED_BYTE, LOCKFILE_EXCLUSIVE_LOCK);
    file->locked = code == 0;
    return code;
}

DWORD msalex__lock_file_answer(struct msalex__lock_file *file, DWORD ms) {
    const DWORD code = answer_within(file, &file->request, ms);
    file->locked = code == 0;
    return code;
}

DWORD msalex__lock_file_withdraw(struct msalex__lock_file *file) {
    const DWORD code = file->request.out ? take_back(file, &file->request) : ERROR_LOCK_VIOLATION;
    file->locked |= code == 0;
    return code;
}

DWORD msalex__lock_file_try(struct msalex__lock_file *file) {
    const DWORD code = try_once(file, &file->request, LOCKED_BYTE, LOCKFILE_EXCLUSIVE_LOCK);
    file->locked = code == 0;
    return code;
}

void msalex__lock_file_probe(struct msalex__lock_file *file) {
    DWORD code = ask(file, &file->aside, LOCKED_BYTE, LOCKFILE_EXCLUSIVE_LOCK);

    if (code == ERROR_IO_PENDING)
        code = take_back(file, &file->aside);
    if (code == ERROR_OPERATION_ABORTED)
        file->queue = MSALEX__HAS_QUEUE;
    else if (code == ERROR_LOCK_VIOLATION)
        file->queue = MSALEX__NO_QUEUE;
    /* The byte came free, and this request got it; the first one was never in a queue. */
    file->locked = code == 0;
    if (file->locked || file->queue == MSALEX__NO_QUEUE)
        (void)msalex__lock_file_withdraw(file);
}

void msalex__lock_file_unlock(struct msalex__lock_file *file) {
    if (file->locked) /* a close unlocks, but when, depends "upon available system resources" */
        unlock(file, LOCKED_BYTE);
    file->locked = false;
}

/* ---- the announcement ---- */

DWORD msalex__lock_file_announce(struct msalex__lock_file *file) {
    DWORD code = ERROR_LOCK_VIOLATION;

    for (int looks = 0; code == ERROR_LOCK_VIOLATION && looks < LOOKS; looks++) {
        if (looks > 0)
            (void)SwitchToThread();
        code = try_once(file, &file->aside, ANNOUNCED_BYTE, 0);
    }
    file->announced = code == 0;
    return code;
}

void msalex__lock_file_unannounce(struct msalex__lock_file *file) {
    if (file->announced)
        unlock(file, ANNOUNCED_BYTE);
    file->announced = false;
}

bool msalex__lock_file_is_awaited(struct msalex__lock_file *file) {
    const DWORD code = try_once(file, &file->aside, ANNOUNCED_BYTE, LOCKFILE_EXCLUSIVE_LOCK);

    if (code == 0)
        unlock(file, ANNOUNCED_BYTE);
    return code == ERROR_LOCK_VIOLATION;
}

/* ---- the end ---- */

bool msalex__lock_requests_end(struct msalex__lock_file *file) {
    if (file->request.out)
        (void)take_back(file, &file->request);
    if (file->aside.out)
        (void)take_back(file, &file->aside);
    return !file->request.out && !file->aside.out;
}
