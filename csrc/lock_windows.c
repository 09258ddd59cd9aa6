/*
 * The lock between processes, Windows: the protocol.  The promise is in msalex.h.  Twin:
 * lock_posix.c.
 *
 * How it works.  The holder is the process that has locked byte 0xffff of the file that the path
 * names, and beside it has that file open for reading and writing without sharing deletion.  That
 * excludes all peers: the file exists (1.3.1 without portalocker, Node), and the byte is locked
 * (portalocker).  MSAL.NET shares reading only, so it cannot open the file beside us, nor we beside
 * it.  And nobody can delete the file.
 *
 * Byte 0 is locked as well, because Go asks for it.  Others cannot read locked bytes, so they read
 * the record from byte 1 on; the first digit of the pid stands in it a second time.
 *
 * Two handles, because they share different things:
 *
 *   waiting  reads, and shares everything: it stands in nobody's way, so anybody can have one at
 *            any time.  It carries the locked byte, from the request for it until the release.
 *   holding  reads and writes, and shares both but not deletion.  It is opened once the byte is
 *            ours, and must be the same file.  It carries byte 0, because no other handle could
 *            write there.
 *            If it shared less, portalocker would fail to open the file, with an exception that it
 *            does not catch; if it shared more, anybody could delete the file.
 *
 * The record in the file tells only whether the file is *ours* or a *peer's* (another library's);
 * we read that before we touch its byte.  For a file of ours the byte tells whether it is held,
 * whatever pid the record names.  We wait for a peer's file until its *name* goes away, or its
 * process is dead; then we take the file over where it stands.  A record that a system with kernel
 * locks of its own has written (WSL, on the same directory) counts as a peer's.
 *
 * Order.  A waiter announces itself by a shared lock on a byte far behind, and then asks for byte
 * 0xffff with a request that waits.  A holder that releases tries to lock that far byte
 * exclusively.  If that fails, somebody waits: the holder closes `holding`, unlocks, and leaves the
 * file where it is.  The system grants the byte to the next request, and its process takes the file
 * over.  TURNS_MAX limits how often in a row, for peers that wait for the name to go.  The look of
 * a holder can make an announcement fail for a moment: that waiter asks again, and does not queue
 * before it has announced itself.  The far byte lies behind all bytes that any peer locks, so a
 * waiter, also a suspended one, stands in no peer's way.  But the system may grant byte 0xffff to a
 * suspended waiter.  Then the holder, which sees that nobody takes the file, removes its name after
 * 63 ms, and the other waiters leave that file within 250 ms.  If the holder died instead of
 * releasing, nobody sees that: the lock is free again when the suspended process goes on, or ends.
 *
 * Release without a waiter: close `holding`, delete the file through a new handle that is the same
 * file as `waiting`, which still has the byte, unlock, close.  So none of ours can be inside a file
 * that is being deleted, and no other file than ours is deleted.  Where the system cannot free the
 * name at once (FAT, file servers), the file gets another name before it is deleted.  Waiters that
 * get the byte of a file whose name has gone start over; the first one to make a new file has the
 * lock, so there is no order among them.
 *
 * Now and then the name stays free for a moment, for peers that only poll (lock_gap.h).  The
 * release says so in the record, before the name goes.  Waiters read that in the nameless file,
 * close it at once, and look again when the gap is over, or when a name comes or goes in the
 * directory.  A call whose patience ends before the gap takes the name at once.
 *
 * From CREATE_NEW on, existence is the lock: a file without a record that is younger than five
 * seconds belongs to somebody, maybe to one of ours that has not written its record yet.
 */
#include "lock_windows.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lock.h"

enum {
    PAUSE_MS = 5,      /* while something is in the way, and nothing wakes us when it goes */
    REFUSALS_MAX = 20, /* in a row, until a file that is being deleted counts as a peer's */
    CHANGES_MAX = 20,  /* in a row without a pause */
    PASSINGS_MAX = 10  /* in a row, for a call that tries once */
};

