/* The model of LockFileEx: see fake_locks.h. */
#define FAKE_API_ITSELF
#include "fake_api.h"

#include <stdint.h>
#include <stdlib.h>

enum {
    ENTRIES_MAX = 256,
    SOON_MS = 10000,
    /* NTSTATUS values of [MS-ERREF] 2.3.1; GetOverlappedResult translates them. */
    GRANTED_STATUS = 0,
    PENDING_STATUS = 0x103,
    CANCELLED_STATUS = (LONG)0xC0000120,  /* 995 */
    NOT_GRANTED_STATUS = (LONG)0xC0000055 /* 33 */
};

/* In InternalHigh, which is the system's: this request is the model's. */
static const ULONG_PTR MINE = 0x6c6f636b;

enum state {
    UNUSED,
    LATE,    /* the request is on its way to the server */
    WAITING, /* it is there, and waits */
    GRANTED  /* it is a lock */
};

/* MS-FSA 2.1.1.10: a byte-range lock belongs to an open, which is a handle here. */
struct entry {
    enum state state;
    unsigned number; /* the older one has the smaller number */
    HANDLE owner;
    DWORD volume;
    uint64_t file, first, last;
    bool exclusive, immediately;
    OVERLAPPED *request; /* NULL once it is answered */
};

static SRWLOCK guard = SRWLOCK_INIT;
static struct entry entries[ENTRIES_MAX];
static unsigned next_number;
static struct fake_rules rules;
static bool modelled;
static volatile LONG late_answers; /* threads that are on their way */

/* ---- the rules ---- */

static bool overlaps(const struct entry *one, const struct entry *other) {
    return one->volume == other->volume && one->file == other->file && one->first <= other->last &&
           other->first <= one->last;
}

/* MS-FSA 2.1.4.10, and smbtorture's smb2.lock (valid-request, auto-unlock), which Windows passes:
 * an exclusive lock meets every other one, also those of the same handle; a shared one meets
 * exclusive ones of other handles only. */
static bool is_free(const struct entry *asked) {
    for (struct entry *lock = entries; lock < entries + ENTRIES_MAX; lock++) {
        if (lock->state == GRANTED && lock != asked && overlaps(lock, asked) &&
            (asked->exclusive || (lock->exclusive && lock->owner != asked->owner)))
            return false;
    }
    return true;
}

/* LockFileEx: "the event is set to the signaled state" when the request ends. */
static void answer(struct entry *entry, LONG status) {
    OVERLAPPED *const request = entry->request;

    entry->request = NULL;
    entry->state = status == GRANTED_STATUS ? GRANTED : UNUSED;
    if (request == NULL)
        return;
    MemoryBarrier();
    request->Internal = (ULONG_PTR)status;
    if (request->hEvent != NULL)
        (void)SetEvent(request->hEvent);
}

static struct entry *choose(void) {
    struct entry *chosen = NULL;
    unsigned count = 0;

    for (struct entry *entry = entries; entry < entries + ENTRIES_MAX; entry++) {
        if (entry->state != WAITING || !is_free(entry))
            continue;
        count++;
        if (chosen == NULL || (rules.order == FAKE_FIFO && entry->number < chosen->number) ||
            (rules.order == FAKE_LIFO && entry->number > chosen->number) ||
            (rules.order == FAKE_RANDOM && (unsigned)rand() % count == 0))
            chosen = entry;
    }
    return chosen;
}

/* MS-FSA 2.1.5.8: "wait until there are no overlapping ByteRangeLocks"; nothing about an order. */
static void grant_what_is_free(void) {
    struct entry *entry;
    while ((entry = choose()) != NULL)
        answer(entry, GRANTED_STATUS);
}

/* The request has arrived.  0: granted; else what LockFileEx says. */
static DWORD decide(struct entry *entry) {
    if (is_free(entry)) {
        entry->state = GRANTED;
        return 0;
    }
    if (entry->immediately || rules.refuses) {
        entry->state = UNUSED;
        return ERROR_LOCK_VIOLATION; /* STATUS_LOCK_NOT_GRANTED */
    }
    /* Wine 8 (dlls/ntdll/unix/file.c, NtLockFile): pending, but nobody will answer. */
    entry->state = rules.no_queue ? UNUSED : WAITING;
    return ERROR_IO_PENDING;
}

/* ---- late answers ---- */

struct late {
    struct entry *entry;
    unsigned number;
};

static DWORD WINAPI answer_late(void *argument) {
    struct late *late = argument;
    DWORD code;

    Sleep(rules.late_ms);
    AcquireSRWLockExclusive(&guard);
    if (late->entry->state == LATE && late->entry->number == late->number) {
        code = decide(late->entry);
        if (code != ERROR_IO_PENDING)
            answer(late->entry, code == 0 ? GRANTED_STATUS : NOT_GRANTED_STATUS);
    }
    ReleaseSRWLockExclusive(&guard);
    free(late);
    (void)InterlockedDecrement(&late_answers);
    return 0;
}

