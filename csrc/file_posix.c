/*
 * Files whose readers never see half of a content, POSIX. The promise is in msalex.h.
 * Twin: file_windows.c.
 */
#define _XOPEN_SOURCE 700 /* realpath, O_NOFOLLOW, futimens */
#define _DEFAULT_SOURCE   /* flock */
#define _DARWIN_C_SOURCE  /* flock, st_mtimespec */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "internal.h"

/* A temporary file is ".msalex-" and 16 hexadecimal digits and ".tmp"; its name does not hold
 * that of the target, which may use up all 255 bytes itself. */
static const char TEMP_PREFIX[] = ".msalex-";
static const char TEMP_SUFFIX[] = ".tmp";

enum {
    TEMP_DIGITS = 16,
    TEMP_NAME_SIZE = sizeof TEMP_PREFIX + TEMP_DIGITS + sizeof TEMP_SUFFIX,
    TEMP_TRIES = 10,
    TOUCH_TRIES = 100,
    TURN_TRIES = 50, /* milliseconds */
    LOST = -1,       /* no errno */
    DEAD_AFTER_S = 60 /* age of a temporary file that no living writer has locked */
};

/* ---- small parts ---- */

static void fill_stamp(const struct stat *file, msalex_stamp *stamp) {
    stamp->device = (uint64_t)file->st_dev;
    stamp->inode = (uint64_t)file->st_ino;
    stamp->size = (uint64_t)file->st_size;
    stamp->mtime_ns = (int64_t)file->st_mtim.tv_sec * 1000000000 + file->st_mtim.tv_nsec;
}

static int fail_not_regular(msalex_error *error, const struct stat *file, const char *call) {
    if (S_ISDIR(file->st_mode))
        return msalex__fail_errno(error, EISDIR, call);
    return msalex__fail(error, MSALEX_INVALID, EINVAL, call, "not a regular file");
}

/* 0 or errno. */
static int write_all(int fd, const unsigned char *data, size_t size) {
    while (size > 0) {
        ssize_t written = write(fd, data, size);
        if (written < 0 && errno != EINTR)
            return errno;
        if (written > 0) {
            data += written;
            size -= (size_t)written;
        }
    }
    return 0;
}

/* Copies the part of a path that names its directory, with the slash; "" for none. */
static int directory_of(const char *path, char directory[PATH_MAX]) {
    const char *slash = strrchr(path, '/');
    size_t length = slash == NULL ? 0 : (size_t)(slash + 1 - path);

    if (length >= PATH_MAX)
        return ENAMETOOLONG;
    memcpy(directory, path, length);
    directory[length] = '\0';
    return 0;
}

/* Follows symbolic links, so that a rename replaces the file and not the link.  A link that
 * leads nowhere is an error: nobody knows whether its target is meant to come back. */
static int resolve(const char *path, char resolved[PATH_MAX], msalex_error *error) {
    struct stat link;
    int code;

    if (lstat(path, &link) == 0 && S_ISLNK(link.st_mode)) {
        if (realpath(path, resolved) != NULL)
            return msalex__ok(error);
        if ((code = errno) == ENOENT)
            return msalex__fail(error, MSALEX_INVALID, code, "realpath",
                                "a symbolic link that leads nowhere");
        return msalex__fail_errno(error, code, "realpath");
    }
    if (strlen(path) >= PATH_MAX)
        return msalex__fail_errno(error, ENAMETOOLONG, "open");
    strcpy(resolved, path);
    return msalex__ok(error);
}

uint64_t msalex__nonce(void) {
    struct timespec now;
    uint64_t mixed;

    (void)clock_gettime(CLOCK_REALTIME, &now);
    mixed = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
    mixed ^= (uint64_t)getpid() << 40 ^ (uint64_t)(uintptr_t)&now; /* the stack: which thread */
    /* The finalizer of splitmix64 (Steele, Lea, Flood 2014), so that all digits differ. */
    mixed = (mixed ^ mixed >> 30) * 0xbf58476d1ce4e5b9;
    mixed = (mixed ^ mixed >> 27) * 0x94d049bb133111eb;
    return mixed ^ mixed >> 31;
}

/* ---- temporary files ---- */

/* Opens a new one in the directory of `path`, locked to show that its writer lives.  The
 * descriptor, or -1 with errno. */