struct msalex_lock {
    struct msalex__lock_file *file; /* held or queued, else NULL */
    bool held;
    struct msalex__gap carried; /* what the last file said for which we waited */
    int64_t gap_until;          /* the name shall stay free until then, or 0 */
    int64_t due;                /* when a gap was due, by a file that went during this wait, or 0 */
    uint64_t key;               /* of lock_gap.c */
    int64_t refused;            /* when something began to be in the way, or 0 */
    int refusals;               /* since then */
    bool denied;                /* the last one was "access denied" */
    int changes;                /* in a row: the file was another one at each look */
    bool watching;              /* for the name to go, or for a gap to end */
    HANDLE watch;               /* of the directory meanwhile, or INVALID_HANDLE_VALUE */
    char *program;
    wchar_t *path;
};

/* ---- the gap: see lock_gap.h ---- */

/* How long the name shall stay free, if the caller can wait for that; else 0. */
static int64_t gap_left(const msalex_lock *lock, int64_t patience) {
    const int64_t now = msalex__now_ms(), until = msalex__gap_check(lock->gap_until, now);
    return until != 0 && until <= patience ? until - now : 0;
}

/* The name is free.  Has this process begun a gap, or may another process have begun one? */
static bool is_gap(msalex_lock *lock, int64_t patience) {
    const int64_t now = msalex__now_ms();

    if (msalex__gap_check(lock->gap_until, now) == 0) {
        lock->gap_until = msalex__gap_of_own(lock->key, now);
        /* If the file for which we waited says when the next gap is due, that file began none. */
        if (lock->gap_until == 0 && lock->carried.when == 0)
            lock->gap_until = msalex__gap_suspected(lock->key, now);
    }
    return gap_left(lock, patience) != 0;
}

/* ---- getting it ---- */

static enum outcome drop(msalex_lock *lock, enum outcome outcome) {
    msalex__lock_file_close(lock->file);
    lock->file = NULL;
    return outcome;
}

/* Nothing has the name, and its directory is there, but Windows says "not found" when we make the
 * file: controlled folder access does so. */
static bool is_protected(const msalex_lock *lock, DWORD code) {
    DWORD attributes;
    wchar_t *directory;

    if (code != ERROR_FILE_NOT_FOUND || (directory = msalex__directory_of(lock->path)) == NULL)
        return false;
    attributes = GetFileAttributesW(directory);
    free(directory);
    return attributes != INVALID_FILE_ATTRIBUTES && (attributes & FILE_ATTRIBUTE_DIRECTORY) != 0;
}

static enum outcome fail(const msalex_lock *lock, DWORD code, const char *call, DWORD attributes,
                         msalex_error *error) {
    const bool known = attributes != INVALID_FILE_ATTRIBUTES;

    (void)msalex__fail_windows(error, code, call);
    if (known && (attributes & FILE_ATTRIBUTE_DIRECTORY) != 0)
        (void)msalex__fail(error, MSALEX_INVALID, EINVAL, call,
                           "the lock file is not a regular file");
    else if (code == MSALEX__IS_LINK)
        (void)msalex__fail(error, MSALEX_INVALID, EINVAL, call, "the lock file is a symbolic link");
    else if (is_protected(lock, code))
        (void)msalex__fail(error, MSALEX_DENIED, EACCES, call,
                           "the directory is there, but a protection forbids new files in it, such "
                           "as controlled folder access of Windows Security [WinError 2]");
    return FAILED;
}

/* Drops the file because of an error code, and says what that means.  Some codes come from what
 * others do, and pass: see msalex__may_pass.  A file that is being deleted, and goes on being, is
 * waited for like a living peer's.  A directory and a read-only file will go on denying. */
static enum outcome classify(msalex_lock *lock, DWORD code, const char *call, msalex_error *error) {
    const DWORD never = FILE_ATTRIBUTE_DIRECTORY | FILE_ATTRIBUTE_READONLY;
    const DWORD attributes = GetFileAttributesW(lock->path);
    const bool denied = code == ERROR_ACCESS_DENIED;
    const int64_t now = msalex__now_ms();

