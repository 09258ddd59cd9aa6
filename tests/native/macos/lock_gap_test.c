/*
 * The gap for peers (lock_gap.h), over a kernel with a script (lock_script.h).
 * Run by tests/macos/test_over_fakes.py.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <limits.h>
#include <unistd.h>

#include "check.h"
#include "fake_kernel.h"
#include "lock_record.h"
#include "lock_script.h"

enum { GAP_DUE_MS = 4100, GAP_MS = 270 }; /* of lock_gap.c */

/* Another name of the same file: our process remembers nothing of it, as another process would. */
static const char ALIAS[] = "./cache.lockfile";
static msalex_lock *first, *second; /* they act as another process: see ALIAS */
static int64_t gap_end;             /* as the record says */

static void nobody_has_the_name(void) {
    CHECK(!file_exists(PATH));
}

/* The lock is held, `first` and `second` wait for it, and a gap is due. */
static void start_due(void) {
    start_held(wait_script);
    CHECK_STATUS(msalex_lock_new(ALIAS, "first", &first, &error), MSALEX_OK);
    CHECK_STATUS(msalex_lock_new(ALIAS, "second", &second, &error), MSALEX_OK);
    CHECK_STATUS(msalex_lock_acquire(first, 10, 60000, &error), MSALEX_TIMEOUT);
    CHECK_STATUS(msalex_lock_acquire(second, 10, 60000, &error), MSALEX_TIMEOUT);
    now = begin + GAP_DUE_MS;
}

static void end_due(void) {
    msalex_lock_free(first);
    msalex_lock_free(second);
    end();
}

/* Releases, and looks at the record in the removed file. */
static void release_into_gap(void) {
    const int fd = open(PATH, O_RDONLY | O_CLOEXEC);
    struct msalex__record record;

    holder_releases();
    CHECK(fd >= 0 && read_record(fd, &record) && record.state == MSALEX__GAP);
    CHECK(record.when == now + GAP_MS);
    gap_end = record.when;
    (void)close(fd);
}

static void gap_is_kept(void) {
    struct msalex__record record;

    start_due();
    release_into_gap();
    event = nobody_has_the_name;
    waits = 0;
    CHECK_STATUS(msalex_lock_acquire(first, 50, 60000, &error), MSALEX_TIMEOUT); /* one slice */
    CHECK(now == gap_end - GAP_MS + 50);
    CHECK_STATUS(msalex_lock_acquire(second, 50, 60000, &error), MSALEX_TIMEOUT);
    CHECK_STATUS(msalex_lock_acquire(first, 5000, 60000, &error), MSALEX_OK);
    CHECK(now >= gap_end && now < gap_end + 5);
    CHECK(read_record_at(PATH, &record) && record.when == now + GAP_DUE_MS); /* the next one */
    event = NULL;
    CHECK_STATUS(msalex_lock_acquire(second, 100, 60000, &error), MSALEX_TIMEOUT);
    end_due();
}

/* The holder, another process, has removed its file and not unlocked it yet. */
static void holder_begins_gap_slowly(void) {
    struct msalex__record record = {.pid = 1, .state = MSALEX__GAP, .nonce = 1};

    record.when = gap_end = now + GAP_MS;
    write_record(holder_fd, &record);
    somebody_unlinks();
    event = nobody_has_the_name;
}

static void gap_of_a_slow_holder(void) {
    start(wait_script);
    make_held_by_other(PATH);
    event = holder_begins_gap_slowly;
    CHECK_STATUS(msalex_lock_acquire(waiter, 5000, 5000, &error), MSALEX_OK);
    CHECK(now >= gap_end && now < gap_end + 5);
    end();
}

static void gap_is_not_due(void) {
    start_held(wait_script);
    now = begin + GAP_DUE_MS - 1;
    holder_releases();
    CHECK_STATUS(msalex_lock_acquire(holder, 1000, 1000, &error), MSALEX_OK);
    CHECK(waits == 0);
    end();
}

/* Another process may have begun a gap when no process was there to read of it. */
static void gap_is_suspected(void) {
    start_held(wait_script);
    now = begin + GAP_DUE_MS - 100;
    holder_releases();
    now = begin + GAP_DUE_MS + 50;
    event = nobody_has_the_name;
    CHECK_STATUS(msalex_lock_acquire(holder, 5000, 5000, &error), MSALEX_OK);
    CHECK(now >= begin + GAP_DUE_MS + GAP_MS && now < begin + GAP_DUE_MS + GAP_MS + 10);
    end();
}

static void process_that_began_the_gap(void) {
    start_due();
    release_into_gap();
    event = nobody_has_the_name;
    CHECK_STATUS(msalex_lock_acquire(holder, 5000, 5000, &error), MSALEX_OK);
    CHECK(now >= gap_end && now < gap_end + 10);
    end_due();
}

