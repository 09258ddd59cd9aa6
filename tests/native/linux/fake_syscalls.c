/*
 * File systems and machines that this one is not: system calls of the library fail, or act
 * otherwise.
 *
 *     LD_PRELOAD=fakes.so FAKE="flock=ENOLCK;linkat=EPERM" FAKE_LOG=/some/prefix program
 *
 * A rule is <name>=<way>.  The way is the name of an errno, or one of these:
 *     flock=byterange   as NFS does: a flock is a byte-range lock on the whole file
 *     flock=mandatory   as SMB does: the same, and no other open file can be read meanwhile
 *                       (cifs_find_lock_conflict in Linux' fs/smb/client/file.c)
 *     inode=unstable    each look at a name sees another inode number, never the one of fstat
 *     openat2=<errno>   there is no openat2
 *     renameat2=<errno> a rename cannot refuse to replace
 *     empty_path=<errno>  a file without a name cannot be linked by its descriptor alone
 *     pwrite=short      writes half of the bytes
 *     pread=<errno> once  only the first look into a file fails; the same goes for fstat
 *     fstat=<errno>     fstat of a regular file fails
 *     fstatfs=nfs|smb   every file system says that it is this one
 *     proc=<errno>      /proc cannot be read
 *     eintr=N           a signal interrupts one in N of the calls that signals can interrupt
 *     create=slow       50 ms pass between the creation of a file, with or without a name, and the
 *                       next step
 *     create=slower     the same, and 2 s
 *     clock=coarse      a file's times are those of the last tick, 4 ms, as before Linux 6.13
 * Only calls of the library itself are changed, which its file name shows, so that the program
 * around it works.  At its end a program writes to FAKE_LOG.<pid> which rules it met.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

static const char LIBRARY[] = "_msalex";
static const struct {
    const char *name;
    int code;
} ERRORS[] = {
    {"EAGAIN", EAGAIN}, {"EINVAL", EINVAL}, {"EMFILE", EMFILE}, {"ENOLCK", ENOLCK},
    {"ENOMEM", ENOMEM}, {"ENOSPC", ENOSPC}, {"ENOSYS", ENOSYS}, {"EOPNOTSUPP", EOPNOTSUPP},
    {"EPERM", EPERM},   {"EACCES", EACCES}, {"EROFS", EROFS},   {"ENOENT", ENOENT},
    {"EIO", EIO},       {"ESTALE", ESTALE},
};

enum { METS_MAX = 32 };
static const char *mets[METS_MAX]; /* names of the rules that were met */

__attribute__((destructor)) static void tell(void) {
    const char *prefix = getenv("FAKE_LOG");
    char path[4096];
    FILE *log;

    if (prefix == NULL)
        return;
    (void)snprintf(path, sizeof path, "%s.%d", prefix, (int)getpid());
    if ((log = fopen(path, "w")) == NULL)
        return;
    for (size_t i = 0; i < METS_MAX && mets[i] != NULL; i++)
        (void)fprintf(log, "%s\n", mets[i]);
    (void)fclose(log);
}

static void met(const char *what) {
    for (size_t i = 0; i < METS_MAX; i++) {
        const char *none = NULL;
        if (__atomic_compare_exchange_n(&mets[i], &none, what, false, __ATOMIC_SEQ_CST,
                                        __ATOMIC_SEQ_CST) ||
            strcmp(none, what) == 0)
            return;
    }
}

/* The way in which the call `what` goes when the library makes it, or NULL. */
static const char *rule(const char *what, void *caller) {
    const size_t length = strlen(what);
    const char *rules = getenv("FAKE");
    Dl_info info;

    if (rules == NULL || dladdr(caller, &info) == 0 || strstr(info.dli_fname, LIBRARY) == NULL)
        return NULL;
    for (const char *at = rules; at != NULL; at = strchr(at, ';')) {
        at += *at == ';';
        if (strncmp(at, what, length) == 0 && at[length] == '=')
            return at + length + 1;
    }
    return NULL;
}

static bool is(const char *how, const char *word) {
    return how != NULL && strncmp(how, word, strlen(word)) == 0;
}

/* The errno with which this call fails by the rules, or 0. */
static int failure(const char *what, void *caller) {
    const char *how = rule(what, caller);
    for (size_t i = 0; how != NULL && i < sizeof ERRORS / sizeof ERRORS[0]; i++) {
        if (is(how, ERRORS[i].name)) {
            met(what);
            return ERRORS[i].code;
        }
    }
    return 0;
}

