/*
 * The floor of the lock benchmark: exactly the system calls that one acquire and release of
 * ours make when nobody else wants the lock, and nothing else.
 *
 *     floor PATH
 *
 * Reads numbers from stdin; for each goes through as many cycles and prints the nanoseconds
 * that they took together.  Whether the calls still are the same is checked with strace by
 * calls.py whenever the report is made: getppid marks the beginning and the end.
 */
#define _GNU_SOURCE /* O_TMPFILE, F_OFD_SETLK, AT_EMPTY_PATH */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

enum { RECORD_SIZE = 256 };
static const off_t ANNOUNCE_AT = (off_t)1 << 62;

static bool set_ofd_lock(int fd, short type, off_t length) {
    struct flock range = {.l_type = type, .l_whence = SEEK_SET, .l_len = length};
    return fcntl(fd, F_OFD_SETLK, &range) == 0;
}

static bool nobody_waits(int fd) {
    struct flock range = {
        .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = ANNOUNCE_AT, .l_len = 1};
    return fcntl(fd, F_OFD_GETLK, &range) == 0 && range.l_type == F_UNLCK;
}

static int pin(const char *directory) {
    struct open_how how = {.flags = O_PATH | O_DIRECTORY | O_CLOEXEC,
                           .resolve = RESOLVE_NO_SYMLINKS};
    return (int)syscall(SYS_openat2, AT_FDCWD, directory, &how, sizeof how);
}

/* Before Linux 6.10 the first way needs a capability. */
static bool link_at(int fd, int directory, const char *name) {
    char unnamed[sizeof "/proc/self/fd/" + 3 * sizeof(int)];

    if (linkat(fd, "", directory, name, AT_EMPTY_PATH) == 0)
        return true;
    (void)snprintf(unnamed, sizeof unnamed, "/proc/self/fd/%d", fd);
    return linkat(AT_FDCWD, unnamed, directory, name, AT_SYMLINK_FOLLOW) == 0;
}

/* NULL, or the call that failed. */
static const char *cycle(const char *path, const char *name) {
    static const char record[RECORD_SIZE];
    struct statfs system;
    struct stat status;
    int directory, fd;

    if ((directory = pin(path)) < 0)
        return "openat2";
    if (fstat(directory, &status) != 0)
        return "fstat";
    if (openat(directory, name, O_RDWR | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC) >= 0 ||
        errno != ENOENT)
        return "openat";
    if ((fd = openat(directory, ".", O_RDWR | O_CLOEXEC | O_TMPFILE, 0600)) < 0)
        return "openat O_TMPFILE";
    (void)getpid();
    if (fstat(fd, &status) != 0)
        return "fstat";
    if (fstatfs(fd, &system) != 0)
        return "fstatfs";
    if (flock(fd, LOCK_EX | LOCK_NB) != 0)
        return "flock";
    if (!set_ofd_lock(fd, F_WRLCK, ANNOUNCE_AT))
        return "fcntl F_OFD_SETLK";
    (void)getpid();
    if (pwrite(fd, record, sizeof record, 0) != sizeof record)
        return "pwrite";
    if (!link_at(fd, directory, name))
        return "linkat";

    if (fstat(fd, &status) != 0)
        return "fstat";
    if (fstatat(directory, name, &status, AT_SYMLINK_NOFOLLOW) != 0)
        return "fstatat";
    if (!nobody_waits(fd))
        return "fcntl F_OFD_GETLK";
    if (unlinkat(directory, name, 0) != 0)
        return "unlinkat";
    if (fstat(fd, &status) != 0)
        return "fstat";
    if (!set_ofd_lock(fd, F_UNLCK, 0))
        return "fcntl F_OFD_SETLK";
    if (flock(fd, LOCK_UN) != 0)
        return "flock";
    if (close(fd) != 0)
        return "close";
    if (fstat(directory, &status) != 0)
        return "fstat";
    return close(directory) == 0 ? NULL : "close";
}

static long long now_ns(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (long long)now.tv_sec * 1000000000 + now.tv_nsec;
}

int main(int argc, char **argv) {
    char directory[PATH_MAX], *name;
    long count;

    if (argc != 2 || strlen(argv[1]) >= sizeof directory || (name = strrchr(argv[1], '/')) == NULL)
        return 2;
    (void)strcpy(directory, argv[1]);
    directory[++name - argv[1]] = '\0'; /* with the slash, as the library does */
    while (scanf("%ld", &count) == 1) {
        const char *failed = NULL;
        long long before, taken;
        (void)getppid();
        before = now_ns();
        for (long i = 0; i < count && failed == NULL; i++)
            failed = cycle(directory, name);
        taken = now_ns() - before;
        (void)getppid();
        printf("%lld\n", taken);
        (void)fflush(stdout);
        if (failed != NULL) {
            perror(failed);
            return 1;
        }
    }
    return 0;
}
