/*
 * The lock between processes, Linux: the protocol.  The promise is in msalex.h.  Twins:
 * lock_macos.c, lock_windows.c.
 *
 * How it works.  The lock file carries three locks at once, because other programs look at
 * different ones: its existence, a flock, and an "open file description" (OFD) lock, which
 * meets fcntl locks.  Ours is the flock: who has it, on the file that the path names, is in.
 *
 * The file appears already locked and filled (O_TMPFILE, then linkat): a file that is
 * created first and locked then can be caught in between by somebody who tries it.
 *
 * Its one line, the record, tells only whether the file is *ours* or a *peer's* (another
 * library's).  For ours the kernel knows whether it is held, whatever pid it names, and
 * waiting means blocking in flock: the kernel wakes one waiter, in order.  Of a peer's file
 * the grant proves nothing, as several peers unlock before they remove it; we wait for the
 * *name* to go away.
 *
 * A waiter announces itself by an OFD read lock on a byte far out.  A holder that sees an
 * announcement leaves the file in place (HANDOVER), so that the queue survives; unlinking
 * would send every waiter back to the start, out of order.  This is bounded by TURNS_MAX, so
 * that peers which wait for the file to vanish get their turn.
 *
 * Where a file system has no OFD locks we do without announcements.  Where it has no flock
 * (NFS without lockd, some sshfs and 9p) the file's existence is the lock: its record says so
 * (EXISTS), and everybody treats it like a peer's.  Where inode numbers change from one look
 * to the next (FUSE) the nonce in the record tells whose file a path names.
 *
 * flock knows no deadline.  So a thread blocks in it while the caller waits on an eventfd.
 * Who gives up first leaves the thread behind: it gives the lock back once it has it, and the
 * next one here to want the same file adopts it.  (Cancelling a thread needs libgcc_s, which
 * slim images lack; interrupting it needs a signal, and signals are the program's own.)
 */
#define _GNU_SOURCE /* O_TMPFILE */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "internal.h"
#include "lock_linux.h"
#include "lock_record.h"

enum {
    TURNS_MAX = 64, /* hand-overs in a row before the file is unlinked all the same */
    TRIES_MAX = 100 /* times that one call starts over because files come and go */
};

struct msalex_lock {
    struct msalex__lock_file *file; /* held or queued, else NULL */
    bool held;
    bool watching; /* a peer's file is in the way */
    int watch;     /* of the directory meanwhile, or -1: there was none to be had */
    char *program;
    char path[];
};

/* What a look at the lock file's path led to. */
enum outcome {
    HELD,    /* by us now */
    QUEUED,  /* behind one of ours */
    PEER,    /* a peer's file is in the way */
    BUSY,    /* one of ours is in the way, and we were to try once */
    CHANGED, /* it came or went meanwhile: look again */
    FAILED   /* the error says why */
};

/* ---- the file ---- */

