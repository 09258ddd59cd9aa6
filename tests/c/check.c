/* See check.h. */
#define _GNU_SOURCE
#include "check.h"

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

_Thread_local msalex_error error;
static int failures; /* of the running property; properties check in their main thread only */
static const char *skipped;
static bool descriptors_kept;

bool check(bool condition, const char *text, const char *file, int line) {
    if (!condition) {
        failures++;
        printf("    %s:%d: not so: %s\n", file, line, text);
    }
    return condition;
}

bool check_status(int status, int expected, const char *text, const char *file, int line) {
    bool empty = error.code == 0 && error.call[0] == '\0' && error.message[0] == '\0';
    bool told = error.call[0] != '\0' && error.message[0] != '\0';

    if (status != expected || (status == MSALEX_OK ? !empty : !told)) {
        failures++;
        printf("    %s:%d: status %d, expected %d, error %lld \"%s\" \"%s\": %s\n", file, line,
               status, expected, (long long)error.code, error.call, error.message, text);
        return false;
    }
    return true;
}

void skip(const char *reason) {
    skipped = reason;
}

void may_keep_descriptors(void) {
    descriptors_kept = true;
}

static int count_descriptors(void) {
    DIR *entries = opendir("/proc/self/fd");
    int count = 0;
    while (entries != NULL && readdir(entries) != NULL)
        count++;
    if (entries != NULL)
        (void)closedir(entries);
    return count;
}

static int remove_entry(const char *path, const struct stat *entry, int type, struct FTW *at) {
    (void)entry, (void)type, (void)at;
    return remove(path);
}

int run_properties(const struct property *properties, size_t count) {
    int failed = 0;

    for (size_t i = 0; i < count; i++) {
        char directory[512];
        const char *parent = getenv("TMPDIR");
        int before = count_descriptors();

        failures = 0;
        skipped = NULL;
        descriptors_kept = false;
        (void)snprintf(directory, sizeof directory, "%s/msalex-exercise-XXXXXX",
                       parent == NULL ? "/tmp" : parent);
        if (mkdtemp(directory) == NULL || chdir(directory) != 0) {
            perror(directory);
            return 1;
        }
        properties[i].run();
        /* A thread that waits for a flock nobody awaits any more needs a moment to end. */
        for (int tries = 0; tries < 200 && count_descriptors() > before; tries++) {
            if (descriptors_kept)
                break;
            sleep_ms(10);
        }
        CHECK(descriptors_kept || count_descriptors() == before);
        if (chdir("/") != 0 || nftw(directory, remove_entry, 16, FTW_DEPTH | FTW_PHYS) != 0)
            perror(directory);
        printf("%s: %s%s%s\n", failures > 0 ? "FAILED" : skipped != NULL ? "skipped" : "ok",
               properties[i].sentence, skipped != NULL ? ": " : "",
               skipped != NULL ? skipped : "");
        (void)fflush(stdout);
        failed += failures;
    }
    return failed;
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

void make_old(const char *path, time_t seconds) {
    const time_t then = time(NULL) - seconds;
    const struct timespec times[2] = {{.tv_sec = then}, {.tv_sec = then}};
    CHECK(utimensat(AT_FDCWD, path, times, AT_SYMLINK_NOFOLLOW) == 0);
}

int wait_for_child(pid_t child) {
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