/* Does the rule apply to this call?  It may be for the first call only. */
static bool is_turn(const char *how, _Atomic int *calls) {
    return how != NULL && (strncmp(how + strcspn(how, " ;"), " once", 5) != 0 || (*calls)++ == 0);
}

static bool interrupted(void *caller) {
    const char *how = rule("eintr", caller);
    static _Thread_local unsigned dice;

    if (how == NULL)
        return false;
    dice = (dice == 0 ? (unsigned)getpid() : dice) * 1103515245U + 12345U;
    if ((dice >> 16) % (unsigned)strtoul(how, NULL, 10) != 0)
        return false;
    met("eintr");
    return true;
}

#define CALLER __builtin_return_address(0)
#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define FAIL_IF(condition, code)                                                                   \
    do {                                                                                           \
        if (condition) {                                                                           \
            errno = (code);                                                                        \
            return -1;                                                                             \
        }                                                                                          \
    } while (0)
#define FAIL_AS_TOLD(what)                                                                         \
    do {                                                                                           \
        int told = failure(what, CALLER);                                                          \
        FAIL_IF(told != 0, told);                                                                  \
    } while (0)

static int range_lock(int fd, int operation) {
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if ((operation & ~LOCK_NB) == LOCK_UN)
        whole.l_type = F_UNLCK;
    if ((operation & ~LOCK_NB) == LOCK_SH)
        whole.l_type = F_RDLCK;
    return REAL(fcntl)(fd, operation & LOCK_NB ? F_OFD_SETLK : F_OFD_SETLKW, &whole);
}

int flock(int fd, int operation) {
    FAIL_AS_TOLD("flock");
    FAIL_IF(interrupted(CALLER), EINTR);
    if (is(rule("flock", CALLER), "byterange") || is(rule("flock", CALLER), "mandatory")) {
        met("flock");
        return range_lock(fd, operation);
    }
    return REAL(flock)(fd, operation);
}

int fcntl(int fd, int command, ...) {
    va_list arguments;
    void *argument;

    va_start(arguments, command);
    argument = va_arg(arguments, void *);
    va_end(arguments);
    if (command == F_OFD_SETLK || command == F_OFD_SETLKW || command == F_OFD_GETLK)
        FAIL_AS_TOLD("ofd");
    return REAL(fcntl)(fd, command, argument);
}

static int open_for(void *caller, int directory, const char *path, int flags, mode_t mode) {
    const char *what = strncmp(path, "/proc/", 6) == 0    ? "proc"
                       : (flags & O_TMPFILE) == O_TMPFILE ? "open_tmpfile"
                                                          : NULL;
    int told = what != NULL ? failure(what, caller) : 0, made;

    FAIL_IF(told != 0, told);
    FAIL_IF(interrupted(caller), EINTR);
    made = REAL(openat)(directory, path, flags, mode);
    if (made >= 0 && ((flags & O_EXCL) != 0 || (flags & O_TMPFILE) == O_TMPFILE) &&
        is(rule("create", caller), "slow")) {
        const bool slower = is(rule("create", caller), "slower");
        const struct timespec pause = {.tv_sec = slower ? 2 : 0, .tv_nsec = slower ? 0 : 50000000};
        met("create");
        (void)REAL(nanosleep)(&pause, NULL);
    }
    return made;
}

int open(const char *path, int flags, ...) {
    va_list arguments;
    mode_t mode;

    va_start(arguments, flags);
    mode = va_arg(arguments, mode_t);
    va_end(arguments);
    return open_for(CALLER, AT_FDCWD, path, flags, mode);
}

int openat(int directory, const char *path, int flags, ...) {
    va_list arguments;
    mode_t mode;

    va_start(arguments, flags);
    mode = va_arg(arguments, mode_t);
    va_end(arguments);
    return open_for(CALLER, directory, path, flags, mode);
}

/* By this the library makes the calls for which the C library has no function. */
long syscall(long number, ...) {
    va_list arguments;
    long given[6];

    va_start(arguments, number);
    for (size_t i = 0; i < 6; i++)
        given[i] = va_arg(arguments, long);
    va_end(arguments);
    if (number == SYS_openat2) {
        FAIL_AS_TOLD("openat2");
        FAIL_IF(interrupted(CALLER), EINTR);
    }
    if (number == SYS_renameat2)
        FAIL_AS_TOLD("renameat2");
    return REAL(syscall)(number, given[0], given[1], given[2], given[3], given[4], given[5]);
}

