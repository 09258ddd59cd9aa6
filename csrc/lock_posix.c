/*
 * The lock between processes, Linux and macOS: the protocol.  The promise is in msalex.h.  Twin:
 * lock_windows.c.
 *
 * How it works.  The lock file carries three locks at once, because other programs look at
 * different ones: its existence, a flock, and a lock that excludes fcntl locks.  (On Linux that is
 * an "open file description" lock.  macOS keeps all kinds in one list, so there the flock does it.)
 * The flock is the real lock: the process that holds the flock of the file now at the path is the
 * holder.
 *
 * The file appears already locked and filled: it is made without a name or with another one, and
 * then gets its own.  Otherwise a peer could lock the file between its creation and our lock.
 *
 * The record, the one line in the file, says whether the file is *ours* or a *peer's* (another
 * library's).  It never proves that the lock is held.  For a file of ours the kernel knows that,
 * whatever pid the record names, and waiting means waiting for the flock.  The flock of a peer's
 * file proves nothing, because several peers unlock before they remove the file.  So we wait until
 * its *name* goes away, or its holder is found dead (lock_peer_posix.h).
 *
 * Linux has a queue: waiters block in flock, and the kernel wakes one of them, in order.  A waiter
 * announces itself by a lock on a byte far behind the content.  A holder that sees an announcement
 * leaves the file in place, so that the queue survives; to unlink it would send every waiter back
 * to the start, out of order.  TURNS_MAX (lock_hold_posix.c) limits how often the file stays in
 * place, so that peers which wait for it to vanish get their turn.  Peers that only look now and
 * then must find it gone, so the name stays free for a moment after some seconds (lock_gap.h).
 * macOS has no queue, and nothing promises an order there: one unlock wakes all waiters, and a
 * holder always removes the file.  The waiter that gets the flock of that nameless file first makes
 * the next one, while the others look on (lock_wait_macos.c).
 *
 * The flock alone never gives us the right to remove a file.  Every process that gets it, also one
 * whose wait was given up, first asks whether the file still has its name and its record, and takes
 * the lock that excludes fcntl locks.  If a peer is inside, we only close the file.
 *
 * Where a file system has no flock (NFS without lockd, some sshfs and 9p) the file's existence is
 * the lock: its record says so (EXISTS), and all programs with this library treat it like a peer's
 * file.  Where a flock reaches only processes that come by the same mount (FUSE, 9p, NFS with local
 * locks), the record names the mount, and processes that come by another mount treat the file like
 * a peer's, too.
 *
 * Each look resolves the path once, to a directory that it keeps open and a name in it
 * (place_posix.h).  A held lock keeps its directory, so a release removes the name where the lock
 * was made, whatever the path leads to by then.  A check resolves the path again: if it leads to
 * another directory, other processes may hold a lock there, and ours counts as lost.
 */
#define _GNU_SOURCE /* nanosleep */
#define _DARWIN_C_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "internal.h"
#include "lock.h"
#include "lock_file_posix.h"
#include "lock_gap.h"
#include "lock_hold_posix.h"
#include "lock_peer_posix.h"
#include "lock_wait_posix.h"
#include "os_posix.h"
#include "watch.h"

enum {
    PAUSE_US = 1000,    /* before each try beyond TRIES_MAX that follows at once */
    PEER_LOOK_MS = 250, /* between two looks whether a peer that holds its file has died */
    ORDER_US = 300,     /* between two waiters that come back after a gap */
    OWN_ORDER = 10,     /* of the process that began the gap: behind the waiters */
    ORDER_MAX = 100
};

struct msalex_lock {
    struct msalex__lock_file *file;    /* held or waited for, else NULL */
    struct msalex__lock_file *elected; /* keeps other waiters from making the next file, or NULL */
    msalex_watch *watch;               /* while a peer's file is in the way, or in a gap */
    int status;                        /* of the attempt that has just filled the error */
    struct msalex__gap carried;        /* by the last file for which we waited: it lost its name */
    int64_t gap_until;                 /* the name shall stay free until then, or 0 */
    unsigned gap_order;                /* how many others come back first */
    bool gap_watched;                  /* this process watches whether a peer comes */
    bool lost;                         /* a check found another file in the place of ours */
    uint64_t key;                      /* of lock_gap.c */
    char *program;
    char path[];
};

