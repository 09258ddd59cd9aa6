/*
 * The branches of the Windows half that Wine does not take: each property makes a few calls of
 * Windows fail, or behave as they do on Windows (fake_api.h), and checks the result.  Each must
 * leave its directory empty.  Run by tests/windows/test_under_wine.py.
 */
#include "fake_api.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "internal.h"
#include "lock_windows.h"

enum {
    SOON_MS = 10000, /* for a step that takes no time: wrong code would take for ever */
    RETRY_MS = 2000  /* of csrc/file_windows.c: as long as a passing error is tried again */
};

static char directory[1000]; /* of the running property */

static void passes_on(void) {
    for (int call = 0; call < FAKE_CALLS; call++)
        fake_fail((enum fake_call)call, 0, 0, 0);
    fake_set_locks(FAKE_PASS_ON);
}

/* Valid until the call after the next one. */
static const char *path_of(const char *name) {
    static char path[2][1200];
    static int next;
    next = 1 - next;
    (void)snprintf(path[next], sizeof path[next], "%s\\%s", directory, name);
    return path[next];
}

static bool exists(const char *path) {
    msalex_stamp stamp;
    msalex_error ignored;
    return msalex_file_stat(path, &stamp, &ignored) == MSALEX_OK;
}

static int put(const char *path, const char *text) {
    msalex_stamp stamp;
    return msalex_file_replace(path, (const unsigned char *)text, strlen(text), NULL, &stamp,
                               &error);
}

static bool has(const char *path, const char *text) {
    msalex_buffer content;
    msalex_stamp stamp;
    msalex_error ignored;
    bool same;

    if (msalex_file_read(path, &content, &stamp, &ignored) != MSALEX_OK)
        return false;
    same = content.size == strlen(text) && memcmp(content.data, text, content.size) == 0;
    msalex_buffer_free(&content);
    return same;
}

static msalex_lock *lock_for(const char *path) {
    msalex_lock *lock = NULL;
    CHECK_STATUS(msalex_lock_new(path, "seam", &lock, &error), MSALEX_OK);
    return lock;
}

/* Answers the pending request after a while, however late it is made on a busy machine. */
static DWORD WINAPI answer_soon(void *status) {
    for (int tries = 0; tries < 300; tries++) {
        Sleep(60);
        if (fake_grant((LONG)(LONG_PTR)status))
            break;
    }
    return 0;
}

static HANDLE answering(LONG status) {
    return CreateThread(NULL, 0, answer_soon, (void *)(LONG_PTR)status, 0, NULL);
}

static void joined(HANDLE thread) {
    (void)WaitForSingleObject(thread, INFINITE);
    (void)CloseHandle(thread);
}

/* ---- waiting for the byte ---- */

static struct msalex__lock_file *open_file(void) {
    const char *path = path_of("byte");
    struct msalex__lock_file *file;
    wchar_t *wide = msalex__wide_path(path, &error);

    CHECK_STATUS(put(path, "content"), MSALEX_OK);
    file = msalex__lock_file_new(wide, "seam", 0);
    CHECK(file != NULL && msalex__lock_file_open(file) == 0);
    free(wide);
    return file;
}

static void close_file(struct msalex__lock_file *file) {
    msalex__lock_file_close(file);
    CHECK_STATUS(msalex_file_delete(path_of("byte"), &error), MSALEX_OK);
}

static void a_grant_wakes_the_waiter_and_its_request_stays_out_meanwhile(void) {
    struct msalex__lock_file *file = open_file();
    HANDLE thread;

    fake_set_locks(FAKE_QUEUE);
    fake_fail(FAKE_LOCK, 0, 0, 0);
    CHECK(msalex__lock_wait_for(file, 50) == ERROR_LOCK_VIOLATION);
    CHECK(file->asked && file->queues);
    CHECK(fake_count(FAKE_LOCK) == 2); /* one that was taken back, one that is out */
    CHECK(msalex__lock_wait_for(file, 50) == ERROR_LOCK_VIOLATION);
    CHECK(fake_count(FAKE_LOCK) == 2);
    thread = answering(0);
    CHECK(msalex__lock_wait_for(file, -1) == 0);
    joined(thread);
    CHECK(!file->asked);
    CHECK(file->locked);
    close_file(file);
}

static void a_request_whose_thread_has_ended_is_made_again(void) {
    struct msalex__lock_file *file = open_file();
    HANDLE thread;

    fake_set_locks(FAKE_QUEUE);
    CHECK(msalex__lock_wait_for(file, 30) == ERROR_LOCK_VIOLATION);
    thread = answering((LONG)0xC0000120); /* STATUS_CANCELLED: 995 */
    fake_fail(FAKE_LOCK, 0, 0, 0);
    CHECK(msalex__lock_wait_for(file, 150) == ERROR_LOCK_VIOLATION);
    joined(thread);
    CHECK(fake_count(FAKE_LOCK) == 1);
    CHECK(file->asked);
    close_file(file);
}

static void a_grant_at_the_moment_of_leaving_is_not_lost(void) {
    struct msalex__lock_file *file = open_file();

    fake_set_locks(FAKE_GRANTS_IN_RACE);
    CHECK(msalex__lock_wait_for(file, 1000) == 0); /* while the first request is taken back */
    CHECK(file->locked && msalex__lock_wait_for(file, 0) == 0);
    close_file(file);
    file = open_file();
    fake_set_locks(FAKE_QUEUE);
    msalex__lock_wait_join(file);
    (void)fake_grant(0);
    CHECK(msalex__lock_file_withdraw(file) == 0 && file->locked);
    msalex__lock_wait_leave(file);
    CHECK(exists(path_of("byte"))); /* its content is no record of ours */
    file = open_file();
    msalex__lock_wait_join(file);
    (void)fake_grant((LONG)0xC0000001); /* neither granted nor cancelled */
    CHECK(msalex__lock_wait_for(file, 1000) == ERROR_IO_INCOMPLETE);
    close_file(file);
    msalex__lock_file_close(NULL);
    msalex__lock_wait_leave(NULL);
}

static void a_wait_of_any_length_ends_with_the_grant(void) {
    /* Finding 14 of the lock's review: sums of times overflowed. */
    const int64_t times[] = {-1,
                             INT64_MIN,
                             INT64_MAX,
                             INT64_MAX - 1,
                             INT64_MAX / 2,
                             (int64_t)1 << 32,
                             ((int64_t)1 << 32) + 1};
    msalex_lock *lock = lock_for(path_of("lock"));

    for (size_t i = 0; i < sizeof times / sizeof times[0]; i++) {
        struct msalex__lock_file *file = open_file();
        int64_t before = msalex__now_ms();
        HANDLE thread;

        fake_set_locks(FAKE_QUEUE);
        fake_fail(FAKE_LOCK, 0, 0, 0);
        thread = answering(0);
        CHECK(msalex__lock_wait_for(file, times[i]) == 0);
        joined(thread);
        CHECK(msalex__now_ms() - before >= 50);
        CHECK(fake_count(FAKE_LOCK) <= 2);
        close_file(file);
        passes_on();
        before = msalex__now_ms();
        msalex__lock_peer_wait(INVALID_HANDLE_VALUE, times[i]);
        CHECK(msalex__now_ms() - before < SOON_MS);
        CHECK_STATUS(msalex_lock_acquire(lock, times[i], times[i], &error), MSALEX_OK);
        CHECK_STATUS(msalex_lock_release(lock, &error), MSALEX_OK);
    }
    msalex_lock_free(lock);
}

static void without_a_queue_it_asks_again_and_gives_up_in_time(void) {
    struct msalex__lock_file *file = open_file();
    const enum fake_locks kinds[] = {FAKE_NO_QUEUE, FAKE_REFUSES};

    for (int kind = 0; kind < 2; kind++) {
        int64_t before = msalex__now_ms(), took;
        fake_set_locks(kinds[kind]);
        fake_fail(FAKE_LOCK, 0, 0, 0);
        CHECK(msalex__lock_wait_for(file, 500) == ERROR_LOCK_VIOLATION);
        took = msalex__now_ms() - before;
        CHECK(took >= 500 && took < SOON_MS);
        CHECK(fake_count(FAKE_LOCK) >= 5);
        CHECK(msalex__lock_file_try(file) == ERROR_LOCK_VIOLATION); /* 997 is busy as well as 33 */
        CHECK(!file->asked && !file->locked);
    }
    fake_set_locks(FAKE_PASS_ON);
    fake_fail(FAKE_LOCK, 0, 1, ERROR_INVALID_HANDLE);
    CHECK(msalex__lock_wait_for(file, 100) == ERROR_INVALID_HANDLE);
    close_file(file);
}

