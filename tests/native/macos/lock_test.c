/*
 * The macOS lock in one thread, over a kernel with a script (lock_script.h): waits, grants and
 * forks.  Run by tests/macos/test_over_fakes.py.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "check.h"
#include "fake_kernel.h"
#include "lock_record.h"
#include "lock_script.h"

static void holder_dies_before_adding(int fd) {
    (void)fd;
    holder_dies();
}

static void third_is_faster(void) {
    if (waits == 1) {
        holder_releases();
        CHECK_STATUS(msalex_lock_acquire(third, 0, 0, &error), MSALEX_OK);
    } else if (waits == 2) {
        CHECK_STATUS(msalex_lock_release(third, &error), MSALEX_OK);
    }
}

static void peer_is_replaced_then_leaves(void) {
    if (waits == 1)
        peer_replaces();
    else if (waits == 3)
        somebody_unlinks();
}

static void grant(void) {
    start_held(wait_script);
    event = holder_releases;
    CHECK_STATUS(msalex_lock_acquire(waiter, 5000, 5000, &error), MSALEX_OK);
    CHECK(now == begin + 1 && waits == 1);
    /* Tried, watched, tried again, and only then waited.  The holder unlocks the file, which has
     * lost its name.  The waiter locks it until the new one is there and locked. */
    CHECK(strcmp(fake_kernel.log, "LOALWULLU") == 0);
    /* For an unlock, a removal, a rename or a replacement, and a forced unmount. */
    CHECK(fake_kernel.added == (0x100 | 0x1 | 0x20 | 0x40));
    CHECK(names("waiter") && msalex_lock_check(waiter, &error) == MSALEX_OK);
    CHECK_STATUS(msalex_lock_check(holder, &error), MSALEX_NOT_FOUND);
    CHECK_STATUS(msalex_lock_release(waiter, &error), MSALEX_OK);
    CHECK(!file_exists(PATH));
    end();
}

static void time_out(void) {
    start_held(wait_script);
    CHECK_STATUS(msalex_lock_acquire(waiter, 1000, 1000, &error), MSALEX_TIMEOUT);
    CHECK(now == begin + 1000 && waits == 4 && longest == 250);
    memset(fake_kernel.log, 0, sizeof fake_kernel.log);
    CHECK_STATUS(msalex_lock_acquire(waiter, 90, 90, &error), MSALEX_TIMEOUT);
    CHECK(now == begin + 1090 && waits == 5);
    CHECK(strcmp(fake_kernel.log, "LWL") == 0); /* it was still watching */
    CHECK_STATUS(msalex_lock_acquire(third, 0, 0, &error), MSALEX_TIMEOUT);
    CHECK(waits == 5);
    CHECK_STATUS(msalex_lock_release(waiter, &error), MSALEX_OK); /* leaves */
    CHECK_STATUS(msalex_lock_check(holder, &error), MSALEX_OK);
    CHECK_STATUS(msalex_lock_acquire(holder, 0, 0, &error), MSALEX_INVALID); /* it is held */
    end();
}

static void waits_for_ever(void) {
    start_held(wait_script);
    event = holder_releases;
    event_at = 1000;
    CHECK_STATUS(msalex_lock_acquire(waiter, -1, -1, &error), MSALEX_OK);
    CHECK(waits > 1000 && now > begin + 900 * 250); /* there is a gap at the end */
    end();
}

static void spurious_wakes(void) {
    start_held(wait_script);
    event = nothing;
    CHECK_STATUS(msalex_lock_acquire(waiter, 50, 50, &error), MSALEX_TIMEOUT);
    CHECK(waits == 50 && now == begin + 50);
    CHECK_STATUS(msalex_lock_check(holder, &error), MSALEX_OK);
    end();
}

static void missed_event(void) {
    start_held(wait_script);
    event = nothing;
    event_at = -1; /* never: the queue says nothing */
    CHECK_STATUS(msalex_lock_acquire(waiter, 400, 400, &error), MSALEX_TIMEOUT);
    holder_releases();
    CHECK_STATUS(msalex_lock_acquire(waiter, 400, 400, &error), MSALEX_OK);
    CHECK(now == begin + 400);
    end();
}

static void deletion(void) {
    start_held(wait_script);
    event = somebody_unlinks;
    event_at = 1;
    CHECK_STATUS(msalex_lock_acquire(waiter, 5000, 5000, &error), MSALEX_OK);
    CHECK(waits == 2 && now <= begin + 10); /* its holder does not unlock it */
    CHECK_STATUS(msalex_lock_check(holder, &error), MSALEX_NOT_FOUND);
    CHECK_STATUS(msalex_lock_release(holder, &error), MSALEX_NOT_FOUND);
    CHECK_STATUS(msalex_lock_check(waiter, &error), MSALEX_OK); /* left alone */
    end();
}