static bool holds(const msalex_lock *lock) {
    return lock->file != NULL && atomic_load(&lock->file->state) == MSALEX__HOLDING;
}

/* Was the file made before a fork, of which this process is the child? */
static bool is_inherited(const msalex_lock *lock) {
    return lock->file != NULL && atomic_load(&lock->file->state) == MSALEX__INHERITED;
}

/* ---- the gap: see lock_gap.h ---- */

/* Shall the name stay free until then, and can the caller wait for that? */
static bool is_in_gap(msalex_lock *lock, int64_t patience_ms) {
    const int64_t left = lock->gap_until - msalex__now_ms();

    if (left <= 0)
        lock->gap_until = 0;
    return left > 0 && (patience_ms < 0 || patience_ms > left);
}

/* Has this process begun a gap?  Or, when the name is free, may another process have begun one? */
static bool knows_of_gap(msalex_lock *lock, bool is_free, int64_t patience_ms) {
    const int64_t now = msalex__now_ms();

    if (lock->gap_until == 0) {
        lock->gap_until = msalex__gap_of_own(lock->key, now);
        if (lock->gap_until == 0 && is_free)
            lock->gap_until = msalex__gap_suspected(lock->key, now);
        lock->gap_order = OWN_ORDER;
        lock->gap_watched = true;
    }
    return is_in_gap(lock, patience_ms);
}

/* ---- getting it ---- */

static enum outcome drop(msalex_lock *lock, enum outcome outcome) {
    msalex__lock_file_close(lock->file);
    lock->file = NULL;
    return outcome;
}

static enum outcome fail(msalex_lock *lock, int code, const char *call, msalex_error *error) {
    lock->status = msalex__fail_errno(error, code, call);
    return drop(lock, FAILED);
}

static enum outcome fail_not_yet(msalex_lock *lock, int code, const char *call,
                                 msalex_error *error) {
    lock->status = msalex__fail_errno(error, code, call);
    return NOT_YET;
}

static enum outcome publish(msalex_lock *lock, msalex_error *error) {
    const int code = msalex__lock_file_publish(lock->file, lock->carried);

    if (code == 0)
        return HELD;
    return code == EEXIST ? drop(lock, CHANGED) : fail(lock, code, "create lock file", error);
}

/* What follows from the flock of a file of ours. */
static enum outcome after_flock(msalex_lock *lock, int code, msalex_error *error) {
    switch (code) {
    case 0:
        msalex__lock_file_hold(lock->file);
        return HELD;
    case MSALEX__ELECTED:
        lock->carried = lock->file->gap;
        lock->elected = lock->file;
        lock->file = NULL;
        return CHANGED;
    case MSALEX__NAMELESS:
        lock->carried = lock->file->gap;
        lock->gap_until = lock->file->until;
        lock->gap_order = lock->file->order;
        lock->gap_watched = lock->file->order == 0;
        return drop(lock, CHANGED);
    case MSALEX__PEERS:
        return drop(lock, PEER);
    default:
        return fail(lock, code, "flock", error);
    }
}

/* What follows from an open that failed.  We wait for another user's file until it goes away.
 * (EPERM: sshfs.) */
static enum outcome after_failed_open(msalex_lock *lock, int code, int64_t patience_ms,
                                      msalex_error *error) {
    if (code == ENOENT && knows_of_gap(lock, true, patience_ms))
        return drop(lock, CHANGED);
    if (code == ENOENT)
        return publish(lock, error);
    if ((code == EACCES || code == EPERM) && msalex__lock_file_is_name_taken(lock->file))
        return drop(lock, PEER);
    if (code != ELOOP && code != EINVAL)
        return fail(lock, code, "open lock file", error);
    lock->status = msalex__fail(error, MSALEX_INVALID, code, "open lock file",
                                code == ELOOP ? "the lock file is a symbolic link"
                                              : "the lock file is not a regular file");
    return drop(lock, FAILED);
}

