/* The lock beside other processes, living and dead ones. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

#include "exercise.h"

static const char PATH[] = "cache.lockfile";

/* Acquires the lock in that time, and gives it back. */
static int try_lock(int64_t timeout_ms) {
    msalex_error ignored;
    msalex_lock *lock;
    int status = msalex_lock_new(PATH, "exercise", &lock, &error);

    if (status != MSALEX_OK)
        return status;
    status = msalex_lock_acquire(lock, timeout_ms, timeout_ms, &error);
    (void)msalex_lock_release(lock, &ignored);
    msalex_lock_free(lock);
    return status;
}

static void write_peer(pid_t pid) {
    char text[64];
    (void)snprintf(text, sizeof text, "%d /usr/bin/az", (int)pid);
    write_text(PATH, text);
}

static void peer_file_of_the_dead_is_taken_over(void) {
    pid_t zombie;

    write_peer(dead_pid());
    CHECK_STATUS(try_lock(0), MSALEX_OK);
    write_peer(dead_pid());
    CHECK_STATUS(try_lock(2000), MSALEX_OK);
    if ((zombie = fork()) == 0)
        _exit(0);
    sleep_ms(50);
    write_peer(zombie);
    CHECK_STATUS(try_lock(2000), MSALEX_OK);
    CHECK(wait_for_child(zombie) == 0);
    CHECK(!file_exists(PATH));
}

static void peer_file_of_the_living_is_respected(void) {
    int fd;

    write_peer(getpid());
    CHECK_STATUS(try_lock(0), MSALEX_TIMEOUT);
    CHECK_STATUS(try_lock(100), MSALEX_TIMEOUT);
    CHECK(file_exists(PATH));
    write_peer(dead_pid()); /* but another process has locked it */
    fd = open(PATH, O_RDWR | O_CLOEXEC);
    CHECK(fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0);
    CHECK_STATUS(try_lock(100), MSALEX_TIMEOUT);
    (void)close(fd);
    CHECK_STATUS(try_lock(2000), MSALEX_OK);
}

static void file_without_a_pid_is_stale_when_it_is_old(void) {
    static const char *const contents[] = {"", "x", "{}", "-5 x", "99999999999999999999 x"};

    for (size_t i = 0; i < sizeof contents / sizeof contents[0]; i++) {
        write_text(PATH, contents[i]);
        CHECK_STATUS(try_lock(0), MSALEX_TIMEOUT);
        make_old(PATH, 3600);
        CHECK_STATUS(try_lock(0), MSALEX_OK);
        CHECK(!file_exists(PATH));
    }
}

static void *remove_soon(void *argument) {
    (void)argument;
    sleep_ms(100);
    (void)unlink(PATH);
    return NULL;
}

static void peer_that_removes_its_file_wakes_the_waiter(void) {
    pthread_t thread;
    int64_t start = now_ms();

    write_peer(getpid());
    CHECK(pthread_create(&thread, NULL, remove_soon, NULL) == 0);
    CHECK_STATUS(try_lock(20000), MSALEX_OK);
    CHECK(now_ms() - start >= 90 && now_ms() - start < 5000);
    (void)pthread_join(thread, NULL);
}

/* Runs in a child: acquires the lock, says so through one pipe, and holds it until the test
 * closes the other pipe or dies. */
static _Noreturn void hold(int told, int leash, bool with_child) {
    msalex_lock *lock;
    char nothing;

    if (msalex_lock_new(PATH, "holder", &lock, &error) != MSALEX_OK ||
        msalex_lock_acquire(lock, 2000, 2000, &error) != MSALEX_OK)
        _exit(1);
    if (!with_child || fork() == 0)
        (void)!write(told, "h", 1);
    (void)close(told);
    (void)!read(leash, &nothing, 1);
    _exit(0);
}

