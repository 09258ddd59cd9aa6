/*
 * One lock file, Windows: its two handles, the record in it, and its end.  The top of
 * lock_windows.c says why there are two handles; lock_byte_windows.c has the locked bytes.
 */
#include "lock_windows.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    DELETE_MS = 50, /* how long a release tries to remove a file that a peer has open */
    CLAIMS = 3,     /* tries to open a file that one of ours may be removing */
    TURNS_MAX = 64, /* hand-overs in a row, before the name goes all the same */
    YIELDS = 3,     /* after handing over: see see_it_taken */
    LOOKS = 6       /* whether a waiter takes the lock: 63 ms together */
};

struct msalex__lock_file *msalex__lock_file_new(const wchar_t *path, const char *program,
                                                uint64_t key) {
    const size_t path_size = (wcslen(path) + 1) * sizeof *path, program_size = strlen(program) + 1;
    struct msalex__lock_file *file = calloc(1, sizeof *file + path_size + program_size);

    if (file == NULL)
        return NULL;
    file->waiting = file->holding = INVALID_HANDLE_VALUE;
    file->key = key;
    memcpy(file->path, path, path_size);
    file->program = (char *)file->path + path_size;
    memcpy(file->program, program, program_size);
    if (msalex__lock_requests_new(file))
        return file;
    free(file);
    return NULL;
}

/* ---- what is in it ---- */

/* The end of the file is no error: then there are fewer bytes, or none. */
static DWORD read_at(HANDLE handle, DWORD offset, char *bytes, DWORD room, DWORD *size) {
    OVERLAPPED where = {.Offset = offset};
    DWORD code = 0;

    if (!ReadFile(handle, bytes, room, NULL, &where))
        code = GetLastError();
    if (code == 0 || code == ERROR_IO_PENDING)
        code = GetOverlappedResult(handle, &where, size, TRUE) ? 0 : GetLastError();
    if (code != 0)
        *size = 0;
    return code == ERROR_HANDLE_EOF ? 0 : code;
}

static DWORD read_start(HANDLE handle, char bytes[MSALEX__RECORD_SIZE], size_t *size) {
    struct msalex__record ignored;
    DWORD count = 0, code = read_at(handle, 0, bytes, MSALEX__RECORD_SIZE, &count);

    *size = count;
    if (code != ERROR_LOCK_VIOLATION)
        return code;
    code = read_at(handle, 1, bytes + 1, MSALEX__RECORD_SIZE - 1, &count);
    if (code != 0 || count == 0)
        return code;
    /* Only the first byte is locked.  For a record of ours just one digit fits there. */
    for (bytes[0] = '1'; bytes[0] <= '9'; bytes[0]++) {
        if (msalex__record_parse(bytes, count + 1, &ignored)) {
            *size = count + 1;
            return 0;
        }
    }
    return ERROR_LOCK_VIOLATION;
}

DWORD msalex__lock_file_read(const struct msalex__lock_file *file, char bytes[MSALEX__RECORD_SIZE],
                             size_t *size) {
    const bool claimed = file->holding != INVALID_HANDLE_VALUE;
    return read_start(claimed ? file->holding : file->waiting, bytes, size);
}

DWORD msalex__lock_file_read_named(const struct msalex__lock_file *file,
                                   char bytes[MSALEX__RECORD_SIZE], size_t *size) {
    HANDLE handle =
        msalex__open(file->path, GENERIC_READ, MSALEX__SHARE_ALL, NULL, OPEN_EXISTING, 0);
    DWORD code;

    *size = 0;
    if (handle == INVALID_HANDLE_VALUE)
        return GetLastError();
    code = read_start(handle, bytes, size);
    msalex__close(handle);
    return code;
}

bool msalex__lock_file_is_ours(struct msalex__lock_file *file, const char *bytes, size_t size) {
    struct msalex__record record;

    file->nonce = 0;
    file->turn = 0;
    file->gap = (struct msalex__gap){0};
    if (!msalex__record_parse(bytes, size, &record))
        return false;
    file->nonce = record.nonce;
    file->turn = record.turn;
    file->gap.seen = record.seen;
    file->gap.when = record.state == MSALEX__GAP ? 0 : record.when;
    return record.state != MSALEX__EXISTS && record.view == 0;
}

static bool write_record(struct msalex__lock_file *file, enum msalex__record_state state,
                         int64_t when) {
    const struct msalex__record record = {.pid = GetCurrentProcessId(),
                                          .state = state,
                                          .turn = file->turn,
                                          .nonce = file->nonce,
                                          .seen = file->gap.seen,
                                          .when = when};
    char bytes[MSALEX__RECORD_SIZE];
    OVERLAPPED where = {0};
    DWORD size;

    msalex__record_format(&record, file->program, bytes);
    /* If a peer's record was longer, its end is cut off. */
    return WriteFile(file->holding, bytes, sizeof bytes, &size, &where) && size == sizeof bytes &&
           SetEndOfFile(file->holding);
}

