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
 * Each look resolves the path once, to a directory that it keeps open and a name in it
 * (place_posix.h).  A held lock keeps its directory, so a release removes the name where the
 * lock was made, whatever the path leads to by then.  A check resolves the path again: where it
 * leads to another directory others may be inside, and the lock counts as lost.
 *
 * flock knows no deadline.  So a thread blocks in it while the caller waits on a futex.  Who
 * gives up first leaves the thread behind: it gives the lock back once it has it, and the next
 * one here to want the same file adopts it.  (Cancelling a thread needs libgcc_s, which
 * slim images lack; interrupting it needs a signal, and signals are the program's own.)
 */
#define _GNU_SOURCE /* O_NOFOLLOW, F_OFD_SETLK */
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
#include "place_posix.h"

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

/* Resolves the path, once for all that a look does: a lock file in that place, not yet open. */
static int arrive(msalex_lock *lock, msalex_error *error) {
    struct msalex__place place;
    int status;

    if ((status = msalex__place_find_name(lock->path, &place, error)) != MSALEX_OK)
        return status;
    if ((lock->file = msalex__lock_file_new(&place, lock->program)) == NULL)
        status = msalex__fail_errno(error, ENOMEM, "malloc");
    msalex__place_leave(&place);
    return status;
}

/* Does the path still lead to the directory of the lock file?  Else others exclude each other
 * elsewhere. */
static bool leads_there(const msalex_lock *lock) {
    struct msalex__place place;
    msalex_error ignored;
    int status;
    bool same;

    do
        status = msalex__place_find_name(lock->path, &place, &ignored);
    while (status == MSALEX_INTERRUPTED);
    if (status != MSALEX_OK)
        return false;
    same = msalex__lock_file_is_in(lock->file, &place);
    msalex__place_leave(&place);
    return same;
}

static enum outcome publish(msalex_lock *lock, msalex_error *error) {
    int code;

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

/* Without flock another file keeps others from removing the stale one meanwhile: 0 or errno. */
static int remove_guarded(const struct msalex__lock_file *file) {
    char guard[PATH_MAX + sizeof ".stale"];
    int code = 0, fd;

    (void)snprintf(guard, sizeof guard, "%s.stale", file->name);
    if ((fd = openat(file->directory, guard, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
                     0600)) < 0)
        return errno;
    if (msalex__lock_file_is_named(file))
        code = msalex__lock_file_unlink(file);
    (void)unlinkat(file->directory, guard, 0);
    (void)close(fd);
    return code;
}

/* The file of a peer that died: unlink it, unless somebody else was faster.  What cannot be
 * unlinked, another user's in a sticky directory for example, is waited for like a living peer's:
 * trying again at once would keep a processor busy. */
static enum outcome remove_stale(msalex_lock *lock) {
    int code = 0;

    if (flock(lock->file->fd, LOCK_EX | LOCK_NB) != 0) {
        if (msalex__is_unsupported(errno))
            code = remove_guarded(lock->file);
    } else if (msalex__lock_file_is_named(lock->file)) {
        code = msalex__lock_file_unlink(lock->file);
    }
    return drop(lock, code == 0 || code == ENOENT ? CHANGED : PEER);
}

/* Is there something with the name? */
static bool exists(const struct msalex__lock_file *file) {
    struct stat found;
    return fstatat(file->directory, file->name, &found, AT_SYMLINK_NOFOLLOW) == 0;
}

static enum outcome open_failed(msalex_lock *lock, int code, msalex_error *error) {
    if (code == ENOENT)
        return publish(lock, error);
    if (code == EACCES && exists(lock->file))
        return drop(lock, PEER); /* another user's: wait until it goes away */
    (void)drop(lock, FAILED);
    (void)msalex__fail_errno(error, code, "open lock file");
    if (code == ELOOP || code == EINVAL)
        (void)msalex__fail(error, MSALEX_INVALID, code, "open lock file",
                           code == ELOOP ? "the lock file is a symbolic link"
                                         : "the lock file is not a regular file");
    return FAILED;
}

static enum outcome look(msalex_lock *lock, bool once, msalex_error *error) {
    struct msalex__lock_file *const file = lock->file;
    char bytes[MSALEX__RECORD_SIZE];
    struct msalex__record record;
    struct stat opened;
    size_t size;

    /* O_NONBLOCK: should it be a fifo, fail rather than hang. */
    file->fd = openat(file->directory, file->name, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (file->fd < 0 || !msalex__lock_file_identify(file, &opened))
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

/* Waits in the queue.  The path may lead elsewhere when the wait is over. */
static enum outcome wait_in_queue(msalex_lock *lock, int64_t timeout_ms, int *code) {
    enum outcome outcome;

    *code = msalex__queue_wait(lock->file, timeout_ms);
    outcome = after_take_over(lock, *code);
    if (outcome == HELD && !leads_there(lock)) {
        (void)msalex__lock_file_give_back(lock->file);
        lock->file = NULL;
        outcome = CHANGED;
    }
    return outcome;
}

static int64_t time_left(int64_t deadline) {
    int64_t left = deadline - msalex__now_ms();
    return deadline == INT64_MAX ? -1 : left > 0 ? left : 0;
}

int msalex_lock_acquire(msalex_lock *lock, int64_t slice_ms, int64_t patience_ms,
                        msalex_error *error) {
    const int64_t deadline = slice_ms < 0 ? INT64_MAX : msalex__now_ms() + slice_ms;
    const bool once = patience_ms == 0 && lock->file == NULL;
    int code = 0, status;

    if (lock->held)
        return msalex__fail(error, MSALEX_INVALID, EDEADLK, "acquire", "it is held already");
    for (int tries = 0; tries < TRIES_MAX || (!once && time_left(deadline) != 0); tries++) {
        enum outcome outcome = QUEUED;
        if (lock->file == NULL) {
            if ((status = arrive(lock, error)) != MSALEX_OK)
                return status;
            outcome = look(lock, once, error);
        }
        if (outcome == QUEUED)
            outcome = wait_in_queue(lock, time_left(deadline), &code);
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
    if (lock->held && leads_there(lock) && msalex__lock_file_is_named(lock->file))
        return msalex__ok(error);
    return msalex__fail(error, MSALEX_NOT_FOUND, ENOENT, "fstatat", "the lock file is not ours");
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
    return msalex__fail(error, MSALEX_NOT_FOUND, ENOENT, "fstatat",
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
    struct msalex__place place;
    int code, fd, status;
    size_t size;

    *text = (msalex_buffer){0};
    if ((status = msalex__place_find_name(path, &place, error)) != MSALEX_OK)
        return status;
    fd = openat(place.directory, place.name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    code = errno;
    msalex__place_leave(&place);
    if (fd < 0)
        return msalex__fail_errno(error, code, "open lock file");
    size = msalex__lock_file_read(fd, bytes);
    (void)close(fd);
    return msalex__buffer_copy(text, bytes, msalex__record_text(bytes, size), error);
}