static void send(struct entry *entry) {
    struct late *late = malloc(sizeof *late);
    HANDLE thread;

    if (late == NULL)
        abort();
    *late = (struct late){.entry = entry, .number = entry->number};
    (void)InterlockedIncrement(&late_answers);
    thread = CreateThread(NULL, 0, answer_late, late, 0, NULL);
    if (thread == NULL)
        abort();
    (void)CloseHandle(thread);
}

/* ---- the calls ---- */

static struct entry *make_entry(HANDLE file, DWORD flags, uint64_t length, OVERLAPPED *request) {
    BY_HANDLE_FILE_INFORMATION found = {0};
    struct entry *entry = entries;

    while (entry < entries + ENTRIES_MAX && entry->state != UNUSED)
        entry++;
    if (entry == entries + ENTRIES_MAX || !GetFileInformationByHandle(file, &found))
        abort();
    *entry = (struct entry){.state = LATE,
                            .number = ++next_number,
                            .owner = file,
                            .volume = found.dwVolumeSerialNumber,
                            .file = (uint64_t)found.nFileIndexHigh << 32 | found.nFileIndexLow,
                            .first = (uint64_t)request->OffsetHigh << 32 | request->Offset,
                            .exclusive = (flags & LOCKFILE_EXCLUSIVE_LOCK) != 0,
                            .immediately = (flags & LOCKFILE_FAIL_IMMEDIATELY) != 0,
                            .request = request};
    entry->last = entry->first + length - 1;
    return entry;
}

/* SQLite's os_win.c says of its call with LOCKFILE_FAIL_IMMEDIATELY that an overlapped handle may
 * be told ERROR_IO_PENDING all the same, and waits for the event.  On a handle that is not
 * overlapped the call itself waits (LockFileEx). */
BOOL WINAPI fake_LockFileEx(HANDLE file, DWORD flags, DWORD zero, DWORD low, DWORD high,
                            LPOVERLAPPED request) {
    const uint64_t length = (uint64_t)high << 32 | low;
    struct entry *entry;
    DWORD code;

    if (fake_planned(FAKE_LOCK) != 0)
        return FALSE;
    if (!modelled)
        return LockFileEx(file, flags, zero, low, high, request);
    if (rules.no_far_bytes && request->OffsetHigh >= 0x80000000) {
        SetLastError(ERROR_INVALID_PARAMETER);
        return FALSE;
    }
    if (rules.late && request->hEvent == NULL)
        Sleep(rules.late_ms);
    AcquireSRWLockExclusive(&guard);
    if (request->hEvent != NULL) {
        (void)ResetEvent(request->hEvent);
        request->Internal = PENDING_STATUS;
        request->InternalHigh = MINE;
    }
    entry = make_entry(file, flags, length, request);
    if (rules.late && request->hEvent != NULL) {
        send(entry);
        code = ERROR_IO_PENDING;
    } else {
        code = decide(entry);
        if (code == 0)
            answer(entry, GRANTED_STATUS);
    }
    ReleaseSRWLockExclusive(&guard);
    if (code != 0)
        SetLastError(code);
    return code == 0;
}

/* MS-FSA 2.1.5.9: exactly this range of this handle; of two, the exclusive one first. */
BOOL WINAPI fake_UnlockFileEx(HANDLE file, DWORD zero, DWORD low, DWORD high, LPOVERLAPPED where) {
    const uint64_t first = (uint64_t)where->OffsetHigh << 32 | where->Offset;
    const uint64_t last = first + ((uint64_t)high << 32 | low) - 1;
    struct entry *found = NULL;

    if (!modelled)
        return UnlockFileEx(file, zero, low, high, where);
    AcquireSRWLockExclusive(&guard);
    for (struct entry *lock = entries; lock < entries + ENTRIES_MAX; lock++) {
        if (lock->state == GRANTED && lock->owner == file && lock->first == first &&
            lock->last == last && (found == NULL || lock->exclusive))
            found = lock;
    }
    if (found != NULL)
        found->state = UNUSED;
    grant_what_is_free();
    ReleaseSRWLockExclusive(&guard);
    if (found == NULL)
        SetLastError(ERROR_NOT_LOCKED);
    return found != NULL;
}

/* CancelIoEx: ERROR_NOT_FOUND when there is no such request, for example because it was granted
 * a moment ago.  One that was found ends with ERROR_OPERATION_ABORTED, or all the same with
 * success. */