static void replacement(void) {
    start_held(wait_script);
    event = peer_is_replaced_then_leaves;
    CHECK_STATUS(msalex_lock_acquire(waiter, 5000, 5000, &error), MSALEX_OK);
    CHECK(waits == 3);
    CHECK(strchr(strchr(fake_kernel.log, 'O') + 1, 'O') != NULL); /* it watched the new file */
    end();
}

static void interruption(void) {
    start_held(interrupted_script);
    CHECK_STATUS(msalex_lock_acquire(waiter, 5000, 5000, &error), MSALEX_INTERRUPTED);
    CHECK(error.code == EINTR && waits == 1);
    memset(fake_kernel.log, 0, sizeof fake_kernel.log);
    CHECK_STATUS(msalex_lock_acquire(waiter, 5000, 5000, &error), MSALEX_INTERRUPTED);
    CHECK(strcmp(fake_kernel.log, "LW") == 0); /* it was still watching */
    fake_kernel.wait = wait_script;
    event = holder_releases;
    CHECK_STATUS(msalex_lock_acquire(waiter, 5000, 5000, &error), MSALEX_OK);
    end();
}

static void lost_race(void) {
    start_held(wait_script);
    event = third_is_faster;
    CHECK_STATUS(msalex_lock_acquire(waiter, 5000, 5000, &error), MSALEX_OK);
    CHECK(waits == 2);
    CHECK(names("waiter"));
    end();
}

/* Another waiter, which the same removal wakes, and which has an open file of its own. */
static int rival;

static void rival_is_elected(void) {
    if (waits == 1) {
        rival = open(PATH, O_RDWR | O_CLOEXEC);
        holder_releases();
        CHECK(flock(rival, LOCK_EX | LOCK_NB) == 0);
    } else if (waits == 2) {
        CHECK_STATUS(msalex_lock_acquire(third, 0, 0, &error), MSALEX_OK); /* it makes the file */
        (void)close(rival);
    } else if (waits == 4) {
        CHECK_STATUS(msalex_lock_release(third, &error), MSALEX_OK);
    }
}

static void one_makes_the_next_file(void) {
    start_held(wait_script);
    fake_kernel.made = 0;
    event = rival_is_elected;
    CHECK_STATUS(msalex_lock_acquire(waiter, 5000, 5000, &error), MSALEX_OK);
    CHECK(waits == 4 && fake_kernel.made == 2); /* one for `third`, one for `waiter` */
    CHECK(names("waiter"));
    end();
}

static void rival_is_stopped(void) {
    if (waits == 1) {
        rival = open(PATH, O_RDWR | O_CLOEXEC);
        holder_releases();
        CHECK(flock(rival, LOCK_EX | LOCK_NB) == 0);
    }
}

/* The one that was elected does nothing: the others do not wait for long. */
static void elected_waiter_that_is_stopped(void) {
    start_held(wait_script);
    event = rival_is_stopped;
    CHECK_STATUS(msalex_lock_acquire(waiter, 5000, 5000, &error), MSALEX_OK);
    CHECK(now <= begin + 10 && names("waiter"));
    (void)close(rival);
    end();
}

/* The name was free when the waiter looked, and belongs to another process a moment later. */
static void name_that_is_taken_meanwhile(void) {
    start_held(wait_script);
    fake_kernel.made = 0;
    fake_kernel.failing = "openat";
    fake_kernel.code = ENOENT;
    CHECK_STATUS(msalex_lock_acquire(waiter, 100, 100, &error), MSALEX_TIMEOUT);
    CHECK(fake_kernel.failing == NULL && fake_kernel.made == 0);
    end();
}

static void unlock_before_the_watch(void) {
    start(wait_script);
    make_held_by_other(PATH);
    fake_kernel.adding = holder_dies_before_adding;
    CHECK_STATUS(msalex_lock_acquire(waiter, 5000, 5000, &error), MSALEX_OK);
    CHECK(waits == 0 && strcmp(fake_kernel.log, "LOAL") == 0);
    CHECK(names("waiter"));
    end();
}

static void death(void) {
    start(wait_script);
    make_held_by_other(PATH);
    event = holder_dies;
    CHECK_STATUS(msalex_lock_acquire(waiter, 5000, 5000, &error), MSALEX_OK);
    CHECK(waits == 1 && names("waiter"));
    end();
}