/* A file that we cannot unlink (another user's in a sticky directory, for example) is waited for
 * like a living peer's: a loop of tries would keep a processor busy. */
static enum outcome meet_peer(msalex_lock *lock, const char *bytes, size_t size) {
    msalex__gap_peer_seen(lock->key, msalex__now_ms());
    if (!msalex__lock_peer_is_gone(lock->file, bytes, size))
        return drop(lock, PEER);
    return drop(lock, msalex__lock_peer_remove(lock->file) == 0 ? CHANGED : PEER);
}

static enum outcome look(msalex_lock *lock, int64_t patience_ms, msalex_error *error) {
    char bytes[MSALEX__RECORD_SIZE];
    size_t size;
    int code;

    lock->file->carried = lock->carried; /* the maker of this file may not have known it */
    if ((code = msalex__lock_file_open(lock->file)) != 0)
        return after_failed_open(lock, code, patience_ms, error);
    code = msalex__lock_file_read(lock->file, bytes, &size);
    if (msalex__is_read_locked(code))
        return drop(lock, PEER);
    if (code != 0)
        return fail(lock, code, "read lock file", error);
    if (!msalex__lock_file_is_ours(lock->file, bytes, size))
        return meet_peer(lock, bytes, size);
    if (patience_ms != 0)
        return msalex__lock_wait_join(&lock->file) ? QUEUED : CHANGED;
    if ((code = msalex__lock_file_try(lock->file)) == EWOULDBLOCK)
        return drop(lock, BUSY);
    return after_flock(lock, code != 0 ? code : msalex__lock_file_take_over(lock->file), error);
}

/* ---- waiting ---- */

/* Waits for a file of ours.  By the end of the wait the path may lead elsewhere. */
static enum outcome wait_in_queue(msalex_lock *lock, int64_t timeout_ms, msalex_error *error) {
    const int code = msalex__lock_wait_for(lock->file, timeout_ms);
    enum outcome outcome;

    if (code == MSALEX__NOT_YET || code == MSALEX__SIGNAL)
        return fail_not_yet(lock, code == MSALEX__SIGNAL ? EINTR : ETIMEDOUT, "flock", error);
    outcome = after_flock(lock, code, error);
    if (outcome == HELD && !msalex__lock_file_is_at(lock->file, lock->path)) {
        (void)msalex__lock_file_give_back(lock->file);
        return drop(lock, CHANGED);
    }
    return outcome;
}

/* Waits until a peer's file may have gone, or until it is time to look whether its holder has
 * died. */
static enum outcome wait_for_peer(msalex_lock *lock, int64_t timeout_ms, msalex_error *error) {
    const bool is_last = timeout_ms >= 0 && timeout_ms <= PEER_LOOK_MS;

    if (lock->watch == NULL) { /* look again: the file may have gone before the watch was there */
        lock->status = msalex__watch_new_leaving(lock->path, &lock->watch, error);
        return lock->status == MSALEX_OK ? CHANGED : FAILED;
    }
    lock->status = msalex_watch_wait(lock->watch, is_last ? timeout_ms : PEER_LOOK_MS, error);
    if (lock->status == MSALEX_OK || (lock->status == MSALEX_TIMEOUT && !is_last))
        return CHANGED;
    return lock->status == MSALEX_TIMEOUT || lock->status == MSALEX_INTERRUPTED ? NOT_YET : FAILED;
}

static void stop_watching(msalex_lock *lock) {
    msalex_watch_free(lock->watch);
    lock->watch = NULL;
}

/* Something has the name although the gap is not over.  If another process of ours did not know of
 * the gap, it has ended it.  If it is a peer, we remember that. */
static void see_newcomer(msalex_lock *lock) {
    char bytes[MSALEX__RECORD_SIZE];
    struct msalex__lock_file *file;
    struct msalex__record record;
    msalex_error ignored;
    size_t size;

    if (msalex__lock_file_arrive(lock->path, lock->program, lock->key, &file, &ignored) !=
        MSALEX_OK)
        return;
    if (msalex__lock_file_read_named(file, bytes, &size) == 0) {
        if (msalex__record_parse(bytes, size, &record))
            lock->gap_until = 0;
        else
            msalex__gap_peer_seen(lock->key, msalex__now_ms());
    }
    msalex__lock_file_close(file);
}

