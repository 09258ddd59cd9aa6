/*
 * Forks beside threads that lock, and in a signal handler in the middle of a wait.
 *
 *     lock_forks <directory> children <number>
 *
 * Threads take, wait for and give back two locks in the directory, while the main thread forks that
 * number of children.  Each child counts the descriptors that lead into the directory.  There must
 * be none: a child that keeps one keeps the lock of a parent that is killed.
 *
 *     lock_forks <directory> handler <patience in milliseconds, or -1>
 *
 * A process waits for a lock that another one holds for half a second.  Meanwhile a signal handler
 * forks, and both parent and child go on with the same wait.  Prints the result of each.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "msalex.h"

enum { THREADS = 3, PATHS = 2, GUARD_S = 30 };

static const char *directory;
static char paths[PATHS][4096];
static bool stop;
static long entries, waits_left;

/* How many descriptors of this process lead into the directory, or are the directory. */
static int count_kept(void) {
    DIR *descriptors = opendir("/proc/self/fd");
    const struct dirent *entry;
    char target[4096];
    int count = 0;

    if (descriptors == NULL)
        return 100;
    while ((entry = readdir(descriptors)) != NULL) {
        ssize_t size = readlinkat(dirfd(descriptors), entry->d_name, target, sizeof target - 1);
        if (size <= 0)
            continue;
        target[size] = '\0';
        count += strncmp(target, directory, strlen(directory)) == 0;
    }
    (void)closedir(descriptors);
    return count;
}

static void *lock_and_unlock(void *argument) {
    unsigned turn = (unsigned)(uintptr_t)argument;

    for (; !__atomic_load_n(&stop, __ATOMIC_RELAXED); turn++) {
        msalex_error error;
        msalex_lock *lock;
        int status;

        if (msalex_lock_new(paths[turn / 7 % PATHS], "lock_forks", &lock, &error) != MSALEX_OK)
            abort();
        status = msalex_lock_acquire(lock, turn % 3, turn % 3, &error);
        if (status == MSALEX_OK)
            (void)__atomic_add_fetch(&entries, 1, __ATOMIC_RELAXED);
        else if (status == MSALEX_TIMEOUT)
            (void)__atomic_add_fetch(&waits_left, 1, __ATOMIC_RELAXED);
        else
            (void)fprintf(stderr, "%s: %s\n", error.call, error.message);
        msalex_lock_free(lock);
    }
    return NULL;
}

static int fork_beside_threads(long children) {
    long keepers = 0, descriptors = 0;
    pthread_t threads[THREADS];

    for (size_t i = 0; i < THREADS; i++) {
        if (pthread_create(&threads[i], NULL, lock_and_unlock, (void *)(uintptr_t)i) != 0)
            return 2;
    }
    for (long i = 0; i < children; i++) {
        int status = -1;
        const pid_t child = fork();

        if (child == 0) {
            (void)alarm(GUARD_S);
            _exit(count_kept());
        }
        (void)usleep((useconds_t)(i % 5) * 50);
        if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status))
            return 2;
        keepers += WEXITSTATUS(status) != 0;
        descriptors += WEXITSTATUS(status);
    }
    __atomic_store_n(&stop, true, __ATOMIC_RELAXED);
    for (size_t i = 0; i < THREADS; i++)
        (void)pthread_join(threads[i], NULL);
    printf("%ld of %ld children kept %ld descriptors; %ld entries, %ld waits left\n", keepers,
           children, descriptors, entries, waits_left);
    return 0;
}

/* ---- a fork in a handler ---- */

static int *inside; /* shared by all processes: how many hold the lock */
static volatile sig_atomic_t child;

static void fork_once(int number) {
    (void)number;
    if ((child = (sig_atomic_t)fork()) == 0)
        (void)alarm(GUARD_S);
}

static int enter(msalex_lock *lock, int64_t patience_ms, msalex_error *error) {
    int status = MSALEX_TIMEOUT;

    for (int64_t waited = 0; patience_ms < 0 || waited <= patience_ms; waited += 50) {
        const int64_t left = patience_ms < 0 ? -1 : patience_ms - waited;
        status = msalex_lock_acquire(lock, 50, left, error);
        if (status != MSALEX_TIMEOUT && status != MSALEX_INTERRUPTED)
            break;
    }
    return status;
}

static _Noreturn void hold_and_signal(int ready) {
    msalex_error error;
    msalex_lock *lock;

    (void)alarm(GUARD_S);
    if (msalex_lock_new(paths[0], "holder", &lock, &error) != MSALEX_OK ||
        msalex_lock_acquire(lock, 0, 0, &error) != MSALEX_OK || write(ready, "h", 1) != 1)
        _exit(2);
    *inside = 1;
    (void)usleep(150000);
    (void)kill(getppid(), SIGUSR1);
    (void)usleep(350000);
    *inside = 0;
    _exit(msalex_lock_release(lock, &error) == MSALEX_OK ? 0 : 1);
}

/* The result of the wait, in words. */
static const char *told(int status) {
    if (status == MSALEX_TIMEOUT)
        return "time is up";
    if (status != MSALEX_OK)
        return "error";
    if (__atomic_fetch_add(inside, 1, __ATOMIC_SEQ_CST) != 0)
        return "inside beside another";
    (void)usleep(20000);
    (void)__atomic_sub_fetch(inside, 1, __ATOMIC_SEQ_CST);
    return "in";
}

static int fork_in_a_handler(int64_t patience_ms) {
    const struct sigaction forks = {.sa_handler = fork_once};
    int ready[2], status;
    msalex_error error;
    msalex_lock *lock;
    char byte;

    inside = mmap(NULL, sizeof *inside, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (inside == MAP_FAILED || pipe(ready) != 0 || sigaction(SIGUSR1, &forks, NULL) != 0)
        return 2;
    child = -1;
    if (fork() == 0)
        hold_and_signal(ready[1]);
    (void)alarm(GUARD_S);
    if (read(ready[0], &byte, 1) != 1 ||
        msalex_lock_new(paths[0], "waiter", &lock, &error) != MSALEX_OK)
        return 2;
    status = enter(lock, patience_ms, &error);
    printf("%s: %s\n", child == 0 ? "child" : "parent", told(status));
    (void)fflush(stdout);
    msalex_lock_free(lock);
    if (child == 0)
        _exit(0);
    while (wait(&status) > 0) {
        if (status != 0)
            printf("a child ended with status %#x\n", (unsigned)status);
    }
    return 0;
}

int main(int count, char **arguments) {
    if (count != 4)
        return 2;
    directory = arguments[1];
    for (int i = 0; i < PATHS; i++)
        (void)snprintf(paths[i], sizeof paths[i], "%s/%d.lockfile", directory, i);
    return strcmp(arguments[2], "handler") == 0 ? fork_in_a_handler(atoll(arguments[3]))
                                                : fork_beside_threads(atol(arguments[3]));
}
