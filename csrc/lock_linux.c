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
 * announcement leaves the file in place, so that the queue survives; unlinking would send
 * every waiter back to the start, out of order.  This is bounded by TURNS_MAX, so that peers
 * which wait for the file to vanish get their turn.
 *
 * Where a file system has no OFD locks, or belongs to another host, we do without
 * announcements.  Where it has no flock (NFS without lockd, some sshfs and 9p) the file's
 * existence is the lock: its record says so (EXISTS), and everybody treats it like a peer's.
 * Where inode numbers change from one look to the next (FUSE) the nonce in the record tells
 * whose file a path names.
 *
 * flock knows no deadline.  So a thread blocks in it while the caller waits on a futex.  Who
 * gives up first leaves the thread behind: it gives the lock back once it has it, and the next
 * one here to want the same file adopts it.  (Cancelling a thread needs libgcc_s, which
 * slim images lack; interrupting it needs a signal, and signals are the program's own.)
 */
#define _GNU_SOURCE /* AT_EACCESS, F_OFD_SETLK */
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

enum {
    TRIES_MAX = 100,   /* times that one call starts over because files come and go */
    PEER_LOOK_MS = 250 /* between two looks whether a peer that holds its file has died */
};

struct msalex_lock {
    struct msalex__lock_file *file; /* held or queued, else NULL */
    bool held;
    msalex_watch *watch; /* while a peer's file is in the way */
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

/* ---- getting it ---- */

static enum outcome drop(msalex_lock *lock, enum outcome outcome) {
    msalex__lock_file_close(lock->file);
    lock->file = NULL;
    return outcome;
}

static enum outcome publish(msalex_lock *lock, msalex_error *error) {
    int code;

    if ((lock->file = msalex__lock_file_new(lock->path, lock->program)) == NULL) {
        (void)msalex__fail_errno(error, ENOMEM, "malloc");
        return FAILED;
    }
    if (msalex__lock_file_publish(lock->file))
        return HELD;
    if ((code = errno) == EEXIST)
        return drop(lock, CHANGED);
    (void)msalex__fail_errno(error, code, "create lock file");
    return drop(lock, FAILED);
}

/* What trying to take over one of ours led to, by errno. */
static enum outcome after_take_over(msalex_lock *lock, int code) {
    return code == 0        ? HELD
           : code == ESTALE ? drop(lock, CHANGED)
           : code == EBUSY  ? drop(lock, PEER)
                            : QUEUED;
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
    return drop(lock, CHANGED);
}

static enum outcome open_failed(msalex_lock *lock, int code, msalex_error *error) {
    (void)drop(lock, FAILED);
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

    if ((file = lock->file = msalex__lock_file_new(lock->path, lock->program)) == NULL) {
        (void)msalex__fail_errno(error, ENOMEM, "malloc");
        return FAILED;
    }
    /* O_NONBLOCK: should it be a fifo, fail rather than hang. */
    file->fd = open(lock->path, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (file->fd < 0)
        return open_failed(lock, errno, error);
    if (!msalex__lock_file_identify(file))
        return open_failed(lock, errno, error);
    size = msalex__lock_file_read(file->fd, bytes);
    if (msalex__record_parse(bytes, size, &record) && record.state != MSALEX__EXISTS) {
        if (!once) {
            msalex__queue_join(&lock->file);
            return QUEUED;
        }
        if (flock(file->fd, LOCK_EX | LOCK_NB) == 0)
            return after_take_over(lock, msalex__lock_file_take_over(file));
        return drop(lock, BUSY);
    }
    if (msalex__peer_is_gone(file, bytes, size))
        return remove_stale(lock);
    return drop(lock, PEER);
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
    return msalex__ok(error);
}

/* Waits until a peer's file may have gone, or it is time to see whether its holder died: 0,
 * ETIMEDOUT, EINTR, or what failed. */
static int wait_for_peer(msalex_lock *lock, int64_t timeout_ms) {
    const bool is_last = timeout_ms >= 0 && timeout_ms <= PEER_LOOK_MS;
    msalex_error error;
    int status;

    if (lock->watch == NULL) { /* the file may go before the watch is there: look again */
        status = msalex__watch_new_leaving(lock->path, &lock->watch, &error);
        return status == MSALEX_OK ? 0 : (int)error.code;
    }
    status = msalex_watch_wait(lock->watch, is_last ? timeout_ms : PEER_LOOK_MS, &error);
    return status == MSALEX_TIMEOUT && !is_last ? 0 : (int)error.code;
}

static void stop_watching(msalex_lock *lock) {
    msalex_watch_free(lock->watch);
    lock->watch = NULL;
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
        if (outcome == QUEUED) {
            code = msalex__queue_wait(lock->file, time_left(deadline));
            outcome = after_take_over(lock, code);
        }
        if (outcome == PEER && !once)
            code = wait_for_peer(lock, time_left(deadline));

        if (outcome == CHANGED)
            continue;
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
            in_place = msalex__lock_file_give_back(lock->file);
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
    size = msalex__lock_file_read(fd, bytes);
    (void)close(fd);
    return msalex__buffer_copy(text, bytes, msalex__record_text_size(bytes, size), error);
}
