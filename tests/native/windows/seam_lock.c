/* Waiting for the byte of a lock file, and the lock: see seam.h. */
#include "seam.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

    fake_set_locks(FAKE_QUEUE);
    CHECK(msalex__lock_wait_for(file, 30) == ERROR_LOCK_VIOLATION);
    CHECK(fake_grant((LONG)0xC0000120)); /* STATUS_CANCELLED: 995 */
    fake_fail(FAKE_LOCK, 0, 0, 0);
    CHECK(msalex__lock_wait_for(file, 30) == ERROR_LOCK_VIOLATION);
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

const struct property lock_properties[] = {
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
};
const size_t lock_property_count = COUNT(lock_properties);
