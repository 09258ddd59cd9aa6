/* The locked byte of a lock file, and the announcement of a waiter: see seam.h. */
#include "seam.h"

#include <stdlib.h>

/* ---- the byte of one file ---- */

static struct msalex__lock_file *open_again(void) {
    wchar_t *wide = msalex__wide_path(path_of("byte"), &error);
    struct msalex__lock_file *file = msalex__lock_file_new(wide, "seam", 0);

    CHECK(file != NULL && msalex__lock_file_open(file) == 0);
    free(wide);
    return file;
}

static struct msalex__lock_file *open_file(void) {
    CHECK_STATUS(put(path_of("byte"), "content"), MSALEX_OK);
    return open_again();
}

/* Opens the file and locks its byte. */
static struct msalex__lock_file *held_file(void) {
    struct msalex__lock_file *file = open_file();
    CHECK(msalex__lock_file_try(file) == 0);
    return file;
}

static void remove_file(void) {
    CHECK_STATUS(msalex_file_delete(path_of("byte"), &error), MSALEX_OK);
}

static DWORD WINAPI unlock_soon(void *file) {
    Sleep(60);
    msalex__lock_file_unlock(file);
    return 0;
}

static HANDLE unlocking(struct msalex__lock_file *file) {
    return CreateThread(NULL, 0, unlock_soon, file, 0, NULL);
}

static void a_grant_wakes_the_waiter_and_its_request_stays_out_meanwhile(void) {
    struct msalex__lock_file *holder, *file;
    HANDLE thread;

    fake_model_locks((struct fake_rules){.order = FAKE_FIFO});
    holder = held_file();
    file = open_again();
    fake_fail(FAKE_LOCK, 0, 0, 0);
    CHECK(msalex__lock_wait_join(file));
    CHECK(msalex__lock_wait_for(file, 50) == ERROR_LOCK_VIOLATION);
    CHECK(file->request.out && file->announced && file->queue == MSALEX__HAS_QUEUE);
    CHECK(fake_count(FAKE_LOCK) == 3); /* it is announced; it is out; and the probe */
    CHECK(msalex__lock_wait_for(file, 50) == ERROR_LOCK_VIOLATION);
    CHECK(fake_count(FAKE_LOCK) == 3);
    thread = unlocking(holder);
    CHECK(msalex__lock_wait_for(file, -1) == 0);
    joined(thread);
    CHECK(!file->request.out && file->locked);
    msalex__lock_file_close(file);
    msalex__lock_file_close(holder);
    CHECK(fake_locked() == 0);
    remove_file();
}

static void a_probe_costs_no_waiter_its_place(void) {
    struct msalex__lock_file *holder, *first, *second;

    fake_model_locks((struct fake_rules){.order = FAKE_FIFO});
    holder = held_file();
    first = open_again();
    second = open_again();
    CHECK(msalex__lock_wait_join(first) && msalex__lock_wait_join(second));
    CHECK(msalex__lock_wait_for(first, 30) == ERROR_LOCK_VIOLATION);
    CHECK(first->queue == MSALEX__HAS_QUEUE);
    msalex__lock_file_unlock(holder);
    CHECK(msalex__lock_wait_for(second, 30) == ERROR_LOCK_VIOLATION);
    CHECK(msalex__lock_wait_for(first, 30) == 0);
    msalex__lock_file_close(first);
    CHECK(msalex__lock_wait_for(second, 30) == 0);
    msalex__lock_file_close(second);
    msalex__lock_file_close(holder);
    remove_file();
}

static void a_request_whose_thread_has_ended_is_made_again(void) {
    struct msalex__lock_file *holder, *file;

    fake_model_locks((struct fake_rules){.order = FAKE_FIFO});
    holder = held_file();
    file = open_again();
    CHECK(msalex__lock_wait_for(file, 30) == ERROR_LOCK_VIOLATION);
    fake_end_requests();
    CHECK(fake_waiting() == 0);
    CHECK(msalex__lock_wait_for(file, 30) == ERROR_LOCK_VIOLATION);
    CHECK(fake_waiting() == 1 && file->request.out);
    msalex__lock_file_close(file);
    CHECK(fake_waiting() == 0);
    msalex__lock_file_close(holder);
    remove_file();
}