/* ---- which file it is ---- */

/* The record of the file; all zero if it is none of ours. */
static struct msalex__record record_of(HANDLE handle) {
    char bytes[MSALEX__RECORD_SIZE];
    struct msalex__record record;
    size_t size;

    if (read_start(handle, bytes, &size) == 0 && msalex__record_parse(bytes, size, &record))
        return record;
    return (struct msalex__record){0};
}

/* Is its number not enough to tell which file it is?  A file server may give the number of a
 * removed file to the next file with its name.  Then the nonce that we remember must agree. */
static bool needs_nonce(const struct msalex__lock_file *file) {
    return file->remote || file->distrusted || !file->identity.known;
}

/* Is the file of this handle the open one? */
static bool is_same(const struct msalex__lock_file *file, HANDLE handle) {
    struct msalex__identity found;

    if (!msalex__identify(handle, &found))
        return false;
    if (!file->distrusted && found.known && file->identity.known &&
        !msalex__is_same_file(&found, &file->identity))
        return false;
    return (!needs_nonce(file) && found.known) || record_of(handle).nonce == file->nonce;
}

DWORD msalex__lock_file_check(const struct msalex__lock_file *file) {
    HANDLE handle = msalex__open_attributes(file->path, needs_nonce(file) ? GENERIC_READ : 0);
    struct msalex__identity ignored;
    DWORD code = 0;

    if (handle == INVALID_HANDLE_VALUE) {
        code = GetLastError();
        return code == ERROR_PATH_NOT_FOUND ? ERROR_FILE_NOT_FOUND : code;
    }
    if (!is_same(file, handle))
        code = ERROR_FILE_NOT_FOUND;
    msalex__close(handle);
    /* A server that lost our session has closed our handles and given our locks away, although the
     * file is still there. */
    if (code == 0 && file->remote && file->holding != INVALID_HANDLE_VALUE &&
        !msalex__identify(file->holding, &ignored))
        code = ERROR_FILE_NOT_FOUND;
    return code;
}

/* Byte 0 of `holding`.  ERROR_LOCK_VIOLATION: it is somebody's (Go's).  A close of the handle
 * unlocks it, but maybe later. */
static DWORD lock_first_byte(const struct msalex__lock_file *file) {
    OVERLAPPED where = {0};
    const DWORD flags = LOCKFILE_EXCLUSIVE_LOCK | LOCKFILE_FAIL_IMMEDIATELY;
    return LockFileEx(file->holding, flags, 0, 1, 0, &where) ? 0 : GetLastError();
}

/* ---- removing its name ---- */

/* Gives the open file a name that nobody looks for.  A sweep removes it if we die here. */
static bool rename_away(const struct msalex__lock_file *file, HANDLE handle) {
    const size_t directory = (size_t)(wcsrchr(file->path, L'\\') + 1 - file->path);
    const size_t room = directory + 32; /* characters */
    FILE_RENAME_INFO *info = calloc(1, sizeof *info + room * sizeof *info->FileName);
    bool renamed = false;

    if (info != NULL) {
        memcpy(info->FileName, file->path, directory * sizeof *info->FileName);
        (void)swprintf(info->FileName + directory, room - directory, L".msalex-%016llx.tmp",
                       (unsigned long long)msalex__nonce());
        info->FileNameLength = (DWORD)(wcslen(info->FileName) * sizeof *info->FileName);
        renamed = SetFileInformationByHandle(handle, FileRenameInfo, info,
                                             (DWORD)(sizeof *info + room * sizeof *info->FileName));
    }
    free(info);
    return renamed;
}

/* Where the name does not go at once, a file that is being deleted keeps it until all have closed
 * the file, also a suspended process; and a peer that makes its own file meets "access denied",
 * which 1.3.1 does not catch.  So there the file gets another name first. */
static void delete_open(const struct msalex__lock_file *file, HANDLE handle) {
    if (msalex__delete_at_once(handle))
        return;
    (void)rename_away(file, handle);
    (void)msalex__delete_open_file(handle);
}

/* Deletes the file that has the name if it is the open one, and no other file.  It cannot be one
 * that a process of ours holds, because `holding` shares no deletion.  A peer that has it open
 * without sharing deletion may be about to close it.  If it does not, the file is the peer's from
 * now on.  ERROR_FILE_NOT_FOUND: the name is not ours. */