/* ---- the lock ---- */

static void a_name_that_is_being_deleted_is_waited_for(void) {
    const char *path = path_of("lock");
    msalex_lock *lock = lock_for(path);

    fake_fail(FAKE_CREATE_FILE, 0, 3, ERROR_ACCESS_DENIED); /* opening it */
    CHECK_STATUS(msalex_lock_acquire(lock, 1000, 1000, &error), MSALEX_OK);
    CHECK_STATUS(msalex_lock_release(lock, &error), MSALEX_OK);
    fake_fail(FAKE_CREATE_FILE, 1, 1, ERROR_ACCESS_DENIED); /* making it */
    CHECK_STATUS(msalex_lock_acquire(lock, 0, 0, &error), MSALEX_OK);
    CHECK_STATUS(msalex_lock_acquire(lock, 0, 0, &error), MSALEX_INVALID);
    CHECK_STATUS(msalex_lock_release(lock, &error), MSALEX_OK);
    CHECK(!exists(path));
    msalex_lock_free(lock);
}

static void a_directory_that_denies_is_told_at_once(void) {
    msalex_lock *lock = lock_for(path_of("lock"));
    int64_t before = msalex__now_ms();

    fake_fail(FAKE_CREATE_FILE, 0, 1000, ERROR_ACCESS_DENIED);
    CHECK_STATUS(msalex_lock_acquire(lock, 10000, 10000, &error), MSALEX_DENIED);
    CHECK(error.code == EACCES && strstr(error.message, "[WinError 5]") != NULL);
    CHECK(msalex__now_ms() - before < SOON_MS);
    passes_on();
    fake_fail(FAKE_CREATE_FILE, 1, 1, ERROR_DISK_FULL);
    CHECK_STATUS(msalex_lock_acquire(lock, 10000, 10000, &error), MSALEX_OS_ERROR);
    CHECK(error.code == ENOSPC);
    msalex_lock_free(lock);
}

static void a_file_that_somebody_has_open_for_a_moment_is_waited_for(void) {
    const char *path = path_of("lock");
    msalex_lock *lock = lock_for(path);

    fake_fail(FAKE_CREATE_FILE, 0, 2, ERROR_SHARING_VIOLATION);
    CHECK_STATUS(msalex_lock_acquire(lock, 1000, 1000, &error), MSALEX_OK);
    /* The release meets a scanner, and gets rid of it; then one that stays. */
    fake_fail(FAKE_CREATE_FILE, 1, 3, ERROR_SHARING_VIOLATION);
    CHECK_STATUS(msalex_lock_release(lock, &error), MSALEX_OK);
    CHECK(!exists(path));
    CHECK_STATUS(msalex_lock_acquire(lock, 1000, 1000, &error), MSALEX_OK);
    fake_fail(FAKE_CREATE_FILE, 1, 100000, ERROR_SHARING_VIOLATION);
    CHECK_STATUS(msalex_lock_release(lock, &error), MSALEX_OK);
    passes_on();
    CHECK(exists(path)); /* left behind, and not locked */
    CHECK_STATUS(msalex_lock_acquire(lock, 0, 0, &error), MSALEX_OK);
    msalex_lock_free(lock);
    CHECK(!exists(path));
    /* A call that tries once does not wait for it. */
    lock = lock_for(path);
    fake_fail(FAKE_CREATE_FILE, 0, 100000, ERROR_SHARING_VIOLATION);
    CHECK_STATUS(msalex_lock_acquire(lock, 0, 0, &error), MSALEX_TIMEOUT);
    msalex_lock_free(lock);
}

static void a_peer_that_catches_a_new_file_has_it(void) {
    const char *path = path_of("lock");
    msalex_lock *lock = lock_for(path);

    fake_fail(FAKE_LOCK, 0, 1, ERROR_LOCK_VIOLATION);
    CHECK_STATUS(msalex_lock_acquire(lock, 100, 100, &error), MSALEX_TIMEOUT);
    CHECK(exists(path)); /* it is theirs to remove */
    CHECK_STATUS(msalex_file_delete(path, &error), MSALEX_OK);
    fake_fail(FAKE_LOCK, 1, 1, ERROR_LOCK_VIOLATION); /* the first byte: Go */
    CHECK_STATUS(msalex_lock_acquire(lock, 100, 100, &error), MSALEX_TIMEOUT);
    CHECK_STATUS(msalex_file_delete(path, &error), MSALEX_OK);
    msalex_lock_free(lock);
}

static void a_file_that_cannot_be_locked_or_opened_again_is_removed(void) {
    const char *path = path_of("lock");
    msalex_lock *lock = lock_for(path);

    fake_fail(FAKE_EVENT, 0, 1, ERROR_NO_SYSTEM_RESOURCES);
    CHECK_STATUS(msalex_lock_acquire(lock, 100, 100, &error), MSALEX_OS_ERROR);
    CHECK(error.code == ENOMEM);
    CHECK(!exists(path));
    fake_fail(FAKE_LOCK, 0, 1, ERROR_INVALID_FUNCTION); /* a file system without locks */
    CHECK_STATUS(msalex_lock_acquire(lock, 100, 100, &error), MSALEX_OS_ERROR);
    CHECK(!exists(path));
    fake_fail(FAKE_IDENTIFY, 0, 1, ERROR_INVALID_FUNCTION);
    CHECK_STATUS(msalex_lock_acquire(lock, 100, 100, &error), MSALEX_OS_ERROR);
    CHECK(!exists(path));
    msalex_lock_free(lock);
}

static void a_record_that_cannot_be_written_leaves_no_file(void) {
    const char *path = path_of("lock");
    msalex_lock *lock = lock_for(path), *other = lock_for(path);

    fake_fail(FAKE_WRITE_FILE, 0, 1, ERROR_DISK_FULL);
    CHECK_STATUS(msalex_lock_acquire(lock, 1000, 1000, &error), MSALEX_OS_ERROR);
    CHECK(error.code == ENOSPC);
    CHECK(!exists(path));
    /* Nor does one that is taken over get a second holder. */
    CHECK_STATUS(msalex_lock_acquire(lock, 1000, 1000, &error), MSALEX_OK);
    fake_fail(FAKE_CREATE_FILE, 1, 100000, ERROR_SHARING_VIOLATION);
    CHECK_STATUS(msalex_lock_release(lock, &error), MSALEX_OK);
    passes_on();
    fake_fail(FAKE_WRITE_FILE, 0, 1, ERROR_DISK_FULL);
    CHECK_STATUS(msalex_lock_acquire(other, 1000, 1000, &error), MSALEX_OS_ERROR);
    CHECK_STATUS(msalex_lock_check(other, &error), MSALEX_NOT_FOUND);
    CHECK_STATUS(msalex_lock_acquire(lock, 1000, 1000, &error), MSALEX_OK);
    msalex_lock_free(other);
    CHECK_STATUS(msalex_lock_check(lock, &error), MSALEX_OK);
    msalex_lock_free(lock);
}

/* Makes a lock file of this library that no process holds. */
static void leave_behind(const char *path) {
    msalex_lock *lock = lock_for(path);
    CHECK_STATUS(msalex_lock_acquire(lock, 1000, 1000, &error), MSALEX_OK);
    fake_fail(FAKE_CREATE_FILE, 1, 100000, ERROR_SHARING_VIOLATION);
    msalex_lock_free(lock);
    passes_on();
    CHECK(exists(path));
}

static void a_grant_is_not_ownership(void) {
    const char *path = path_of("lock");
    msalex_lock *lock = lock_for(path);
    const DWORD codes[] = {ERROR_SHARING_VIOLATION, ERROR_ACCESS_DENIED, ERROR_FILE_NOT_FOUND,
                           ERROR_PATH_NOT_FOUND};

    for (int i = 0; i < 4; i++) { /* .NET is inside; it is being deleted; it has gone */
        leave_behind(path);
        fake_fail(FAKE_CREATE_FILE, 1, 1, codes[i]);
        CHECK_STATUS(msalex_lock_acquire(lock, 2000, 2000, &error), MSALEX_OK);
        CHECK_STATUS(msalex_lock_release(lock, &error), MSALEX_OK);
    }
    leave_behind(path);
    fake_fail(FAKE_IDENTIFY, 2, 1, ERROR_INVALID_FUNCTION); /* is it the same file? not proven */
    CHECK_STATUS(msalex_lock_acquire(lock, 2000, 2000, &error), MSALEX_OK);
    CHECK_STATUS(msalex_lock_release(lock, &error), MSALEX_OK);
    leave_behind(path);
    fake_fail(FAKE_LOCK, 0, 2, ERROR_INVALID_FUNCTION); /* a file system without locks */
    CHECK_STATUS(msalex_lock_acquire(lock, 2000, 2000, &error), MSALEX_OS_ERROR);
    /* "The lock is held" would be untrue (finding 14 of the lock's review). */
    fake_fail(FAKE_LOCK, 0, 1, ERROR_INVALID_FUNCTION);
    CHECK_STATUS(msalex_lock_acquire(lock, 0, 0, &error), MSALEX_OS_ERROR);
    CHECK_STATUS(msalex_file_delete(path, &error), MSALEX_OK);
    msalex_lock_free(lock);
}