static void a_grant_at_the_moment_of_leaving_is_not_lost(void) {
    struct msalex__lock_file *holder, *file;

    fake_model_locks((struct fake_rules){.grants_on_cancel = true});
    holder = held_file();
    file = open_again();
    CHECK(msalex__lock_wait_for(file, 1000) == 0); /* while the probe is taken back */
    CHECK(file->locked && msalex__lock_wait_for(file, 0) == 0);
    msalex__lock_file_close(file);
    file = open_again();
    CHECK(msalex__lock_wait_join(file));
    CHECK(msalex__lock_file_withdraw(file) == 0 && file->locked);
    msalex__lock_wait_leave(file);
    CHECK(exists(path_of("byte"))); /* its content is no record of ours */
    msalex__lock_file_close(holder);
    msalex__lock_file_close(NULL);
    msalex__lock_wait_leave(NULL);
    remove_file();
}

static void a_request_that_the_system_keeps_holds_nobody_up(void) {
    const int64_t before = msalex__now_ms();
    struct msalex__lock_file *holder, *file;

    fake_model_locks((struct fake_rules){.ignores_cancel = true});
    holder = held_file();
    file = open_again();
    CHECK(msalex__lock_wait_join(file));
    CHECK(msalex__lock_file_withdraw(file) == WAIT_TIMEOUT && file->request.stuck);
    CHECK(msalex__lock_file_try(file) == ERROR_BUSY);
    msalex__lock_file_probe(file);
    CHECK(file->aside.stuck && !msalex__lock_file_is_awaited(file));
    msalex__lock_wait_leave(file); /* its memory stays, because the system may write to it */
    CHECK(msalex__now_ms() - before < SOON_MS);
    msalex__lock_file_close(holder);
    remove_file();
}

static void without_a_queue_it_asks_again_and_gives_up_in_time(void) {
    const struct fake_rules kinds[] = {{.no_queue = true}, {.refuses = true}};

    for (int kind = 0; kind < 2; kind++) {
        struct msalex__lock_file *holder, *file;
        int64_t before, took;

        fake_model_locks(kinds[kind]);
        holder = held_file();
        file = open_again();
        CHECK(msalex__lock_wait_join(file));
        fake_fail(FAKE_LOCK, 0, 0, 0);
        before = msalex__now_ms();
        CHECK(msalex__lock_wait_for(file, 500) == ERROR_LOCK_VIOLATION);
        took = msalex__now_ms() - before;
        CHECK(took >= 500 && took < SOON_MS);
        CHECK(fake_count(FAKE_LOCK) >= 5);
        /* A holder must not leave the file to a queue that is none. */
        CHECK(!file->announced && !file->request.out && !file->locked);
        CHECK(!msalex__lock_file_is_awaited(holder));
        CHECK(msalex__lock_file_try(file) == ERROR_LOCK_VIOLATION);
        fake_fail(FAKE_LOCK, 0, 1, ERROR_INVALID_HANDLE);
        CHECK(msalex__lock_wait_for(file, 100) == ERROR_INVALID_HANDLE);
        msalex__lock_file_unlock(holder);
        CHECK(msalex__lock_wait_for(file, 1000) == 0);
        msalex__lock_file_close(file);
        msalex__lock_file_close(holder);
        remove_file();
    }
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

    for (size_t i = 0; i < COUNT(times); i++) {
        struct msalex__lock_file *holder, *file;
        int64_t before = msalex__now_ms();
        HANDLE thread;

        fake_model_locks((struct fake_rules){.order = FAKE_FIFO});
        holder = held_file();
        file = open_again();
        thread = unlocking(holder);
        CHECK(msalex__lock_wait_for(file, times[i]) == 0);
        joined(thread);
        CHECK(msalex__now_ms() - before >= 50);
        msalex__lock_file_close(file);
        msalex__lock_file_close(holder);
        remove_file();
        passes_on();
        before = msalex__now_ms();
        msalex__lock_peer_wait(INVALID_HANDLE_VALUE, times[i]);
        CHECK(msalex__now_ms() - before < SOON_MS);
        CHECK_STATUS(msalex_lock_acquire(lock, times[i], times[i], &error), MSALEX_OK);
        CHECK_STATUS(msalex_lock_release(lock, &error), MSALEX_OK);
    }
    msalex_lock_free(lock);
}

