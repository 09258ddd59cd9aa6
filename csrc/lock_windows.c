/*
 * The lock between processes, Windows: the protocol.  The promise is in msalex.h.  Twins:
 * lock_linux.c, lock_macos.c.
 *
 * How it works.  Who has byte 0xffff of the file that the path names, and beside it has that file
 * open for reading and writing without sharing deletion, is in.  That excludes all peers: the file
 * exists (1.3.1 without portalocker, Node), the byte is locked (portalocker), and MSAL.NET, which
 * shares reading only, can neither open it beside us nor we beside it.  And nobody can delete it.
 *
 * Byte 0 is locked as well, which is what Go asks for.  Locked bytes cannot be read by others, so
 * they read the record from byte 1 on; the first digit of the pid is in it once more.
 *
 * Two handles, because they share different things:
 *
 *   waiting  reads, shares everything: in nobody's way, so that anybody can have one at any time.
 *            It carries the locked byte, from the request in the queue until the release.
 *   holding  reads and writes, shares both but not deletion; opened once the byte is ours, and it
 *            must be the same file.  It carries byte 0, as no other handle could write there.
 *            Would it share less, portalocker would fail to open the file, with an exception that
 *            it does not catch; with more, anybody could delete it.
 *
 * The record in the file tells only whether the file is *ours* or a *peer's* (another library's);
 * that is read before its byte is touched.  For ours the byte knows whether it is held, whatever
 * pid it names.  A peer's is waited for until its *name* goes away, or its process is dead; then
 * it is taken over where it stands.
 *
 * Release: close `holding`, delete the file through a new handle that is the same file as
 * `waiting`, which still has the byte, unlock, close.  So nobody of ours can be inside a file that
 * is being deleted, and no other file than ours is.  Waiters get the byte of a file whose name has
 * gone, and start over; where the system keeps the name until they all have closed (before Windows
 * 10, FAT) opening it gives error 5 meanwhile.  They hold it for milliseconds only.
 *
 * Existence is the lock from CREATE_NEW on: a file without a record that is younger than five
 * seconds is somebody's, maybe one of ours that has yet to write it.
 */
#include "lock_windows.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
    TRIES_MAX = 100,   /* times that one call starts over because files come and go */
    PAUSE_MS = 5,      /* while something passes that nothing wakes us from */
    DENIALS_MAX = 20,  /* in a row, until a denial is no name that just went away */
    PASSINGS_MAX = 10, /* in a row, for who tries once */
    DELETE_MS = 50     /* so long a release tries to remove a file that a peer looks at */
};

struct msalex_lock {
    HANDLE waiting; /* queued or held, else INVALID_HANDLE_VALUE */
    HANDLE holding; /* held, else INVALID_HANDLE_VALUE */
    struct msalex__byte byte;
    struct msalex__identity identity; /* of both */
    int denials;                      /* by the directory, in a row */
    bool watching;                    /* a peer's file is in the way */
    HANDLE watch;                     /* of the directory meanwhile, or INVALID_HANDLE_VALUE */
    char *program;
    wchar_t *path;
};

/* What a look at the lock file's path led to. */
enum outcome {
    HELD,    /* by us now */
    QUEUED,  /* behind one of ours */
    PEER,    /* a peer's file is in the way */
    BUSY,    /* one of ours is in the way, and we were to try once */
    CHANGED, /* it came or went meanwhile: look again */
    PASSING, /* something is in the way that nothing wakes us from: look again soon */
    FAILED   /* the error says why */
};

/* ---- one lock file ---- */

static size_t read_at(HANDLE file, DWORD offset, char *bytes, DWORD room) {
    OVERLAPPED where = {.Offset = offset};
    DWORD size = 0;

    if (!ReadFile(file, bytes, room, NULL, &where) && GetLastError() != ERROR_IO_PENDING)
        return 0;
    return GetOverlappedResult(file, &where, &size, TRUE) ? size : 0;
}

/* The start of the content; how many bytes there are of it.  Of a record whose first byte is
 * locked that byte is found out: it fits in one way only. */
static size_t read_start(HANDLE file, char bytes[MSALEX__RECORD_SIZE]) {
    size_t size = read_at(file, 0, bytes, MSALEX__RECORD_SIZE);
    struct msalex__record ignored;

    if (size > 0 || read_at(file, 1, bytes + 1, MSALEX__RECORD_SIZE - 1) == 0)
        return size;
    for (bytes[0] = '1'; bytes[0] <= '9'; bytes[0]++) {
        if (msalex__record_parse(bytes, MSALEX__RECORD_SIZE, &ignored))
            return MSALEX__RECORD_SIZE;
    }
    return 0;
}