static bool identify(struct msalex__lock_file *file) {
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

static bool write_record(const struct msalex__lock_file *file,
                         const struct msalex__record *record, const char *program) {
    char bytes[MSALEX__RECORD_SIZE];
    ssize_t written;

    msalex__record_format(record, program, bytes);
    written = pwrite(file->fd, bytes, sizeof bytes, 0);
    if (written >= 0 && written < (ssize_t)sizeof bytes)
        errno = ENOSPC; /* a short write says nothing itself */
    return written == (ssize_t)sizeof bytes;
}

static size_t read_start(int fd, char bytes[MSALEX__RECORD_SIZE]) {
    ssize_t size = pread(fd, bytes, MSALEX__RECORD_SIZE, 0);
    return size < 0 ? 0 : (size_t)size;
}

/* The record of the file at the path has the nonce of the open file's. */
static bool has_same_nonce(const struct msalex__lock_file *file) {
    char bytes[MSALEX__RECORD_SIZE];
    struct msalex__record opened, named;
    size_t size;
    int fd;

    if (!msalex__record_parse(bytes, read_start(file->fd, bytes), &opened) ||
        (fd = open(file->path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)) < 0)
        return false;
    size = read_start(fd, bytes);
    (void)close(fd);
    return msalex__record_parse(bytes, size, &named) && named.nonce == opened.nonce;
}

bool msalex__lock_file_is_named(const struct msalex__lock_file *file) {
    struct stat named;
    if (file->fd < 0 || lstat(file->path, &named) != 0)
        return false;
    return (named.st_dev == file->device && named.st_ino == file->inode) || has_same_nonce(file);
}

static bool write_held(const struct msalex__lock_file *file, unsigned turn,
                       const char *program) {
    const struct msalex__record record = {
        .pid = getpid(),
        .state = file->exists ? MSALEX__EXISTS : MSALEX__HELD,
        .turn = turn,
        .nonce = msalex__nonce()};
    return write_record(file, &record, program);
}

/* ---- getting it ---- */

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
    if (identify(file) && lock_new_file(file) && write_held(file, 0, program) &&
        msalex__lock_file_is_named(file))
        return true;
    code = errno;
    if (!msalex__lock_file_is_named(file) || code == EWOULDBLOCK)
        code = EEXIST; /* a peer caught it */
    else
        (void)unlink(file->path);
    errno = code;
    return false;
}