static void granted_then_unlinked(void) {
    start(wait_script);
    make_held_by_other(PATH);
    fake_kernel.adding = holder_dies_before_adding;
    event = nothing;
    CHECK_STATUS(msalex_lock_acquire(waiter, 0, 0, &error), MSALEX_TIMEOUT);
    CHECK(strcmp(fake_kernel.log, "L") == 0); /* a call that does not wait watches nothing */
    CHECK_STATUS(msalex_lock_acquire(waiter, 10, 10, &error), MSALEX_OK);
    CHECK(unlink(PATH) == 0);
    CHECK_STATUS(msalex_lock_check(waiter, &error), MSALEX_NOT_FOUND);
    CHECK_STATUS(msalex_lock_release(waiter, &error), MSALEX_NOT_FOUND);
    end();
}

/* The name goes, or the record, between the look and the grant. */
static void unlink_at_flock(void) {
    somebody_unlinks();
    holder_dies();
}

static void overwrite_at_flock(void) {
    write_peer(getpid());
    holder_dies();
}

static void change_between_look_and_grant(void) {
    start(wait_script);
    make_held_by_other(PATH);
    at_try = unlink_at_flock;
    fake_kernel.trying = act_at_try;
    CHECK_STATUS(msalex_lock_acquire(waiter, 0, 0, &error), MSALEX_OK); /* with a new file */
    CHECK_STATUS(msalex_lock_check(waiter, &error), MSALEX_OK);
    CHECK_STATUS(msalex_lock_release(waiter, &error), MSALEX_OK);

    make_held_by_other(PATH);
    at_try = overwrite_at_flock;
    CHECK_STATUS(msalex_lock_acquire(waiter, 500, 500, &error), MSALEX_TIMEOUT); /* a peer's now */
    CHECK(!names("waiter"));
    end();
}

static void no_kqueue(void) {
    static const char *const failing[] = {"kqueue", "kevent"};
    for (size_t i = 0; i < 2; i++) {
        start_held(wait_script);
        fake_kernel.failing = failing[i];
        fake_kernel.code = i == 0 ? EMFILE : ENOMEM;
        fake_kernel.always = true;
        CHECK_STATUS(msalex_lock_acquire(waiter, 100, 100, &error), MSALEX_TIMEOUT);
        CHECK(now == begin + 100 && longest == 20);
        event = holder_releases;
        CHECK_STATUS(msalex_lock_acquire(waiter, 100, 100, &error), MSALEX_OK);
        end();
    }
    start_held(wait_script);
    CHECK_STATUS(msalex_lock_acquire(waiter, 10, 10, &error), MSALEX_TIMEOUT);
    fake_kernel.failing = "kevent"; /* the kqueue was made, and fails later */
    fake_kernel.code = ENOMEM;
    fake_kernel.always = true;
    waits = 0;
    CHECK_STATUS(msalex_lock_acquire(waiter, 500, 500, &error), MSALEX_TIMEOUT);
    CHECK(now == begin + 510 && waits == 2); /* it does not spin */
    fake_kernel.wait = interrupted_script;
    CHECK_STATUS(msalex_lock_acquire(waiter, 500, 500, &error), MSALEX_INTERRUPTED);
    end();
}

static void others_in_a_loop(void) {
    start(wait_script);
    CHECK_STATUS(msalex_lock_acquire(waiter, 100, 100, &error), MSALEX_OK);
    CHECK_STATUS(msalex_lock_release(waiter, &error), MSALEX_OK);
    fake_kernel.failing = "renameatx_np"; /* the rename always finds a file, a look never does */
    fake_kernel.code = EEXIST;
    fake_kernel.always = true;
    CHECK_STATUS(msalex_lock_acquire(waiter, 100, 100, &error), MSALEX_TIMEOUT);
    CHECK(waits >= 99 && longest == 1); /* it does not spin */
    fake_kernel.wait = interrupted_script;
    CHECK_STATUS(msalex_lock_acquire(waiter, 100, 100, &error), MSALEX_INTERRUPTED);
    CHECK_STATUS(msalex_lock_acquire(waiter, 0, 0, &error), MSALEX_TIMEOUT);
    CHECK_STATUS(msalex_lock_holder(PATH, &(msalex_buffer){0}, &error), MSALEX_NOT_FOUND);
    end();
}

