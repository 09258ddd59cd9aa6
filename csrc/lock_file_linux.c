/*
 * One open lock file, Linux: what is in it, which name it has, how it comes to be and how it
 * goes.  The protocol that this serves is described at the top of lock_linux.c.
 */
#define _GNU_SOURCE /* O_TMPFILE, AT_EMPTY_PATH */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "internal.h"
#include "lock_linux.h"

enum { TURNS_MAX = 64 }; /* hand-overs in a row before the file is unlinked all the same */

/* ---- what is in it, and which name it has ---- */

bool msalex__lock_file_identify(struct msalex__lock_file *file, struct stat *opened) {
    if (fstat(file->fd, opened) != 0)
        return false;
    if (!S_ISREG(opened->st_mode)) {
        errno = EINVAL;
        return false;
    }
    file->device = opened->st_dev;
    file->inode = opened->st_ino;
    return true;
}

size_t msalex__lock_file_read(int fd, char bytes[MSALEX__RECORD_SIZE]) {
    ssize_t size = pread(fd, bytes, MSALEX__RECORD_SIZE, 0);
    return size < 0 ? 0 : (size_t)size;
}

/* The record of the file with that name, in that directory, has the nonce of the open file's. */
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

/* ---- how it comes to be ours ---- */

/* Writes the record that says so.  False with errno. */
static bool write_record(const struct msalex__lock_file *file, unsigned turn) {
    const struct msalex__record record = {
        .pid = getpid(),
        .state = file->exists ? MSALEX__EXISTS : MSALEX__HELD,
        .turn = turn,
        .nonce = msalex__nonce()};
    char bytes[MSALEX__RECORD_SIZE];
    ssize_t written;

    msalex__record_format(&record, file->program, bytes);
    written = pwrite(file->fd, bytes, sizeof bytes, 0);
    if (written >= 0 && written < (ssize_t)sizeof bytes)
        errno = ENOSPC; /* a short write says nothing itself */
    return written == (ssize_t)sizeof bytes;
}

/* Gives a file without a name one.  Before Linux 6.10 an empty path needs a capability, and the
 * way is "/proc/self/fd/N". */
static int give_name(const struct msalex__lock_file *file) {
    char unnamed[sizeof "/proc/self/fd/" + 3 * sizeof(int)];

    if (linkat(file->fd, "", file->directory, file->name, AT_EMPTY_PATH) == 0)
        return 0;
    if (errno == EEXIST)
        return -1;
    (void)snprintf(unnamed, sizeof unnamed, "/proc/self/fd/%d", file->fd);
    return linkat(AT_FDCWD, unnamed, file->directory, file->name, AT_SYMLINK_FOLLOW);
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

/* Locks and fills a new file.  False with errno. */
static bool fill(struct msalex__lock_file *file) {
    struct stat made;

    if (!msalex__lock_file_identify(file, &made) || !lock_new_file(file) || !write_record(file, 0))
        return false;
    share_with_directory(file, &made);
    return true;
}

/* Where files without a name, or links, do not exist: create, then lock, then write.  Ours
 * never touch a young file without a record.  A peer may, and then the file is the peer's. */
static bool create_with_name(struct msalex__lock_file *file) {
    int code;

    file->fd = openat(file->directory, file->name,
                      O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (file->fd < 0)
        return false;
    if (fill(file) && msalex__lock_file_is_named(file))
        return true;
    code = errno;
    if (!msalex__lock_file_is_named(file) || code == EWOULDBLOCK)
        code = EEXIST; /* a peer caught it */
    else
        (void)msalex__lock_file_unlink(file);
    errno = code;
    return false;
}

bool msalex__lock_file_publish(struct msalex__lock_file *file) {
    file->fd = openat(file->directory, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (file->fd >= 0) {
        if (!fill(file))
            return false;
        if (give_name(file) == 0)
            return true;
        if (errno == EEXIST)
            return false;
        (void)close(file->fd);
        file->fd = -1;
    } else if (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL && errno != ENOENT) {
        return false;
    }
    return create_with_name(file);
}

/* Does the flock, which this process has, make the file ours?  0, ESTALE or EBUSY.  It takes
 * the range of bytes that fcntl peers lock: they could lock it between a question and its use. */
static int claim(const struct msalex__lock_file *file, struct msalex__record *record) {
    char bytes[MSALEX__RECORD_SIZE];

    if (!msalex__lock_file_is_named(file))
        return ESTALE; /* somebody unlinked it */
    /* A peer with fcntl locks is inside.  Or a peer (Go) was inside, wrote over the record, and
     * has yet to remove the file that it unlocked.  Then the file is a peer's, although one of
     * ours made it. */
    if (msalex__ofd_lock(file->fd, F_WRLCK, 0, MSALEX__ANNOUNCE_AT) == EAGAIN ||
        !msalex__record_parse(bytes, msalex__lock_file_read(file->fd, bytes), record))
        return EBUSY;
    return 0;
}

int msalex__lock_file_take_over(const struct msalex__lock_file *file) {
    struct msalex__record record;
    int code = claim(file, &record);

    if (code == 0)
        (void)write_record(file, record.turn + 1);
    return code;
}

/* ---- how it goes ---- */

/* Shall the file stay, for a waiter?  Its record goes on naming us until the waiter writes its
 * own: the flock decides, and nobody acts on the name.  A file that a peer wrote over would look
 * like the peer's to all but those who are queued already. */
static bool hand_over(const struct msalex__lock_file *file) {
    char bytes[MSALEX__RECORD_SIZE];
    struct msalex__record record;

    return msalex__ofd_conflict(file->fd, F_WRLCK, MSALEX__ANNOUNCE_AT, 1) &&
           msalex__record_parse(bytes, msalex__lock_file_read(file->fd, bytes), &record) &&
           record.turn < TURNS_MAX;
}

bool msalex__lock_file_give_back(struct msalex__lock_file *file) {
    bool named = msalex__lock_file_is_named(file);

    if (named && !(file->handed_over = hand_over(file)))
        (void)msalex__lock_file_unlink(file);
    msalex__lock_file_close(file);
    return named;
}

void msalex__lock_file_turn_down(struct msalex__lock_file *file) {
    struct msalex__record record;

    if (claim(file, &record) == 0)
        (void)msalex__lock_file_give_back(file);
    else
        msalex__lock_file_close(file);
}
