/* This boot and its processes, Linux.  The promises are in process_posix.h.  Twin:
 * process_macos.c. */
#define _GNU_SOURCE
#include "process_posix.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Reads the start of a file of procfs, as a string.  False: it is hidden from us. */
static bool read_proc(const char *path, char *text, size_t room) {
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t size;

    if (fd < 0)
        return false;
    size = read(fd, text, room - 1);
    (void)close(fd);
    if (size <= 0)
        return false;
    text[size] = '\0';
    return true;
}

size_t msalex__read_boot_id(char *id, size_t room) {
    return read_proc("/proc/sys/kernel/random/boot_id", id, room) ? strlen(id) : 0;
}

/* proc_pid_stat(5): fields 3 (state), 20 (threads) and 22 (start, in ticks since boot). */
static bool read_process(long long pid, char *state, long *threads, time_t *start) {
    char path[64], stat[1024], *fields;
    unsigned long long ticks;

    (void)snprintf(path, sizeof path, "/proc/%lld/stat", pid);
    /* The name in brackets may contain brackets and spaces: start behind the last bracket. */
    if (!read_proc(path, stat, sizeof stat) || (fields = strrchr(stat, ')')) == NULL ||
        sscanf(fields + 1,
               " %c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %ld %*s %llu",
               state, threads, &ticks) != 3)
        return false;
    *start = (time_t)(ticks / (unsigned long long)sysconf(_SC_CLK_TCK));
    return true;
}

/* Can the process with that pid, of our namespace, have written a file at that time?  A zombie is
 * dead, unless only its first thread has ended.  When /proc is hidden (hidepid), or descriptors
 * have run out, at least ask the kernel. */
static bool is_writer(long long pid, time_t written) {
    struct timespec now, since_boot;
    time_t booted, start;
    long threads;
    char state;

    if (!read_process(pid, &state, &threads, &start))
        return pid <= INT_MAX && (kill((pid_t)pid, 0) == 0 || errno != ESRCH);
    if ((state == 'Z' && threads <= 1) || state == 'X')
        return false;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    (void)clock_gettime(CLOCK_BOOTTIME, &since_boot);
    booted = now.tv_sec - since_boot.tv_sec;
    return booted <= written + MSALEX__BOOT_S && booted + start <= written + MSALEX__REUSE_S;
}

/* Do we see the processes of all namespaces and of all users? */
static bool sees_all_processes(void) {
    static const char INITIAL_NAMESPACE[] = "pid:[4026531836]"; /* PROC_PID_INIT_INO */
    char name[sizeof INITIAL_NAMESPACE] = "", ignored[8];

    return readlink("/proc/self/ns/pid", name, sizeof name) == sizeof name - 1 &&
           memcmp(name, INITIAL_NAMESPACE, sizeof name - 1) == 0 &&
           read_proc("/proc/1/stat", ignored, sizeof ignored);
}

/* Does the process have that pid in a namespace below ours?  proc_pid_status(5): NSpid lists its
 * pids, from our namespace to its own. */
static bool has_nested_pid(const char *process, long long pid) {
    char path[64], status[4096], *at;

    (void)snprintf(path, sizeof path, "/proc/%.20s/status", process);
    if (!read_proc(path, status, sizeof status) || (at = strstr(status, "\nNSpid:")) == NULL)
        return false;
    at += sizeof "\nNSpid:" - 1;
    (void)strtoll(at, &at, 10); /* in our namespace */
    while (*at == '\t') {
        if (strtoll(at, &at, 10) == pid)
            return true;
    }
    return false;
}

enum msalex__life msalex__life_of(int64_t pid, time_t written) {
    enum msalex__life life = MSALEX__DEAD;
    const struct dirent *entry;
    DIR *processes;

    if (is_writer(pid, written))
        return MSALEX__ALIVE;
    if (!sees_all_processes() || (processes = opendir("/proc")) == NULL)
        return MSALEX__UNSEEN;
    /* The pid may be one of a container that shares the directory with us. */
    while (life == MSALEX__DEAD && (entry = readdir(processes)) != NULL) {
        const char *const name = entry->d_name;
        if (name[0] >= '1' && name[0] <= '9' && has_nested_pid(name, pid) &&
            is_writer(strtoll(name, NULL, 10), written))
            life = MSALEX__ALIVE;
    }
    (void)closedir(processes);
    return life;
}