static void gap_and_the_impatient(void) {
    start_due();
    release_into_gap();
    waits = 0;
    CHECK_STATUS(msalex_lock_acquire(holder, 0, 0, &error), MSALEX_OK); /* a try */
    CHECK_STATUS(msalex_lock_release(holder, &error), MSALEX_OK);
    CHECK_STATUS(msalex_lock_acquire(third, GAP_MS - 1, GAP_MS - 1, &error), MSALEX_OK);
    CHECK_STATUS(msalex_lock_release(third, &error), MSALEX_OK);
    CHECK_STATUS(msalex_lock_acquire(first, 10, GAP_MS, &error), MSALEX_OK); /* its whole length */
    CHECK(waits == 0 && now == gap_end - GAP_MS);
    end_due();
}

static void peer_comes_in_the_gap(void) {
    if (!file_exists(PATH))
        write_peer(getpid());
    else if (now > gap_end + 100)
        somebody_unlinks();
}

static void gap_and_a_peer(void) {
    start_due();
    release_into_gap();
    event = peer_comes_in_the_gap;
    CHECK_STATUS(msalex_lock_acquire(first, 5000, 60000, &error), MSALEX_OK);
    CHECK(now > gap_end + 100); /* the peer's turn ends when the peer says so */
    CHECK(read_record_at(PATH, &(struct msalex__record){0}));
    end_due();
}

/* A process of this library that did not know of the gap. */
static void ours_comes_in_the_gap(void) {
    event = NULL;
    CHECK_STATUS(msalex_lock_acquire(third, 0, 0, &error), MSALEX_OK);
}

static void gap_and_one_of_ours(void) {
    start_due();
    release_into_gap();
    event = ours_comes_in_the_gap;
    CHECK_STATUS(msalex_lock_acquire(first, 100, 60000, &error), MSALEX_TIMEOUT);
    CHECK_STATUS(msalex_lock_release(third, &error), MSALEX_OK);
    CHECK_STATUS(msalex_lock_acquire(first, 100, 60000, &error), MSALEX_OK);
    CHECK(now < gap_end); /* the gap has ended early */
    end_due();
}

static void gap_and_a_signal(void) {
    start_due();
    release_into_gap();
    fake_kernel.wait = interrupted_script;
    CHECK_STATUS(msalex_lock_acquire(first, 5000, 60000, &error), MSALEX_INTERRUPTED);
    CHECK_STATUS(msalex_lock_acquire(second, 5000, 60000, &error), MSALEX_INTERRUPTED);
    fake_kernel.wait = wait_script;
    CHECK_STATUS(msalex_lock_acquire(second, 5000, 60000, &error), MSALEX_OK);
    CHECK(now >= gap_end);
    end_due();
}

static void timeouts_of_any_size(void) {
    static const int64_t timeouts[] = {INT64_MAX, INT64_MAX - 1, INT64_MIN, -1};
    for (size_t i = 0; i < sizeof timeouts / sizeof timeouts[0]; i++) {
        start_held(wait_script); /* one of ours */
        event = holder_releases;
        event_at = 3;
        CHECK_STATUS(msalex_lock_acquire(waiter, timeouts[i], timeouts[i], &error), MSALEX_OK);
        CHECK(waits == 3 && longest == 250);
        end();
        start(wait_script); /* a peer's */
        write_peer(getpid());
        event = somebody_unlinks;
        event_at = 3;
        CHECK_STATUS(msalex_lock_acquire(waiter, timeouts[i], timeouts[i], &error), MSALEX_OK);
        CHECK(waits == 3);
        end();
        start_due(); /* a gap */
        release_into_gap();
        CHECK_STATUS(msalex_lock_acquire(first, timeouts[i], timeouts[i], &error), MSALEX_OK);
        CHECK(now >= gap_end);
        end_due();
    }
}

static const struct property properties[] = {
    {"In a gap the name stays free until the end that the record tells", gap_is_kept},
    {"A gap is kept although the removed file is locked still", gap_of_a_slow_holder},
    {"Before a gap is due there is none", gap_is_not_due},
    {"A process that comes back when a gap was due suspects one", gap_is_suspected},
    {"The process that began a gap stays away as well", process_that_began_the_gap},
    {"A try, and a call with less patience than the gap, do not wait for its end",
     gap_and_the_impatient},
    {"A peer that comes in a gap has its turn", gap_and_a_peer},
    {"One of ours that comes in a gap ends it", gap_and_one_of_ours},
    {"A signal ends the wait in a gap, which may go on", gap_and_a_signal},
    {"Timeouts of any size are timeouts", timeouts_of_any_size},
};

int main(void) {
    run_properties(properties, COUNT(properties));
    return end_of_properties();
}
