/*
 * The life of a lock file: walks each edge of the chart in lock_registry_posix.h, and prints the edges
 * that it walked.  Run by tests/test_lock_states.py with the library as a shared library, so that
 * functions below replace functions of the same name in the library and in the C library.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "check.h"
#include "lock_file_posix.h"

enum { STATES = MSALEX__INHERITED + 1, TRIES = 4000 };

static const char PATH[] = "cache.lockfile";
static const char *const NAMES[STATES] = {"OPEN",      "WAITING",  "POLLING",   "TAKING",
                                          "SETTLED",   "HOLDING",  "ABANDONED", "RETURNING",
                                          "LINGERING", "INHERITED"};
static atomic_int (*walked)[STATES]; /* from, to; shared with children */

/* How the functions below act. */
static atomic_bool flock_fails, no_threads, take_over_waits, never_lingers;
static atomic_int blocked; /* the number of blocking calls of flock */

/* ---- in the place of others ---- */

bool msalex__lock_file_move(struct msalex__lock_file *file, enum msalex__lock_state from,
                            enum msalex__lock_state to) {
    bool (*real)(struct msalex__lock_file *, enum msalex__lock_state, enum msalex__lock_state);
    bool moved;

    if (never_lingers && to == MSALEX__LINGERING)
        return false;
    *(void **)&real = dlsym(RTLD_NEXT, "msalex__lock_file_move");
    if ((moved = real(file, from, to)))
        walked[from][to]++;
    return moved;
}

int msalex__lock_file_take_over(struct msalex__lock_file *file) {
    int (*real)(struct msalex__lock_file *);

    *(void **)&real = dlsym(RTLD_NEXT, "msalex__lock_file_take_over");
    while (take_over_waits)
        sleep_ms(1);
    return real(file);
}

int flock(int fd, int operation) {
    int code;

    if (operation == LOCK_EX)
        blocked++;
    code = (int)syscall(SYS_flock, fd, operation);
    if (operation != LOCK_EX || !flock_fails)
        return code;
    (void)syscall(SYS_flock, fd, LOCK_UN);
    errno = EIO;
    return -1;
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                   void *(*start)(void *argument), void *argument) {
    int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);

    *(void **)&real = dlsym(RTLD_NEXT, "pthread_create");
    return no_threads ? EAGAIN : real(thread, attributes, start, argument);
}

/* ---- the scenes ---- */

static msalex_lock *holder, *waiter;

static int acquire(msalex_lock *lock, int64_t ms) {
    return msalex_lock_acquire(lock, ms, ms, &error);
}

static int walks(enum msalex__lock_state from, enum msalex__lock_state to) {
    return walked[from][to];
}

/* Waits for something that another thread does. */
static bool until(bool (*happened)(void)) {
    for (int i = 0; i < TRIES && !happened(); i++)
        sleep_ms(5);
    return happened();
}

static bool is_gone(void) {
    return !file_exists(PATH);
}

static bool is_blocked(void) {
    return blocked > 0;
}

static bool is_taking(void) {
    return walks(MSALEX__WAITING, MSALEX__TAKING) > 0;
}

static bool is_returning(void) {
    return walks(MSALEX__ABANDONED, MSALEX__RETURNING) > 0;
}

/* One lock holds, the other one waits for it in a thread. */
static void begin(void) {
    CHECK_STATUS(msalex_lock_new(PATH, "holder", &holder, &error), MSALEX_OK);
    CHECK_STATUS(msalex_lock_new(PATH, "waiter", &waiter, &error), MSALEX_OK);
    memset((void *)walked, 0, sizeof *walked * STATES);
    blocked = 0;
    CHECK_STATUS(acquire(holder, 0), MSALEX_OK);
}

static void begin_waiting(void) {
    begin();
    CHECK_STATUS(acquire(waiter, 20), MSALEX_TIMEOUT);
    CHECK(until(is_blocked));
}

static void report(void) {
    for (int from = 0; from < STATES; from++) {
        for (int to = 0; to < STATES; to++) {
            if (walked[from][to] > 0)
                printf("edge: %s %s\n", NAMES[from], NAMES[to]);
        }
    }
    (void)fflush(stdout);
}

static void end(void) {
    msalex_lock_free(waiter);
    msalex_lock_free(holder);
    CHECK(until(is_gone));
    sleep_ms(20); /* the thread closes the file after that */
    report();
}

