/*
 * One open lock file, macOS: how it comes to be, what is in it, which name it has, and who
 * tells when it changes.  The protocol that this serves is described at the top of lock_macos.c.
 */
#define _DARWIN_C_SOURCE /* flock, kqueue */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/event.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include "internal.h"
#include "lock_macos.h"
#include "os_posix.h"
#include "temp_posix.h"

/* ---- the registry ---- */

static pthread_mutex_t registry_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct msalex__lock_file *registry;
static pthread_once_t fork_handlers = PTHREAD_ONCE_INIT;

static void before_fork(void) {
    (void)pthread_mutex_lock(&registry_mutex);
}

static void after_fork_in_parent(void) {
    (void)pthread_mutex_unlock(&registry_mutex);
}

/* The open files are shared with the parent: closing takes nothing away from it.  A kqueue is
 * not inherited at all, and its number may be another file's soon. */
static void after_fork_in_child(void) {
    for (struct msalex__lock_file *file = registry; file != NULL; file = file->next) {
        if (file->fd >= 0)
            (void)close(file->fd);
        if (file->directory >= 0)
            (void)close(file->directory);
        file->fd = file->directory = -1;
        file->queue = -1;
    }
    (void)pthread_mutex_unlock(&registry_mutex);
}

static void install_fork_handlers(void) {
    (void)pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}

void msalex__lock_file_register(struct msalex__lock_file *file) {
    file->fd = file->queue = file->directory = -1;
    (void)pthread_once(&fork_handlers, install_fork_handlers);
    (void)pthread_mutex_lock(&registry_mutex);
    file->next = registry;
    registry = file;
    (void)pthread_mutex_unlock(&registry_mutex);
}

void msalex__lock_file_forget(struct msalex__lock_file *file) {
    struct msalex__lock_file **link = &registry;

    (void)pthread_mutex_lock(&registry_mutex);
    while (*link != file)
        link = &(*link)->next;
    *link = file->next;
    (void)pthread_mutex_unlock(&registry_mutex);
}

void msalex__lock_file_place(struct msalex__lock_file *file, struct msalex__place *place) {
    strcpy(file->name, place->name);
    (void)pthread_mutex_lock(&registry_mutex);
    file->directory = place->directory;
    (void)pthread_mutex_unlock(&registry_mutex);
    place->directory = -1;
}

/* ---- what is in it, and which name it has ---- */

static bool identify(struct msalex__lock_file *file, struct stat *opened) {
    if (fstat(file->fd, opened) != 0)
        return false;
    if (!S_ISREG(opened->st_mode)) {
        errno = EINVAL;
        return false;
    }
    file->device = opened->st_dev;
    file->inode = opened->st_ino;
    file->exists = false;
    return true;
}

size_t msalex__lock_file_read(int fd, char bytes[MSALEX__RECORD_SIZE]) {
    ssize_t size = pread(fd, bytes, MSALEX__RECORD_SIZE, 0);
    return size < 0 ? 0 : (size_t)size;
}

bool msalex__lock_file_write_held(const struct msalex__lock_file *file, const char *program) {
    const struct msalex__record record = {.pid = getpid(),
                                          .state = file->exists ? MSALEX__EXISTS : MSALEX__HELD,
                                          .nonce = msalex__nonce()};
    char bytes[MSALEX__RECORD_SIZE];
    ssize_t written;

    msalex__record_format(&record, program, bytes);
    written = pwrite(file->fd, bytes, sizeof bytes, 0);
    if (written >= 0 && written < (ssize_t)sizeof bytes)
        errno = ENOSPC; /* a short write says nothing itself */
    return written == (ssize_t)sizeof bytes;
}

/* The record of the file with that name, in that directory, has the nonce of the open file's.
 * Where inode numbers change from one look to the next (macFUSE) this tells whose file has it. */
static bool has_same_nonce(const struct msalex__lock_file *file, int directory) {
    char bytes[MSALEX__RECORD_SIZE];
    struct msalex__record opened, named;
    size_t size;
    int fd;

    if (!msalex__record_parse(bytes, msalex__lock_file_read(file->fd, bytes), &opened) ||
        (fd = openat(directory, file->name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)) < 0)
        return false;
    size = msalex__lock_file_read(fd, bytes);
    (void)close(fd);
    return msalex__record_parse(bytes, size, &named) && named.nonce == opened.nonce;
}

bool msalex__lock_file_is_named(const struct msalex__lock_file *file) {
    struct stat named;

    if (file->fd < 0 || fstatat(file->directory, file->name, &named, AT_SYMLINK_NOFOLLOW) != 0)
        return false;
    return (named.st_dev == file->device && named.st_ino == file->inode) ||
           has_same_nonce(file, file->directory);
}

bool msalex__lock_file_is_in(const struct msalex__lock_file *file,
                             const struct msalex__place *place) {
    struct stat kept, found;

    if (fstat(file->directory, &kept) != 0 || fstat(place->directory, &found) != 0)
        return false;
    return (kept.st_dev == found.st_dev && kept.st_ino == found.st_ino) ||
           has_same_nonce(file, place->directory);
}

int msalex__lock_file_unlink(const struct msalex__lock_file *file) {
    return unlinkat(file->directory, file->name, 0) == 0 ? 0 : errno;
}