static int open_temp(const char *path, char temp[PATH_MAX]) {
    int code, fd;
    size_t length;

    if ((code = directory_of(path, temp)) != 0) {
        errno = code;
        return -1;
    }
    length = strlen(temp);
    if (length + TEMP_NAME_SIZE > PATH_MAX) {
        errno = ENAMETOOLONG;
        return -1;
    }
    for (int tries = 0; tries < TEMP_TRIES; tries++) {
        (void)snprintf(temp + length, PATH_MAX - length, "%s%016llx%s", TEMP_PREFIX,
                       (unsigned long long)msalex__nonce(), TEMP_SUFFIX);
        /* O_EXCL is what keeps a planted file or link from being used, not the name. */
        fd = open(temp, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd >= 0) {
            (void)flock(fd, LOCK_EX | LOCK_NB);
            return fd;
        }
        if (errno != EEXIST)
            return -1;
    }
    return -1;
}

static bool is_temp_name(const char *name) {
    const size_t prefix = sizeof TEMP_PREFIX - 1;
    return strncmp(name, TEMP_PREFIX, prefix) == 0 &&
           strspn(name + prefix, "0123456789abcdef") == TEMP_DIGITS &&
           strcmp(name + prefix + TEMP_DIGITS, TEMP_SUFFIX) == 0;
}

/* Its writer is dead when the file is old and nobody holds its lock: a writer may have been
 * stopped, or the machine suspended, for any time. */
static bool is_dead_temp(int fd) {
    struct stat file;
    return fstat(fd, &file) == 0 && S_ISREG(file.st_mode) &&
           time(NULL) - file.st_mtime >= DEAD_AFTER_S && flock(fd, LOCK_EX | LOCK_NB) == 0;
}

/* ---- replacing ---- */

/* Gives the new file the owner and mode of the old one.  Who may not give files away keeps
 * the group; who may not even do that takes away what the group could do. */
static int copy_owner_and_mode(int fd, const struct stat *old) {
    struct stat new;
    mode_t mode = old->st_mode & 07777;

    if (fstat(fd, &new) != 0)
        return errno;
    if (new.st_uid != old->st_uid || new.st_gid != old->st_gid) {
        if (fchown(fd, old->st_uid, old->st_gid) != 0 &&
            fchown(fd, (uid_t)-1, old->st_gid) != 0)
            mode &= (mode_t)~07070;
    }
    if ((new.st_mode & 07777) == mode && mode == 0600)
        return 0;
    return fchmod(fd, mode) == 0 ? 0 : errno;
}

/* Sets the times to now.  To the clock's now: the kernel's, before Linux 6.13, is that of its last
 * tick, and 1.3.1, which reloads what is younger than its own last save, would miss us and then
 * write its old copy back.  But who is not the owner may only ask for the kernel's. */
static int set_times(int fd) {
    struct timespec now[2];
    if (clock_gettime(CLOCK_REALTIME, &now[0]) == 0) {
        now[1] = now[0];
        if (futimens(fd, now) == 0)
            return 0;
    }
    return futimens(fd, NULL);
}

/* A rename leaves no trace that a watcher of "changed" files sees (.NET's listens for it);
 * setting the times does. */
static void finish(int fd, msalex_stamp *stamp) {
    struct stat file;
    (void)set_times(fd);
    if (fstat(fd, &file) == 0)
        fill_stamp(&file, stamp);
}

/* Where a rename cannot be.  Longer content first, then the end: a reader in between finds a
 * mixture, which is why this is the last resort. */
static int write_in_place(const char *path, const unsigned char *data, size_t size,
                          msalex_stamp *stamp, msalex_error *error) {
    int code = 0, fd = open(path, O_WRONLY | O_NOFOLLOW | O_CLOEXEC);

    if (fd < 0)
        return msalex__fail_errno(error, errno, "open");
    if ((code = write_all(fd, data, size)) != 0)
        (void)msalex__fail_errno(error, code, "write");
    else if (ftruncate(fd, (off_t)size) != 0)
        (void)msalex__fail_errno(error, code = errno, "ftruncate");
    else if (msalex__sync(fd) != 0)
        (void)msalex__fail_errno(error, code = errno, "fdatasync");
    else
        finish(fd, stamp);
    (void)close(fd);
    return code != 0 ? msalex__status_of_errno(code) : msalex__ok(error);
}