/* ---- the announcement ---- */

static void an_announcement_stands_in_the_way_of_no_peer(void) {
    const struct {
        uint64_t first, length;
    } ranges[] = {{0, 0x10000}, {0, 0xffff000000000000}, {0, 1}}; /* portalocker 3, 1, and Go */
    struct msalex__lock_file *file;

    fake_model_locks((struct fake_rules){.order = FAKE_FIFO});
    file = open_file();
    CHECK(msalex__lock_file_announce(file) == 0 && file->announced);
    for (size_t i = 0; i < COUNT(ranges); i++) {
        DWORD code;
        msalex__close(lock_range(path_of("byte"), ranges[i].first, ranges[i].length, &code));
        CHECK(code == 0);
    }
    msalex__lock_file_close(file);
    CHECK(fake_locked() == 0);
    remove_file();
}

static void a_waiter_that_cannot_announce_itself_does_not_queue(void) {
    const char *path = path_of("lock");
    msalex_lock *holder = lock_for(path), *lock = lock_for(path);
    HANDLE looking;
    DWORD code;

    fake_model_locks((struct fake_rules){.order = FAKE_FIFO});
    CHECK_STATUS(msalex_lock_acquire(holder, 0, 0, &error), MSALEX_OK);
    looking = lock_range(path, 0xffffffff00000000, 1, &code); /* as a holder does for a moment */
    CHECK(code == 0);
    CHECK_STATUS(msalex_lock_acquire(lock, 50, 5000, &error), MSALEX_TIMEOUT);
    CHECK(fake_waiting() == 0);
    msalex__close(looking);
    CHECK_STATUS(msalex_lock_acquire(lock, 50, 5000, &error), MSALEX_TIMEOUT);
    CHECK(fake_waiting() == 1);
    CHECK_STATUS(msalex_lock_release(holder, &error), MSALEX_OK);
    CHECK_STATUS(msalex_lock_acquire(lock, 5000, 5000, &error), MSALEX_OK);
    msalex_lock_free(lock);
    msalex_lock_free(holder);
    CHECK(!exists(path));
}

/* The waiters below are files, not locks, so that a test can leave them alone. */
static struct msalex__lock_file *waiter_of(const char *path) {
    wchar_t *wide = msalex__wide_path(path, &error);
    struct msalex__lock_file *file = msalex__lock_file_new(wide, "seam", 0);

    CHECK(file != NULL && msalex__lock_file_open(file) == 0);
    CHECK(msalex__lock_wait_join(file));
    /* If there was no queue a moment ago, the probe must find one first. */
    CHECK(file->announced || msalex__lock_wait_for(file, 50) == ERROR_LOCK_VIOLATION);
    CHECK(file->announced);
    free(wide);
    return file;
}

static void a_waiter_that_dies_leaves_no_announcement(void) {
    const char *path = path_of("lock");
    msalex_lock *holder = lock_for(path);
    struct msalex__lock_file *dead;

    fake_model_locks((struct fake_rules){.order = FAKE_FIFO});
    CHECK_STATUS(msalex_lock_acquire(holder, 0, 0, &error), MSALEX_OK);
    dead = waiter_of(path);
    msalex__close(dead->waiting); /* as the end of its process does */
    dead->waiting = INVALID_HANDLE_VALUE;
    CHECK_STATUS(msalex_lock_release(holder, &error), MSALEX_OK);
    CHECK(!exists(path));
    dead->announced = false;
    msalex__lock_file_close(dead);
    msalex_lock_free(holder);
}