static void who_leaves_the_queue_of_the_dead_tidies_up(void) {
    const char *path = path_of("lock");
    msalex_lock *lock = lock_for(path);

    leave_behind(path);
    fake_set_locks(FAKE_NO_QUEUE);
    CHECK_STATUS(msalex_lock_acquire(lock, 30, 30, &error), MSALEX_TIMEOUT);
    fake_set_locks(FAKE_PASS_ON); /* the holder dies now */
    CHECK_STATUS(msalex_lock_release(lock, &error), MSALEX_OK);
    CHECK(!exists(path));
    msalex_lock_free(lock);
}

static void a_peers_file_is_judged_by_its_process(void) {
    const char *path = path_of("lock");
    msalex_lock *lock = lock_for(path);
    char text[64];

    (void)snprintf(text, sizeof text, "%lu a peer", GetCurrentProcessId());
    CHECK_STATUS(put(path, text), MSALEX_OK);
    CHECK_STATUS(msalex_lock_acquire(lock, 0, 0, &error), MSALEX_TIMEOUT);
    fake_fail(FAKE_OPEN_PROCESS, 0, 1, ERROR_ACCESS_DENIED); /* another user's: alive */
    CHECK_STATUS(msalex_lock_acquire(lock, 0, 0, &error), MSALEX_TIMEOUT);
    fake_fail(FAKE_WATCH, 0, 1, ERROR_NOT_ENOUGH_MEMORY);
    CHECK_STATUS(msalex_lock_acquire(lock, 100, 100, &error), MSALEX_TIMEOUT); /* polling */
    CHECK_STATUS(msalex_lock_release(lock, &error), MSALEX_OK);
    fake_fail(FAKE_IDENTIFY, 2, 1, ERROR_INVALID_FUNCTION);
    CHECK_STATUS(msalex_lock_acquire(lock, 0, 0, &error), MSALEX_TIMEOUT);
    /* Dead: but on a file server a pid means nothing, until it is a minute old. */
    fake_fail(FAKE_OPEN_PROCESS, 0, 2, ERROR_INVALID_PARAMETER);
    fake_fail(FAKE_REMOTE, 0, 1, 1);
    CHECK_STATUS(msalex_lock_acquire(lock, 0, 0, &error), MSALEX_TIMEOUT);
    fake_fail(FAKE_OPEN_PROCESS, 0, 2, ERROR_INVALID_PARAMETER);
    CHECK_STATUS(msalex_lock_acquire(lock, 0, 0, &error), MSALEX_OK);
    msalex_lock_free(lock);
}

static void a_file_that_cannot_be_read_is_not_empty(void) {
    /* Finding 7 of the lock's review: a failed read counted as "empty", and so as stale. */
    const char *path = path_of("lock");
    msalex_lock *lock = lock_for(path);
    msalex_buffer text;
    char content[64];

    (void)snprintf(content, sizeof content, "%lu a peer", GetCurrentProcessId());
    CHECK_STATUS(put(path, content), MSALEX_OK);
    make_old(path, 10);
    fake_fail(FAKE_READ_FILE, 0, 1000, ERROR_CRC);
    CHECK_STATUS(msalex_lock_acquire(lock, 100, 100, &error), MSALEX_OS_ERROR);
    CHECK(error.code == EIO);
    CHECK_STATUS(msalex_lock_acquire(lock, 0, 0, &error), MSALEX_OS_ERROR);
    CHECK(error.code == EIO);
    CHECK(strcmp(error.call, "read lock file") == 0);
    CHECK_STATUS(msalex_lock_holder(path, &text, &error), MSALEX_OS_ERROR);
    /* portalocker has these bytes; Go has the first one. */
    for (int times = 1000; times > 0; times -= 999) {
        fake_fail(FAKE_READ_FILE, 0, times, ERROR_LOCK_VIOLATION);
        CHECK_STATUS(msalex_lock_acquire(lock, 0, 0, &error), MSALEX_TIMEOUT);
        fake_fail(FAKE_READ_FILE, 0, times, ERROR_LOCK_VIOLATION);
        CHECK_STATUS(msalex_lock_acquire(lock, 100, 100, &error), MSALEX_TIMEOUT);
    }
    passes_on();
    CHECK(has(path, content));
    msalex_lock_free(lock);
    /* The second read fails, and the answer of the first one must not count for it. */
    CHECK_STATUS(put(path, "no pid"), MSALEX_OK);
    make_old(path, 10);
    lock = lock_for(path);
    fake_fail(FAKE_READ_FILE, 2, 1, ERROR_CRC);
    CHECK_STATUS(msalex_lock_acquire(lock, 0, 0, &error), MSALEX_OS_ERROR);
    CHECK(has(path, "no pid"));
    passes_on();
    CHECK_STATUS(msalex_lock_acquire(lock, 0, 0, &error), MSALEX_OK);
    msalex_lock_free(lock);
    CHECK(!exists(path));
}

/* For how many seconds this process has run. */
static int age_of_this_process(void) {
    FILETIME start, now, ignored;
    ULARGE_INTEGER from, to;

    GetSystemTimeAsFileTime(&now);
    CHECK(GetProcessTimes(GetCurrentProcess(), &start, &ignored, &ignored, &ignored));
    from.LowPart = start.dwLowDateTime, from.HighPart = start.dwHighDateTime;
    to.LowPart = now.dwLowDateTime, to.HighPart = now.dwHighDateTime;
    return (int)((to.QuadPart - from.QuadPart) / 10000000);
}

static void a_living_peer_survives_a_step_of_the_clock(void) {
    /* Finding 8 of the lock's review: a process that seemed younger than its file counted as
     * another one with the same pid. */
    const int before_start[] = {3, 5, 10, 50};
    const char *path = path_of("lock");
    msalex_lock *lock = lock_for(path);
    char content[64];

    (void)snprintf(content, sizeof content, "%lu a peer", GetCurrentProcessId());
    CHECK_STATUS(put(path, content), MSALEX_OK);
    for (int i = 0; i < 4; i++) {
        make_old(path, age_of_this_process() + before_start[i]);
        CHECK_STATUS(msalex_lock_acquire(lock, 0, 0, &error), MSALEX_TIMEOUT);
    }
    make_old(path, -3600); /* in the future */
    CHECK_STATUS(msalex_lock_acquire(lock, 0, 0, &error), MSALEX_TIMEOUT);
    make_old(path, age_of_this_process() + 90); /* a pid that was given away again */
    CHECK_STATUS(msalex_lock_acquire(lock, 0, 0, &error), MSALEX_OK);
    CHECK_STATUS(msalex_lock_release(lock, &error), MSALEX_OK);
    CHECK_STATUS(put(path, "no pid"), MSALEX_OK);
    make_old(path, -3600);
    CHECK_STATUS(msalex_lock_acquire(lock, 0, 0, &error), MSALEX_TIMEOUT);
    CHECK_STATUS(msalex_file_delete(path, &error), MSALEX_OK);
    msalex_lock_free(lock);
}

/* Writes a record of this library, as another process may have left it. */
static void put_record(const char *path, enum msalex__record_state state, int64_t when,
                       uint64_t view) {
    const struct msalex__record record = {
        .pid = 99999999, .state = state, .nonce = 7, .when = when, .view = view};
    char bytes[MSALEX__RECORD_SIZE + 1] = "";

    msalex__record_format(&record, "somebody", bytes);
    CHECK_STATUS(put(path, bytes), MSALEX_OK);
}