static bool is_held(msalex_lock *guard) {
    msalex_error ignored;
    return guard == NULL || msalex_lock_check(guard, &ignored) == MSALEX_OK;
}

static int fail_lost(msalex_error *error) {
    return msalex__fail(error, MSALEX_LOCK_LOST, ENOENT, "lstat",
                        "somebody removed the lock file");
}

/* Locks the directory for the moment of a rename: a descriptor, or -1.  Those who have it there
 * for longer were stopped, and network file systems may have no such lock: then go on without. */
static int take_turn(const char *target) {
    const struct timespec pause = {.tv_nsec = 1000000};
    char directory[PATH_MAX];
    int fd = directory_of(target, directory) != 0
                 ? -1
                 : open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    for (int tries = 0; fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) != 0; tries++) {
        if (errno != EWOULDBLOCK || tries == TURN_TRIES) {
            (void)close(fd);
            return -1;
        }
        (void)nanosleep(&pause, NULL);
    }
    return fd;
}

/* Puts the new content in place: 0, LOST, or errno.  Between the look at the lock and the rename
 * a peer may remove the lock file, and another of ours enter, save and leave; it would be
 * renamed over.  So of those who save under a lock one at a time looks and renames: the other
 * comes after, and who was robbed notices and makes its change again. */
static int rename_guarded(const char *temp, const char *target, msalex_lock *guard) {
    int code = 0, turn = guard == NULL ? -1 : take_turn(target);

    if (!is_held(guard))
        code = LOST;
    else if (rename(temp, target) != 0)
        code = errno;
    if (turn >= 0) {
        (void)flock(turn, LOCK_UN); /* explicitly: a child forked just now shares it */
        (void)close(turn);
    }
    return code;
}

int msalex_file_replace(const char *path, const unsigned char *data, size_t size,
                        msalex_lock *guard, msalex_stamp *stamp, msalex_error *error) {
    char target[PATH_MAX], temp[PATH_MAX];
    struct stat old;
    bool exists;
    int code, fd, status;

    *stamp = (msalex_stamp){0};
    if ((status = resolve(path, target, error)) != MSALEX_OK)
        return status;
    exists = stat(target, &old) == 0;
    if (!exists && errno != ENOENT)
        return msalex__fail_errno(error, errno, "stat");
    if (exists && !S_ISREG(old.st_mode))
        return fail_not_regular(error, &old, "open");
    /* A rename would replace a file that its owner made read-only. */
    if (exists && faccessat(AT_FDCWD, target, W_OK, AT_EACCESS) != 0)
        return msalex__fail_errno(error, errno, "open");

    if ((fd = open_temp(target, temp)) < 0) {
        code = errno;
        if (exists && (code == EACCES || code == EPERM || code == EROFS))
            return is_held(guard) ? write_in_place(target, data, size, stamp, error)
                                  : fail_lost(error);
        return msalex__fail_errno(error, code, "open");
    }
    if ((code = write_all(fd, data, size)) != 0) {
        (void)msalex__fail_errno(error, code, "write");
        goto err;
    }
    if (exists && (code = copy_owner_and_mode(fd, &old)) != 0) {
        (void)msalex__fail_errno(error, code, "fchmod");
        goto err;
    }
    /* Before the rename, or a power cut could leave the new name on an empty file. */
    if (msalex__sync(fd) != 0) {
        (void)msalex__fail_errno(error, code = errno, "fdatasync");
        goto err;
    }
    (void)flock(fd, LOCK_UN); /* .NET locks the data file while it reads */
    if ((code = rename_guarded(temp, target, guard)) != 0) {
        (void)msalex__fail_errno(error, code, "rename");
        goto err;
    }
    finish(fd, stamp);
    (void)close(fd);
    return msalex__ok(error);

err:
    (void)unlink(temp);
    (void)close(fd);
    if (code == LOST)
        return fail_lost(error);
    if (exists && (code == EBUSY || code == EPERM || code == EXDEV))
        return write_in_place(target, data, size, stamp, error);
    return msalex__status_of_errno(code);
}

/* ---- the rest of the interface ---- */

