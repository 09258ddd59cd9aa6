/* The lock: see seam.h. */
#include "seam.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the lock ---- */

static void a_file_that_somebody_has_open_for_a_moment_is_waited_for(void) {
    const char *path = path_of("lock");
    msalex_lock *lock = lock_for(path);

    fake_fail(FAKE_CREATE_FILE, 0, 2, ERROR_SHARING_VIOLATION);
    CHECK_STATUS(msalex_lock_acquire(lock, 1000, 1000, &error), MSALEX_OK);
    /* The release meets a scanner, and gets rid of it; then one that stays. */
    fake_fail(FAKE_CREATE_FILE, 0, 3, ERROR_SHARING_VIOLATION);
    CHECK_STATUS(msalex_lock_release(lock, &error), MSALEX_OK);
    CHECK(!exists(path));
    CHECK_STATUS(msalex_lock_acquire(lock, 1000, 1000, &error), MSALEX_OK);
    fake_fail(FAKE_CREATE_FILE, 0, 100000, ERROR_SHARING_VIOLATION);
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
    fake_fail(FAKE_CREATE_FILE, 0, 100000, ERROR_SHARING_VIOLATION);
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
    fake_fail(FAKE_LOCK, 0, 3, ERROR_INVALID_FUNCTION); /* a file system without locks */
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

    const struct fake_rules kinds[] = {{.order = FAKE_FIFO}, {.no_queue = true}};

    for (int kind = 0; kind < 2; kind++) {
        HANDLE dead;
        DWORD code;

        leave_behind(path);
        fake_model_locks(kinds[kind]);
        dead = lock_range(path, 0xffff, 1, &code);
        CHECK(code == 0);
        CHECK_STATUS(msalex_lock_acquire(lock, 30, 30, &error), MSALEX_TIMEOUT);
        msalex__close(dead);
        CHECK_STATUS(msalex_lock_release(lock, &error), MSALEX_OK);
        CHECK(!exists(path));
    }
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

static void a_dead_peers_file_that_stays_keeps_no_processor_busy(void) {
    /* Finding 10 of the lock's review. */
    const DWORD codes[] = {ERROR_ACCESS_DENIED, ERROR_SHARING_VIOLATION};
    const char *path = path_of("lock");

    for (int i = 0; i < 2; i++) {
        msalex_lock *lock = lock_for(path);
        CHECK_STATUS(put(path, "99999999 a peer"), MSALEX_OK);
        fake_fail(FAKE_OPEN_TO_WRITE, 0, 100000, codes[i]);
        CHECK_STATUS(msalex_lock_acquire(lock, 1000, 1000, &error),
                     codes[i] == ERROR_ACCESS_DENIED ? MSALEX_DENIED : MSALEX_TIMEOUT);
        CHECK(fake_count(FAKE_OPEN_TO_WRITE) >= 3 && fake_count(FAKE_OPEN_TO_WRITE) <= 130);
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

const struct property lock_properties[] = {
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
    {"A dead peer's file that stays keeps no processor busy",
     a_dead_peers_file_that_stays_keeps_no_processor_busy},
};
const size_t lock_property_count = COUNT(lock_properties);