static void dead_holder_frees_the_lock(bool with_child) {
    int pipes[2], leash[2], status;
    pid_t holder;
    char told;

    CHECK(pipe2(pipes, O_CLOEXEC) == 0 && pipe2(leash, O_CLOEXEC) == 0);
    if ((holder = fork()) == 0) {
        (void)close(leash[1]);
        hold(pipes[1], leash[0], with_child);
    }
    (void)close(pipes[1]);
    CHECK(read(pipes[0], &told, 1) == 1);
    CHECK_STATUS(try_lock(50), MSALEX_TIMEOUT);
    CHECK(kill(holder, SIGKILL) == 0 && waitpid(holder, &status, 0) == holder);
    CHECK_STATUS(try_lock(1000), MSALEX_OK);
    CHECK_STATUS(try_lock(0), MSALEX_OK);
    (void)close(pipes[0]);
    (void)close(leash[0]);
    (void)close(leash[1]);
}

static void killed_holder_frees_the_lock(void) {
    dead_holder_frees_the_lock(false);
}

static void killed_holder_s_child_does_not_keep_the_lock(void) {
    dead_holder_frees_the_lock(true);
}

static void child_inherits_no_lock(void) {
    msalex_lock *lock;
    pid_t child;

    CHECK_STATUS(msalex_lock_new(PATH, "exercise", &lock, &error), MSALEX_OK);
    CHECK_STATUS(msalex_lock_acquire(lock, 2000, 2000, &error), MSALEX_OK);
    if ((child = fork()) == 0) {
        bool right =
            msalex_lock_check(lock, &error) == MSALEX_NOT_FOUND && try_lock(50) == MSALEX_TIMEOUT;
        (void)msalex_lock_release(lock, &error);
        msalex_lock_free(lock);
        _exit(right && file_exists(PATH) && try_lock(0) == MSALEX_TIMEOUT ? 0 : 1);
    }
    CHECK(wait_for_child(child) == 0);
    CHECK_STATUS(msalex_lock_check(lock, &error), MSALEX_OK);
    CHECK_STATUS(msalex_lock_release(lock, &error), MSALEX_OK);
    CHECK(!file_exists(PATH));
    msalex_lock_free(lock);
}

static void child_of_a_waiter_can_lock_by_itself(void) {
    msalex_lock *lock, *waiter;
    pid_t child;

    CHECK_STATUS(msalex_lock_new(PATH, "exercise", &lock, &error), MSALEX_OK);
    CHECK_STATUS(msalex_lock_new(PATH, "exercise", &waiter, &error), MSALEX_OK);
    CHECK_STATUS(msalex_lock_acquire(lock, 2000, 2000, &error), MSALEX_OK);
    CHECK_STATUS(msalex_lock_acquire(waiter, 20, 20, &error), MSALEX_TIMEOUT);
    if ((child = fork()) == 0) {
        (void)msalex_lock_release(waiter, &error);
        msalex_lock_free(waiter);
        msalex_lock_free(lock);
        _exit(try_lock(20000) == MSALEX_OK ? 0 : 1);
    }
    sleep_ms(50);
    CHECK_STATUS(msalex_lock_check(lock, &error), MSALEX_OK);
    CHECK_STATUS(msalex_lock_release(lock, &error), MSALEX_OK);
    CHECK_STATUS(msalex_lock_acquire(waiter, 20000, 20000, &error), MSALEX_OK);
    CHECK_STATUS(msalex_lock_release(waiter, &error), MSALEX_OK);
    CHECK(wait_for_child(child) == 0);
    CHECK(!file_exists(PATH));
    msalex_lock_free(waiter);
    msalex_lock_free(lock);
}

const struct property process_properties[] = {
    {"A peer's lock file whose maker died is taken over", peer_file_of_the_dead_is_taken_over},
    {"A peer's lock file whose maker lives, or that is locked, is respected",
     peer_file_of_the_living_is_respected},
    {"A lock file without a pid is respected until it is old",
     file_without_a_pid_is_stale_when_it_is_old},
    {"A peer that removes its lock file lets the waiter in",
     peer_that_removes_its_file_wakes_the_waiter},
    {"A holder that is killed frees the lock", killed_holder_frees_the_lock},
    {"A child of a holder that is killed does not keep the lock",
     killed_holder_s_child_does_not_keep_the_lock},
    {"A child made by fork inherits no lock, and cannot give its parent's back",
     child_inherits_no_lock},
    {"A child made by fork while its parent waits can lock by itself",
     child_of_a_waiter_can_lock_by_itself},
};
const size_t process_property_count = COUNT(process_properties);
