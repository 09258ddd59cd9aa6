/*
 * The lock between processes, macOS: the protocol.  The promise is in msalex.h.  Twins:
 * lock_linux.c, lock_windows.c.
 *
 * How it works.  The lock file carries two locks at once, because other programs look at
 * different ones: its existence and a flock.  Ours is the flock: who has it, on the file that
 * the path names, is in.  No fcntl or OFD lock beside it: macOS keeps all kinds in one list, so
 * that the flock excludes those who take them, and one that we took ourselves would exclude us.
 *
 * The file appears already locked and filled (renamed from a temporary one, refusing to
 * replace): a file that is created first and locked then can be caught in between.
 *
 * Its one line, the record, tells only whether the file is *ours* or a *peer's* (another
 * library's).  For ours the kernel knows whether it is held, whatever pid it names: a holder
 * that dies leaves an unlocked file, which the next one takes over.  Of a peer's file the flock
 * proves nothing, as several peers unlock before they remove it; we wait for the *name* to go
 * away, or for its holder to be found dead.
 *
 * Waiting.  flock knows no deadline, so a waiter tries, asks a kqueue to tell of an unlock
 * (NOTE_FUNLOCK), a removal or a rename, tries *again*, as what came before the kqueue was
 * there wakes nobody, and then waits, at most SLICE_MS at a time.  A wake-up means no more than
 * "look again": some come for nothing, and all who wait are woken by one unlock.
 *
 * So this lock knows no queue, and whoever looks first is next; only Linux hands over in order.
 * A holder always removes the file, which wakes those who wait for us and for a name alike.
 *
 * Where a file system has no flock, the file's existence is the lock: its record says so
 * (EXISTS), and everybody treats it like a peer's.
 *
 * Each look resolves the path once, to a directory that it keeps open and a name in it
 * (place_posix.h).  A held lock keeps its directory, so a release removes the name where the
 * lock was made, whatever the path leads to by then.  A check resolves the path again: where it
 * leads to another directory others may be inside, and the lock counts as lost.
 */
#define _DARWIN_C_SOURCE /* O_NOFOLLOW, kqueue */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/event.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "internal.h"
#include "lock_macos.h"
#include "place_posix.h"

enum {
    SLICE_MS = 250, /* the longest wait between two tries: a kqueue may miss what others do */
    BLIND_MS = 20,  /* the same without a kqueue */
    TRIES_MAX = 100 /* times in a row to start over at once, because files come and go */
};

struct msalex_lock {
    struct msalex__lock_file file; /* open while held or waited for */
    bool held;
    char *program;
    char path[];
};

/* What a look at the lock file led to. */
enum outcome {
    HELD,    /* by us now */
    BUSY,    /* somebody's: wait */
    CHANGED, /* it came or went meanwhile: start over */
    FAILED   /* the error says why */
};

/* ---- getting it ---- */

/* Resolves the path, once for all that a look does. */
static int arrive(msalex_lock *lock, msalex_error *error) {
    struct msalex__place place;
    int status;

    if ((status = msalex__place_find_name(lock->path, &place, error)) != MSALEX_OK)
        return status;
    msalex__lock_file_place(&lock->file, &place);
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
    same = msalex__lock_file_is_in(&lock->file, &place);
    msalex__place_leave(&place);
    return same;
}

static enum outcome publish(msalex_lock *lock, msalex_error *error) {
    int code;

    if (msalex__lock_file_publish(&lock->file, lock->program))
        return HELD;
    code = errno;
    msalex__lock_file_close(&lock->file);
    if (code == EEXIST)
        return CHANGED;
    (void)msalex__fail_errno(error, code, "create lock file");
    return FAILED;
}

/* Is there something with the name? */
static bool exists(const struct msalex__lock_file *file) {
    struct stat found;
    return fstatat(file->directory, file->name, &found, AT_SYMLINK_NOFOLLOW) == 0;
}

static enum outcome open_failed(msalex_lock *lock, int code, msalex_error *error) {
    bool is_anothers;

    if (code == ENOENT)
        return publish(lock, error);
    is_anothers = code == EACCES && exists(&lock->file);
    msalex__lock_file_close(&lock->file);
    if (is_anothers)
        return BUSY; /* wait until it goes away */
    (void)msalex__fail_errno(error, code, "open lock file");
    if (code == ELOOP || code == EINVAL)
        (void)msalex__fail(error, MSALEX_INVALID, code, "open lock file",
                           code == ELOOP ? "the lock file is a symbolic link"
                                         : "the lock file is not a regular file");
    return FAILED;
}