static void a_record_of_another_system_is_a_peers(void) {
    /* Finding 2 of the lock's review: a kernel lock says nothing where it does not reach. */
    const char *path = path_of("lock");
    msalex_lock *lock = lock_for(path);

    for (int exists_only = 0; exists_only < 2; exists_only++) {
        put_record(path, exists_only ? MSALEX__EXISTS : MSALEX__HELD, 0, exists_only ? 0 : 5);
        CHECK_STATUS(msalex_lock_acquire(lock, 0, 0, &error), MSALEX_TIMEOUT);
        make_old(path, 30);
        CHECK_STATUS(msalex_lock_acquire(lock, 0, 0, &error), MSALEX_TIMEOUT);
        make_old(path, 61);
        CHECK_STATUS(msalex_lock_acquire(lock, 0, 0, &error), MSALEX_OK);
        CHECK_STATUS(msalex_lock_release(lock, &error), MSALEX_OK);
    }
    msalex_lock_free(lock);
}

static void on_a_file_server_the_nonce_tells_as_well_which_file_it_is(void) {
    /* Finding 3 of the lock's review: the next file of a name may have the number of the last. */
    const char *path = path_of("lock");
    msalex_lock *lock = lock_for(path);
    OVERLAPPED nonce = {.Offset = MSALEX__RECORD_SIZE - 2};
    DWORD size;

    for (int remote = 0; remote < 2; remote++) {
        wchar_t *wide = msalex__wide_path(path, &error);
        HANDLE file;
        char digit[1];

        fake_fail(FAKE_REMOTE, 0, remote ? 1000 : 0, 1);
        CHECK_STATUS(msalex_lock_acquire(lock, 0, 0, &error), MSALEX_OK);
        CHECK_STATUS(msalex_lock_check(lock, &error), MSALEX_OK);
        fake_fail(FAKE_CREATE_FILE, 0, 1, ERROR_ACCESS_DENIED); /* not known: not held */
        CHECK_STATUS(msalex_lock_check(lock, &error), MSALEX_DENIED);
        fake_fail(FAKE_READ_FILE, 0, 1, ERROR_LOCK_VIOLATION); /* the first byte: it is ours */
        CHECK_STATUS(msalex_lock_check(lock, &error), MSALEX_OK);
        CHECK_STATUS(msalex_lock_release(lock, &error), MSALEX_OK);
        CHECK(!exists(path));
        leave_behind(path);
        fake_fail(FAKE_REMOTE, 0, remote ? 1000 : 0, 1);
        CHECK_STATUS(msalex_lock_acquire(lock, 0, 0, &error), MSALEX_OK);
        file = CreateFileW(wide, GENERIC_READ | GENERIC_WRITE, MSALEX__SHARE_ALL, NULL,
                           OPEN_EXISTING, 0, NULL);
        CHECK(ReadFile(file, digit, 1, &size, &nonce));
        digit[0] = digit[0] == '0' ? '1' : '0';
        CHECK(WriteFile(file, digit, 1, &size, &nonce));
        msalex__close(file);
        CHECK_STATUS(msalex_lock_check(lock, &error), remote ? MSALEX_NOT_FOUND : MSALEX_OK);
        CHECK_STATUS(msalex_lock_release(lock, &error), remote ? MSALEX_NOT_FOUND : MSALEX_OK);
        CHECK(exists(path) == (remote != 0)); /* we do not remove another file */
        free(wide);
    }
    passes_on();
    CHECK_STATUS(msalex_file_delete(path, &error), MSALEX_OK);
    msalex_lock_free(lock);
}

static void a_dead_peers_file_that_stays_keeps_no_processor_busy(void) {
    /* Finding 10 of the lock's review. */
    const DWORD codes[] = {ERROR_ACCESS_DENIED, ERROR_SHARING_VIOLATION};
    const char *path = path_of("lock");

    for (int i = 0; i < 2; i++) {
        msalex_lock *lock = lock_for(path);
        CHECK_STATUS(put(path, "99999999 a peer"), MSALEX_OK);
        fake_fail(FAKE_OPEN_TO_WRITE, 0, 100000, codes[i]);
        CHECK_STATUS(msalex_lock_acquire(lock, 1000, 1000, &error), MSALEX_TIMEOUT);
        CHECK(fake_count(FAKE_OPEN_TO_WRITE) >= 3 && fake_count(FAKE_OPEN_TO_WRITE) <= 40);
        passes_on();
        CHECK_STATUS(msalex_lock_acquire(lock, 1000, 1000, &error), MSALEX_OK);
        fake_fail(FAKE_DISPOSITION, 0, 100000, ERROR_ACCESS_DENIED); /* nor be deleted */
        CHECK_STATUS(msalex_lock_release(lock, &error), MSALEX_OK);
        CHECK(exists(path));
        CHECK_STATUS(msalex_lock_acquire(lock, 0, 0, &error), MSALEX_OK);
        passes_on();
        msalex_lock_free(lock);
        CHECK(!exists(path));
    }
}

static void a_file_whose_number_is_another_at_each_look_keeps_no_processor_busy(void) {
    const char *path = path_of("lock");
    msalex_lock *lock = lock_for(path);

    leave_behind(path);
    fake_fail(FAKE_NUMBERS, 0, 100000, 1);
    fake_fail(FAKE_OPEN_TO_WRITE, 0, 0, 0);
    CHECK_STATUS(msalex_lock_acquire(lock, 500, 500, &error), MSALEX_TIMEOUT);
    CHECK(fake_count(FAKE_OPEN_TO_WRITE) >= 20 && fake_count(FAKE_OPEN_TO_WRITE) <= 130);
    CHECK_STATUS(msalex_lock_acquire(lock, 0, 0, &error), MSALEX_TIMEOUT);
    passes_on();
    CHECK_STATUS(msalex_lock_acquire(lock, 0, 0, &error), MSALEX_OK);
    msalex_lock_free(lock);
}

/* ---- the gap for peers that only poll ---- */

/* Acquires the lock when a gap is due: its release begins one. */
static void take_due(msalex_lock *lock, const char *path) {
    put_record(path, MSALEX__HELD, 1, 0);
    CHECK_STATUS(msalex_lock_acquire(lock, 1000, 1000, &error), MSALEX_OK);
}

static void a_gap_that_is_due_keeps_ours_away_and_lets_a_try_in(void) {
    const char *path = path_of("lock");
    msalex_lock *lock = lock_for(path), *other = lock_for(path);
    int64_t before;

    take_due(lock, path);
    before = msalex__now_ms();
    CHECK_STATUS(msalex_lock_release(lock, &error), MSALEX_OK);
    CHECK(!exists(path));
    CHECK_STATUS(msalex_lock_acquire(other, 20, 2000, &error), MSALEX_TIMEOUT); /* a slice of it */
    CHECK(msalex__now_ms() - before < SOON_MS && !exists(path));
    CHECK_STATUS(msalex_lock_acquire(other, 2000, 2000, &error), MSALEX_OK);
    CHECK(msalex__now_ms() - before >= 270 && msalex__now_ms() - before < SOON_MS);
    CHECK_STATUS(msalex_lock_release(other, &error), MSALEX_OK);
    for (int64_t patience = 0; patience <= 100; patience += 100) {
        take_due(lock, path);
        CHECK_STATUS(msalex_lock_release(lock, &error), MSALEX_OK);
        /* To wait for the end of the gap would take longer than this patience. */
        CHECK_STATUS(msalex_lock_acquire(other, patience, patience, &error), MSALEX_OK);
        CHECK_STATUS(msalex_lock_release(other, &error), MSALEX_OK);
    }
    /* A patience that ends with the gap is long enough. */
    for (int i = 0; i < 3; i++) {
        take_due(lock, path);
        CHECK_STATUS(msalex_lock_release(lock, &error), MSALEX_OK);
        CHECK_STATUS(msalex_lock_acquire(other, 270, 270, &error), MSALEX_OK);
        CHECK_STATUS(msalex_lock_release(other, &error), MSALEX_OK);
    }
    /* Nor is there a gap at the next release. */
    CHECK(msalex__gap_of_own(msalex__gap_key(path), msalex__now_ms()) == 0);
    CHECK_STATUS(msalex_lock_acquire(lock, 1000, 1000, &error), MSALEX_OK);
    msalex_lock_free(lock);
    msalex_lock_free(other);
}

/* The record in the lock file. */
static struct msalex__record record_of(const char *path) {
    char bytes[MSALEX__RECORD_SIZE];
    struct msalex__record record = {0};
    wchar_t *wide = msalex__wide_path(path, &error);
    struct msalex__lock_file *file = msalex__lock_file_new(wide, "", 0);
    size_t size;