static int sleep_for(int64_t us) {
    const struct timespec pause = {.tv_sec = (time_t)(us / 1000000),
                                   .tv_nsec = (long)(us % 1000000) * 1000};
    return nanosleep(&pause, NULL) == 0 ? 0 : errno;
}

/* Sleeps until the end of the gap. */
static enum outcome wait_for_gap(msalex_lock *lock, int64_t timeout_ms, msalex_error *error) {
    const unsigned order = lock->gap_order < ORDER_MAX ? lock->gap_order : ORDER_MAX;
    const int64_t end_us = lock->gap_until * 1000 + (int64_t)order * ORDER_US;
    const int64_t left_us = end_us - msalex__now_us(), gap_us = left_us > 0 ? left_us : 0;
    const bool is_last = timeout_ms >= 0 && timeout_ms < gap_us / 1000;
    const int64_t pause_us = is_last ? timeout_ms * 1000 : gap_us;
    int code;

    if (lock->gap_watched && lock->watch == NULL)
        (void)msalex_watch_new(lock->path, &lock->watch, error);
    if (lock->watch == NULL) {
        code = sleep_for(pause_us);
    } else if (msalex_watch_wait(lock->watch, pause_us / 1000, error) == MSALEX_OK) {
        see_newcomer(lock);
        return CHANGED;
    } else {
        code = error->code == ETIMEDOUT ? 0 : (int)error->code;
    }
    if (code == 0 && is_last)
        code = ETIMEDOUT;
    if (code != 0)
        return fail_not_yet(lock, code, "nanosleep", error);
    stop_watching(lock); /* it would also wake us for more than the end of a peer's file */
    lock->gap_until = 0;
    return CHANGED;
}

/* ---- the interface ---- */

int msalex_lock_new(const char *path, const char *program, msalex_lock **lock,
                    msalex_error *error) {
    const size_t path_size = strlen(path) + 1, program_size = strlen(program) + 1;

    *lock = calloc(1, sizeof **lock + path_size + program_size);
    if (*lock == NULL)
        return msalex__fail_errno(error, ENOMEM, "malloc");
    memcpy((*lock)->path, path, path_size);
    (*lock)->program = (*lock)->path + path_size;
    memcpy((*lock)->program, program, program_size);
    (*lock)->key = msalex__gap_key(path);
    return msalex__ok(error);
}

/* The next file is there, or this waiter does not make it: the other ones may look. */
static void end_election(msalex_lock *lock) {
    msalex__lock_file_close(lock->elected);
    lock->elected = NULL;
}

/* One turn of msalex_lock_acquire. */
static enum outcome attempt(msalex_lock *lock, int64_t deadline, int64_t patience,
                            msalex_error *error) {
    const int64_t left = msalex__time_left(patience);
    enum outcome outcome = QUEUED;

    if (lock->file == NULL) {
        if (knows_of_gap(lock, false, left))
            return wait_for_gap(lock, msalex__time_left(deadline), error);
        lock->status =
            msalex__lock_file_arrive(lock->path, lock->program, lock->key, &lock->file, error);
        if (lock->status != MSALEX_OK)
            return FAILED;
        outcome = look(lock, left, error);
        end_election(lock);
    }
    if (outcome == QUEUED)
        outcome = wait_in_queue(lock, msalex__time_left(deadline), error);
    if (outcome == PEER && left != 0)
        outcome = wait_for_peer(lock, msalex__time_left(deadline), error);
    return outcome;
}

