/*
 * Lock files of other libraries, Linux: has their holder died?  (watch_linux.c waits for them
 * to go away.)  Who they are and what they write: docs of the peers, collected in CONTRIBUTING.md.
 */
#define _GNU_SOURCE /* F_OFD_SETLK */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "internal.h"
#include "lock_linux.h"
#include "os_posix.h"

enum {
    STALE_WITHOUT_PID_S = 5, /* as long as 1.3.1 waits before it gives up */
    STALE_ELSEWHERE_S = 60,  /* where a pid tells nothing: longer than any peer waits */
    START_SLACK_S = 2        /* start times are in clock ticks, file times in kernel ticks */
};

/* ---- is the process alive? ---- */

/* Fills the state letter and the start time (seconds since 1970) of a process: proc(5),
 * /proc/<pid>/stat, fields 3 and 22. */
static bool read_process(int64_t pid, char *state, time_t *start) {
    char path[64], stat[1024], *fields;
    unsigned long long ticks;
    struct timespec now, boot;
    ssize_t size;
    int fd;

    (void)snprintf(path, sizeof path, "/proc/%lld/stat", (long long)pid);
    if ((fd = open(path, O_RDONLY | O_CLOEXEC)) < 0)
        return false;
    size = read(fd, stat, sizeof stat - 1);
    (void)close(fd);
    if (size <= 0)
        return false;
    stat[size] = '\0';
    /* The name in brackets may itself hold brackets and spaces: start behind the last. */
    if ((fields = strrchr(stat, ')')) == NULL ||
        sscanf(fields + 1,
               " %c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %llu",
               state, &ticks) != 2)
        return false;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    (void)clock_gettime(CLOCK_BOOTTIME, &boot);
    *start = now.tv_sec - boot.tv_sec + (time_t)(ticks / (unsigned long long)sysconf(_SC_CLK_TCK));
    return true;
}

/* A zombie is dead, and so is a pid that was given away again after the file was written.
 * /proc may be hidden (hidepid), or descriptors have run out: then at least ask the kernel. */
static bool is_alive(int64_t pid, time_t written) {
    char state;
    time_t start;

    if (read_process(pid, &state, &start))
        return state != 'Z' && state != 'X' && start <= written + START_SLACK_S;
    return pid <= INT_MAX && (kill((pid_t)pid, 0) == 0 || errno != ESRCH);
}

/* Do pids in a file there mean processes that we can see?  Not in a container, whose
 * directories may be shared with the outside, and not on another host's file system. */
static bool pids_are_ours(int fd) {
    static const char INITIAL_NAMESPACE[] = "pid:[4026531836]"; /* PROC_PID_INIT_INO */
    char name[sizeof INITIAL_NAMESPACE] = "";

    return readlink("/proc/self/ns/pid", name, sizeof name) == sizeof name - 1 &&
           memcmp(name, INITIAL_NAMESPACE, sizeof name - 1) == 0 && !msalex__is_remote(fd);
}

static bool holds_a_lock(const struct msalex__lock_file *file) {
    if (msalex__ofd_conflict(file->fd, F_WRLCK, 0, 0))
        return true;
    if (flock(file->fd, LOCK_EX | LOCK_NB) != 0)
        return !msalex__is_unsupported(errno);
    (void)flock(file->fd, LOCK_UN);
    return false;
}

bool msalex__peer_is_gone(const struct msalex__lock_file *file, const char *content,
                          size_t size) {
    int64_t pid = msalex__record_pid(content, size);
    struct stat written;
    time_t age;

    if (fstat(file->fd, &written) != 0)
        return false;
    age = time(NULL) - written.st_mtime;
    if (pid <= 0) {
        if (age < STALE_WITHOUT_PID_S)
            return false;
    } else if (is_alive(pid, written.st_mtime) ||
               (age < STALE_ELSEWHERE_S && !pids_are_ours(file->fd))) {
        return false;
    }
    /* Last, because trying a peer's lock can make its own try fail. */
    return !holds_a_lock(file);
}