/* Byte 0 of `holding`: 0 when it is ours now, ERROR_LOCK_VIOLATION: somebody's (Go's), or why
 * not.  Closing the handle unlocks it, but maybe later. */
static DWORD lock_first_byte(const msalex_lock *lock) {
    OVERLAPPED where = {0};
    const DWORD flags = LOCKFILE_EXCLUSIVE_LOCK | LOCKFILE_FAIL_IMMEDIATELY;
    return LockFileEx(lock->holding, flags, 0, 1, 0, &where) ? 0 : GetLastError();
}

static void close_holding(msalex_lock *lock) {
    OVERLAPPED where = {0};
    const DWORD code = GetLastError();

    if (lock->holding != INVALID_HANDLE_VALUE)
        (void)UnlockFileEx(lock->holding, 0, 1, 0, &where);
    SetLastError(code);
    msalex__close(lock->holding);
    lock->holding = INVALID_HANDLE_VALUE;
}

static bool write_record(const msalex_lock *lock) {
    const struct msalex__record record = {.pid = GetCurrentProcessId(),
                                          .state = MSALEX__HELD,
                                          .nonce = msalex__nonce()};
    char bytes[MSALEX__RECORD_SIZE];
    OVERLAPPED where = {0};
    DWORD size;

    msalex__record_format(&record, lock->program, bytes);
    /* A peer's record that was longer is cut off. */
    return WriteFile(lock->holding, bytes, sizeof bytes, &size, &where) && size == sizeof bytes &&
           SetEndOfFile(lock->holding);
}

/* Is this handle's file the one that we wait for or hold? */
static bool is_same(const msalex_lock *lock, HANDLE file) {
    struct msalex__identity found;
    return msalex__identify(file, &found) && found.device == lock->identity.device &&
           found.index == lock->identity.index;
}

static bool is_named(const msalex_lock *lock) {
    HANDLE file = msalex__open_attributes(lock->path, 0);
    bool same = file != INVALID_HANDLE_VALUE && is_same(lock, file);
    msalex__close(file);
    return same;
}

/* Deletes the file that we have the byte of, and no other.  A peer that has it open without
 * sharing deletion may be about to close it, or have it from now on: it is theirs then. */
static void delete_ours(const msalex_lock *lock) {
    const int64_t deadline = msalex__now_ms() + DELETE_MS;
    HANDLE file;

    for (;;) {
        file = CreateFileW(lock->path, DELETE, MSALEX__SHARE_ALL, NULL, OPEN_EXISTING,
                           FILE_FLAG_OPEN_REPARSE_POINT, NULL);
        if (file != INVALID_HANDLE_VALUE && is_same(lock, file))
            (void)msalex__delete_open_file(file);
        msalex__close(file);
        if (file != INVALID_HANDLE_VALUE || GetLastError() != ERROR_SHARING_VIOLATION ||
            msalex__now_ms() >= deadline)
            return;
        Sleep(1);
    }
}

/* ---- getting it ---- */

static enum outcome drop(msalex_lock *lock, bool locked, enum outcome outcome) {
    close_holding(lock);
    if (lock->waiting != INVALID_HANDLE_VALUE)
        msalex__byte_free(&lock->byte, locked);
    msalex__close(lock->waiting);
    lock->waiting = INVALID_HANDLE_VALUE;
    return outcome;
}

/* Opens `waiting`.  False with GetLastError. */
static bool open_waiting(msalex_lock *lock) {
    lock->waiting = CreateFileW(lock->path, GENERIC_READ, MSALEX__SHARE_ALL, NULL, OPEN_EXISTING,
                                FILE_FLAG_OVERLAPPED | FILE_FLAG_OPEN_REPARSE_POINT, NULL);
    if (lock->waiting == INVALID_HANDLE_VALUE)
        return false;
    if (msalex__identify(lock->waiting, &lock->identity) &&
        msalex__byte_init(&lock->byte, lock->waiting))
        return true;
    msalex__close(lock->waiting);
    lock->waiting = INVALID_HANDLE_VALUE;
    return false;
}

static HANDLE open_holding(const msalex_lock *lock, DWORD how) {
    return CreateFileW(lock->path, GENERIC_READ | GENERIC_WRITE, FILE_SHARE_READ | FILE_SHARE_WRITE,
                       NULL, how, FILE_ATTRIBUTE_NORMAL | FILE_FLAG_OPEN_REPARSE_POINT, NULL);
}

/* Errors that tell of others, and pass: what is open elsewhere (32, 33), what is being deleted, and
 * what is another user's until it goes away (5).  When there is nothing by that name, 5 is the
 * directory's denial; but the name may just have gone, so that is believed when it goes on. */