int msalex_file_stat(const char *path, msalex_stamp *stamp, msalex_error *error) {
    struct stat file;

    *stamp = (msalex_stamp){0};
    if (stat(path, &file) != 0)
        return msalex__fail_errno(error, errno, "stat");
    fill_stamp(&file, stamp);
    return msalex__ok(error);
}

/* Reads to the end, whatever fstat said: a writer in place may be at work. */
static int read_all(int fd, size_t expected, msalex_buffer *content) {
    size_t room = expected + 1; /* one more, so that the end shows in the first read */
    ssize_t count;

    if ((content->data = malloc(room)) == NULL)
        return ENOMEM;
    for (;;) {
        if (content->size == room) {
            msalex_buffer larger = {.data = malloc(room * 2), .size = content->size};
            if (larger.data == NULL)
                return ENOMEM;
            memcpy(larger.data, content->data, content->size);
            msalex_buffer_free(content);
            *content = larger;
            room *= 2;
        }
        count = read(fd, content->data + content->size, room - content->size);
        if (count == 0)
            return 0;
        if (count > 0)
            content->size += (size_t)count;
        else if (errno != EINTR)
            return errno;
    }
}

int msalex_file_read(const char *path, msalex_buffer *content, msalex_stamp *stamp,
                     msalex_error *error) {
    struct stat file;
    int code, fd;

    *content = (msalex_buffer){0};
    *stamp = (msalex_stamp){0};
    /* O_NONBLOCK: opening a fifo would wait for a writer. */
    if ((fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC)) < 0)
        return msalex__fail_errno(error, errno, "open");
    if (fstat(fd, &file) != 0) {
        code = msalex__fail_errno(error, errno, "fstat");
    } else if (!S_ISREG(file.st_mode)) {
        code = fail_not_regular(error, &file, "open");
    } else if ((code = read_all(fd, (size_t)file.st_size, content)) != 0) {
        msalex_buffer_free(content);
        code = msalex__fail_errno(error, code, "read");
    } else {
        fill_stamp(&file, stamp);
        code = msalex__ok(error);
    }
    (void)close(fd);
    return code;
}

int msalex_file_touch(const char *path, msalex_error *error) {
    const int flags = O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
    int code = 0, fd = -1;

    /* Others may make and remove it in between.  O_EXCL: a link that dangles stays so. */
    for (int tries = 0; fd < 0 && tries < TOUCH_TRIES; tries++) {
        if ((fd = open(path, flags)) < 0 && errno == ENOENT)
            fd = open(path, flags | O_CREAT | O_EXCL, 0600);
        if (fd < 0 && errno != EEXIST && errno != ENOENT)
            break;
    }
    if (fd < 0)
        return msalex__fail_errno(error, errno, "open");
    if (set_times(fd) != 0)
        code = errno;
    (void)close(fd);
    return code != 0 ? msalex__fail_errno(error, code, "futimens") : msalex__ok(error);
}

/* Removes what a link leads to as well as the link: the secret is what must be gone. */
int msalex_file_delete(const char *path, msalex_error *error) {
    char target[PATH_MAX];

    if (resolve(path, target, error) == MSALEX_OK && strcmp(target, path) != 0 &&
        unlink(target) != 0)
        return msalex__fail_errno(error, errno, "unlink");
    if (unlink(path) != 0)
        return msalex__fail_errno(error, errno, "unlink");
    return msalex__ok(error);
}

int msalex_file_sweep(const char *path, msalex_error *error) {
    char target[PATH_MAX], directory[PATH_MAX];
    const struct dirent *entry;
    DIR *entries;
    int code, fd, status;

    if ((status = resolve(path, target, error)) != MSALEX_OK)
        return status;
    if ((code = directory_of(target, directory)) != 0)
        return msalex__fail_errno(error, code, "opendir");
    if ((entries = opendir(directory[0] == '\0' ? "." : directory)) == NULL)
        return msalex__fail_errno(error, errno, "opendir");
    while ((entry = readdir(entries)) != NULL) {
        if (!is_temp_name(entry->d_name))
            continue;
        fd = openat(dirfd(entries), entry->d_name,
                    O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        if (fd < 0)
            continue;
        if (is_dead_temp(fd))
            (void)unlinkat(dirfd(entries), entry->d_name, 0);
        (void)close(fd);
    }
    (void)closedir(entries);
    return msalex__ok(error);
}
