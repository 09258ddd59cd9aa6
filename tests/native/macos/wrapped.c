/*
 * Functions of the C library that fail when a script says so (fake_kernel.h).  The program is
 * linked with -Wl,--wrap=<name> for each.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
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

int __real_fstat(int fd, struct stat *found);
int __wrap_fstat(int fd, struct stat *found);
int __wrap_fstat(int fd, struct stat *found) {
    return fake_fails("fstat") ? -1 : __real_fstat(fd, found);
}

int __real_fstatat(int directory, const char *path, struct stat *found, int flags);
int __wrap_fstatat(int directory, const char *path, struct stat *found, int flags);
int __wrap_fstatat(int directory, const char *path, struct stat *found, int flags) {
    static ino_t number = (ino_t)1 << 41;
    int result = fake_fails("fstatat") ? -1 : __real_fstatat(directory, path, found, flags);
    if (result == 0 && fake_kernel.unstable)
        found->st_ino = number++;
    if (result == 0 && fake_kernel.quiet_renames)
        found->st_ctim = (struct timespec){0};
    return result;
}

ssize_t __real_readlinkat(int directory, const char *path, char *text, size_t size);
ssize_t __wrap_readlinkat(int directory, const char *path, char *text, size_t size);
ssize_t __wrap_readlinkat(int directory, const char *path, char *text, size_t size) {
    return fake_fails("readlinkat") ? -1 : __real_readlinkat(directory, path, text, size);
}

int __real_unlinkat(int directory, const char *path, int flags);
int __wrap_unlinkat(int directory, const char *path, int flags);
int __wrap_unlinkat(int directory, const char *path, int flags) {
    return fake_fails("unlinkat") ? -1 : __real_unlinkat(directory, path, flags);
}

int __real_renameat(int from_directory, const char *from, int to_directory, const char *to);
int __wrap_renameat(int from_directory, const char *from, int to_directory, const char *to);
int __wrap_renameat(int from_directory, const char *from, int to_directory, const char *to) {
    return fake_fails("renameat") ? -1 : __real_renameat(from_directory, from, to_directory, to);
}

int __real_linkat(int from_directory, const char *from, int to_directory, const char *to,
                  int flags);
int __wrap_linkat(int from_directory, const char *from, int to_directory, const char *to,
                  int flags);
int __wrap_linkat(int from_directory, const char *from, int to_directory, const char *to,
                  int flags) {
    if (fake_kernel.link_code != 0) {
        errno = fake_kernel.link_code;
        return -1;
    }
    return fake_fails("linkat") ? -1 : __real_linkat(from_directory, from, to_directory, to, flags);
}

int __real_fchmod(int fd, mode_t mode);
int __wrap_fchmod(int fd, mode_t mode);
int __wrap_fchmod(int fd, mode_t mode) {
    return fake_fails("fchmod") ? -1 : __real_fchmod(fd, mode);
}

int __real_fchown(int fd, uid_t owner, gid_t group);
int __wrap_fchown(int fd, uid_t owner, gid_t group);
int __wrap_fchown(int fd, uid_t owner, gid_t group) {
    return fake_fails("fchown") ? -1 : __real_fchown(fd, owner, group);
}

int __real_ftruncate(int fd, off_t size);
int __wrap_ftruncate(int fd, off_t size);
int __wrap_ftruncate(int fd, off_t size) {
    return fake_fails("ftruncate") ? -1 : __real_ftruncate(fd, size);
}

int __real_fsync(int fd);
int __wrap_fsync(int fd);
int __wrap_fsync(int fd) {
    return fake_fails("fsync") ? -1 : __real_fsync(fd);
}

int __real_futimens(int fd, const struct timespec times[2]);
int __wrap_futimens(int fd, const struct timespec times[2]);
int __wrap_futimens(int fd, const struct timespec times[2]) {
    return fake_fails("futimens") ? -1 : __real_futimens(fd, times);
}

ssize_t __real_read(int fd, void *bytes, size_t size);
ssize_t __wrap_read(int fd, void *bytes, size_t size);
ssize_t __wrap_read(int fd, void *bytes, size_t size) {
    return fake_fails("read") ? -1 : __real_read(fd, bytes, size);
}

/* A failure here is that only a part is written. */
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

/* In a script a wait takes time only by the clock of the script. */
int __real_nanosleep(const struct timespec *wanted, struct timespec *left);
int __wrap_nanosleep(const struct timespec *wanted, struct timespec *left);
int __wrap_nanosleep(const struct timespec *wanted, struct timespec *left) {
    if (fake_kernel.wait == NULL)
        return __real_nanosleep(wanted, left);
    return fake_kernel.wait(-1, wanted->tv_sec * 1000 + wanted->tv_nsec / 1000000) < 0 ? -1 : 0;
}

int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *),
                          void *argument);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *),
                          void *argument);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *),
                          void *argument) {
    return fake_fails("pthread_create") ? errno
                                        : __real_pthread_create(thread, attributes, run, argument);
}