    (void)drop(lock, FAILED);
    lock->denied = denied;
    if (lock->refused == 0)
        lock->refused = now;
    lock->refusals += code == ERROR_DELETE_PENDING;
    if (denied && attributes != INVALID_FILE_ATTRIBUTES && (attributes & never) != 0)
        return fail(lock, code, call, attributes, error);
    if (code == WAIT_TIMEOUT) /* a server that does not answer */
        return BUSY;
    if (msalex__may_pass(code, now - lock->refused))
        return lock->refusals < REFUSALS_MAX ? PASSING : PEER;
    return fail(lock, code, call, attributes, error);
}

static enum outcome publish(msalex_lock *lock, msalex_error *error) {
    DWORD code;

    code = msalex__lock_file_publish(lock->file, lock->carried);
    if (code == 0)
        return HELD;
    if (code == ERROR_FILE_EXISTS)
        return drop(lock, CHANGED);
    return classify(lock, code, "create lock file", error);
}

/* May the process that has the byte of the file take it?  QUEUED: yes.  Otherwise the file is
 * dropped.  PEER: no; PASSING: the file is empty, and may soon tell; else what the error means. */
static enum outcome judge(msalex_lock *lock, msalex_error *error) {
    char bytes[MSALEX__RECORD_SIZE];
    size_t size;
    DWORD code = msalex__lock_file_read(lock->file, bytes, &size);

    if (code == ERROR_LOCK_VIOLATION)
        return drop(lock, PEER);
    if (code != 0)
        return classify(lock, code, "read lock file", error);
    if (msalex__lock_file_is_ours(lock->file, bytes, size) ||
        msalex__lock_peer_is_gone(lock->file, bytes, size))
        return QUEUED;
    return drop(lock, size == 0 ? PASSING : PEER);
}

/* Reads what a file for which we waited says to its waiters. */
static void learn(msalex_lock *lock) {
    msalex__lock_file_read_farewell(lock->file);
    lock->carried = lock->file->gap;
    lock->gap_until = lock->file->until;
}

/* The maker of this file may not have known the file before it, nor when a gap was due. */
static void keep_what_is_due(int64_t due, struct msalex__gap *gap) {
    if (due != 0 && (gap->when == 0 || due < gap->when))
        gap->when = due;
}

/* The byte is ours.  Is the file the lock, or was it deleted, or is a peer inside? */
static enum outcome take_over(msalex_lock *lock, int64_t patience, msalex_error *error) {
    struct msalex__lock_file *const file = lock->file;
    enum outcome outcome;
    DWORD code;

    learn(lock);
    if (gap_left(lock, patience) != 0)
        return drop(lock, GAP);
    code = msalex__lock_file_claim(file);
    if (code == ERROR_FILE_NOT_FOUND)
        return drop(lock, CHANGED);
    if (code == ERROR_SHARING_VIOLATION || code == ERROR_LOCK_VIOLATION)
        return drop(lock, PEER); /* .NET, Go */
    if (code != 0)
        return classify(lock, code, "open lock file", error);
    if ((outcome = judge(lock, error)) != QUEUED)
        return outcome;
    keep_what_is_due(lock->due, &file->gap);
    if ((code = msalex__lock_file_take_over(file)) == 0)
        return HELD;
    (void)msalex__fail_windows(error, code, "write lock file");
    return drop(lock, FAILED);
}

static enum outcome look(msalex_lock *lock, bool once, int64_t patience, msalex_error *error) {
    enum outcome outcome;
    DWORD code;

    if ((lock->file = msalex__lock_file_new(lock->path, lock->program, lock->key)) == NULL) {
        (void)msalex__fail_windows(error, ERROR_NOT_ENOUGH_MEMORY, "malloc");
        return FAILED;
    }
    lock->file->distrusted = lock->changes > CHANGES_MAX;
    code = msalex__lock_file_open(lock->file);
    if (code == ERROR_FILE_NOT_FOUND)
        return is_gap(lock, patience) ? drop(lock, GAP) : publish(lock, error);
    if (code != 0)
        return classify(lock, code, "open lock file", error);
    if ((outcome = judge(lock, error)) != QUEUED)
        return outcome;
    if (!once)
        return msalex__lock_wait_join(lock->file) ? QUEUED : drop(lock, PASSING);
    if ((code = msalex__lock_file_try(lock->file)) == 0)
        return take_over(lock, patience, error);
    return code == ERROR_LOCK_VIOLATION || code == WAIT_TIMEOUT
               ? drop(lock, BUSY)
               : classify(lock, code, "LockFileEx", error);
}