    CHECK(msalex__lock_file_read_named(file, bytes, &size) == 0);
    CHECK(msalex__record_parse(bytes, size, &record));
    msalex__lock_file_close(file);
    free(wide);
    return record;
}

struct waiter {
    char path[1200];
    int64_t entered;
    struct msalex__record record; /* that it wrote */
    int status;
};

/* Gives the waiter a new spelling of the path, of which this process remembers nothing: the waiter
 * acts as another process. */
static void spell(struct waiter *waiter) {
    static const char dots[] = "././././././././././././././././././././";
    static int number; /* each spelling is longer than the one before */

    CHECK(2 * number < (int)sizeof dots);
    (void)snprintf(waiter->path, sizeof waiter->path, "%s/./%.*slock", directory, 2 * number++,
                   dots);
}

/* Waits for the lock. */
static DWORD WINAPI wait_for_it(void *argument) {
    struct waiter *waiter = argument;
    msalex_lock *lock = lock_for(waiter->path);

    waiter->status = msalex_lock_acquire(lock, 5000, 5000, &error);
    waiter->entered = msalex__now_ms();
    waiter->record = record_of(waiter->path);
    msalex_lock_free(lock);
    return 0;
}

/* A holder begins a gap, and a peer comes in it.  False: this machine was so busy that the gap was
 * over before the peer came. */
static bool a_peer_comes_in_a_gap(const char *path) {
    msalex_lock *lock = lock_for(path);
    struct waiter waiters[3] = {{.path = ""}};
    HANDLE threads[3], peer;
    wchar_t *wide = msalex__wide_path(path, &error);
    int64_t released, left;
    char text[64];
    DWORD size;

    take_due(lock, path);
    for (int i = 0; i < 3; i++) {
        spell(&waiters[i]);
        threads[i] = CreateThread(NULL, 0, wait_for_it, &waiters[i], 0, NULL);
    }
    Sleep(100);
    released = msalex__now_ms();
    CHECK_STATUS(msalex_lock_release(lock, &error), MSALEX_OK);
    Sleep(100);
    peer = CreateFileW(wide, GENERIC_WRITE, FILE_SHARE_READ | FILE_SHARE_WRITE, NULL, CREATE_NEW, 0,
                       NULL);
    if (peer == INVALID_HANDLE_VALUE && msalex__now_ms() - released >= 268) {
        for (int i = 0; i < 3; i++)
            joined(threads[i]);
        msalex_lock_free(lock);
        free(wide);
        return false;
    }
    CHECK(peer != INVALID_HANDLE_VALUE);
    (void)snprintf(text, sizeof text, "%lu a peer", GetCurrentProcessId());
    CHECK(WriteFile(peer, text, (DWORD)strlen(text), &size, NULL));
    Sleep(20);
    msalex__close(peer);
    left = msalex__now_ms();
    CHECK_STATUS(msalex_file_delete(path, &error), MSALEX_OK);
    for (int i = 0; i < 3; i++) {
        joined(threads[i]);
        CHECK(waiters[i].status == MSALEX_OK);
        CHECK(waiters[i].entered >= left && waiters[i].entered - released >= 268);
        CHECK(waiters[i].entered - released < SOON_MS);
        /* They saw a peer: the next gap comes sooner. */
        CHECK(waiters[i].record.when <= waiters[i].entered + 2000);
        CHECK(waiters[i].record.seen >= released);
    }
    msalex_lock_free(lock);
    free(wide);
    return true;
}

static void waiters_read_of_a_gap_in_the_nameless_file_and_a_peer_gets_in(void) {
    int tries = 6;

    while (!a_peer_comes_in_a_gap(path_of("lock")) && --tries > 0)
        ;
    CHECK(tries > 0);
}

static void what_a_record_says_of_gaps_goes_on_to_the_next_holder(void) {
    const char *path = path_of("lock");
    msalex_lock *lock = lock_for(path);
    struct waiter waiter = {.path = ""};
    struct msalex__record before;
    HANDLE thread;

    spell(&waiter);
    msalex__gap_peer_seen(msalex__gap_key(path), msalex__now_ms());
    put_record(path, MSALEX__HELD, msalex__now_ms() + 1000, 0);
    CHECK_STATUS(msalex_lock_acquire(lock, 1000, 1000, &error), MSALEX_OK);
    before = record_of(path);
    CHECK(before.seen != 0 && before.when > msalex__now_ms());
    thread = CreateThread(NULL, 0, wait_for_it, &waiter, 0, NULL);
    Sleep(100);
    CHECK_STATUS(msalex_lock_release(lock, &error), MSALEX_OK);
    joined(thread);
    CHECK(waiter.status == MSALEX_OK);
    CHECK(waiter.record.when == before.when && waiter.record.seen == before.seen);
    msalex_lock_free(lock);
}

static void a_process_that_comes_back_when_a_gap_is_due_suspects_one(void) {
    const char *path = path_of("lock");
    msalex_lock *lock = lock_for(path);

    for (int64_t patience = 2000; patience >= 0; patience -= 2000) {
        const int64_t when = msalex__now_ms() + 150;
        put_record(path, MSALEX__HELD, when, 0);
        CHECK_STATUS(msalex_lock_acquire(lock, 1000, 1000, &error), MSALEX_OK);
        Sleep(100);
        CHECK_STATUS(msalex_lock_release(lock, &error), MSALEX_OK); /* before it is due */
        Sleep(80);
        CHECK(msalex__now_ms() > when && !exists(path));
        CHECK_STATUS(msalex_lock_acquire(lock, patience, patience, &error), MSALEX_OK);
        CHECK(patience == 0 || msalex__now_ms() - when >= 270);
        CHECK(msalex__now_ms() - when < SOON_MS);
        CHECK_STATUS(msalex_lock_release(lock, &error), MSALEX_OK);
    }
    msalex_lock_free(lock);
}

static void a_gap_whose_beginner_died_ends_in_time_and_an_impossible_one_is_none(void) {
    const char *path = path_of("lock");
    msalex_lock *lock = lock_for(path);
    int64_t before = msalex__now_ms();

    put_record(path, MSALEX__GAP, before + 200, 0);
    CHECK_STATUS(msalex_lock_acquire(lock, 2000, 2000, &error), MSALEX_OK);
    CHECK(msalex__now_ms() - before >= 200 && msalex__now_ms() - before < SOON_MS);
    CHECK_STATUS(msalex_lock_release(lock, &error), MSALEX_OK);
    put_record(path, MSALEX__GAP, msalex__now_ms() + 100000, 0);
    CHECK_STATUS(msalex_lock_acquire(lock, 2000, 2000, &error), MSALEX_OK);
    CHECK_STATUS(msalex_lock_release(lock, &error), MSALEX_OK);
    msalex_lock_free(lock);
}

/* ---- files ---- */

static void what_passes_is_tried_again_and_what_stays_is_told(void) {
    const char *path = path_of("file");
    int64_t before;

    CHECK_STATUS(put(path, "old"), MSALEX_OK);
    fake_fail(FAKE_MOVE, 0, 3, ERROR_SHARING_VIOLATION);
    CHECK_STATUS(put(path, "new"), MSALEX_OK);
    fake_fail(FAKE_MOVE, 0, 3, ERROR_ACCESS_DENIED);
    CHECK_STATUS(put(path, "newer"), MSALEX_OK);
    fake_fail(FAKE_CREATE_FILE, 0, 3, ERROR_ACCESS_DENIED);
    CHECK(has(path, "newer"));
    before = msalex__now_ms();
    fake_fail(FAKE_MOVE, 0, 100000, ERROR_SHARING_VIOLATION);
    CHECK_STATUS(put(path, "newest"), MSALEX_DENIED);
    CHECK(strstr(error.message, "[WinError 32]") != NULL);
    CHECK(msalex__now_ms() - before >= 900 && msalex__now_ms() - before < SOON_MS);
    fake_fail(FAKE_MOVE, 0, 1, ERROR_DISK_FULL);
    CHECK_STATUS(put(path, "newest"), MSALEX_OS_ERROR);
    CHECK(error.code == ENOSPC);
    passes_on();
    CHECK(has(path, "newer")); /* whatever failed: the old content */
    fake_fail(FAKE_DELETE, 0, 2, ERROR_SHARING_VIOLATION);
    CHECK_STATUS(msalex_file_delete(path, &error), MSALEX_OK);
    CHECK_STATUS(msalex_file_delete(path, &error), MSALEX_NOT_FOUND);
}