int msalex_lock_acquire(msalex_lock *lock, int64_t slice_ms, int64_t patience_ms,
                        msalex_error *error) {
    const int64_t patience = msalex__deadline(patience_ms), slice = msalex__deadline(slice_ms);
    const int64_t deadline = slice < patience ? slice : patience, begin = msalex__now_ms();
    enum outcome outcome = CHANGED;
    int code;

    if (is_inherited(lock))
        (void)drop(lock, CHANGED); /* our parent's wait, or its lock */
    if (holds(lock))
        return msalex__fail(error, MSALEX_INVALID, EDEADLK, "acquire", "it is held already");
    for (int tries = 0; outcome == CHANGED; tries++) {
        if (tries >= TRIES_MAX && msalex__time_left(deadline) == 0)
            break;
        if (tries >= TRIES_MAX && tries > msalex__now_ms() - begin &&
            (code = sleep_for(PAUSE_US)) != 0)
            return msalex__fail_errno(error, code, "nanosleep");
        outcome = attempt(lock, deadline, patience, error);
        /* A call that a signal interrupted says nothing about the lock.  A caller that tries once,
         * or is in its last slice, does not call again, so try again here. */
        if (outcome == FAILED && lock->status == MSALEX_INTERRUPTED &&
            msalex__time_left(deadline) == 0 && tries < TRIES_MAX)
            outcome = CHANGED;
        /* A stale file went after we had opened it, by another host or behind the mount: the file
         * that has the name now tells more.  If that is always stale, too, it is an error. */
        if (outcome == FAILED && error->code == ESTALE && tries + 1 < TRIES_MAX)
            outcome = CHANGED;
    }
    end_election(lock);
    if (outcome == FAILED && lock->status == MSALEX_TIMEOUT) /* of the server, not of the wait */
        return msalex__fail(error, MSALEX_OS_ERROR, ETIMEDOUT, "lock file",
                            "the file system does not answer");
    if (outcome == NOT_YET || outcome == FAILED)
        return lock->status;
    if (outcome != HELD)
        return msalex__fail(error, MSALEX_TIMEOUT, ETIMEDOUT, "flock", "the lock is held");
    stop_watching(lock);
    lock->carried = (struct msalex__gap){0};
    lock->lost = false;
    return msalex__ok(error);
}

int msalex_lock_check(msalex_lock *lock, msalex_error *error) {
    int code = MSALEX__NAMELESS;

    /* A lock that is lost stays lost: on FUSE the look at another file changes what our descriptor
     * shows of ours. */
    if (holds(lock) && !lock->lost && msalex__lock_file_is_at(lock->file, lock->path))
        lock->lost = (code = msalex__lock_file_check(lock->file)) == MSALEX__NAMELESS;
    if (code == 0)
        return msalex__ok(error);
    if (code != MSALEX__NAMELESS)
        return msalex__fail_errno(error, code, "fstatat");
    return msalex__fail(error, MSALEX_NOT_FOUND, ENOENT, "fstatat", "the lock file is not ours");
}

/* Go may lock a file that it opened before we removed it.  If our flock lasts a little longer, it
 * looks again.  We do so only where such a peer was seen, because it keeps a thread busy for a
 * moment. */
static bool linger(msalex_lock *lock) {
    return msalex__gap_was_peer_seen(lock->key, msalex__now_ms()) && !lock->file->handed_over &&
           !lock->file->remote && msalex__lock_wait_linger(lock->file);
}

int msalex_lock_release(msalex_lock *lock, msalex_error *error) {
    int code = 0;

    if (holds(lock)) {
        code = lock->lost ? MSALEX__NAMELESS : msalex__lock_file_give_back(lock->file);
        if (code != 0 || !linger(lock))
            msalex__lock_file_close(lock->file);
    } else {
        msalex__lock_wait_leave(lock->file);
    }
    lock->file = NULL;
    end_election(lock);
    lock->gap_until = 0;
    lock->lost = false;
    stop_watching(lock);
    if (code == 0)
        return msalex__ok(error);
    if (code != MSALEX__NAMELESS && code != ENOENT)
        return msalex__fail_errno(error, code, "remove lock file");
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
    struct msalex__lock_file *file;
    int code, status;
    size_t size;

    *text = (msalex_buffer){0};
    if ((status = msalex__lock_file_arrive(path, "", 0, &file, error)) != MSALEX_OK)
        return status;
    code = msalex__lock_file_read_named(file, bytes, &size);
    msalex__lock_file_close(file);
    if (code != 0)
        return msalex__fail_errno(error, code, "open lock file");
    return msalex__buffer_copy(text, bytes, msalex__record_text(bytes, size), error);
}