/* ---- the interface ---- */

int msalex_lock_new(const char *path, const char *program, msalex_lock **lock,
                    msalex_error *error) {
    const size_t program_size = strlen(program) + 1;

    *lock = calloc(1, sizeof **lock + program_size);
    if (*lock == NULL)
        return msalex__fail_errno(error, ENOMEM, "malloc");
    (*lock)->program = (char *)(*lock + 1);
    memcpy((*lock)->program, program, program_size);
    (*lock)->watch = INVALID_HANDLE_VALUE;
    (*lock)->key = msalex__gap_key(path);
    if (((*lock)->path = msalex__wide_path(path, error)) != NULL)
        return msalex__ok(error);
    free(*lock);
    *lock = NULL;
    return msalex__status_of_errno((int)error->code);
}

static void wait_for_name(msalex_lock *lock, int64_t timeout_ms) {
    if (lock->watching) {
        msalex__lock_peer_wait(lock->watch, timeout_ms);
    } else { /* and look again: the name may have gone before the watch was there */
        lock->watching = true;
        lock->watch = msalex__lock_peer_watch(lock->path);
    }
}

static void stop_watching(msalex_lock *lock) {
    if (lock->watch != INVALID_HANDLE_VALUE)
        (void)FindCloseChangeNotification(lock->watch);
    lock->watch = INVALID_HANDLE_VALUE;
    lock->watching = false;
}

/* Waits in the queue until the deadline. */
static enum outcome wait_in_queue(msalex_lock *lock, int64_t deadline, int64_t patience,
                                  msalex_error *error) {
    const DWORD code = msalex__lock_wait_for(lock->file, msalex__time_left(deadline));

    if (code == ERROR_LOCK_VIOLATION)
        return NOT_YET;
    if (code == ERROR_FILE_NOT_FOUND) {
        (void)msalex__lock_file_withdraw(lock->file);
        learn(lock);
        return drop(lock, gap_left(lock, patience) != 0 ? GAP : CHANGED);
    }
    return code == 0 ? take_over(lock, patience, error) : classify(lock, code, "LockFileEx", error);
}

/* Remembers what comes in a row. */
static void count(msalex_lock *lock, enum outcome outcome) {
    lock->changes = outcome == CHANGED ? lock->changes + 1 : 0;
    if (outcome == HELD)
        lock->carried = (struct msalex__gap){0};
    if (outcome == CHANGED && lock->carried.when != 0)
        lock->due = lock->carried.when;
    if (outcome == HELD || outcome == GAP || outcome == FAILED)
        lock->due = 0;
    if (outcome != PASSING && outcome != CHANGED)
        lock->carried.when = 0;
    if (outcome != PASSING && outcome != PEER) {
        lock->refused = 0;
        lock->refusals = 0;
        lock->denied = false;
    }
}

/* Waits before the next look, because looking without a pause would keep a processor busy. */
static void wait_after(msalex_lock *lock, enum outcome outcome, bool once, int64_t deadline,
                       int64_t patience) {
    const int64_t left = msalex__time_left(deadline), gap = gap_left(lock, patience);

    if (outcome == PASSING)
        msalex__pause(PAUSE_MS);
    if (outcome == PEER)
        msalex__gap_peer_seen(lock->key, msalex__now_ms());
    if (outcome == PEER && !once)
        wait_for_name(lock, left);
    if (outcome == GAP && gap != 0)
        wait_for_name(lock, left < 0 || gap < left ? gap : left);
}