static void a_failure_on_the_way_leaves_the_old_content_and_no_litter(void) {
    const char *path = path_of("file");
    const struct {
        enum fake_call call;
        int skip;
        DWORD code;
        int status;
    } ways[] = {
        {FAKE_CREATE_FILE, 0, ERROR_DISK_FULL, MSALEX_OS_ERROR},
        {FAKE_CREATE_FILE, 0, ERROR_NOT_SUPPORTED, MSALEX_OS_ERROR},
        {FAKE_CREATE_FILE, 1, ERROR_NOT_SUPPORTED, MSALEX_OS_ERROR},
        {FAKE_WRITE_FILE, 0, ERROR_DISK_FULL, MSALEX_OS_ERROR},
        {FAKE_FLUSH, 0, ERROR_WRITE_FAULT, MSALEX_OS_ERROR},
    };

    CHECK_STATUS(put(path, "old"), MSALEX_OK);
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        fake_fail(ways[i].call, ways[i].skip, 1, ways[i].code);
        CHECK_STATUS(put(path, "new"), ways[i].status);
        passes_on();
        CHECK(has(path, "old"));
        CHECK(count_entries(".") == 1);
    }
    /* The name of a temporary file may be taken; another one is not. */
    fake_fail(FAKE_CREATE_FILE, 0, 2, ERROR_FILE_EXISTS);
    CHECK_STATUS(put(path, "new"), MSALEX_OK);
    CHECK(has(path, "new"));
    CHECK_STATUS(msalex_file_delete(path, &error), MSALEX_OK);
}

static void a_link_is_followed_and_one_that_leads_nowhere_is_refused(void) {
    const char *path = path_of("file");

    CHECK_STATUS(put(path, "old"), MSALEX_OK);
    fake_fail(FAKE_LINK, 0, 1, 1);
    CHECK_STATUS(put(path, "new"), MSALEX_OK);
    CHECK(has(path, "new"));
    fake_fail(FAKE_LINK, 0, 1, 1);
    fake_fail(FAKE_CREATE_FILE, 0, 1, ERROR_FILE_NOT_FOUND);
    CHECK_STATUS(put(path, "newer"), MSALEX_INVALID);
    CHECK(strstr(error.message, "leads nowhere") != NULL);
    fake_fail(FAKE_LINK, 0, 1, 1);
    fake_fail(FAKE_FINAL_PATH, 0, 2, ERROR_ACCESS_DENIED);
    CHECK_STATUS(put(path, "newer"), MSALEX_DENIED);
    CHECK(has(path, "new"));
    passes_on();
    CHECK_STATUS(msalex_file_delete(path, &error), MSALEX_OK);
}

static void a_directory_is_no_file(void) {
    msalex_buffer content;
    msalex_stamp stamp;
    int64_t before = msalex__now_ms();

    CHECK_STATUS(put(directory, "x"), MSALEX_INVALID);
    CHECK(error.code == EISDIR);
    CHECK_STATUS(msalex_file_read(directory, &content, &stamp, &error), MSALEX_INVALID);
    CHECK(error.code == EISDIR);
    CHECK_STATUS(msalex_file_delete(directory, &error), MSALEX_INVALID);
    CHECK(error.code == EISDIR);
    CHECK(msalex__now_ms() - before < RETRY_MS);
}

static void a_read_only_file_is_not_replaced(void) {
    const char *path = path_of("file");
    wchar_t *wide = msalex__wide_path(path, &error);
    int64_t before = msalex__now_ms();

    CHECK_STATUS(put(path, "old"), MSALEX_OK);
    CHECK(SetFileAttributesW(wide, FILE_ATTRIBUTE_READONLY));
    CHECK_STATUS(put(path, "new"), MSALEX_DENIED);
    CHECK(error.code == EACCES);
    CHECK(msalex__now_ms() - before < RETRY_MS);
    CHECK(SetFileAttributesW(wide, FILE_ATTRIBUTE_NORMAL));
    CHECK(has(path, "old"));
    CHECK_STATUS(msalex_file_delete(path, &error), MSALEX_OK);
    free(wide);
}

static void a_sweep_takes_what_the_dead_left_and_nothing_else(void) {
    char dead[1200], young[1200], other[1200], living[1200];
    wchar_t *wide;
    HANDLE writer;

    (void)snprintf(dead, sizeof dead, "%s\\.msalex-00000000000000aa.tmp", directory);
    (void)snprintf(young, sizeof young, "%s\\.msalex-00000000000000bb.tmp", directory);
    (void)snprintf(other, sizeof other, "%s\\.msalex-notes.tmp", directory);
    (void)snprintf(living, sizeof living, "%s\\.msalex-00000000000000cc.tmp", directory);
    CHECK_STATUS(msalex_file_touch(dead, &error), MSALEX_OK);
    CHECK_STATUS(msalex_file_touch(young, &error), MSALEX_OK);
    CHECK_STATUS(msalex_file_touch(other, &error), MSALEX_OK);
    CHECK_STATUS(msalex_file_touch(living, &error), MSALEX_OK);
    make_old(dead, 61);
    make_old(other, 61);
    make_old(living, 61);
    wide = msalex__wide_path(living, &error);
    writer = CreateFileW(wide, GENERIC_WRITE, FILE_SHARE_READ, NULL, OPEN_EXISTING, 0, NULL);
    CHECK_STATUS(msalex_file_sweep(path_of("file"), &error), MSALEX_OK);
    CHECK(!exists(dead) && exists(young) && exists(other) && exists(living));
    msalex__close(writer);
    fake_fail(FAKE_DISPOSITION, 0, 1, ERROR_INVALID_PARAMETER); /* before Windows 10: classic */
    CHECK_STATUS(msalex_file_sweep(path_of("file"), &error), MSALEX_OK);
    CHECK(!exists(living));
    CHECK_STATUS(msalex_file_delete(young, &error), MSALEX_OK);
    CHECK_STATUS(msalex_file_delete(other, &error), MSALEX_OK);
    free(wide);
}

static void a_save_whose_lock_was_lost_changes_nothing(void) {
    char path[1200];
    msalex_lock *lock = lock_for(path_of("lock"));
    msalex_stamp stamp;

    (void)snprintf(path, sizeof path, "%s\\file", directory);
    CHECK_STATUS(put(path, "old"), MSALEX_OK);
    CHECK_STATUS(msalex_lock_acquire(lock, 1000, 1000, &error), MSALEX_OK);
    CHECK_STATUS(msalex_file_replace(path, (const unsigned char *)"new", 3, lock, &stamp, &error),
                 MSALEX_OK);
    CHECK_STATUS(msalex_lock_release(lock, &error), MSALEX_OK);
    CHECK_STATUS(msalex_file_replace(path, (const unsigned char *)"lost", 4, lock, &stamp, &error),
                 MSALEX_LOCK_LOST);
    CHECK(has(path, "new") && count_entries(".") == 1);
    fake_fail(FAKE_CREATE_FILE, 0, 1, ERROR_ACCESS_DENIED); /* in place, too */
    CHECK_STATUS(msalex_file_replace(path, (const unsigned char *)"lost", 4, lock, &stamp, &error),
                 MSALEX_LOCK_LOST);
    CHECK(has(path, "new"));
    CHECK_STATUS(msalex_file_delete(path, &error), MSALEX_OK);
    msalex_lock_free(lock);
}

static void where_no_file_can_be_made_it_is_written_in_place(void) {
    const char *path = path_of("file");

    CHECK_STATUS(put(path, "a longer content"), MSALEX_OK);
    fake_fail(FAKE_CREATE_FILE, 0, 1, ERROR_ACCESS_DENIED);
    CHECK_STATUS(put(path, "short"), MSALEX_OK);
    CHECK(has(path, "short"));
    fake_fail(FAKE_CREATE_FILE, 0, 1, ERROR_ACCESS_DENIED);
    fake_fail(FAKE_WRITE_FILE, 0, 1, ERROR_DISK_FULL);
    CHECK_STATUS(put(path, "x"), MSALEX_OS_ERROR);
    CHECK(error.code == ENOSPC);
    passes_on();
    fake_fail(FAKE_CREATE_FILE, 0, 1, ERROR_ACCESS_DENIED);
    fake_fail(FAKE_FLUSH, 0, 1, ERROR_WRITE_FAULT);
    CHECK_STATUS(put(path, "x"), MSALEX_OS_ERROR);
    CHECK(error.code == EIO);
    passes_on();
    fake_fail(FAKE_CREATE_FILE, 0, 1000, ERROR_ACCESS_DENIED);
    CHECK_STATUS(put(path, "x"), MSALEX_DENIED);
    passes_on();
    CHECK_STATUS(msalex_file_delete(path, &error), MSALEX_OK);
}