static void a_waiter_that_is_suspended_keeps_nobody_out(void) {
    const char *path = path_of("lock");
    msalex_lock *holder = lock_for(path), *lock = lock_for(path);
    struct msalex__lock_file *suspended;

    fake_model_locks((struct fake_rules){.order = FAKE_FIFO});
    CHECK_STATUS(msalex_lock_acquire(holder, 0, 0, &error), MSALEX_OK);
    suspended = waiter_of(path);
    CHECK_STATUS(msalex_lock_acquire(lock, 30, 5000, &error), MSALEX_TIMEOUT);
    CHECK(fake_waiting() == 2);
    CHECK_STATUS(msalex_lock_release(holder, &error), MSALEX_OK);
    CHECK(suspended->request.it.Internal == 0); /* granted */
    CHECK(!exists(path));
    CHECK_STATUS(msalex_lock_acquire(lock, 5000, 5000, &error), MSALEX_OK);
    CHECK(msalex__lock_wait_for(suspended, 0) == 0); /* it goes on */
    /* The name belongs to another file: not even for a moment it stands in that file's way. */
    fake_fail(FAKE_OPEN_TO_WRITE, 0, 0, 0);
    CHECK(msalex__lock_file_claim(suspended) == ERROR_FILE_NOT_FOUND);
    CHECK(fake_count(FAKE_OPEN_TO_WRITE) == 0);
    msalex__lock_file_close(suspended);
    CHECK_STATUS(msalex_lock_check(lock, &error), MSALEX_OK);
    msalex_lock_free(lock);
    msalex_lock_free(holder);
    CHECK(!exists(path));
}

static void a_waiter_that_gives_up_passes_the_file_on(void) {
    const char *path = path_of("lock");
    msalex_lock *holder = lock_for(path), *lock = lock_for(path);
    struct msalex__lock_file *leaving;

    fake_model_locks((struct fake_rules){.order = FAKE_FIFO});
    CHECK_STATUS(msalex_lock_acquire(holder, 0, 0, &error), MSALEX_OK);
    leaving = waiter_of(path);
    CHECK(msalex__lock_wait_for(leaving, 30) == ERROR_LOCK_VIOLATION);
    CHECK_STATUS(msalex_lock_acquire(lock, 30, 5000, &error), MSALEX_TIMEOUT);
    msalex__lock_wait_leave(leaving);
    CHECK(fake_waiting() == 1);
    msalex_lock_free(lock);
    CHECK(fake_waiting() == 0);
    CHECK_STATUS(msalex_lock_check(holder, &error), MSALEX_OK);
    CHECK_STATUS(msalex_lock_release(holder, &error), MSALEX_OK);
    CHECK(!exists(path));
    msalex_lock_free(holder);
}

const struct property byte_properties[] = {
    {"A grant wakes the waiter and its request stays out meanwhile",
     a_grant_wakes_the_waiter_and_its_request_stays_out_meanwhile},
    {"A probe costs no waiter its place", a_probe_costs_no_waiter_its_place},
    {"A request whose thread has ended is made again",
     a_request_whose_thread_has_ended_is_made_again},
    {"A grant at the moment of leaving is not lost", a_grant_at_the_moment_of_leaving_is_not_lost},
    {"A request that the system keeps holds nobody up",
     a_request_that_the_system_keeps_holds_nobody_up},
    {"Without a queue it asks again and gives up in time",
     without_a_queue_it_asks_again_and_gives_up_in_time},
    {"A wait of any length ends with the grant", a_wait_of_any_length_ends_with_the_grant},
    {"An announcement stands in the way of no peer", an_announcement_stands_in_the_way_of_no_peer},
    {"A waiter that cannot announce itself does not queue",
     a_waiter_that_cannot_announce_itself_does_not_queue},
    {"A waiter that dies leaves no announcement", a_waiter_that_dies_leaves_no_announcement},
    {"A waiter that is suspended keeps nobody out", a_waiter_that_is_suspended_keeps_nobody_out},
    {"A waiter that gives up passes the file on", a_waiter_that_gives_up_passes_the_file_on},
};
const size_t byte_property_count = COUNT(byte_properties);
