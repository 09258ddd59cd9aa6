/*
 * The part of Darwin's C library that our macOS sources use and Linux lacks, so that they compile
 * unchanged on Linux (gcc -include darwin.h -I darwin), over fake_kernel.c and fake_files.c.  The
 * numbers are Darwin's, except those of open flags that have another meaning on Linux.
 */
#ifndef MSALEX_TEST_DARWIN_H
#define MSALEX_TEST_DARWIN_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#define F_PREALLOCATE 42
#define F_BARRIERFSYNC 85
#define F_ALLOCATEALL 4
#define F_PEOFPOSMODE 3
#define O_EVTONLY O_RDONLY
#define O_EXLOCK 0x08000000 /* 0x20 there */
#define O_NOFOLLOW_ANY 0x20000000
#define O_SYMLINK 0x10000000 /* 0x00200000 there */
#define st_ctimespec st_ctim
#define st_mtimespec st_mtim
#define RENAME_EXCL 4
#define MNT_LOCAL 0x1000
#define SZOMB 5
#define _CS_DARWIN_USER_CACHE_DIR 65538
#define CLOCK_UPTIME_RAW 8

typedef struct fstore {
    unsigned int fst_flags;
    int fst_posmode;
    off_t fst_offset;
    off_t fst_length;
    off_t fst_bytesalloc;
} fstore_t;

#define renameatx_np fake_renameatx_np
#define fstatfs fake_fstatfs
#define statfs(path, system) fake_statfs(path, system) /* and not the struct */
#define flock(fd, operation) fake_flock(fd, operation) /* and not the struct */
#define close fake_close
#define open fake_open
#define openat fake_openat
#define fcntl fake_fcntl
#define dlsym fake_dlsym
#define mkdirat fake_mkdirat
#define confstr fake_confstr
#define clock_gettime fake_clock_gettime
int fake_close(int fd);
int fake_renameatx_np(int from_directory, const char *from, int to_directory, const char *to,
                      unsigned flags);
int fake_flock(int fd, int operation);
int fake_open(const char *path, int flags, ...);
int fake_openat(int directory, const char *path, int flags, ...);
int fake_fcntl(int fd, int command, ...);
int fake_mkdirat(int directory, const char *path, mode_t mode);
size_t fake_confstr(int name, char *text, size_t size);
int pthread_cond_timedwait_relative_np(pthread_cond_t *condition, pthread_mutex_t *mutex,
                                       const struct timespec *timeout);
int fake_clock_gettime(clockid_t clock, struct timespec *now);
uint64_t clock_gettime_nsec_np(clockid_t clock);
void *fake_dlsym(void *handle, const char *name);

#endif