/* ---- how it comes to be, and goes ---- */

/* Closes the file alone; its place stays. */
static void close_file(struct msalex__lock_file *file) {
    int fd, queue;

    (void)pthread_mutex_lock(&registry_mutex); /* a fork may be closing them as well */
    fd = file->fd;
    queue = file->queue;
    file->fd = -1;
    file->queue = -1;
    (void)pthread_mutex_unlock(&registry_mutex);
    if (queue >= 0)
        (void)close(queue);
    if (fd < 0)
        return;
    /* Explicitly, because a child forked at the wrong moment may share the open file. */
    (void)flock(fd, LOCK_UN);
    (void)close(fd);
}

bool msalex__lock_file_open(struct msalex__lock_file *file) {
    struct stat opened;

    /* O_NONBLOCK: should it be a fifo, fail rather than hang. */
    file->fd = openat(file->directory, file->name, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    return file->fd >= 0 && identify(file, &opened);
}

bool msalex__is_unsupported(int code) {
    return code == ENOTSUP || code == EOPNOTSUPP || code == ENOLCK || code == EINVAL;
}

int msalex__lock_file_try(const struct msalex__lock_file *file) {
    return flock(file->fd, LOCK_EX | LOCK_NB) == 0 ? 0 : errno;
}

static bool create(struct msalex__lock_file *file, const char *name) {
    file->fd = openat(file->directory, name,
                      O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    return file->fd >= 0;
}

/* Gives the file to the users that may remove other files in its directory: to the directory's
 * owner, when we are root, and to its group.  So they can remove it if we die.  It holds no secret.
 * In a sticky directory users remove their own files only.  What the system refuses stays as it
 * is. */
static void share_with_directory(const struct msalex__lock_file *file, const struct stat *made) {
    struct stat directory;
    uid_t owner;
    gid_t group;

    if (fstat(file->directory, &directory) != 0 || (directory.st_mode & S_ISVTX) != 0)
        return;
    owner = made->st_uid == 0 ? directory.st_uid : made->st_uid;
    group = (directory.st_mode & S_IWGRP) != 0 ? directory.st_gid : made->st_gid;
    if ((owner != made->st_uid || group != made->st_gid) && fchown(file->fd, owner, group) != 0)
        return;
    if ((directory.st_mode & S_IWGRP) != 0)
        (void)fchmod(file->fd, S_IRUSR | S_IWUSR | S_IRGRP | S_IWGRP);
}

/* Locks and fills a new file. */
static bool fill(struct msalex__lock_file *file, const char *program) {
    struct stat made;
    int code;

    if (!identify(file, &made))
        return false;
    if ((code = msalex__lock_file_try(file)) != 0 && !msalex__is_unsupported(code)) {
        errno = code;
        return false;
    }
    file->exists = code != 0;
    if (!msalex__lock_file_write_held(file, program))
        return false;
    share_with_directory(file, &made);
    return true;
}

/* Where a rename cannot refuse to replace: create, then lock, then write.  Ours never touch a
 * young file without a record.  A peer may, and then the file is the peer's. */
static bool create_with_name(struct msalex__lock_file *file, const char *program) {
    int code;

    if (!create(file, file->name))
        return false;
    if (fill(file, program) && msalex__lock_file_is_named(file))
        return true;
    code = errno;
    if (code == EWOULDBLOCK || !msalex__lock_file_is_named(file))
        code = EEXIST; /* a peer caught it */
    else
        (void)msalex__lock_file_unlink(file);
    errno = code;
    return false;
}

bool msalex__lock_file_publish(struct msalex__lock_file *file, const char *program) {
    char temp[MSALEX__TEMP_NAME_SIZE];
    int code;

    /* A name that msalex_file_sweep knows, and removes should we die before the rename. */
    (void)snprintf(temp, sizeof temp, ".msalex-%016llx.tmp", (unsigned long long)msalex__nonce());
    if (!create(file, temp))
        return false;
    code = fill(file, program) ? msalex__rename_new(file->directory, temp, file->name) : errno;
    if (code == 0)
        return true;
    (void)unlinkat(file->directory, temp, 0);
    errno = code;
    if (!msalex__is_unsupported(code))
        return false;
    close_file(file);
    return create_with_name(file, program);
}

void msalex__lock_file_watch(struct msalex__lock_file *file) {
    struct kevent change;
    int queue = kqueue();

    if (queue < 0)
        return;
    (void)fcntl(queue, F_SETFD, FD_CLOEXEC);
    EV_SET(&change, (uintptr_t)file->fd, EVFILT_VNODE, EV_ADD | EV_CLEAR,
           NOTE_FUNLOCK | NOTE_DELETE | NOTE_RENAME | NOTE_REVOKE, 0, NULL);
    if (kevent(queue, &change, 1, NULL, 0, NULL) == 0)
        file->queue = queue;
    else
        (void)close(queue);
}

void msalex__lock_file_close(struct msalex__lock_file *file) {
    int directory;

    close_file(file);
    (void)pthread_mutex_lock(&registry_mutex);
    directory = file->directory;
    file->directory = -1;
    (void)pthread_mutex_unlock(&registry_mutex);
    if (directory >= 0)
        (void)close(directory);
}