int futimens(int fd, const struct timespec times[2]) {
    enum { TICK_NS = 4000000 };
    struct timespec now;

    if (is(rule("clock", CALLER), "coarse")) {
        met("clock");
        if (times == NULL && clock_gettime(CLOCK_REALTIME, &now) == 0) {
            now.tv_nsec -= now.tv_nsec % TICK_NS;
            return REAL(futimens)(fd, (const struct timespec[2]){now, now});
        }
    }
    return REAL(futimens)(fd, times);
}

int linkat(int from, const char *old, int to, const char *new, int flags) {
    FAIL_AS_TOLD("linkat");
    if ((flags & AT_EMPTY_PATH) != 0)
        FAIL_AS_TOLD("empty_path");
    return REAL(linkat)(from, old, to, new, flags);
}

int fstatat(int directory, const char *name, struct stat *found, int flags) {
    static ino_t number;
    int code;

    FAIL_AS_TOLD("fstatat");
    code = REAL(fstatat)(directory, name, found, flags);
    if (code == 0 && is(rule("inode", CALLER), "unstable")) {
        met("inode");
        found->st_ino = ((ino_t)1 << 40) + __atomic_add_fetch(&number, 1, __ATOMIC_SEQ_CST);
    }
    return code;
}

int fstat(int fd, struct stat *found) {
    static _Atomic int looks;
    const int code = REAL(fstat)(fd, found);

    if (code == 0 && S_ISREG(found->st_mode) && is_turn(rule("fstat", CALLER), &looks))
        FAIL_AS_TOLD("fstat");
    return code;
}

int fstatfs(int fd, struct statfs *system) {
    int code = REAL(fstatfs)(fd, system);
    const bool nfs = is(rule("fstatfs", CALLER), "nfs"), smb = is(rule("fstatfs", CALLER), "smb");
    if (code == 0 && (nfs || smb)) {
        met("fstatfs");
        system->f_type = nfs ? 0x6969 : 0xfe534d42;
    }
    return code;
}

int inotify_init1(int flags) {
    FAIL_AS_TOLD("inotify");
    return ((int (*)(int))dlsym(RTLD_NEXT, "inotify_init1"))(flags);
}

int inotify_add_watch(int fd, const char *path, uint32_t events) {
    FAIL_AS_TOLD("add_watch");
    return ((int (*)(int, const char *, uint32_t))dlsym(RTLD_NEXT, "inotify_add_watch"))(fd, path,
                                                                                         events);
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *),
                   void *argument) {
    int told = failure("pthread_create", CALLER);
    return told != 0 ? told : REAL(pthread_create)(thread, attributes, start, argument);
}

ssize_t pread(int fd, void *bytes, size_t size, off_t at) {
    static _Atomic int reads;
    struct flock part = {
        .l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = at, .l_len = (off_t)size};

    if (is_turn(rule("pread", CALLER), &reads))
        FAIL_AS_TOLD("pread");
    FAIL_IF(interrupted(CALLER), EINTR);
    FAIL_IF(is(rule("flock", CALLER), "mandatory") && REAL(fcntl)(fd, F_OFD_GETLK, &part) == 0 &&
                part.l_type != F_UNLCK,
            EACCES);
    return REAL(pread)(fd, bytes, size, at);
}

ssize_t pwrite(int fd, const void *bytes, size_t size, off_t at) {
    FAIL_AS_TOLD("pwrite");
    FAIL_IF(interrupted(CALLER), EINTR);
    if (is(rule("pwrite", CALLER), "short")) {
        met("pwrite");
        size /= 2;
    }
    return REAL(pwrite)(fd, bytes, size, at);
}

int ppoll(struct pollfd *files, nfds_t count, const struct timespec *timeout,
          const sigset_t *mask) {
    FAIL_AS_TOLD("ppoll");
    FAIL_IF(interrupted(CALLER), EINTR);
    return REAL(ppoll)(files, count, timeout, mask);
}

int nanosleep(const struct timespec *wanted, struct timespec *left) {
    FAIL_IF(interrupted(CALLER), EINTR);
    return REAL(nanosleep)(wanted, left);
}

int unlinkat(int directory, const char *name, int flags) {
    FAIL_AS_TOLD("unlinkat");
    return REAL(unlinkat)(directory, name, flags);
}