static void without_a_list_to_copy_the_new_file_is_private(void) {
    const char *path = path_of("file");

    CHECK_STATUS(put(path, "old"), MSALEX_OK);
    fake_fail(FAKE_SECURITY_INFO, 0, 1, ERROR_ACCESS_DENIED);
    CHECK_STATUS(put(path, "new"), MSALEX_OK);
    CHECK(has(path, "new"));
    fake_fail(FAKE_SECURITY_INFO, 0, 1, ERROR_ACCESS_DENIED);
    fake_fail(FAKE_PROCESS_TOKEN, 0, 1, ERROR_ACCESS_DENIED);
    CHECK_STATUS(put(path, "newer"), MSALEX_DENIED);
    CHECK(has(path, "new"));
    CHECK_STATUS(msalex_file_delete(path, &error), MSALEX_OK);
}

static void what_cannot_be_read_is_told(void) {
    const char *path = path_of("file");
    msalex_buffer content;
    msalex_stamp stamp;

    CHECK_STATUS(put(path, "content"), MSALEX_OK);
    fake_fail(FAKE_READ_FILE, 0, 1, ERROR_CRC);
    CHECK_STATUS(msalex_file_read(path, &content, &stamp, &error), MSALEX_OS_ERROR);
    CHECK(content.data == NULL && stamp.size == 0 && error.code == EIO);
    CHECK(msalex_file_is_remote(path) == 0);
    fake_fail(FAKE_REMOTE, 0, 1, 1);
    CHECK(msalex_file_is_remote(path) == 1);
    fake_fail(FAKE_IDENTIFY, 0, 1, ERROR_INVALID_FUNCTION);
    CHECK_STATUS(msalex_file_stat(path, &stamp, &error), MSALEX_OS_ERROR);
    CHECK_STATUS(msalex_file_read("NUL", &content, &stamp, &error), MSALEX_INVALID);
    CHECK_STATUS(msalex_file_read("\xff", &content, &stamp, &error), MSALEX_INVALID);
    CHECK_STATUS(msalex_file_stat("\xff", &stamp, &error), MSALEX_INVALID);
    CHECK(msalex_file_is_remote("\xff") == 1 && msalex_file_is_remote("Z:\\nowhere\\none") == 1);
    CHECK_STATUS(msalex_file_touch("\xff", &error), MSALEX_INVALID);
    CHECK_STATUS(msalex_file_delete("\xff", &error), MSALEX_INVALID);
    CHECK_STATUS(msalex_file_sweep("\xff", &error), MSALEX_INVALID);
    CHECK_STATUS(put("\xff", ""), MSALEX_INVALID);
    CHECK_STATUS(msalex_lock_holder("\xff", &content, &error), MSALEX_INVALID);
    CHECK_STATUS(msalex_lock_holder(path_of("none"), &content, &error), MSALEX_NOT_FOUND);
    fake_fail(FAKE_CREATE_FILE, 0, 1000, ERROR_ACCESS_DENIED);
    CHECK_STATUS(msalex_file_touch(path, &error), MSALEX_DENIED);
    passes_on();
    CHECK_STATUS(msalex_file_delete(path, &error), MSALEX_OK);
}

static void what_is_created_replaces_nothing(void) {
    const char *path = path_of("file");
    const unsigned char new[] = "new";

    CHECK_STATUS(msalex_file_create(path, new, 3, &error), MSALEX_OK);
    CHECK(has(path, "new"));
    CHECK_STATUS(put(path, "old"), MSALEX_OK);
    CHECK_STATUS(msalex_file_create(path, new, 3, &error), MSALEX_OS_ERROR);
    CHECK(error.code == EEXIST);
    CHECK_STATUS(msalex_directory_make(path, &error), MSALEX_OS_ERROR);
    CHECK(error.code == EEXIST);
    CHECK_STATUS(msalex_file_create("\xff", new, 3, &error), MSALEX_INVALID);
    CHECK_STATUS(msalex_directory_make("\xff", &error), MSALEX_INVALID);
    CHECK(has(path, "old") && msalex_file_delete(path, &error) == MSALEX_OK);
    CHECK_STATUS(msalex_directory_make(path, &error), MSALEX_OK);
    CHECK_STATUS(put(path, "x"), MSALEX_INVALID);
    CHECK(error.code == EISDIR);
    CHECK(RemoveDirectoryA(path));
}

static void what_is_larger_than_any_cache_is_neither_read_nor_written(void) {
    const LARGE_INTEGER size = {.QuadPart = (int64_t)MSALEX_FILE_SIZE_MAX + 1};
    const char *path = path_of("file");
    msalex_buffer content;
    msalex_stamp stamp;
    HANDLE file;

    CHECK_STATUS(msalex_file_replace(path, NULL, (size_t)size.QuadPart, NULL, &stamp, &error),
                 MSALEX_INVALID);
    CHECK(error.code == EFBIG);
    CHECK_STATUS(msalex_file_create(path, NULL, (size_t)size.QuadPart, &error), MSALEX_INVALID);
    CHECK_STATUS(put(path, "x"), MSALEX_OK);
    file = CreateFileA(path, GENERIC_WRITE, 0, NULL, OPEN_EXISTING, 0, NULL);
    CHECK(SetFilePointerEx(file, size, NULL, FILE_BEGIN) && SetEndOfFile(file));
    CHECK(CloseHandle(file));
    CHECK_STATUS(msalex_file_read(path, &content, &stamp, &error), MSALEX_INVALID);
    CHECK(error.code == EFBIG && content.data == NULL && stamp.size == 0);
    CHECK_STATUS(msalex_file_delete(path, &error), MSALEX_OK);
}

static void a_path_that_is_not_unicode_makes_no_lock(void) {
    msalex_lock *lock;
    CHECK_STATUS(msalex_lock_new("\xff", "seam", &lock, &error), MSALEX_INVALID);
    CHECK(lock == NULL);
    msalex_lock_free(NULL);
}

static void server_paths_get_their_own_long_form(void) {
    char path[600] = "\\\\server\\share\\";
    wchar_t *wide;

    for (int i = 0; i < 20; i++)
        strcat(path, "directory of 20 char\\");
    wide = msalex__wide_path(path, &error);
    CHECK(wide != NULL && wcsncmp(wide, L"\\\\?\\UNC\\server\\share\\", 21) == 0);
    free(wide);
    wide = msalex__wide_path("C:\\short", &error);
    CHECK(wide != NULL && wcscmp(wide, L"C:\\short") == 0);
    free(wide);
    CHECK(msalex__wide_path("", &error) == NULL);
    memset(path, 'x', 300);
    path[300] = '\0';
    CHECK(msalex__wide_path(path, &error) == NULL && error.code == ENAMETOOLONG);
}

/* ---- watching ---- */

static DWORD WINAPI put_soon(void *path) {
    Sleep(60);
    (void)put(path, "new");
    return 0;
}

static void a_change_is_told_with_a_watch_and_without(void) {
    char path[1200];
    msalex_watch *watch;

    (void)snprintf(path, sizeof path, "%s\\file", directory);
    for (int blind = 0; blind < 3; blind++) {
        int64_t before;
        HANDLE thread;

        if (blind == 1) /* the system has no watch left */
            fake_fail(FAKE_WATCH, 0, 1000, ERROR_NOT_ENOUGH_MEMORY);
        CHECK(msalex_watch_new(path, &watch, &error) == MSALEX_OK);
        if (blind == 2) /* or no longer: it looks, and tries again to watch */
            fake_fail(FAKE_NEXT, 0, 1, ERROR_ACCESS_DENIED);
        CHECK(msalex_watch_wait(watch, 50, &error) == MSALEX_TIMEOUT);
        before = msalex__now_ms();
        thread = CreateThread(NULL, 0, put_soon, path, 0, NULL);
        CHECK(msalex_watch_wait(watch, 5000, &error) == MSALEX_OK);
        CHECK(msalex__now_ms() - before < SOON_MS);
        joined(thread);
        while (msalex_watch_wait(watch, 100, &error) == MSALEX_OK)
            continue; /* the save sets the time after the rename */
        CHECK(put(path_of("another"), "x") == MSALEX_OK);
        CHECK(msalex_watch_wait(watch, 300, &error) == MSALEX_TIMEOUT);
        CHECK(msalex_file_delete(path, &error) == MSALEX_OK);
        CHECK(msalex_watch_wait(watch, -1, &error) == MSALEX_OK);
        msalex_watch_free(watch);
        passes_on();
        CHECK(msalex_file_delete(path_of("another"), &error) == MSALEX_OK);
    }
    CHECK(msalex_watch_new("\xff", &watch, &error) == MSALEX_INVALID && watch == NULL);
    msalex_watch_free(NULL);
}

