/*
 * Each call of the macOS lock that can fail does, once, over a kernel with a script
 * (lock_script.h).  Run by tests/macos/test_over_fakes.py.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "check.h"
#include "fake_kernel.h"
#include "lock_record.h"
#include "lock_script.h"

static const char *const CALLS[] = {
    "fstat",  "fstatat", "openat", "pread",  "pwrite", "unlinkat",     "flock",
    "linkat", "kqueue",  "kevent", "calloc", "fchmod", "renameatx_np", "fstatfs",
};
static const int CODES[] = {EIO, ENOMEM, EACCES, ESTALE, ETIMEDOUT};
enum { CALL_COUNT = sizeof CALLS / sizeof CALLS[0], CODE_COUNT = sizeof CODES / sizeof CODES[0] };

static void fail_later(const char *name, int code, int after) {
    fake_kernel.failing = name;
    fake_kernel.code = code;
    fake_kernel.after = after;
    fake_kernel.always = false;
}

/* Did the failure happen?  From now on nothing fails. */
static bool is_met;
static void fail_no_more(void) {
    is_met = fake_kernel.failing == NULL;
    fake_kernel.failing = NULL;
}

/* Lets each call that `act` makes fail, one at a time; how many did. */
static int with_every_failure(void (*prepare)(void), void (*act)(void)) {
    int met = 0;

    for (int call = 0; call < CALL_COUNT; call++) {
        for (int code = 0; code < CODE_COUNT; code++) {
            is_met = true;
            for (int after = 0; is_met && after < 100; after++) {
                prepare();
                fail_later(CALLS[call], CODES[code], after);
                act();
                met += is_met;
                end();
            }
        }
    }
    return met;
}

/* The lock is free, so the status must not say that it is held; and afterwards it is free again. */
static void acquire_while_something_fails(void) {
    const char *const name = fake_kernel.failing;
    const int status = msalex_lock_acquire(waiter, 100, 100, &error);

    fail_no_more();
    CHECK(status != MSALEX_TIMEOUT && status != MSALEX_INTERRUPTED);
    CHECK(is_met || status == MSALEX_OK);
    CHECK(status == MSALEX_OK || count_entries(".") == 0 || strcmp(name, "unlinkat") == 0);
    if (status == MSALEX_OK)
        CHECK_STATUS(msalex_lock_release(waiter, &error), MSALEX_OK);
    CHECK_STATUS(msalex_lock_acquire(third, 0, 0, &error), MSALEX_OK);
}

static void start_free(void) {
    start(wait_script);
}

static void start_behind(void) {
    start(wait_script);
    make_held_by_other(PATH);
    event = holder_dies;
    event_at = 1;
}

static void acquire_behind_while_something_fails(void) {
    const int status = msalex_lock_acquire(waiter, 1000, 1000, &error);

    fail_no_more();
    CHECK(status != MSALEX_TIMEOUT && status != MSALEX_INTERRUPTED);
    CHECK(is_met || status == MSALEX_OK);
    if (holder_fd >= 0)
        holder_dies();
    if (status == MSALEX_OK)
        CHECK_STATUS(msalex_lock_release(waiter, &error), MSALEX_OK);
    CHECK_STATUS(msalex_lock_acquire(third, 0, 0, &error), MSALEX_OK);
}

static void start_with_one(void) {
    start_held(wait_script);
}

/* After a release the lock is free, even if its file stays. */
static void release_while_something_fails(void) {
    const int status = msalex_lock_release(holder, &error);

    fail_no_more();
    CHECK(is_met || status == MSALEX_OK);
    CHECK(status != MSALEX_OK || !file_exists(PATH));
    CHECK_STATUS(msalex_lock_acquire(third, 0, 0, &error), MSALEX_OK);
}

static void every_call_may_fail(void) {
    const int free = with_every_failure(start_free, acquire_while_something_fails);
    const int behind = with_every_failure(start_behind, acquire_behind_while_something_fails);
    const int release = with_every_failure(start_with_one, release_while_something_fails);

    printf("    %d, %d and %d failures met\n", free, behind, release);
}

static const struct property properties[] = {
    {"Whatever call fails, a free lock is not said to be held, and stays free",
     every_call_may_fail},
};

int main(void) {
    run_properties(properties, COUNT(properties));
    return end_of_properties();
}