static void a_grant(void) {
    begin_waiting();
    CHECK_STATUS(msalex_lock_release(holder, &error), MSALEX_OK);
    CHECK_STATUS(acquire(waiter, 20000), MSALEX_OK);
    CHECK_STATUS(msalex_lock_check(waiter, &error), MSALEX_OK);
    CHECK(walks(MSALEX__OPEN, MSALEX__WAITING) == 1);
    CHECK(walks(MSALEX__TAKING, MSALEX__SETTLED) == 1);
    CHECK(walks(MSALEX__SETTLED, MSALEX__HOLDING) == 1);
    end();
}

static void a_wait_that_is_given_up_returns_the_lock(void) {
    begin_waiting();
    CHECK_STATUS(msalex_lock_release(waiter, &error), MSALEX_OK);
    CHECK(walks(MSALEX__WAITING, MSALEX__ABANDONED) == 1);
    CHECK_STATUS(msalex_lock_release(holder, &error), MSALEX_OK);
    CHECK(until(is_returning));
    end();
}

static void a_wait_that_is_given_up_is_adopted(void) {
    begin_waiting();
    CHECK_STATUS(msalex_lock_release(waiter, &error), MSALEX_OK);
    CHECK_STATUS(acquire(waiter, 20), MSALEX_TIMEOUT);
    CHECK(walks(MSALEX__ABANDONED, MSALEX__WAITING) == 1 && blocked == 1);
    CHECK_STATUS(msalex_lock_release(holder, &error), MSALEX_OK);
    CHECK_STATUS(acquire(waiter, 20000), MSALEX_OK);
    end();
}

static void a_flock_that_fails_ends_the_wait(void) {
    begin_waiting();
    flock_fails = true;
    CHECK_STATUS(msalex_lock_release(holder, &error), MSALEX_OK);
    CHECK_STATUS(acquire(waiter, 20000), MSALEX_OS_ERROR);
    CHECK(error.code == EIO && walks(MSALEX__WAITING, MSALEX__SETTLED) == 1);
    flock_fails = false;
    CHECK_STATUS(acquire(waiter, 20000), MSALEX_OK); /* nothing is left of the wait */
    end();
}

static void a_flock_that_fails_for_nobody_is_closed(void) {
    begin_waiting();
    CHECK_STATUS(msalex_lock_release(waiter, &error), MSALEX_OK);
    flock_fails = true;
    CHECK_STATUS(msalex_lock_release(holder, &error), MSALEX_OK);
    CHECK(until(is_returning));
    sleep_ms(50);
    flock_fails = false;
    end();
}

static void without_a_thread_it_polls(void) {
    sleep_ms(1500); /* until no helper is idle any more */
    no_threads = true;
    begin();
    CHECK_STATUS(acquire(waiter, 20), MSALEX_TIMEOUT);
    CHECK(walks(MSALEX__WAITING, MSALEX__POLLING) == 1 && blocked == 0);
    CHECK_STATUS(msalex_lock_release(holder, &error), MSALEX_OK);
    CHECK_STATUS(acquire(waiter, 20000), MSALEX_OK);
    CHECK(walks(MSALEX__POLLING, MSALEX__SETTLED) == 1);
    CHECK_STATUS(acquire(holder, 20), MSALEX_TIMEOUT);
    CHECK_STATUS(msalex_lock_release(holder, &error), MSALEX_OK); /* a poll is given up */
    no_threads = false;
    end();
}

static void a_wait_that_ends_while_the_thread_takes_over_returns_the_lock(void) {
    begin_waiting();
    take_over_waits = true;
    CHECK_STATUS(msalex_lock_release(holder, &error), MSALEX_OK);
    CHECK(until(is_taking));
    CHECK_STATUS(acquire(waiter, 20), MSALEX_TIMEOUT);
    CHECK_STATUS(msalex_lock_release(waiter, &error), MSALEX_OK);
    CHECK(walks(MSALEX__TAKING, MSALEX__RETURNING) == 1 && file_exists(PATH));
    take_over_waits = false;
    end();
}

/* From now on releases of this path linger, if a helper is idle. */
static void see_a_peer(void) {
    char text[32];

    (void)snprintf(text, sizeof text, "%ld peer", (long)getppid());
    write_text(PATH, text);
    CHECK_STATUS(msalex_lock_new(PATH, "seer", &holder, &error), MSALEX_OK);
    CHECK_STATUS(acquire(holder, 20), MSALEX_TIMEOUT);
    msalex_lock_free(holder);
    CHECK(unlink(PATH) == 0);
}

