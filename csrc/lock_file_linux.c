/*
 * One open lock file, Linux: what is in it, which name it has, and how it comes to be.  The
 * protocol that this serves is described at the top of lock_linux.c.
 */
#define _GNU_SOURCE /* O_TMPFILE */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "internal.h"
#include "lock_linux.h"

/* ---- what is in it, and which name it has ---- */

bool msalex__lock_file_identify(struct msalex__lock_file *file) {
    struct stat opened;
    if (fstat(file->fd, &opened) != 0)
        return false;
    if (!S_ISREG(opened.st_mode)) {
        errno = EINVAL;
        return false;
    }
    file->device = opened.st_dev;
    file->inode = opened.st_ino;
    return true;
}

bool msalex__lock_file_write(const struct msalex__lock_file *file,
                             const struct msalex__record *record, const char *program) {
    char bytes[MSALEX__RECORD_SIZE];
    ssize_t written;

    msalex__record_format(record, program, bytes);
    written = pwrite(file->fd, bytes, sizeof bytes, 0);
    if (written >= 0 && written < (ssize_t)sizeof bytes)
        errno = ENOSPC; /* a short write says nothing itself */
    return written == (ssize_t)sizeof bytes;
}

size_t msalex__lock_file_read(int fd, char bytes[MSALEX__RECORD_SIZE]) {
    ssize_t size = pread(fd, bytes, MSALEX__RECORD_SIZE, 0);
    return size < 0 ? 0 : (size_t)size;
}

/* The record of the file at the path has the nonce of the open file's. */
static bool has_same_nonce(const struct msalex__lock_file *file) {
    char bytes[MSALEX__RECORD_SIZE];
    struct msalex__record opened, named;
    size_t size;
    int fd;

    if (!msalex__record_parse(bytes, msalex__lock_file_read(file->fd, bytes), &opened) ||
        (fd = open(file->path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)) < 0)
        return false;
    size = msalex__lock_file_read(fd, bytes);
    (void)close(fd);
    return msalex__record_parse(bytes, size, &named) && named.nonce == opened.nonce;
}

bool msalex__lock_file_is_named(const struct msalex__lock_file *file) {
    struct stat named;
    if (file->fd < 0 || lstat(file->path, &named) != 0)
        return false;
    return (named.st_dev == file->device && named.st_ino == file->inode) || has_same_nonce(file);
}

bool msalex__lock_file_write_held(const struct msalex__lock_file *file, unsigned turn,
                                  const char *program) {
    const struct msalex__record record = {
        .pid = getpid(),
        .state = file->exists ? MSALEX__EXISTS : MSALEX__HELD,
        .turn = turn,
        .nonce = msalex__nonce()};
    return msalex__lock_file_write(file, &record, program);
}

/* ---- how it comes to be ---- */

/* "/proc/self/fd/N" is how a file without a name gets one; linkat with an empty path would
 * need a capability. */
static int link_at_path(const struct msalex__lock_file *file) {
    char unnamed[sizeof "/proc/self/fd/" + 3 * sizeof(int)];
    (void)snprintf(unnamed, sizeof unnamed, "/proc/self/fd/%d", file->fd);
    return linkat(AT_FDCWD, unnamed, AT_FDCWD, file->path, AT_SYMLINK_FOLLOW);
}

/* Opens a file without a name in the directory of `path`. */
static int open_unnamed(const char *path) {
    char directory[PATH_MAX];
    const char *slash = strrchr(path, '/');
    size_t length = slash == NULL ? 0 : (size_t)(slash - path);

    if (length >= sizeof directory) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memcpy(directory, path, length);
    directory[length] = '\0';
    return open(slash == NULL ? "." : length == 0 ? "/" : directory,
                O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
}

bool msalex__is_unsupported(int code) {
    return code == ENOLCK || code == ENOSYS || code == EINVAL || code == EOPNOTSUPP;
}

/* Takes the locks that the file system has. */
static bool lock_new_file(struct msalex__lock_file *file) {
    int code;

    if (flock(file->fd, LOCK_EX | LOCK_NB) != 0) {
        if (!msalex__is_unsupported(errno))
            return false;
        file->exists = true;
    }
    code = msalex__ofd_lock(file->fd, F_WRLCK, 0, MSALEX__ANNOUNCE_AT);
    errno = code;
    return code == 0 || msalex__is_unsupported(code);
}

/* Where files without a name, or links, do not exist: create, then lock, then write.  Ours
 * never touch a young file without a record.  A peer may, and then the file is the peer's. */
static bool create_at_path(struct msalex__lock_file *file, const char *program) {
    int code;

    file->fd = open(file->path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (file->fd < 0)
        return false;
    if (msalex__lock_file_identify(file) && lock_new_file(file) &&
        msalex__lock_file_write_held(file, 0, program) && msalex__lock_file_is_named(file))
        return true;
    code = errno;
    if (!msalex__lock_file_is_named(file) || code == EWOULDBLOCK)
        code = EEXIST; /* a peer caught it */
    else
        (void)unlink(file->path);
    errno = code;
    return false;
}

bool msalex__lock_file_publish(struct msalex__lock_file *file, const char *program) {
    file->fd = open_unnamed(file->path);
    if (file->fd >= 0) {
        if (!msalex__lock_file_identify(file) || !lock_new_file(file) ||
            !msalex__lock_file_write_held(file, 0, program))
            return false;
        if (link_at_path(file) == 0)
            return true;
        if (errno == EEXIST)
            return false;
        (void)close(file->fd);
        file->fd = -1;
    } else if (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL && errno != ENOENT) {
        return false;
    }
    return create_at_path(file, program);
}
