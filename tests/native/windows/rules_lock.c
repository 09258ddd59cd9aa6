/* Rules about locks: see rules.h. */
#include "rules.h"

#include <string.h>

enum {
    EXCLUSIVELY = LOCKFILE_EXCLUSIVE_LOCK,
    TRY = LOCKFILE_FAIL_IMMEDIATELY,
    PENDING = 0x103, /* STATUS_PENDING */
    WAITERS = 3
};

/* A request keeps its place for ever: were it never answered, the answer must not meet a stack. */
struct request {
    OVERLAPPED where;
    HANDLE file;
};

static struct request requests[16];
static size_t request_count;

/* A request for byte 0 of the file, by a handle of its own; its answer is in `code`. */
static struct request *ask(DWORD how) {
    struct request *it = &requests[request_count++ % (sizeof requests / sizeof *requests)];

    memset(it, 0, sizeof *it);
    it->where.Internal = PENDING; /* Wine leaves it as it is */
    it->where.hEvent = CreateEventW(NULL, TRUE, FALSE, NULL);
    it->file = CreateFileW(FILE_NAME, GENERIC_READ | GENERIC_WRITE, ALL, NULL, OPEN_EXISTING,
                           FILE_FLAG_OVERLAPPED, NULL);
    (void)said(LockFileEx(it->file, how, 0, 1, 0, &it->where));
    return it;
}

static bool is_answered(const struct request *it, DWORD ms) {
    return WaitForSingleObject(it->where.hEvent, ms) == WAIT_OBJECT_0;
}

/* Closes the handle, by which a lock ends and a request that waits, too. */
static void end(struct request *it) {
    DWORD ignored;
    if (it->where.Internal == PENDING && CancelIoEx(it->file, &it->where))
        (void)is_answered(it, PATIENCE_MS);
    (void)GetOverlappedResult(it->file, &it->where, &ignored, FALSE);
    close_file(it->file);
    if (it->where.Internal != PENDING)
        close_file(it->where.hEvent);
}

static bool result_is(struct request *it, DWORD expected) {
    DWORD ignored;
    (void)said(GetOverlappedResult(it->file, &it->where, &ignored, FALSE));
    return code == expected;
}

bool a_lock_is_refused(void) {
    struct request *holder = ask(EXCLUSIVELY | TRY), *other = ask(EXCLUSIVELY | TRY);
    const bool shown = code == ERROR_LOCK_VIOLATION;
    end(other);
    end(holder);
    return shown;
}

bool a_shared_lock_excludes(void) {
    struct request *one = ask(TRY), *two = ask(TRY);
    const bool shared = code == 0;
    struct request *other = ask(EXCLUSIVELY | TRY);
    const bool shown = shared && code == ERROR_LOCK_VIOLATION;
    end(other);
    end(two);
    end(one);
    return shown;
}

bool a_lock_ends_with_its_handle(void) {
    struct request *holder = ask(EXCLUSIVELY | TRY), *other;
    end(holder);
    other = ask(EXCLUSIVELY | TRY);
    end(other);
    return code == 0;
}

bool a_locked_byte_is_not_read(void) {
    struct request *holder = ask(EXCLUSIVELY | TRY);
    HANDLE file = open_file(FILE_NAME, GENERIC_READ, ALL, OPEN_EXISTING, 0);
    char byte;
    DWORD size;
    const bool shown = !said(ReadFile(file, &byte, 1, &size, NULL)) && code == ERROR_LOCK_VIOLATION;
    close_file(file);
    end(holder);
    return shown;
}

bool a_far_byte_can_be_locked(void) {
    OVERLAPPED where = {0};
    HANDLE file = open_file(FILE_NAME, GENERIC_READ | GENERIC_WRITE, ALL, OPEN_EXISTING, 0);
    bool shown;

    where.OffsetHigh = 0x80000001;
    shown = said(LockFileEx(file, EXCLUSIVELY | TRY, 0, 1, 0, &where));
    close_file(file);
    return shown;
}

bool a_request_waits(void) {
    struct request *holder = ask(EXCLUSIVELY | TRY), *other = ask(EXCLUSIVELY);
    const DWORD answer = code;
    const bool shown = answer == ERROR_IO_PENDING && !is_answered(other, A_WHILE_MS);
    end(other);
    end(holder);
    code = answer;
    return shown;
}

bool a_request_is_granted(void) {
    struct request *holder = ask(EXCLUSIVELY | TRY), *other = ask(EXCLUSIVELY);
    bool shown = code == ERROR_IO_PENDING;
    end(holder);
    shown = shown && is_answered(other, PATIENCE_MS) && result_is(other, 0);
    end(other);
    return shown;
}

bool a_request_is_taken_back(void) {
    struct request *holder = ask(EXCLUSIVELY | TRY), *other = ask(EXCLUSIVELY);
    bool shown = said(CancelIoEx(other->file, &other->where));
    shown = shown && is_answered(other, PATIENCE_MS) && result_is(other, ERROR_OPERATION_ABORTED);
    end(other);
    end(holder);
    return shown;
}

bool requests_are_granted_in_order(void) {
    struct request *holder = ask(EXCLUSIVELY | TRY), *waiters[WAITERS];
    bool shown = true;

    for (int i = 0; i < WAITERS; i++)
        waiters[i] = ask(EXCLUSIVELY);
    end(holder);
    for (int i = 0; i < WAITERS; i++) {
        shown = shown && is_answered(waiters[i], PATIENCE_MS);
        for (int later = i + 1; later < WAITERS; later++)
            shown = shown && !is_answered(waiters[later], 0);
        end(waiters[i]);
    }
    return shown;
}

static DWORD WINAPI ask_and_end(void *how) {
    struct request *it = ask((DWORD)(UINT_PTR)how);
    (void)it;
    return 0;
}

/* Makes a request in a thread that has ended when this returns. */
static struct request *ask_in_a_thread(DWORD how) {
    HANDLE thread = CreateThread(NULL, 0, ask_and_end, (void *)(UINT_PTR)how, 0, NULL);
    (void)WaitForSingleObject(thread, PATIENCE_MS);
    close_file(thread);
    return &requests[(request_count - 1) % (sizeof requests / sizeof *requests)];
}

bool a_request_ends_with_its_thread(void) {
    struct request *holder = ask(EXCLUSIVELY | TRY), *other = ask_in_a_thread(EXCLUSIVELY);
    const bool shown = is_answered(other, PATIENCE_MS) && result_is(other, ERROR_OPERATION_ABORTED);
    end(other);
    end(holder);
    return shown;
}

bool a_lock_outlives_its_thread(void) {
    struct request *holder = ask_in_a_thread(EXCLUSIVELY | TRY), *other = ask(EXCLUSIVELY | TRY);
    const bool shown = code == ERROR_LOCK_VIOLATION;
    end(other);
    end(holder);
    return shown;
}