static enum outcome failed(msalex_lock *lock, DWORD code, const char *call, msalex_error *error) {
    const DWORD never = FILE_ATTRIBUTE_DIRECTORY | FILE_ATTRIBUTE_READONLY;
    const DWORD attributes = GetFileAttributesW(lock->path);
    const bool known = attributes != INVALID_FILE_ATTRIBUTES;
    const bool absent = !known && GetLastError() == ERROR_FILE_NOT_FOUND;

    lock->denials = absent && code == ERROR_ACCESS_DENIED ? lock->denials + 1 : 0;
    if (code == ERROR_SHARING_VIOLATION || code == ERROR_LOCK_VIOLATION)
        return PASSING;
    if (code == ERROR_ACCESS_DENIED &&
        (absent ? lock->denials < DENIALS_MAX : !known || (attributes & never) == 0))
        return PASSING;
    (void)msalex__fail_windows(error, code, call);
    if (known && (attributes & FILE_ATTRIBUTE_DIRECTORY) != 0)
        (void)msalex__fail(error, MSALEX_INVALID, EINVAL, call,
                           "the lock file is not a regular file");
    return FAILED;
}

static enum outcome publish(msalex_lock *lock, msalex_error *error) {
    DWORD code;

    lock->holding = open_holding(lock, CREATE_NEW);
    if (lock->holding == INVALID_HANDLE_VALUE) {
        code = GetLastError();
        return code == ERROR_FILE_EXISTS ? CHANGED : failed(lock, code, "create lock file", error);
    }
    if (!open_waiting(lock) || (code = msalex__byte_try(&lock->byte)) == ERROR_LOCK_VIOLATION)
        return drop(lock, false, PASSING); /* a peer caught it: theirs now */
    if (code == 0 && (code = lock_first_byte(lock)) == ERROR_LOCK_VIOLATION)
        return drop(lock, true, PASSING);
    if (code == 0 && write_record(lock))
        return HELD;
    code = code != 0 ? code : GetLastError();
    close_holding(lock);
    delete_ours(lock);
    (void)msalex__fail_windows(error, code, "write lock file");
    return drop(lock, true, FAILED);
}

/* May it be taken by who gets its byte?  If not: PEER, or PASSING when it is about to tell. */
static enum outcome judge(HANDLE file) {
    char bytes[MSALEX__RECORD_SIZE];
    const size_t size = read_start(file, bytes); /* 0 also when a peer has locked these bytes */
    struct msalex__record record;

    if (msalex__record_parse(bytes, size, &record) || msalex__peer_is_gone(file, bytes, size))
        return QUEUED;
    return size == 0 ? PASSING : PEER;
}

/* The byte is ours.  Is it the lock, or of a file that was deleted, or is .NET inside? */
static enum outcome take_over(msalex_lock *lock, msalex_error *error) {
    enum outcome outcome;
    DWORD code;

    lock->holding = open_holding(lock, OPEN_EXISTING);
    if (lock->holding == INVALID_HANDLE_VALUE) {
        code = GetLastError();
        if (code == ERROR_FILE_NOT_FOUND || code == ERROR_PATH_NOT_FOUND)
            return drop(lock, true, CHANGED);
        if (code == ERROR_SHARING_VIOLATION)
            return drop(lock, true, PEER);
        return drop(lock, true, failed(lock, code, "open lock file", error));
    }
    if (!is_same(lock, lock->holding))
        return drop(lock, true, CHANGED);
    if ((code = lock_first_byte(lock)) != 0)
        return drop(lock, true, failed(lock, code, "LockFileEx", error));
    if ((outcome = judge(lock->holding)) != QUEUED)
        return drop(lock, true, outcome);
    if (write_record(lock))
        return HELD;
    (void)msalex__fail_windows(error, GetLastError(), "write lock file");
    return drop(lock, true, FAILED);
}

static enum outcome look(msalex_lock *lock, bool once, msalex_error *error) {
    BY_HANDLE_FILE_INFORMATION found;
    enum outcome outcome;
    DWORD code;

    if (!open_waiting(lock)) {
        code = GetLastError();
        return code == ERROR_FILE_NOT_FOUND ? publish(lock, error)
                                            : failed(lock, code, "open lock file", error);
    }
    if (GetFileInformationByHandle(lock->waiting, &found) &&
        (found.dwFileAttributes & FILE_ATTRIBUTE_REPARSE_POINT) != 0) {
        (void)msalex__fail(error, MSALEX_INVALID, EINVAL, "open lock file",
                           "the lock file is a symbolic link");
        return drop(lock, false, FAILED);
    }
    if ((outcome = judge(lock->waiting)) != QUEUED)
        return drop(lock, false, outcome);
    if (!once)
        return QUEUED;
    return msalex__byte_try(&lock->byte) == 0 ? take_over(lock, error) : drop(lock, false, BUSY);
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
    (*lock)->waiting = (*lock)->holding = (*lock)->watch = INVALID_HANDLE_VALUE;
    if (((*lock)->path = msalex__wide_path(path, error)) != NULL)
        return msalex__ok(error);
    free(*lock);
    *lock = NULL;
    return msalex__status_of_errno((int)error->code);
}

