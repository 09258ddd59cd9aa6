/*
 * One lock file, Windows: its two handles, the locked bytes, the record in it, and its end.  The
 * top of lock_windows.c says why there are two of each.
 */
#include "lock_windows.h"

#include <stdlib.h>
#include <string.h>

enum {
    /* Far behind the record, because locked bytes cannot be read.  msvcrt.locking by portalocker 3
     * (bytes 0 to 0xffff) and LockFileEx by older ones (from 0 on, nearly all) both include it. */
    LOCKED_BYTE = 0xffff,
    DELETE_MS = 50, /* how long a release tries to remove a file that a peer has open */
    PENDING = 0x103 /* STATUS_PENDING, which winnt.h and ntstatus.h both define */
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
    if ((file->request.hEvent = CreateEventW(NULL, TRUE, FALSE, NULL)) != NULL)
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
    file->gap = (struct msalex__gap){0};
    if (!msalex__record_parse(bytes, size, &record))
        return false;
    file->nonce = record.nonce;
    file->gap.seen = record.seen;
    file->gap.when = record.state == MSALEX__GAP ? 0 : record.when;
    return record.state != MSALEX__EXISTS && record.view == 0;
}

static bool write_record(struct msalex__lock_file *file, enum msalex__record_state state,
                         int64_t when) {
    const struct msalex__record record = {.pid = GetCurrentProcessId(),
                                          .state = state,
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

/* The nonce of the record, or 0. */
static uint64_t nonce_of(HANDLE handle) {
    char bytes[MSALEX__RECORD_SIZE];
    struct msalex__record record;
    size_t size;

    if (read_start(handle, bytes, &size) == 0 && msalex__record_parse(bytes, size, &record))
        return record.nonce;
    return 0;
}

/* Is the file of this handle the open one?  A file server may give the number of a removed file to
 * the next file with its name; there the nonce that we remember must agree as well. */
static bool is_same(const struct msalex__lock_file *file, HANDLE handle) {
    struct msalex__identity found;
    return msalex__identify(handle, &found) && msalex__is_same_file(&found, &file->identity) &&
           (!file->remote || nonce_of(handle) == file->nonce);
}

DWORD msalex__lock_file_check(const struct msalex__lock_file *file) {
    HANDLE handle = msalex__open_attributes(file->path, file->remote ? GENERIC_READ : 0);
    DWORD code = 0;

    if (handle == INVALID_HANDLE_VALUE) {
        code = GetLastError();
        return code == ERROR_PATH_NOT_FOUND ? ERROR_FILE_NOT_FOUND : code;
    }
    if (!is_same(file, handle))
        code = ERROR_FILE_NOT_FOUND;
    msalex__close(handle);
    return code;
}

/* Deletes the file that has the name if it is the open one, and no other file.  A peer that has it
 * open without sharing deletion may be about to close it.  If it does not, the file is the peer's
 * from now on. */
static void delete_ours(const struct msalex__lock_file *file) {
    const int64_t deadline = msalex__deadline(DELETE_MS);
    const DWORD access = DELETE | (file->remote ? GENERIC_READ : 0);
    HANDLE handle;

    for (;;) {
        handle = msalex__open(file->path, access, MSALEX__SHARE_ALL, NULL, OPEN_EXISTING,
                              FILE_FLAG_OPEN_REPARSE_POINT);
        if (handle != INVALID_HANDLE_VALUE && is_same(file, handle))
            (void)msalex__delete_open_file(handle);
        msalex__close(handle);
        if (handle != INVALID_HANDLE_VALUE || GetLastError() != ERROR_SHARING_VIOLATION ||
            msalex__time_left(deadline) == 0)
            return;
        msalex__pause(1);
    }
}

/* ---- the locked bytes ---- */

DWORD msalex__lock_file_request(struct msalex__lock_file *file, DWORD flags) {
    const HANDLE event = file->request.hEvent;

    (void)ResetEvent(event);
    memset(&file->request, 0, sizeof file->request);
    file->request.hEvent = event;
    file->request.Offset = LOCKED_BYTE;
    /* So that it says "pending" even where the system never writes to it. */
    file->request.Internal = PENDING;
    file->locked =
        LockFileEx(file->waiting, LOCKFILE_EXCLUSIVE_LOCK | flags, 0, 1, 0, &file->request) != 0;
    file->asked = !file->locked && GetLastError() == ERROR_IO_PENDING;
    return file->locked ? 0 : GetLastError();
}

static DWORD result(struct msalex__lock_file *file, BOOL wait) {
    DWORD unused;
    file->asked = false;
    file->locked = GetOverlappedResult(file->waiting, &file->request, &unused, wait) != 0;
    return file->locked ? 0 : GetLastError();
}

DWORD msalex__lock_file_answer(struct msalex__lock_file *file) {
    return result(file, FALSE);
}

DWORD msalex__lock_file_withdraw(struct msalex__lock_file *file) {
    if (!CancelIoEx(file->waiting, &file->request) && GetLastError() == ERROR_NOT_FOUND &&
        file->request.Internal == PENDING) {
        file->asked = false;
        return ERROR_LOCK_VIOLATION;
    }
    return result(file, TRUE);
}

DWORD msalex__lock_file_try(struct msalex__lock_file *file) {
    DWORD code = msalex__lock_file_request(file, LOCKFILE_FAIL_IMMEDIATELY);
    if (code == ERROR_IO_PENDING) /* the answer is on its way, or (Wine) this is the answer */
        code = msalex__lock_file_withdraw(file);
    return code == ERROR_OPERATION_ABORTED ? ERROR_LOCK_VIOLATION : code;
}

/* Byte 0 of `holding`.  ERROR_LOCK_VIOLATION: it is somebody's (Go's).  A close of the handle
 * unlocks it, but maybe later. */
static DWORD lock_first_byte(const struct msalex__lock_file *file) {
    OVERLAPPED where = {0};
    const DWORD flags = LOCKFILE_EXCLUSIVE_LOCK | LOCKFILE_FAIL_IMMEDIATELY;
    return LockFileEx(file->holding, flags, 0, 1, 0, &where) ? 0 : GetLastError();
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

static HANDLE open_holding(const struct msalex__lock_file *file, DWORD how) {
    return msalex__open(file->path, GENERIC_READ | GENERIC_WRITE,
                        FILE_SHARE_READ | FILE_SHARE_WRITE, NULL, how,
                        FILE_ATTRIBUTE_NORMAL | FILE_FLAG_OPEN_REPARSE_POINT);
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
    if (code == ERROR_LOCK_VIOLATION || code == ERROR_SHARING_VIOLATION)
        return code;
    /* An empty file would keep everybody out for five seconds. */
    (void)msalex__identify(file->holding, &file->identity);
    file->remote = false; /* its nonce was never written */
    close_holding(file);
    delete_ours(file);
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

DWORD msalex__lock_file_claim(struct msalex__lock_file *file) {
    DWORD code;

    file->holding = open_holding(file, OPEN_EXISTING);
    if (file->holding == INVALID_HANDLE_VALUE) {
        code = GetLastError();
        return code == ERROR_PATH_NOT_FOUND ? ERROR_FILE_NOT_FOUND : code;
    }
    return is_same(file, file->holding) ? lock_first_byte(file) : ERROR_FILE_NOT_FOUND;
}

DWORD msalex__lock_file_take_over(struct msalex__lock_file *file) {
    const int64_t now = msalex__now_ms();

    file->gap = msalex__gap_of_taken_file(file->key, file->gap, now);
    return make_ours(file, now);
}

/* ---- how it goes ---- */

/* Begins a gap, in which the name stays free for peers, if one is due. */
static void begin_gap(struct msalex__lock_file *file) {
    int64_t until;

    until = msalex__gap_begin(file->key, file->gap, file->since, msalex__now_ms());
    if (until != 0)
        (void)write_record(file, MSALEX__GAP, until);
}

DWORD msalex__lock_file_give_back(struct msalex__lock_file *file) {
    const DWORD code = msalex__lock_file_check(file);

    if (code != ERROR_FILE_NOT_FOUND)
        begin_gap(file);
    close_holding(file); /* it would keep us, too, from deleting the file */
    if (code != ERROR_FILE_NOT_FOUND)
        delete_ours(file);
    return code;
}

void msalex__lock_file_turn_down(struct msalex__lock_file *file) {
    if ((file->nonce = nonce_of(file->waiting)) != 0)
        delete_ours(file);
    msalex__lock_file_close(file);
}

void msalex__lock_file_close(struct msalex__lock_file *file) {
    OVERLAPPED where = {.Offset = LOCKED_BYTE};

    if (file == NULL)
        return;
    if (file->asked)
        (void)msalex__lock_file_withdraw(file);
    close_holding(file);
    if (file->locked) /* a close unlocks, but when, depends "upon available system resources" */
        (void)UnlockFileEx(file->waiting, 0, 1, 0, &where);
    msalex__close(file->waiting);
    (void)CloseHandle(file->request.hEvent);
    free(file);
}