BOOL WINAPI fake_CancelIoEx(HANDLE file, LPOVERLAPPED request) {
    BOOL cancelled = FALSE;

    if (!modelled)
        return CancelIoEx(file, request);
    AcquireSRWLockExclusive(&guard);
    for (struct entry *entry = entries; entry < entries + ENTRIES_MAX; entry++) {
        if ((entry->state != WAITING && entry->state != LATE) || entry->owner != file ||
            entry->request != request)
            continue;
        cancelled = !rules.grants_on_cancel;
        if (!rules.ignores_cancel)
            answer(entry, rules.grants_on_cancel ? GRANTED_STATUS : CANCELLED_STATUS);
    }
    ReleaseSRWLockExclusive(&guard);
    if (!cancelled)
        SetLastError(ERROR_NOT_FOUND);
    return cancelled;
}

BOOL WINAPI fake_GetOverlappedResult(HANDLE file, LPOVERLAPPED request, LPDWORD size, BOOL wait) {
    if (!modelled || request->InternalHigh != MINE)
        return GetOverlappedResult(file, request, size, wait);
    if (wait)
        (void)WaitForSingleObject(request->hEvent, INFINITE);
    if ((LONG)request->Internal == GRANTED_STATUS)
        return TRUE;
    SetLastError((LONG)request->Internal == CANCELLED_STATUS     ? ERROR_OPERATION_ABORTED
                 : (LONG)request->Internal == NOT_GRANTED_STATUS ? ERROR_LOCK_VIOLATION
                                                                 : ERROR_IO_INCOMPLETE);
    return FALSE;
}

/* LockFileEx: "If a process terminates with a portion of a file locked or closes a file that has
 * outstanding locks, the locks are unlocked."  MS-FSA 2.1.5.5: its waiting requests end, too. */
void fake_locks_close(HANDLE handle) {
    AcquireSRWLockExclusive(&guard);
    for (struct entry *entry = entries; entry < entries + ENTRIES_MAX; entry++) {
        if (entry->state == UNUSED || entry->owner != handle)
            continue;
        if (entry->state == GRANTED)
            entry->state = UNUSED;
        else
            answer(entry, CANCELLED_STATUS);
    }
    grant_what_is_free();
    ReleaseSRWLockExclusive(&guard);
}

/* MS-FSA 2.1.4.10: the exclusive locks of other handles forbid reading; these and all shared ones
 * forbid writing. */
DWORD fake_check_range(HANDLE file, bool writes, const OVERLAPPED *where, DWORD size) {
    struct entry *asked;
    DWORD code = 0;

    if (!modelled || where == NULL || size == 0)
        return 0;
    AcquireSRWLockExclusive(&guard);
    asked = make_entry(file, 0, size, (OVERLAPPED *)where);
    asked->state = UNUSED;
    for (struct entry *lock = entries; lock < entries + ENTRIES_MAX; lock++) {
        if (lock->state == GRANTED && overlaps(lock, asked) &&
            (lock->exclusive ? lock->owner != file : writes))
            code = ERROR_LOCK_VIOLATION;
    }
    ReleaseSRWLockExclusive(&guard);
    if (code != 0)
        SetLastError(code);
    return code;
}

/* ---- for tests ---- */

static void use(bool model, struct fake_rules new_rules) {
    while (late_answers > 0)
        Sleep(1);
    AcquireSRWLockExclusive(&guard);
    modelled = model;
    rules = new_rules;
    for (struct entry *entry = entries; entry < entries + ENTRIES_MAX; entry++)
        entry->state = UNUSED;
    ReleaseSRWLockExclusive(&guard);
}

void fake_model_locks(struct fake_rules new_rules) {
    use(true, new_rules);
}

void fake_pass_locks_on(void) {
    const struct fake_rules none = {0};
    use(false, none);
}

/* How many handles have such an entry?  One may have two requests. */
static int count(enum state state) {
    int found = 0;

    AcquireSRWLockExclusive(&guard);
    for (struct entry *entry = entries; entry < entries + ENTRIES_MAX; entry++) {
        const struct entry *earlier = entries;
        while (earlier < entry && (earlier->state != state || earlier->owner != entry->owner))
            earlier++;
        found += entry->state == state && earlier == entry;
    }
    ReleaseSRWLockExclusive(&guard);
    return found;
}

int fake_waiting(void) {
    return count(WAITING);
}

int fake_locked(void) {
    return count(GRANTED);
}

bool fake_wait_for_waiting(int wanted) {
    for (int ms = 0; fake_waiting() != wanted; ms++) {
        if (ms >= SOON_MS)
            return false;
        Sleep(1);
    }
    return true;
}

/* CancelIoEx and ExitThread: "all pending I/O initiated by the thread is canceled". */
void fake_end_requests(void) {
    AcquireSRWLockExclusive(&guard);
    for (struct entry *entry = entries; entry < entries + ENTRIES_MAX; entry++) {
        if (entry->state == WAITING)
            answer(entry, CANCELLED_STATUS);
    }
    ReleaseSRWLockExclusive(&guard);
}