/* The waiter holds, and the helper that waited for it has time for another file. */
static void begin_with_an_idle_helper(void) {
    begin_waiting();
    CHECK_STATUS(msalex_lock_release(holder, &error), MSALEX_OK);
    CHECK_STATUS(acquire(waiter, 20000), MSALEX_OK);
    sleep_ms(50);
}

static void a_lock_lingers_where_a_peer_was_seen(void) {
    see_a_peer();
    begin_with_an_idle_helper();
    CHECK_STATUS(msalex_lock_release(waiter, &error), MSALEX_OK);
    CHECK(walks(MSALEX__HOLDING, MSALEX__LINGERING) == 1);
    CHECK_STATUS(acquire(waiter, 20000), MSALEX_OK); /* the lingering file does not keep the lock */
    end();
}

/* No call makes that happen today.  The harness counts the descriptors. */
static void a_file_that_the_helper_does_not_take_is_closed(void) {
    see_a_peer();
    begin_with_an_idle_helper();
    never_lingers = true;
    CHECK_STATUS(msalex_lock_release(waiter, &error), MSALEX_OK);
    never_lingers = false;
    CHECK(walks(MSALEX__HOLDING, MSALEX__LINGERING) == 0);
    end();
}

/* Runs in the child: it holds nothing, waits for nothing, and acquires like any other process. */
static int start_over(int64_t timeout_ms, int expected) {
    msalex_error ignored;
    int status = msalex_lock_check(holder, &ignored);

    if (status != MSALEX_NOT_FOUND)
        return 1;
    (void)alarm(60);
    status = msalex_lock_acquire(waiter, timeout_ms, timeout_ms, &ignored);
    (void)msalex_lock_release(waiter, &ignored);
    (void)msalex_lock_release(holder, &ignored);
    return status == expected ? 0 : 2;
}

static void a_child_starts_over(void) {
    pid_t child;

    begin_waiting(); /* HOLDING and WAITING */
    if ((child = fork()) == 0)
        _exit(start_over(20, MSALEX_TIMEOUT));
    CHECK(wait_for_child(child) == 0);
    CHECK_STATUS(msalex_lock_release(waiter, &error), MSALEX_OK); /* ABANDONED */
    if ((child = fork()) == 0)
        _exit(start_over(20, MSALEX_TIMEOUT));
    CHECK(wait_for_child(child) == 0);
    CHECK_STATUS(msalex_lock_check(holder, &error), MSALEX_OK);
    CHECK_STATUS(acquire(waiter, 20), MSALEX_TIMEOUT);
    if ((child = fork()) == 0)
        _exit(start_over(20000, MSALEX_OK)); /* the wait goes on when the holder has left */
    sleep_ms(50);
    CHECK_STATUS(msalex_lock_release(waiter, &error), MSALEX_OK);
    CHECK_STATUS(msalex_lock_release(holder, &error), MSALEX_OK);
    CHECK(wait_for_child(child) == 0);
    CHECK(walks(MSALEX__WAITING, MSALEX__INHERITED) >= 2);
    CHECK(walks(MSALEX__HOLDING, MSALEX__INHERITED) == 3);
    CHECK(walks(MSALEX__ABANDONED, MSALEX__INHERITED) >= 1);
    end();
}

static const struct property properties[] = {
    {"a grant", a_grant},
    {"a wait that is given up returns the lock", a_wait_that_is_given_up_returns_the_lock},
    {"a wait that is given up is adopted", a_wait_that_is_given_up_is_adopted},
    {"a flock that fails ends the wait", a_flock_that_fails_ends_the_wait},
    {"a flock that fails for nobody is closed", a_flock_that_fails_for_nobody_is_closed},
    {"without a thread it polls", without_a_thread_it_polls},
    {"a wait that ends while the thread takes over returns the lock",
     a_wait_that_ends_while_the_thread_takes_over_returns_the_lock},
    {"a lock lingers where a peer was seen", a_lock_lingers_where_a_peer_was_seen},
    {"a file that the helper does not take is closed",
     a_file_that_the_helper_does_not_take_is_closed},
    {"a child starts over", a_child_starts_over},
};

int main(void) {
    walked = mmap(NULL, sizeof *walked * STATES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
                  -1, 0);
    if (walked == MAP_FAILED)
        return 2;
    run_properties(properties, COUNT(properties));
    return end_of_properties();
}
