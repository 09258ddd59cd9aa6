/*
 * Threads of several processes increment a number in a file, each time under the lock: they read it
 * and then write it.  A lost update shows in the sum.
 *
 *     lock_stress <directory> <increments of each thread>
 *
 * Every seventh round first gives up after a wait of 1 ms, so that waits are abandoned and
 * adopted.  Exits 0 and prints the sum when it is exact.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "msalex.h"

enum { PROCESSES = 4, THREADS = 4, PATIENCE_MS = 60000 };

static const char LOCK[] = "counter.lockfile", COUNTER[] = "counter";
static long rounds;

/* Adds one, in place; -1 on failure. */
static int increment(void) {
    int64_t value = -1;
    int fd = open(COUNTER, O_RDWR | O_CLOEXEC);
    bool done = fd >= 0 && pread(fd, &value, sizeof value, 0) == (ssize_t)sizeof value;

    value++;
    done = done && pwrite(fd, &value, sizeof value, 0) == (ssize_t)sizeof value;
    if (fd >= 0)
        (void)close(fd);
    return done ? 0 : -1;
}

static void *work(void *failed) {
    msalex_error error;
    msalex_lock *lock;
    int status = msalex_lock_new(LOCK, "lock_stress", &lock, &error);

    for (long i = 0; i < rounds && status == MSALEX_OK; i++) {
        const int64_t patience_ms = i % 7 == 0 ? 1 : PATIENCE_MS;

        status = msalex_lock_acquire(lock, patience_ms, patience_ms, &error);
        if (status == MSALEX_TIMEOUT && i % 7 == 0) {
            (void)msalex_lock_release(lock, &error);
            status = msalex_lock_acquire(lock, PATIENCE_MS, PATIENCE_MS, &error);
        }
        if (status != MSALEX_OK)
            break;
        if (increment() != 0 || msalex_lock_check(lock, &error) != MSALEX_OK)
            status = MSALEX_OS_ERROR;
        if (msalex_lock_release(lock, &error) != MSALEX_OK)
            status = MSALEX_OS_ERROR;
    }
    if (status != MSALEX_OK) {
        (void)fprintf(stderr, "status %d: %s: %s\n", status, error.call, error.message);
        *(int *)failed = 1;
    }
    msalex_lock_free(lock);
    return NULL;
}

/* One process.  Each thread has a flag of its own, so that only the library can race. */
static int run_threads(void) {
    pthread_t threads[THREADS];
    int failed[THREADS] = {0}, sum = 0;

    for (size_t i = 0; i < THREADS; i++) {
        if (pthread_create(&threads[i], NULL, work, &failed[i]) != 0)
            return 1;
    }
    for (size_t i = 0; i < THREADS; i++) {
        (void)pthread_join(threads[i], NULL);
        sum += failed[i];
    }
    /* Abandoned waits end by themselves; leak checkers should see that they did. */
    for (int tries = 0; tries < 1000 && access(LOCK, F_OK) == 0; tries++)
        (void)usleep(5000);
    (void)usleep(50000);
    return sum == 0 ? 0 : 1;
}

int main(int count, char **arguments) {
    const int64_t zero = 0;
    int64_t sum = -1, expected;
    int fd, status, failures = 0;

    if (count != 3 || chdir(arguments[1]) != 0)
        return 2;
    rounds = strtol(arguments[2], NULL, 10);
    expected = (int64_t)PROCESSES * THREADS * rounds;
    fd = open(COUNTER, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, &zero, sizeof zero) != (ssize_t)sizeof zero)
        return 2;
    for (int i = 0; i < PROCESSES; i++) {
        pid_t child = fork();
        if (child < 0)
            return 2;
        if (child == 0) {
            (void)close(fd);
            (void)alarm(300);
            exit(run_threads());
        }
    }
    while (wait(&status) > 0)
        failures += !WIFEXITED(status) || WEXITSTATUS(status) != 0;
    (void)pread(fd, &sum, sizeof sum, 0);
    (void)close(fd);
    printf("%lld of %lld increments, %d failures\n", (long long)sum, (long long)expected, failures);
    if (access(LOCK, F_OK) == 0) {
        printf("the lock file was left behind\n");
        failures++;
    }
    return sum == expected && failures == 0 ? 0 : 1;
}
