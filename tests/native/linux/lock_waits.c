/*
 * Threads that wait a little, give up, come back, and fork meanwhile: for the sanitizers.
 *
 *     lock_waits <directory> <rounds of each thread> [threadless]
 *
 * Each round waits on one of two locks, for a random time from 0 to 3 ms or for the longest time of
 * an int64_t, in one call or in slices.  So waits are abandoned, adopted, granted to no caller and
 * given back.  Some rounds fork a child.  It must not hold the lock; it frees the lock object that
 * it inherited, and tries with one of its own.  (The counter of holders is atomic, because
 * ThreadSanitizer does not know that a flock orders anything, and only the library shall be able to
 * race.) Threadless: the library gets no thread, as in a process that has reached its limit.  The
 * program is linked with --wrap=pthread_create for that.  Exits 0 and prints the number of entries
 * if there were never two holders at once.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "msalex.h"

enum { THREADS = 8, PATHS = 2, FORK_EVERY = 40, PATIENT_EVERY = 10 };

static const char *const paths[PATHS] = {"one.lockfile", "two.lockfile"};
static int inside[PATHS];
static long rounds;
static bool threadless;

struct worker {
    unsigned dice;
    int failures, children, left, held;
};

static unsigned roll(struct worker *worker, unsigned sides) {
    worker->dice = worker->dice * 1103515245U + 12345U;
    return (worker->dice >> 16) % sides;
}

static void fail(struct worker *worker, const char *what, const msalex_error *error) {
    worker->failures++;
    (void)fprintf(stderr, "%s: %s: %s\n", what, error->call, error->message);
}

/* Runs in the child: 0 if it does not hold its parent's lock and can still use the library. */
static int be_a_child(msalex_lock *inherited, const char *path) {
    msalex_error error;
    msalex_lock *own;
    int status;

    if (msalex_lock_check(inherited, &error) != MSALEX_NOT_FOUND)
        return 1;
    msalex_lock_free(inherited);
    if (msalex_lock_new(path, "child", &own, &error) != MSALEX_OK)
        return 2;
    status = msalex_lock_acquire(own, 0, 0, &error); /* no thread: its threads stayed behind */
    msalex_lock_free(own);
    return status == MSALEX_OK || status == MSALEX_TIMEOUT ? 0 : 3;
}

static void fork_child(struct worker *worker, msalex_lock *lock, const char *path) {
    int status = -1;
    pid_t child = fork();

    if (child == 0) {
        (void)alarm(60);
        _exit(be_a_child(lock, path));
    }
    worker->children++;
    if (child < 0 || waitpid(child, &status, 0) != child || status != 0) {
        worker->failures++;
        (void)fprintf(stderr, "child: status %#x\n", (unsigned)status);
    }
}

static void visit(struct worker *worker, size_t which, msalex_lock *lock) {
    msalex_error error;

    worker->held++;
    if (__atomic_fetch_add(&inside[which], 1, __ATOMIC_RELAXED) != 0)
        worker->failures++;
    if (roll(worker, FORK_EVERY) == 0)
        fork_child(worker, lock, paths[which]);
    (void)__atomic_fetch_sub(&inside[which], 1, __ATOMIC_RELAXED);
    if (msalex_lock_check(lock, &error) != MSALEX_OK)
        fail(worker, "check", &error);
    if (msalex_lock_release(lock, &error) != MSALEX_OK)
        fail(worker, "release", &error);
}

static void *work(void *argument);

int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*start)(void *), void *argument);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*start)(void *), void *argument);

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*start)(void *), void *argument) {
    return threadless && start != work ? EAGAIN
                                       : __real_pthread_create(thread, attributes, start, argument);
}

static void *work(void *argument) {
    struct worker *worker = argument;

    for (long i = 0; i < rounds; i++) {
        const size_t which = roll(worker, PATHS);
        const unsigned slices = 1 + roll(worker, 3);
        int status = MSALEX_TIMEOUT;
        msalex_error error;
        msalex_lock *lock;

        if (msalex_lock_new(paths[which], "lock_waits", &lock, &error) != MSALEX_OK) {
            fail(worker, "new", &error);
            break;
        }
        for (unsigned j = 0; j < slices && status == MSALEX_TIMEOUT; j++) {
            const int64_t slice_ms = roll(worker, PATIENT_EVERY) == 0
                                         ? (roll(worker, 2) == 0 ? INT64_MAX : INT64_MIN)
                                         : roll(worker, 4);
            status = msalex_lock_acquire(lock, slice_ms, slice_ms, &error);
        }
        if (status == MSALEX_OK) {
            visit(worker, which, lock);
        } else if (status == MSALEX_TIMEOUT) {
            worker->left++;
            if (roll(worker, FORK_EVERY) == 0)
                fork_child(worker, lock, paths[which]); /* in the middle of a wait */
            if (roll(worker, 2) == 0 && msalex_lock_release(lock, &error) != MSALEX_OK)
                fail(worker, "leave", &error);
        } else {
            fail(worker, "acquire", &error);
        }
        msalex_lock_free(lock);
    }
    return NULL;
}

static bool gone(void) {
    return access(paths[0], F_OK) != 0 && access(paths[1], F_OK) != 0;
}

int main(int count, char **arguments) {
    struct worker workers[THREADS] = {{0}};
    pthread_t threads[THREADS];
    int failures = 0, children = 0, left = 0, held = 0;

    if (count < 3 || count > 4 || chdir(arguments[1]) != 0)
        return 2;
    rounds = strtol(arguments[2], NULL, 10);
    threadless = count == 4;
    (void)alarm(300);
    for (size_t i = 0; i < THREADS; i++) {
        workers[i].dice = (unsigned)i + 1;
        if (pthread_create(&threads[i], NULL, work, &workers[i]) != 0)
            return 2;
    }
    for (size_t i = 0; i < THREADS; i++) {
        (void)pthread_join(threads[i], NULL);
        failures += workers[i].failures;
        children += workers[i].children;
        left += workers[i].left;
        held += workers[i].held;
    }
    /* Abandoned waits end by themselves; leak checkers should see that they did. */
    for (int tries = 0; tries < 1000 && !gone(); tries++)
        (void)usleep(5000);
    (void)usleep(100000);
    if (!gone())
        failures++;
    printf("%d entries, %d waits left, %d children, %d failures\n", held, left, children, failures);
    return failures == 0 ? 0 : 1;
}