int msalex_lock_acquire(msalex_lock *lock, int64_t slice_ms, int64_t patience_ms,
                        msalex_error *error) {
    const int64_t deadline = msalex__deadline(slice_ms);
    const int64_t patience = msalex__deadline(patience_ms);
    const bool once = patience_ms == 0 && lock->file == NULL;

    if (lock->held)
        return msalex__fail(error, MSALEX_INVALID, EDEADLK, "acquire", "it is held already");
    for (int tries = 0; tries < TRIES_MAX || (!once && msalex__time_left(deadline) != 0); tries++) {
        enum outcome outcome = QUEUED;
        if (lock->file == NULL)
            outcome = look(lock, once, patience, error);
        if (outcome == QUEUED)
            outcome = wait_in_queue(lock, deadline, patience, error);

        count(lock, outcome);
        if (outcome == HELD) {
            lock->held = true;
            stop_watching(lock);
            return msalex__ok(error);
        }
        if (outcome == FAILED)
            return msalex__status_of_errno((int)error->code);
        if (lock->changes > CHANGES_MAX)
            outcome = PASSING;
        if (outcome == NOT_YET || outcome == BUSY || (outcome == PEER && once) ||
            (outcome == PASSING && once && !lock->denied && tries >= PASSINGS_MAX))
            break;
        wait_after(lock, outcome, once, deadline, patience);
        if (outcome == GAP && gap_left(lock, patience) == 0)
            continue; /* however late it is: nobody holds a lock that a gap leaves free */
        if (outcome != CHANGED && !once && msalex__time_left(deadline) == 0)
            break;
    }
    if (lock->denied && (once || msalex__time_left(patience) == 0))
        return msalex__fail_windows(error, ERROR_ACCESS_DENIED, "open lock file");
    return msalex__fail(error, MSALEX_TIMEOUT, ETIMEDOUT, "LockFileEx", "the lock is held");
}

int msalex_lock_check(msalex_lock *lock, msalex_error *error) {
    const DWORD code = lock->held ? msalex__lock_file_check(lock->file) : ERROR_FILE_NOT_FOUND;

    if (code == 0)
        return msalex__ok(error);
    if (code != ERROR_FILE_NOT_FOUND)
        return msalex__fail_windows(error, code, "open lock file");
    return msalex__fail(error, MSALEX_NOT_FOUND, ENOENT, "GetFileInformationByHandle",
                        "the lock file is not ours");
}

int msalex_lock_release(msalex_lock *lock, msalex_error *error) {
    DWORD code = 0;

    if (lock->held) {
        code = msalex__lock_file_give_back(lock->file);
        msalex__lock_file_close(lock->file);
    } else {
        msalex__lock_wait_leave(lock->file);
    }
    lock->file = NULL;
    lock->held = false;
    lock->gap_until = lock->due = 0;
    stop_watching(lock);
    if (code == 0)
        return msalex__ok(error);
    if (code != ERROR_FILE_NOT_FOUND)
        return msalex__fail_windows(error, code, "remove lock file");
    return msalex__fail(error, MSALEX_NOT_FOUND, ENOENT, "GetFileInformationByHandle",
                        "somebody removed the lock file");
}

void msalex_lock_free(msalex_lock *lock) {
    msalex_error ignored;

    if (lock == NULL)
        return;
    (void)msalex_lock_release(lock, &ignored);
    free(lock->path);
    free(lock);
}

int msalex_lock_holder(const char *path, msalex_buffer *text, msalex_error *error) {
    char bytes[MSALEX__RECORD_SIZE];
    wchar_t *wide = msalex__wide_path(path, error);
    struct msalex__lock_file *file;
    size_t size;
    DWORD code;

    *text = (msalex_buffer){0};
    if (wide == NULL)
        return msalex__status_of_errno((int)error->code);
    file = msalex__lock_file_new(wide, "", 0);
    free(wide);
    if (file == NULL)
        return msalex__fail_errno(error, ENOMEM, "malloc");
    code = msalex__lock_file_read_named(file, bytes, &size);
    msalex__lock_file_close(file);
    if (code != 0)
        return msalex__fail_windows(error, code, "open lock file");
    return msalex__buffer_copy(text, bytes, msalex__record_text(bytes, size), error);
}