static void wait_for_peer(msalex_lock *lock, int64_t timeout_ms) {
    if (lock->watching) {
        msalex__names_wait(lock->watch, timeout_ms);
    } else { /* and look again: it may have gone before the watch was there */
        lock->watching = true;
        lock->watch = msalex__names_watch(lock->path);
    }
}

static void stop_watching(msalex_lock *lock) {
    if (lock->watch != INVALID_HANDLE_VALUE)
        (void)FindCloseChangeNotification(lock->watch);
    lock->watch = INVALID_HANDLE_VALUE;
    lock->watching = false;
}

static int64_t time_left(int64_t deadline) {
    int64_t left = deadline - msalex__now_ms();
    return deadline == INT64_MAX ? -1 : left > 0 ? left : 0;
}

int msalex_lock_acquire(msalex_lock *lock, int64_t slice_ms, int64_t patience_ms,
                        msalex_error *error) {
    const int64_t deadline = slice_ms < 0 ? INT64_MAX : msalex__now_ms() + slice_ms;
    const bool once = patience_ms == 0 && lock->waiting == INVALID_HANDLE_VALUE;
    DWORD code;

    if (lock->holding != INVALID_HANDLE_VALUE)
        return msalex__fail(error, MSALEX_INVALID, EDEADLK, "acquire", "it is held already");
    for (int tries = 0; tries < TRIES_MAX || (!once && time_left(deadline) != 0); tries++) {
        enum outcome outcome =
            lock->waiting != INVALID_HANDLE_VALUE ? QUEUED : look(lock, once, error);
        if (outcome == QUEUED) {
            code = msalex__byte_wait(&lock->byte, time_left(deadline));
            if (code == ERROR_LOCK_VIOLATION)
                break;
            if (code == 0)
                outcome = take_over(lock, error);
            else
                outcome = drop(lock, false, failed(lock, code, "LockFileEx", error));
        }
        if (outcome == PEER && !once)
            wait_for_peer(lock, time_left(deadline));
        if (outcome != PASSING)
            lock->denials = 0;

        if (outcome == HELD) {
            stop_watching(lock);
            return msalex__ok(error);
        }
        if (outcome == FAILED)
            return msalex__status_of_errno((int)error->code);
        if (outcome == BUSY || (outcome == PEER && once) ||
            (outcome == PASSING && once && tries >= PASSINGS_MAX))
            break;
        if (outcome == PASSING)
            Sleep(PAUSE_MS);
        if (outcome != CHANGED && !once && time_left(deadline) == 0)
            break;
    }
    return msalex__fail(error, MSALEX_TIMEOUT, ETIMEDOUT, "LockFileEx", "the lock is held");
}

int msalex_lock_check(msalex_lock *lock, msalex_error *error) {
    if (lock->holding != INVALID_HANDLE_VALUE && is_named(lock))
        return msalex__ok(error);
    return msalex__fail(error, MSALEX_NOT_FOUND, ENOENT, "GetFileInformationByHandle",
                        "the lock file is not ours");
}

int msalex_lock_release(msalex_lock *lock, msalex_error *error) {
    const bool held = lock->holding != INVALID_HANDLE_VALUE, in_place = !held || is_named(lock);

    if (lock->waiting != INVALID_HANDLE_VALUE) {
        /* Who leaves the queue behind a dead holder tidies up as well. */
        const bool locked = held || msalex__byte_leave(&lock->byte);
        close_holding(lock); /* it would keep us from deleting, too */
        if (locked)
            delete_ours(lock);
        (void)drop(lock, locked, HELD);
    }
    stop_watching(lock);
    if (in_place)
        return msalex__ok(error);
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
    HANDLE file;
    size_t size;

    *text = (msalex_buffer){0};
    if (wide == NULL)
        return msalex__status_of_errno((int)error->code);
    file = CreateFileW(wide, GENERIC_READ, MSALEX__SHARE_ALL, NULL, OPEN_EXISTING, 0, NULL);
    free(wide);
    if (file == INVALID_HANDLE_VALUE)
        return msalex__fail_windows(error, GetLastError(), "open lock file");
    size = read_start(file, bytes);
    msalex__close(file);
    return msalex__buffer_copy(text, bytes, msalex__record_text(bytes, size), error);
}