static DWORD delete_ours(const struct msalex__lock_file *file, int64_t patience_ms) {
    const int64_t deadline = msalex__deadline(patience_ms);
    const DWORD access = DELETE | (needs_nonce(file) ? GENERIC_READ : 0);
    HANDLE handle;
    DWORD code;

    for (;;) {
        handle = msalex__open(file->path, access, MSALEX__SHARE_ALL, NULL, OPEN_EXISTING,
                              FILE_FLAG_OPEN_REPARSE_POINT);
        code = handle == INVALID_HANDLE_VALUE ? GetLastError() : 0;
        if (code == 0 && is_same(file, handle))
            delete_open(file, handle);
        else if (code == 0 || code == ERROR_PATH_NOT_FOUND)
            code = ERROR_FILE_NOT_FOUND;
        msalex__close(handle);
        if (code != ERROR_SHARING_VIOLATION || msalex__time_left(deadline) == 0)
            return code;
        msalex__pause(1);
    }
}

/* ---- how it comes to be ours ---- */

/* Opens `waiting`. */
DWORD msalex__lock_file_open(struct msalex__lock_file *file) {
    BY_HANDLE_FILE_INFORMATION found;

    file->waiting = msalex__open(file->path, GENERIC_READ, MSALEX__SHARE_ALL, NULL, OPEN_EXISTING,
                                 FILE_FLAG_OVERLAPPED | FILE_FLAG_OPEN_REPARSE_POINT);
    if (file->waiting == INVALID_HANDLE_VALUE ||
        !msalex__identify(file->waiting, &file->identity) ||
        !GetFileInformationByHandle(file->waiting, &found))
        return GetLastError();
    if ((found.dwFileAttributes & FILE_ATTRIBUTE_REPARSE_POINT) != 0)
        return MSALEX__IS_LINK;
    file->remote = msalex__is_remote(file->waiting);
    return 0;
}

/* A new file lives for moments: it need not go to the disk, nor into an index. */
static HANDLE open_holding(const struct msalex__lock_file *file, DWORD how) {
    return msalex__open(file->path, GENERIC_READ | GENERIC_WRITE,
                        FILE_SHARE_READ | FILE_SHARE_WRITE, NULL, how,
                        FILE_ATTRIBUTE_TEMPORARY | FILE_ATTRIBUTE_NOT_CONTENT_INDEXED |
                            FILE_FLAG_OPEN_REPARSE_POINT);
}

static void close_holding(struct msalex__lock_file *file) {
    OVERLAPPED where = {0};

    if (file->holding != INVALID_HANDLE_VALUE)
        (void)UnlockFileEx(file->holding, 0, 1, 0, &where);
    msalex__close(file->holding);
    file->holding = INVALID_HANDLE_VALUE;
}

static DWORD make_ours(struct msalex__lock_file *file, int64_t now) {
    file->nonce = msalex__nonce();
    file->since = now;
    return write_record(file, MSALEX__HELD, file->gap.when) ? 0 : GetLastError();
}

DWORD msalex__lock_file_publish(struct msalex__lock_file *file, struct msalex__gap said) {
    const int64_t now = msalex__now_ms();
    DWORD code;

    file->gap = msalex__gap_of_new_file(file->key, said, now);
    file->holding = open_holding(file, CREATE_NEW);
    if (file->holding == INVALID_HANDLE_VALUE)
        return GetLastError();
    if ((code = msalex__lock_file_open(file)) == 0 && (code = msalex__lock_file_try(file)) == 0 &&
        (code = lock_first_byte(file)) == 0 && (code = make_ours(file, now)) == 0)
        return 0;
    if (code == ERROR_LOCK_VIOLATION)
        return code;
    /* An empty file would keep everybody out for five seconds. */
    (void)msalex__identify(file->holding, &file->identity);
    file->nonce = 0; /* it was never written */
    close_holding(file);
    (void)delete_ours(file, DELETE_MS);
    return code;
}

void msalex__lock_file_read_farewell(struct msalex__lock_file *file) {
    char bytes[MSALEX__RECORD_SIZE];
    struct msalex__record record;
    size_t size;

    file->gap = (struct msalex__gap){0};
    file->until = 0;
    if (msalex__lock_file_read(file, bytes, &size) != 0 ||
        !msalex__record_parse(bytes, size, &record))
        return;
    file->gap.seen = record.seen;
    if (record.state == MSALEX__GAP)
        file->until = msalex__gap_check(record.when, msalex__now_ms());
    else
        file->gap.when = record.when;
}

/* First it looks, in a way that stands in nobody's way, whether the name is still ours: `holding`
 * shares no deletion, so a peer that has the name by now could not remove its own file. */