/* Finding 9 of the lock's review, last part. */
static void child_keeps_nothing(void) {
    pid_t child;

    start_held(wait_script);
    CHECK_STATUS(msalex_lock_acquire(waiter, 10, 10, &error), MSALEX_TIMEOUT);
    (void)fflush(stdout);
    child = fork();
    if (child == 0) {
        memset(fake_kernel.log, 0, sizeof fake_kernel.log);
        bool lost = msalex_lock_check(holder, &error) == MSALEX_NOT_FOUND &&
                    msalex_lock_acquire(waiter, 10, 10, &error) == MSALEX_TIMEOUT &&
                    strcmp(fake_kernel.log, "LOALWL") == 0 && /* a kqueue of its own */
                    /* Its parent holds the lock, so this is no misuse by the child. */
                    msalex_lock_acquire(holder, 10, 10, &error) == MSALEX_TIMEOUT &&
                    msalex_lock_release(holder, &error) == MSALEX_OK && file_exists(PATH);
        exit(lost ? 0 : 1);
    }
    CHECK(wait_for_child(child) == 0);
    CHECK_STATUS(msalex_lock_check(holder, &error), MSALEX_OK);
    end();
}

/* As a child finds them.  (valgrind has some of its own.) */
static int count_in_child(void) {
    pid_t child;

    (void)fflush(stdout);
    if ((child = fork()) == 0)
        exit(count_descriptors());
    return wait_for_child(child);
}

/* Finding 5 of the lock's review.  (A child of Darwin inherits no kqueue, but one of our fake
 * does; so there is none here.) */
static void child_keeps_no_descriptor(void) {
    const int before = count_descriptors(), before_in_child = count_in_child();

    start_held(wait_script);
    fake_kernel.failing = "kqueue";
    fake_kernel.code = EMFILE;
    fake_kernel.always = true;
    CHECK_STATUS(msalex_lock_acquire(waiter, 10, 10, &error), MSALEX_TIMEOUT);
    CHECK(count_descriptors() == before + 4); /* two files, and the directory of each */
    CHECK(before_in_child > 0 && count_in_child() == before_in_child);
    end();
}

/* The parent has given up its wait before the child goes on with the wait that it inherited. */
static void child_goes_on_alone(void) {
    pid_t child;
    int gate[2];
    char byte = 0;

    start_held(wait_script);
    CHECK_STATUS(msalex_lock_acquire(waiter, 10, 10, &error), MSALEX_TIMEOUT);
    CHECK(pipe2(gate, O_CLOEXEC) == 0);
    (void)fflush(stdout);
    if ((child = fork()) == 0) {
        bool got = read(gate[0], &byte, 1) == 1 &&
                   msalex_lock_acquire(waiter, 10, 10, &error) == MSALEX_OK &&
                   msalex_lock_check(waiter, &error) == MSALEX_OK &&
                   msalex_lock_release(waiter, &error) == MSALEX_OK && !file_exists(PATH) &&
                   msalex_lock_acquire(holder, 0, 0, &error) == MSALEX_OK &&
                   msalex_lock_release(holder, &error) == MSALEX_OK;
        exit(got ? 0 : 1);
    }
    CHECK_STATUS(msalex_lock_release(waiter, &error), MSALEX_OK);
    holder_releases();
    CHECK(write(gate[1], &byte, 1) == 1);
    CHECK(wait_for_child(child) == 0);
    (void)close(gate[0]);
    (void)close(gate[1]);
    end();
}

static const struct property properties[] = {
    {"A waiter is granted the lock by the release that it waited for", grant},
    {"A wait ends at its deadline, in slices, and goes on where it was", time_out},
    {"A wait without a deadline has none", waits_for_ever},
    {"A wake-up for nothing grants nothing", spurious_wakes},
    {"An unlock that nobody told of is found at the next try", missed_event},
    {"A file that somebody deletes lets the waiter in, and its holder knows", deletion},
    {"A file that a peer replaces is waited for in its turn", replacement},
    {"A signal ends the wait, which may go on", interruption},
    {"Who loses the race for a free lock waits for the winner", lost_race},
    {"Of all waiters that a removal wakes one makes the next file", one_makes_the_next_file},
    {"A waiter that is stopped just then does not keep the others", elected_waiter_that_is_stopped},
    {"Where the name is taken meanwhile, no file is made for it", name_that_is_taken_meanwhile},
    {"An unlock between the first try and the watch is not lost", unlock_before_the_watch},
    {"A holder that dies is followed at once", death},
    {"A holder whose file was removed removes nothing", granted_then_unlinked},
    {"What changes between the look and the grant makes the grant void",
     change_between_look_and_grant},
    {"Without a kqueue the waiter polls", no_kqueue},
    {"Files that come and go in a loop do not make the waiter spin", others_in_a_loop},
    {"A child made by fork has neither the lock nor the wait", child_keeps_nothing},
    {"A child made by fork keeps no descriptor", child_keeps_no_descriptor},
    {"A child made by fork begins a wait of its own", child_goes_on_alone},
};

int main(void) {
    run_properties(properties, COUNT(properties));
    return end_of_properties();
}