static void a_directory_may_be_deleted_and_made_again_under_a_watch(void) {
    char path[1200], parent[1200];
    msalex_watch *watch;
    wchar_t *wide;

    (void)snprintf(parent, sizeof parent, "%s\\parent", directory);
    (void)snprintf(path, sizeof path, "%s\\file", parent);
    wide = msalex__wide_path(parent, &error);
    CHECK(msalex_watch_new(path, &watch, &error) == MSALEX_OK); /* before there is one */
    for (int round = 0; round < 2; round++) {
        CHECK(CreateDirectoryW(wide, NULL));
        CHECK(put(path, "content") == MSALEX_OK);
        CHECK(msalex_watch_wait(watch, 5000, &error) == MSALEX_OK);
        CHECK(msalex_file_delete(path, &error) == MSALEX_OK);
        CHECK(RemoveDirectoryW(wide));
        /* As on Windows, where a directory that is being deleted cannot be opened. */
        fake_fail(FAKE_CREATE_FILE, 0, 4, ERROR_ACCESS_DENIED);
        CHECK(msalex_watch_wait(watch, 5000, &error) == MSALEX_OK);
        (void)msalex_watch_wait(watch, 300, &error);
        passes_on(); /* it has let go of the directory: the name is free */
    }
    msalex_watch_free(watch);
    free(wide);
}

/* ---- encryption ---- */

static void what_data_protection_says_arrives_as_it_was_said(void) {
    const DWORD codes[] = {0x8009000B, 0x80090009, ERROR_INVALID_DATA, ERROR_FILE_NOT_FOUND,
                           0x8007054F};
    const unsigned char data[] = "secret";
    msalex_buffer blob, clear;

    CHECK(msalex_dpapi_protect(data, 6, data, 6, MSALEX_DPAPI_CURRENT_USER, &blob, &error) ==
          MSALEX_OK);
    for (int i = 0; i < 5; i++) {
        fake_fail(FAKE_UNPROTECT, 0, 1, codes[i]);
        CHECK(msalex_dpapi_unprotect(blob.data, blob.size, data, 6, &clear, &error) ==
              MSALEX_OS_ERROR);
        CHECK(error.code == (int32_t)codes[i] && clear.data == NULL);
        CHECK(strstr(error.message, "secret") == NULL && error.message[0] != '\0');
    }
    fake_fail(FAKE_PROTECT, 0, 1, 0x8009000B);
    CHECK(msalex_dpapi_protect(data, 6, NULL, 0, MSALEX_DPAPI_LOCAL_MACHINE, &clear, &error) ==
          MSALEX_OS_ERROR);
    CHECK(error.code == (int32_t)0x8009000B);
    /* More than the API can take is refused, not cut. */
    CHECK(msalex_dpapi_protect(data, (size_t)1 << 32, NULL, 0, 0, &clear, &error) ==
          MSALEX_OS_ERROR);
    CHECK(msalex_dpapi_unprotect(data, (size_t)1 << 32, NULL, 0, &clear, &error) ==
          MSALEX_OS_ERROR);
    CHECK(msalex_dpapi_unprotect(blob.data, blob.size, data, 6, &clear, &error) == MSALEX_OK);
    CHECK(clear.size == 6 && memcmp(clear.data, data, 6) == 0);
    msalex_buffer_free(&clear);
    msalex_buffer_free(&blob);
}

static const struct property properties[] = {
    {"A grant wakes the waiter and its request stays out meanwhile",
     a_grant_wakes_the_waiter_and_its_request_stays_out_meanwhile},
    {"A request whose thread has ended is made again",
     a_request_whose_thread_has_ended_is_made_again},
    {"A grant at the moment of leaving is not lost", a_grant_at_the_moment_of_leaving_is_not_lost},
    {"Without a queue it asks again and gives up in time",
     without_a_queue_it_asks_again_and_gives_up_in_time},
    {"A wait of any length ends with the grant", a_wait_of_any_length_ends_with_the_grant},
    {"A name that is being deleted is waited for", a_name_that_is_being_deleted_is_waited_for},
    {"A directory that denies is told at once", a_directory_that_denies_is_told_at_once},
    {"A file that somebody has open for a moment is waited for",
     a_file_that_somebody_has_open_for_a_moment_is_waited_for},
    {"A peer that catches a new file has it", a_peer_that_catches_a_new_file_has_it},
    {"A file that cannot be locked or opened again is removed",
     a_file_that_cannot_be_locked_or_opened_again_is_removed},
    {"A record that cannot be written leaves no file",
     a_record_that_cannot_be_written_leaves_no_file},
    {"A grant is not ownership", a_grant_is_not_ownership},
    {"A waiter that leaves the queue of a dead holder tidies up",
     who_leaves_the_queue_of_the_dead_tidies_up},
    {"A peer's file is judged by its process", a_peers_file_is_judged_by_its_process},
    {"A file that cannot be read is not empty", a_file_that_cannot_be_read_is_not_empty},
    {"A living peer survives a step of the clock", a_living_peer_survives_a_step_of_the_clock},
    {"A record of another system is a peer's", a_record_of_another_system_is_a_peers},
    {"On a file server the nonce tells as well which file it is",
     on_a_file_server_the_nonce_tells_as_well_which_file_it_is},
    {"A dead peer's file that stays keeps no processor busy",
     a_dead_peers_file_that_stays_keeps_no_processor_busy},
    {"A file whose number is another at each look keeps no processor busy",
     a_file_whose_number_is_another_at_each_look_keeps_no_processor_busy},
    {"A gap that is due keeps ours away and lets a try in",
     a_gap_that_is_due_keeps_ours_away_and_lets_a_try_in},
    {"Waiters read of a gap in the nameless file and a peer gets in",
     waiters_read_of_a_gap_in_the_nameless_file_and_a_peer_gets_in},
    {"What a record says of gaps goes on to the next holder",
     what_a_record_says_of_gaps_goes_on_to_the_next_holder},
    {"A process that comes back when a gap is due suspects one",
     a_process_that_comes_back_when_a_gap_is_due_suspects_one},
    {"A gap whose beginner died ends in time and an impossible one is none",
     a_gap_whose_beginner_died_ends_in_time_and_an_impossible_one_is_none},
    {"What passes is tried again and what stays is told",
     what_passes_is_tried_again_and_what_stays_is_told},
    {"A failure on the way leaves the old content and no litter",
     a_failure_on_the_way_leaves_the_old_content_and_no_litter},
    {"A link is followed and one that leads nowhere is refused",
     a_link_is_followed_and_one_that_leads_nowhere_is_refused},
    {"A directory is no file", a_directory_is_no_file},
    {"A read-only file is not replaced", a_read_only_file_is_not_replaced},
    {"A sweep takes what the dead left and nothing else",
     a_sweep_takes_what_the_dead_left_and_nothing_else},
    {"A save whose lock was lost changes nothing", a_save_whose_lock_was_lost_changes_nothing},
    {"Where no file can be made it is written in place",
     where_no_file_can_be_made_it_is_written_in_place},
    {"Without a list to copy the new file is private",
     without_a_list_to_copy_the_new_file_is_private},
    {"What cannot be read is told", what_cannot_be_read_is_told},
    {"What is created replaces nothing", what_is_created_replaces_nothing},
    {"What is larger than any cache is neither read nor written",
     what_is_larger_than_any_cache_is_neither_read_nor_written},
    {"A path that is not Unicode makes no lock", a_path_that_is_not_unicode_makes_no_lock},
    {"Server paths get their own long form", server_paths_get_their_own_long_form},
    {"A change is told with a watch and without", a_change_is_told_with_a_watch_and_without},
    {"A directory may be deleted and made again under a watch",
     a_directory_may_be_deleted_and_made_again_under_a_watch},
    {"What data protection says arrives as it was said",
     what_data_protection_says_arrives_as_it_was_said},
};

static void begin(void) {
    (void)GetCurrentDirectoryA(sizeof directory, directory);
    passes_on();
}

static void end(void) {
    passes_on();
    CHECK(count_entries(".") == 0);
}

int main(void) {
    around_each_property(begin, end);
    run_properties(properties, COUNT(properties));
    return end_of_properties();
}