/* Without flock another file keeps others from removing the stale one meanwhile: 0 or errno. */
static int remove_guarded(const struct msalex__lock_file *file) {
    char guard[sizeof file->name + sizeof ".stale"];
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

/* The file of a peer that died.  Its flock is ours, so nobody else removes it meanwhile.  What
 * cannot be unlinked, another user's in a sticky directory for example, is waited for like a
 * living peer's: trying again at once would keep a processor busy. */
static enum outcome remove_stale(msalex_lock *lock) {
    int code = 0;

    if (msalex__lock_file_try(&lock->file) != 0)
        code = remove_guarded(&lock->file);
    else if (msalex__lock_file_is_named(&lock->file))
        code = msalex__lock_file_unlink(&lock->file);
    return code == 0 || code == ENOENT ? CHANGED : BUSY;
}

/* The flock of one of ours is granted: whoever held it died, or gave it back just now. */
static enum outcome take_over(msalex_lock *lock) {
    char bytes[MSALEX__RECORD_SIZE];
    struct msalex__record record;

    if (!msalex__lock_file_is_named(&lock->file))
        return CHANGED;
    /* A peer (Go) was inside, wrote over the record, and has yet to remove the file that it
     * unlocked: a peer's now, whoever made it. */
    if (!msalex__record_parse(bytes, msalex__lock_file_read(lock->file.fd, bytes), &record))
        return CHANGED;
    (void)msalex__lock_file_write_held(&lock->file, lock->program);
    return HELD;
}

/* One try at the open file. */
static enum outcome look(msalex_lock *lock, msalex_error *error) {
    char bytes[MSALEX__RECORD_SIZE];
    struct msalex__record record;
    size_t size = msalex__lock_file_read(lock->file.fd, bytes);
    int code;

    if (!msalex__lock_file_is_named(&lock->file))
        return CHANGED;
    if (!msalex__record_parse(bytes, size, &record) || record.state == MSALEX__EXISTS)
        return msalex__peer_is_gone(&lock->file, bytes, size) ? remove_stale(lock) : BUSY;
    if ((code = msalex__lock_file_try(&lock->file)) == 0)
        return take_over(lock);
    if (code == EWOULDBLOCK)
        return BUSY;
    (void)msalex__fail_errno(error, code, "flock");
    return FAILED;
}

static enum outcome attempt(msalex_lock *lock, msalex_error *error) {
    enum outcome outcome;

    if (lock->file.fd >= 0 && !leads_there(lock)) {
        outcome = CHANGED; /* while we waited */
    } else if (lock->file.fd < 0 && !msalex__lock_file_open(&lock->file)) {
        outcome = open_failed(lock, errno, error);
    } else if ((outcome = look(lock, error)) == BUSY && lock->file.queue < 0) {
        msalex__lock_file_watch(&lock->file);
        outcome = look(lock, error); /* again: see "Waiting" above */
    }
    if (outcome == CHANGED || outcome == FAILED)
        msalex__lock_file_close(&lock->file);
    return outcome;
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
    msalex__lock_file_register(&(*lock)->file);
    return msalex__ok(error);
}

static int64_t time_left(int64_t deadline) {
    int64_t left = deadline - msalex__now_ms();
    return deadline == INT64_MAX ? INT64_MAX : left > 0 ? left : 0;
}

/* Waits for a change, a slice at most: 0 or EINTR. */
static int wait_a_slice(const struct msalex__lock_file *file, int64_t left) {
    const int64_t slice = file->queue >= 0 ? SLICE_MS : BLIND_MS;
    const struct timespec timeout = {.tv_nsec = (long)(left < slice ? left : slice) * 1000000};
    struct kevent change;

    if (file->queue >= 0) {
        if (kevent(file->queue, NULL, 0, &change, 1, &timeout) >= 0)
            return 0;
        if (errno == EINTR)
            return EINTR;
    }
    return nanosleep(&timeout, NULL) == 0 ? 0 : EINTR;
}

int msalex_lock_acquire(msalex_lock *lock, int64_t slice_ms, int64_t patience_ms,
                        msalex_error *error) {
    const int64_t deadline = slice_ms < 0 ? INT64_MAX : msalex__now_ms() + slice_ms;
    const bool once = patience_ms == 0 && lock->file.fd < 0;
    int64_t left;
    int status;

    if (lock->held)
        return msalex__fail(error, MSALEX_INVALID, EDEADLK, "acquire", "it is held already");
    for (int tries = 1;; tries++) {
        enum outcome outcome;
        if (lock->file.directory < 0 && (status = arrive(lock, error)) != MSALEX_OK)
            return status;
        outcome = attempt(lock, error);
        if (outcome == HELD) {
            lock->held = true;
            return msalex__ok(error);
        }
        if (outcome == FAILED)
            return msalex__status_of_errno((int)error->code);
        if (outcome == CHANGED && tries < TRIES_MAX)
            continue;
        if ((left = time_left(deadline)) == 0)
            break;
        if (wait_a_slice(&lock->file, left) != 0)
            return msalex__fail_errno(error, EINTR, "kevent");
        tries = 0;
    }
    if (once)
        msalex__lock_file_close(&lock->file);
    return msalex__fail(error, MSALEX_TIMEOUT, ETIMEDOUT, "flock", "the lock is held");
}

int msalex_lock_check(msalex_lock *lock, msalex_error *error) {
    if (lock->held && leads_there(lock) && msalex__lock_file_is_named(&lock->file))
        return msalex__ok(error);
    return msalex__fail(error, MSALEX_NOT_FOUND, ENOENT, "fstatat", "the lock file is not ours");
}

int msalex_lock_release(msalex_lock *lock, msalex_error *error) {
    bool in_place = true;

    if (lock->held && (in_place = msalex__lock_file_is_named(&lock->file)))
        (void)msalex__lock_file_unlink(&lock->file);
    lock->held = false;
    msalex__lock_file_close(&lock->file);
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
    msalex__lock_file_forget(&lock->file);
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
