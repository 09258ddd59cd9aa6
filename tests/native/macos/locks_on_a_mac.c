/*
 * Does a Mac lock, and tell of unlocks, as lock_wait_macos.c, os_macos.c and fake_flock.c believe?
 * tests/macos/test_over_fakes.py runs this program over the fakes.  On a Mac it asks the kernel
 * itself: the last property prints what only a Mac can show.
 */
#define _DARWIN_C_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/event.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "check.h"

enum { SOON_MS = 20000, NEVER_MS = 200 };

static const char PATH[] = "file";

static int open_file(void) {
    const int fd = open(PATH, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    CHECK(fd >= 0);
    return fd;
}

/* A kqueue that tells of unlocks of that file alone. */
static int watch(int fd) {
    const int queue = kqueue();
    struct kevent change;

    CHECK(queue >= 0 && fcntl(queue, F_SETFD, FD_CLOEXEC) == 0);
    EV_SET(&change, (uintptr_t)fd, EVFILT_VNODE, EV_ADD | EV_CLEAR, NOTE_FUNLOCK, 0, NULL);
    CHECK(kevent(queue, &change, 1, NULL, 0, NULL) == 0);
    return queue;
}

static bool tells(int queue, int64_t timeout_ms) {
    const struct timespec timeout = {.tv_sec = (time_t)(timeout_ms / 1000),
                                     .tv_nsec = (long)(timeout_ms % 1000) * 1000000};
    struct kevent event;
    const int count = kevent(queue, NULL, 0, &event, 1, &timeout);

    CHECK(count == 0 || (count == 1 && event.fflags == NOTE_FUNLOCK));
    return count == 1;
}

static int try_flock(int fd) {
    return flock(fd, LOCK_EX | LOCK_NB) == 0 ? 0 : errno;
}

static int set_fcntl(int fd, short type) {
    struct flock range = {.l_type = type, .l_whence = SEEK_SET};
    return fcntl(fd, F_SETLK, &range) == 0 ? 0 : errno;
}

static void unlocks_are_told(void) {
    const int one = open_file(), other = open_file(), watched = open_file(), queue = watch(watched);

    CHECK(try_flock(one) == 0 && !tells(queue, NEVER_MS)); /* a lock is not told */
    CHECK(try_flock(other) == EWOULDBLOCK && !tells(queue, NEVER_MS));
    CHECK(flock(one, LOCK_UN) == 0 && tells(queue, SOON_MS));
    CHECK(!tells(queue, NEVER_MS));                             /* once */
    CHECK(flock(other, LOCK_UN) == 0 && tells(queue, SOON_MS)); /* it never had the lock */
    (void)close(other);
    CHECK(!tells(queue, NEVER_MS));
    CHECK(try_flock(one) == 0);
    (void)close(one);
    CHECK(tells(queue, SOON_MS));
    (void)close(queue);
    (void)close(watched);
}

/* A process that locks the file, says so, and sleeps until it is killed. */
static pid_t start_holder(void (*lock)(int fd)) {
    pid_t child;
    int ready[2];
    char byte;

    CHECK(pipe(ready) == 0);
    (void)fflush(stdout);
    if ((child = fork()) == 0) {
        lock(open_file());
        if (write(ready[1], "", 1) == 1)
            sleep_ms(60000);
        _exit(1);
    }
    CHECK(read(ready[0], &byte, 1) == 1);
    (void)close(ready[0]);
    (void)close(ready[1]);
    return child;
}

static void end_holder(pid_t child) {
    CHECK(kill(child, SIGKILL) == 0 && waitpid(child, NULL, 0) == child);
}

static void lock_by_flock(int fd) {
    CHECK(try_flock(fd) == 0);
}

static void lock_by_fcntl(int fd) {
    CHECK(set_fcntl(fd, F_WRLCK) == 0);
}

static void deaths_are_told(void) {
    const int watched = open_file();
    const pid_t holder = start_holder(lock_by_flock);
    const int queue = watch(watched);

    CHECK(try_flock(watched) == EWOULDBLOCK && !tells(queue, NEVER_MS));
    end_holder(holder);
    CHECK(tells(queue, SOON_MS) && try_flock(watched) == 0);
    (void)close(queue);
    (void)close(watched);
}

static void fcntl_locks(void) {
    const int fd = open_file(), queue = watch(fd);
    pid_t holder = start_holder(lock_by_fcntl);

    CHECK(try_flock(fd) == EWOULDBLOCK);
    end_holder(holder);
    CHECK(!tells(queue, NEVER_MS));
    CHECK(try_flock(fd) == 0 && flock(fd, LOCK_UN) == 0 && tells(queue, SOON_MS));
    CHECK(set_fcntl(fd, F_WRLCK) == 0 && set_fcntl(fd, F_UNLCK) == 0 && !tells(queue, NEVER_MS));
    (void)close(queue);
    (void)close(fd);
}

/* What the fakes do not model. */
static void of_a_mac_only(void) {
    const int one = open_file(), watched = open_file(), queue = watch(watched);
    const pid_t holder = start_holder(lock_by_flock);
    int fcntl_code;

    fcntl_code = set_fcntl(one, F_WRLCK);
    printf("    a fcntl lock beside another process' flock: errno %d\n", fcntl_code);
    end_holder(holder);
    CHECK(tells(queue, SOON_MS));
    CHECK(set_fcntl(one, F_UNLCK) == 0 && try_flock(one) == 0 && flock(one, LOCK_UN) == 0);
    CHECK(tells(queue, SOON_MS));
    (void)close(one);
    printf("    the close of a file that was locked once is told: %d\n", tells(queue, NEVER_MS));
    (void)close(queue);
    (void)close(watched);
}

static const struct property properties[] = {
    {"Each LOCK_UN is told, also of what was not locked, and a close ends a lock",
     unlocks_are_told},
    {"The death of a holder is told", deaths_are_told},
    {"A fcntl lock keeps a flock out, and its end is not told", fcntl_locks},
    {"What only a Mac can show is printed", of_a_mac_only},
};

int main(void) {
    run_properties(properties, COUNT(properties));
    return end_of_properties();
}
