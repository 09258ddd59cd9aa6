/*
 * Functions of the C library that fail when a script says so (fake_kernel.h): linked with
 * -Wl,--wrap=<name> for each.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "fake_kernel.h"

void *__real_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size) {
    return fake_fails("calloc") ? NULL : __real_calloc(count, size);
}

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_malloc(size_t size) {
    return fake_fails("malloc") ? NULL : __real_malloc(size);
}

int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...) {
    va_list arguments;
    unsigned mode;

    va_start(arguments, flags);
    mode = va_arg(arguments, unsigned);
    va_end(arguments);
    return fake_fails("open") ? -1 : __real_open(path, flags, mode);
}

int __real_fstat(int fd, struct stat *found);
int __wrap_fstat(int fd, struct stat *found);
int __wrap_fstat(int fd, struct stat *found) {
    return fake_fails("fstat") ? -1 : __real_fstat(fd, found);
}

int __real_lstat(const char *path, struct stat *found);
int __wrap_lstat(const char *path, struct stat *found);
int __wrap_lstat(const char *path, struct stat *found) {
    static ino_t number = (ino_t)1 << 40;
    int result = __real_lstat(path, found);
    if (fake_kernel.unstable)
        found->st_ino = number++;
    return result;
}

/* "Fails" by writing a part. */
ssize_t __real_pwrite(int fd, const void *bytes, size_t size, off_t at);
ssize_t __wrap_pwrite(int fd, const void *bytes, size_t size, off_t at);
ssize_t __wrap_pwrite(int fd, const void *bytes, size_t size, off_t at) {
    return __real_pwrite(fd, bytes, fake_fails("pwrite") ? size / 2 : size, at);
}

ssize_t __real_pread(int fd, void *bytes, size_t size, off_t at);
ssize_t __wrap_pread(int fd, void *bytes, size_t size, off_t at);
ssize_t __wrap_pread(int fd, void *bytes, size_t size, off_t at) {
    return fake_fails("pread") ? -1 : __real_pread(fd, bytes, size, at);
}

/* A script's waits take no time but its own. */
int __real_nanosleep(const struct timespec *wanted, struct timespec *left);
int __wrap_nanosleep(const struct timespec *wanted, struct timespec *left);
int __wrap_nanosleep(const struct timespec *wanted, struct timespec *left) {
    if (fake_kernel.wait == NULL)
        return __real_nanosleep(wanted, left);
    return fake_kernel.wait(-1, wanted->tv_sec * 1000 + wanted->tv_nsec / 1000000) < 0 ? -1 : 0;
}
