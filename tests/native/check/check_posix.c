/* See check.h. */
#define _GNU_SOURCE
#define _DARWIN_C_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "check.h"

bool enter_new_directory(char *path, size_t size) {
    const char *parent = getenv("TMPDIR");

    (void)snprintf(path, size, "%s/msalex-check-XXXXXX", parent == NULL ? "/tmp" : parent);
    if (mkdtemp(path) != NULL && chdir(path) == 0)
        return true;
    perror(path);
    return false;
}

static int remove_entry(const char *path, const struct stat *entry, int type, struct FTW *at) {
    (void)entry, (void)type, (void)at;
    return remove(path);
}

void leave_and_remove_directory(const char *path) {
    if (chdir("/") != 0 || nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS) != 0)
        perror(path);
}

int count_entries(const char *directory) {
    DIR *entries = opendir(directory);
    int count = -2; /* . and .. */
    while (entries != NULL && readdir(entries) != NULL)
        count++;
    if (entries != NULL)
        (void)closedir(entries);
    return count;
}

/* Where there is no /proc, always the same number. */
int count_descriptors(void) {
    return count_entries("/proc/self/fd");
}

int64_t now_ms(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void sleep_ms(int64_t ms) {
    struct timespec left = {.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000};
    while (nanosleep(&left, &left) != 0 && errno == EINTR)
        continue;
}

void write_text(const char *path, const char *text) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    CHECK(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    if (fd >= 0)
        (void)close(fd);
}

bool file_exists(const char *path) {
    struct stat file;
    return lstat(path, &file) == 0;
}

bool has_text(const char *path, const char *text) {
    char content[4096] = "";
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t size = fd < 0 ? -1 : read(fd, content, sizeof content - 1);
    if (fd >= 0)
        (void)close(fd);
    return size == (ssize_t)strlen(text) && memcmp(content, text, strlen(text)) == 0;
}

void make_old(const char *path, int64_t seconds) {
    const time_t then = time(NULL) - (time_t)seconds;
    const struct timespec times[2] = {{.tv_sec = then}, {.tv_sec = then}};
    CHECK(utimensat(AT_FDCWD, path, times, AT_SYMLINK_NOFOLLOW) == 0);
}

unsigned mode_of(const char *path) {
    struct stat file;
    return lstat(path, &file) == 0 ? file.st_mode & 07777 : 0;
}

int dead_pid(void) {
    const pid_t child = fork();
    if (child == 0)
        _exit(0);
    CHECK(child > 0 && waitpid(child, NULL, 0) == child);
    return child;
}

int wait_for_child(int child) {
    const int64_t end = now_ms() + 20000;
    int status;

    while (waitpid(child, &status, WNOHANG) == 0) {
        if (now_ms() > end) {
            (void)kill(child, SIGKILL);
            (void)waitpid(child, &status, 0);
            return -1;
        }
        sleep_ms(2);
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}