static bool publish_at_path(struct msalex__lock_file *file, const char *program) {
    file->fd = open_unnamed(file->path);
    if (file->fd >= 0) {
        if (!identify(file) || !lock_new_file(file) || !write_held(file, 0, program))
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

static enum outcome publish(msalex_lock *lock, msalex_error *error) {
    int code;

    if ((lock->file = msalex__lock_file_new(lock->path)) == NULL) {
        (void)msalex__fail_errno(error, ENOMEM, "malloc");
        return FAILED;
    }
    if (publish_at_path(lock->file, lock->program))
        return HELD;
    code = errno;
    msalex__lock_file_close(lock->file);
    lock->file = NULL;
    if (code == EEXIST)
        return CHANGED;
    (void)msalex__fail_errno(error, code, "create lock file");
    return FAILED;
}

/* The flock of one of ours is granted.  Is it the lock, or a file somebody unlinked? */
static enum outcome take_over(msalex_lock *lock) {
    struct msalex__lock_file *file = lock->file;
    char bytes[MSALEX__RECORD_SIZE];
    struct msalex__record record;

    if (!msalex__lock_file_is_named(file)) {
        msalex__lock_file_close(file);
        lock->file = NULL;
        return CHANGED;
    }
    (void)msalex__ofd_lock(file->fd, F_UNLCK, MSALEX__ANNOUNCE_AT, 1);
    /* Somebody with fcntl locks is inside, or (Go) was, wrote over the record, and has yet to
     * remove the file that it unlocked: a peer's now, whoever made it. */
    if (msalex__ofd_lock(file->fd, F_WRLCK, 0, MSALEX__ANNOUNCE_AT) == EAGAIN ||
        !msalex__record_parse(bytes, read_start(file->fd, bytes), &record)) {
        msalex__lock_file_close(file);
        lock->file = NULL;
        return PEER;
    }
    (void)write_held(file, record.turn + 1, lock->program);
    return HELD;
}

/* Without flock another file keeps others from removing the stale one meanwhile. */
static void remove_guarded(const struct msalex__lock_file *file) {
    char guard[PATH_MAX];
    int fd, size = snprintf(guard, sizeof guard, "%s.stale", file->path);

    if (size >= (int)sizeof guard ||
        (fd = open(guard, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600)) < 0)
        return;
    if (msalex__lock_file_is_named(file))
        (void)unlink(file->path);
    (void)unlink(guard);
    (void)close(fd);
}

/* The file of a peer that died: unlink it, unless somebody else was faster. */
static enum outcome remove_stale(msalex_lock *lock) {
    if (flock(lock->file->fd, LOCK_EX | LOCK_NB) != 0) {
        if (msalex__is_unsupported(errno))
            remove_guarded(lock->file);
    } else if (msalex__lock_file_is_named(lock->file)) {
        (void)unlink(lock->path);
    }
    msalex__lock_file_close(lock->file);
    lock->file = NULL;
    return CHANGED;
}

static enum outcome open_failed(msalex_lock *lock, int code, msalex_error *error) {
    msalex__lock_file_close(lock->file);
    lock->file = NULL;
    if (code == ENOENT)
        return publish(lock, error);
    if (code == EACCES && faccessat(AT_FDCWD, lock->path, F_OK, AT_EACCESS) == 0)
        return PEER; /* another user's: wait until it goes away */
    (void)msalex__fail_errno(error, code, "open lock file");
    if (code == ELOOP || code == EINVAL)
        (void)msalex__fail(error, MSALEX_INVALID, code, "open lock file",
                           code == ELOOP ? "the lock file is a symbolic link"
                                         : "the lock file is not a regular file");
    return FAILED;
}

static enum outcome look(msalex_lock *lock, bool once, msalex_error *error) {
    char bytes[MSALEX__RECORD_SIZE];
    struct msalex__record record;
    struct msalex__lock_file *file;
    size_t size;

    if ((file = lock->file = msalex__lock_file_new(lock->path)) == NULL) {
        (void)msalex__fail_errno(error, ENOMEM, "malloc");
        return FAILED;
    }
    /* O_NONBLOCK: should it be a fifo, fail rather than hang. */
    file->fd = open(lock->path, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (file->fd < 0)
        return open_failed(lock, errno, error);
    if (!identify(file))
        return open_failed(lock, errno, error);
    size = read_start(file->fd, bytes);
    if (msalex__record_parse(bytes, size, &record) && record.state != MSALEX__EXISTS) {
        if (!once) {
            msalex__queue_join(&lock->file);
            return QUEUED;
        }
        if (flock(file->fd, LOCK_EX | LOCK_NB) == 0)
            return take_over(lock);
        msalex__lock_file_close(file);
        lock->file = NULL;
        return BUSY;
    }
    if (msalex__peer_is_gone(file, bytes, size))
        return remove_stale(lock);
    msalex__lock_file_close(file);
    lock->file = NULL;
    return PEER;
}

/* ---- giving it back ---- */

static bool hand_over(const struct msalex__lock_file *file) {
    char bytes[MSALEX__RECORD_SIZE];
    struct msalex__record record = {0};

    if (!msalex__ofd_conflict(file->fd, F_WRLCK, MSALEX__ANNOUNCE_AT, 1))
        return false;
    if (!msalex__record_parse(bytes, read_start(file->fd, bytes), &record))
        record = (struct msalex__record){.nonce = msalex__nonce()}; /* a peer wrote over it */
    if (record.turn >= TURNS_MAX)
        return false;
    record.pid = getpid();
    record.state = MSALEX__HANDOVER;
    return write_record(file, &record, "waiting for the next holder");
}

bool msalex__lock_give_back(struct msalex__lock_file *file) {
    bool named = msalex__lock_file_is_named(file);

    if (named && !hand_over(file))
        (void)unlink(file->path);
    msalex__lock_file_close(file);
    return named;
}

/* ---- the interface ---- */

int msalex_lock_new(const char *path, const char *program, msalex_lock **lock,
                    msalex_error *error) {
    size_t path_size = strlen(path) + 1, program_size = strlen(program) + 1;

    *lock = calloc(1, sizeof **lock + path_size + program_size);
    if (*lock == NULL)
        return msalex__fail_errno(error, ENOMEM, "malloc");
    memcpy((*lock)->path, path, path_size);
    (*lock)->program = (*lock)->path + path_size;
    memcpy((*lock)->program, program, program_size);
    (*lock)->watch = -1;
    return msalex__ok(error);
}

/* Waits until a peer's file may have gone: 0, ETIMEDOUT or EINTR. */
static int wait_for_peer(msalex_lock *lock, int64_t timeout_ms) {
    if (!lock->watching) {
        lock->watching = true;
        if ((lock->watch = msalex__watch_open(lock->path)) >= 0)
            return 0; /* it may have gone before the watch was there */
    }
    return msalex__watch_wait(lock->watch, lock->path, timeout_ms);
}

static void stop_watching(msalex_lock *lock) {
    if (lock->watch >= 0)
        (void)close(lock->watch);
    lock->watch = -1;
    lock->watching = false;
}

static int64_t time_left(int64_t deadline) {
    int64_t left = deadline - msalex__now_ms();
    return deadline == INT64_MAX ? -1 : left > 0 ? left : 0;
}

int msalex_lock_acquire(msalex_lock *lock, int64_t timeout_ms, msalex_error *error) {
    const int64_t deadline = timeout_ms < 0 ? INT64_MAX : msalex__now_ms() + timeout_ms;
    const bool once = timeout_ms == 0 && lock->file == NULL;
    int code = 0;

    if (lock->held)
        return msalex__fail(error, MSALEX_INVALID, EDEADLK, "acquire", "it is held already");
    for (int tries = 0; tries < TRIES_MAX || (!once && time_left(deadline) != 0); tries++) {
        enum outcome outcome = lock->file != NULL ? QUEUED : look(lock, once, error);
        if (outcome == QUEUED &&
            (code = msalex__queue_wait(lock->file, time_left(deadline))) == 0)
            outcome = take_over(lock);
        if (outcome == PEER && !once)
            code = wait_for_peer(lock, time_left(deadline));

        if (outcome == HELD) {
            stop_watching(lock);
            lock->held = true;
            return msalex__ok(error);
        }
        if (outcome == FAILED)
            return msalex__status_of_errno((int)error->code);
        if (outcome == BUSY || (outcome == PEER && once))
            break;
        if (code == EINTR || code == ETIMEDOUT)
            return msalex__fail_errno(error, code, "flock");
        if (code != 0) { /* what flock, or ppoll, says else */
            msalex__queue_leave(lock->file);
            lock->file = NULL;
            return msalex__fail_errno(error, code, "flock");
        }
    }
    return msalex__fail(error, MSALEX_TIMEOUT, ETIMEDOUT, "flock", "the lock is held");
}

int msalex_lock_check(msalex_lock *lock, msalex_error *error) {
    if (lock->held && msalex__lock_file_is_named(lock->file))
        return msalex__ok(error);
    return msalex__fail(error, MSALEX_NOT_FOUND, ENOENT, "lstat", "the lock file is not ours");
}

int msalex_lock_release(msalex_lock *lock, msalex_error *error) {
    bool in_place = true;

    if (lock->file != NULL) {
        if (lock->held)
            in_place = msalex__lock_give_back(lock->file);
        else
            msalex__queue_leave(lock->file);
    }
    lock->file = NULL;
    lock->held = false;
    stop_watching(lock);
    if (in_place)
        return msalex__ok(error);
    return msalex__fail(error, MSALEX_NOT_FOUND, ENOENT, "lstat",
                        "somebody removed the lock file");
}

void msalex_lock_free(msalex_lock *lock) {
    msalex_error ignored;

    if (lock == NULL)
        return;
    (void)msalex_lock_release(lock, &ignored);
    free(lock);
}

int msalex_lock_holder(const char *path, msalex_buffer *text, msalex_error *error) {
    char bytes[MSALEX__RECORD_SIZE];
    size_t size;
    int fd;

    *text = (msalex_buffer){0};
    if ((fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)) < 0)
        return msalex__fail_errno(error, errno, "open lock file");
    size = read_start(fd, bytes);
    (void)close(fd);
    return msalex__buffer_copy(text, bytes, msalex__record_text_size(bytes, size), error);
}