DWORD msalex__lock_file_claim(struct msalex__lock_file *file) {
    DWORD code = msalex__lock_file_check(file);

    if (code != 0)
        return code;
    /* A process of ours that looks whether it can remove the name has the file open for a moment in
     * a way that excludes `holding`. */
    code = ERROR_SHARING_VIOLATION;
    for (int tries = 0; code == ERROR_SHARING_VIOLATION && tries < CLAIMS; tries++) {
        if (tries > 0)
            msalex__pause(1);
        file->holding = open_holding(file, OPEN_EXISTING);
        code = file->holding == INVALID_HANDLE_VALUE ? GetLastError() : 0;
    }
    if (code != 0)
        return code == ERROR_PATH_NOT_FOUND ? ERROR_FILE_NOT_FOUND : code;
    return is_same(file, file->holding) ? lock_first_byte(file) : ERROR_FILE_NOT_FOUND;
}

DWORD msalex__lock_file_take_over(struct msalex__lock_file *file) {
    const int64_t now = msalex__now_ms();

    msalex__lock_file_unannounce(file);
    file->turn++;
    file->gap = msalex__gap_of_taken_file(file->key, file->gap, now);
    return make_ours(file, now);
}

/* ---- how it goes ---- */

/* Begins a gap, in which the name stays free for peers, if one is due. */
static bool begin_gap(struct msalex__lock_file *file) {
    int64_t until;

    until = msalex__gap_begin(file->key, file->gap, file->since, msalex__now_ms());
    if (until != 0)
        (void)write_record(file, MSALEX__GAP, until);
    return until != 0;
}

/* Shall the file stay, for a waiter?  Its record goes on naming us until the waiter writes its own:
 * the byte decides, and nobody acts on the name in the record.  If a peer has written over it, the
 * file would look like the peer's to all processes that are not queued yet. */
static bool shall_stay(struct msalex__lock_file *file, HANDLE handle) {
    const struct msalex__record record = record_of(handle);
    return record.nonce != 0 && record.nonce == file->nonce && record.turn < TURNS_MAX &&
           msalex__lock_file_is_awaited(file);
}

/* While `holding` is open, nobody can remove, rename or replace the file on a local disk.  There we
 * look at the name only when we remove it. */
DWORD msalex__lock_file_give_back(struct msalex__lock_file *file) {
    DWORD code = needs_nonce(file) ? msalex__lock_file_check(file) : 0;

    if (code != ERROR_FILE_NOT_FOUND)
        file->handed_over = !begin_gap(file) && shall_stay(file, file->holding);
    close_holding(file); /* it would keep us, too, from deleting the file */
    if (code == ERROR_FILE_NOT_FOUND || file->handed_over)
        return code;
    /* A peer that has it open, or a denial, leaves the file there; the byte will be free. */
    return delete_ours(file, DELETE_MS) == ERROR_FILE_NOT_FOUND ? ERROR_FILE_NOT_FOUND : code;
}

void msalex__lock_file_turn_down(struct msalex__lock_file *file) {
    const struct msalex__record record = record_of(file->waiting);

    file->nonce = record.nonce;
    file->handed_over = shall_stay(file, file->waiting);
    if (file->nonce != 0 && !file->handed_over)
        (void)delete_ours(file, DELETE_MS);
    msalex__lock_file_close(file);
}

/* Is the record as we left it?  Then nobody has taken the lock over. */
static bool is_left(const struct msalex__lock_file *file) {
    return record_of(file->waiting).nonce == file->nonce;
}

/* We left the lock to a waiter.  If that process is suspended, the system gives it the byte all the
 * same, and nobody else would ever get that.  So we remove the name if nobody takes the file for a
 * while: the others see that, and start over. */
static void see_it_taken(struct msalex__lock_file *file) {
    DWORD pause_ms = 1;

    /* If this process locked again at once, it would keep the processor from the waiter that it has
     * just woken. */
    for (int i = 0; i < YIELDS; i++)
        (void)SwitchToThread();
    for (int i = 0; i < LOOKS && is_left(file); i++) {
        msalex__pause(pause_ms);
        pause_ms *= 2;
    }
    if (is_left(file))
        (void)delete_ours(file, 0);
}

void msalex__lock_file_close(struct msalex__lock_file *file) {
    bool ended;

    if (file == NULL)
        return;
    (void)msalex__lock_file_withdraw(file);
    close_holding(file);
    msalex__lock_file_unannounce(file);
    msalex__lock_file_unlock(file);
    if (file->handed_over)
        see_it_taken(file);
    ended = msalex__lock_requests_end(file);
    msalex__close(file->waiting);
    if (!ended) /* the system may still write to it: better to lose some memory */
        return;
    msalex__lock_requests_free(file);
    free(file);
}
