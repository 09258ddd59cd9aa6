/*
 * Files, Windows.  A reader never finds half of a content.  The promise is in msalex.h.  Twin:
 * file_posix.c.
 *
 * Sharing.  A file that another program has open without sharing it gives error 32, and a file that
 * is being deleted gives error 303 (msalex__open).  Virus scanners and indexers cause both at any
 * time.  Both pass, so each call tries again for RETRY_MS.  A denial by an access list (error 5)
 * stays, and is told after MSALEX__DENIED_MS.  A directory and a read-only file give error 5 as
 * well, and are told at once.
 *
 * Access lists.  Only its owner, the system and administrators may read a new file.  A save keeps
 * the access list of the file that it replaces, and the attributes KEPT_ATTRIBUTES.  The new file
 * belongs to the user that saves, as on POSIX without privileges.
 */
#include "os_windows.h"

#include <aclapi.h>
#include <errno.h>
#include <sddl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The name of a temporary file is ".msalex-", 16 hexadecimal digits and ".tmp".  The target's name
 * is no part of it, because that may have 255 characters, which is all that a name can have. */
static const wchar_t TEMP_PREFIX[] = L".msalex-";
static const wchar_t TEMP_SUFFIX[] = L".tmp";

enum {
    TEMP_DIGITS = 16,
    TEMP_NAME_SIZE = sizeof TEMP_PREFIX / 2 + TEMP_DIGITS + sizeof TEMP_SUFFIX / 2,
    TEMP_TRIES = 10,
    RETRY_MS = 2000,
    RETRY_PAUSE_MS = 5,
    DEAD_AFTER_S = 60, /* age from which a temporary file that nobody has open is removed */
    DEAD_SOON_S = 2,   /* the same for a delete, which must remove secrets soon */
    KEPT_ATTRIBUTES = FILE_ATTRIBUTE_HIDDEN | FILE_ATTRIBUTE_SYSTEM | FILE_ATTRIBUTE_ENCRYPTED |
                      FILE_ATTRIBUTE_NOT_CONTENT_INDEXED
};

/* ---- small parts ---- */

static int64_t ticks_of(FILETIME time) {
    return (int64_t)time.dwHighDateTime << 32 | time.dwLowDateTime; /* 100 ns since 1601 */
}

/* Can this error of a call on `path` pass by itself?  If so, sleeps a little.  `since`: when the
 * first one came. */
static bool may_pass(DWORD code, const wchar_t *path, int64_t since) {
    const int64_t tried_ms = msalex__now_ms() - since;
    DWORD attributes;

    if (!msalex__may_pass(code, tried_ms) || tried_ms >= RETRY_MS)
        return false;
    if (code == ERROR_ACCESS_DENIED) {
        attributes = GetFileAttributesW(path);
        if (attributes != INVALID_FILE_ATTRIBUTES &&
            (attributes & (FILE_ATTRIBUTE_DIRECTORY | FILE_ATTRIBUTE_READONLY)) != 0)
            return false;
    }
    msalex__pause(RETRY_PAUSE_MS);
    return true;
}

/* CreateFileW, repeated while its error may pass. */
static HANDLE open_patiently(const wchar_t *path, DWORD access, DWORD sharing,
                             SECURITY_ATTRIBUTES *security, DWORD how) {
    const int64_t since = msalex__now_ms();
    HANDLE file;

    do
        file = msalex__open(path, access, sharing, security, how, FILE_ATTRIBUTE_NORMAL);
    while (file == INVALID_HANDLE_VALUE && may_pass(GetLastError(), path, since));
    return file;
}

/* Windows denies access to a directory (error 5).  POSIX has a code of its own for that, so this
 * gives the error of POSIX. */
static int fail_file(msalex_error *error, const wchar_t *path, DWORD code, const char *call) {
    const DWORD attributes = GetFileAttributesW(path);

    if (attributes != INVALID_FILE_ATTRIBUTES && (attributes & FILE_ATTRIBUTE_DIRECTORY) != 0)
        return msalex__fail_errno(error, EISDIR, call);
    return msalex__fail_windows(error, code, call);
}

/* 0 or GetLastError. */
static DWORD write_all(HANDLE file, const unsigned char *data, size_t size) {
    while (size > 0) {
        DWORD part = size < MAXDWORD ? (DWORD)size : MAXDWORD, written;
        if (!WriteFile(file, data, part, &written, NULL))
            return GetLastError();
        data += written;
        size -= written;
    }
    return 0;
}

/* The length of the part of a path that names its directory, with the backslash. */
static size_t directory_length(const wchar_t *path) {
    const wchar_t *last = wcsrchr(path, L'\\'); /* there is one: the path is absolute */
    return last == NULL ? 0 : (size_t)(last + 1 - path);
}

/* Follows links, so that a rename replaces the file and not the link.  A link without a target is
 * an error: the target may only be away for a while.  The caller frees the path. */
static int resolve(const char *given, wchar_t **path, msalex_error *error) {
    const DWORD flags = FILE_NAME_NORMALIZED | VOLUME_NAME_DOS;
    DWORD attributes, length;
    wchar_t *target = NULL;
    HANDLE file;

    if ((*path = msalex__wide_path(given, error)) == NULL)
        return msalex__status_of_errno((int)error->code);
    attributes = GetFileAttributesW(*path);
    if (attributes == INVALID_FILE_ATTRIBUTES || (attributes & FILE_ATTRIBUTE_REPARSE_POINT) == 0)
        return msalex__ok(error);
    if ((file = msalex__open_attributes(*path, 0)) != INVALID_HANDLE_VALUE) {
        length = GetFinalPathNameByHandleW(file, NULL, 0, flags);
        if (length > 0 && (target = malloc((length + 1) * sizeof *target)) != NULL)
            length = GetFinalPathNameByHandleW(file, target, length + 1, flags);
        msalex__close(file);
    }
    if (target != NULL && length > 0) {
        free(*path);
        *path = target;
        return msalex__ok(error);
    }
    (void)msalex__fail_windows(error, GetLastError(), "GetFinalPathNameByHandleW");
    free(target);
    free(*path);
    *path = NULL;
    if (error->code == ENOENT)
        return msalex__fail(error, MSALEX_INVALID, ENOENT, "GetFinalPathNameByHandleW",
                            "a symbolic link that leads nowhere");
    return msalex__status_of_errno((int)error->code);
}

/* ---- access lists ---- */

/* The list of a new file: this user, the system (SY) and administrators (BA); nothing is inherited
 * (P).  NULL with GetLastError. */
static PSECURITY_DESCRIPTOR private_descriptor(void) {
    union {
        TOKEN_USER user;
        BYTE bytes[sizeof(TOKEN_USER) + SECURITY_MAX_SID_SIZE];
    } owner;
    PSECURITY_DESCRIPTOR descriptor = NULL;
    wchar_t text[300], *sid = NULL;
    HANDLE token = NULL;
    DWORD size;

    if (!OpenProcessToken(GetCurrentProcess(), TOKEN_QUERY, &token))
        return NULL;
    if (GetTokenInformation(token, TokenUser, &owner, sizeof owner, &size) &&
        ConvertSidToStringSidW(owner.user.User.Sid, &sid)) {
        (void)swprintf(text, 300, L"D:P(A;;FA;;;%ls)(A;;FA;;;SY)(A;;FA;;;BA)", sid);
        (void)ConvertStringSecurityDescriptorToSecurityDescriptorW(text, SDDL_REVISION_1,
                                                                   &descriptor, NULL);
        (void)LocalFree(sid);
    }
    msalex__close(token);
    return descriptor;
}

/* The access list for a file that replaces `path`.  The caller frees it with LocalFree. */
static PSECURITY_DESCRIPTOR descriptor_for(const wchar_t *path, bool exists) {
    PSECURITY_DESCRIPTOR descriptor = NULL;

    if (exists && GetNamedSecurityInfoW(path, SE_FILE_OBJECT, DACL_SECURITY_INFORMATION, NULL, NULL,
                                        NULL, NULL, &descriptor) == ERROR_SUCCESS)
        return descriptor;
    return private_descriptor(); /* also where we may not read the list: rather too few rights */
}

/* ---- temporary files ---- */

/* Makes a temporary file in the directory of `path`.  It is open without sharing deletion, which
 * shows that its writer lives.  The caller frees its name.  INVALID_HANDLE_VALUE with
 * GetLastError. */
static HANDLE open_temp(const wchar_t *path, DWORD attributes, SECURITY_ATTRIBUTES *security,
                        wchar_t **temp) {
    const size_t length = directory_length(path);
    HANDLE file = INVALID_HANDLE_VALUE;

    if ((*temp = malloc((length + TEMP_NAME_SIZE) * sizeof **temp)) == NULL) {
        SetLastError(ERROR_NOT_ENOUGH_MEMORY);
        return file;
    }
    memcpy(*temp, path, length * sizeof **temp);
    for (int tries = 0; file == INVALID_HANDLE_VALUE && tries < TEMP_TRIES; tries++) {
        (void)swprintf(*temp + length, TEMP_NAME_SIZE, L"%ls%016llx%ls", TEMP_PREFIX,
                       (unsigned long long)msalex__nonce(), TEMP_SUFFIX);
        file =
            msalex__open(*temp, GENERIC_WRITE, FILE_SHARE_READ, security, CREATE_NEW, attributes);
        if (GetLastError() != ERROR_FILE_EXISTS)
            break;
    }
    return file;
}

static bool is_temp_name(const wchar_t *name) {
    const size_t prefix = sizeof TEMP_PREFIX / sizeof TEMP_PREFIX[0] - 1;
    return wcsncmp(name, TEMP_PREFIX, prefix) == 0 &&
           wcsspn(name + prefix, L"0123456789abcdef") == TEMP_DIGITS &&
           wcscmp(name + prefix + TEMP_DIGITS, TEMP_SUFFIX) == 0;
}

/* The writer of a temporary file is dead when the file is old and nobody has it open.  This checks
 * the age; sweep_into() finds the rest by opening it in a way that a writer does not share. */
static bool is_old(const WIN32_FIND_DATAW *found, int dead_after_s) {
    FILETIME now;
    GetSystemTimeAsFileTime(&now);
    return (ticks_of(now) - ticks_of(found->ftLastWriteTime)) / 10000000 >= dead_after_s;
}

/* ---- preparing a save ---- */

struct save {
    const wchar_t *target;
    const unsigned char *data;
    size_t size;
    DWORD flags;        /* MOVEFILE_REPLACE_EXISTING; or 0, and then it fails if the file exists */
    msalex_lock *guard; /* or NULL */
    DWORD old;          /* attributes of the file to replace, or INVALID_FILE_ATTRIBUTES */
    wchar_t *temp;      /* path of the temporary file; "" when it has its final name; or NULL */
    HANDLE file;        /* the temporary file, or INVALID_HANDLE_VALUE */
    uint64_t device;    /* of the temporary file */
    int status;         /* what to return after FAILED */
};

/* How far a save has come. */
enum outcome {
    DONE,     /* the new content has the name */
    PREPARED, /* the new content is in the temporary file */
    IN_PLACE, /* a temporary file cannot be made: write into the old file */
    FAILED    /* the error says why */
};

static int fail_too_large(msalex_error *error, const char *call) {
    return msalex__fail(error, MSALEX_INVALID, EFBIG, call,
                        "larger than 256 MiB, which no token cache is");
}

static int fail_lost(msalex_error *error) {
    return msalex__fail(error, MSALEX_LOCK_LOST, ENOENT, "GetFileInformationByHandle",
                        "somebody removed the lock file");
}

static enum outcome fail_save(struct save *save, DWORD code, const char *call,
                              msalex_error *error) {
    save->status = fail_file(error, save->target, code, call);
    return FAILED;
}

/* May the file be replaced, if there is one?  A rename onto a directory fails, and Wine replaces a
 * read-only file, so this checks both. */
static int check_old(const struct save *save, msalex_error *error) {
    if (save->old == INVALID_FILE_ATTRIBUTES)
        return msalex__ok(error);
    if ((save->old & FILE_ATTRIBUTE_DIRECTORY) != 0)
        return msalex__fail_errno(error, EISDIR, "CreateFileW");
    if (save->flags == 0)
        return msalex__fail_errno(error, EEXIST, "CreateFileW");
    if ((save->old & FILE_ATTRIBUTE_READONLY) != 0)
        return msalex__fail(error, MSALEX_DENIED, EACCES, "CreateFileW", "the file is read-only");
    return msalex__ok(error);
}

/* Writes the new content into a temporary file beside the old file. */
static enum outcome prepare(struct save *save, msalex_error *error) {
    const bool exists = save->old != INVALID_FILE_ATTRIBUTES;
    const DWORD kept = exists ? save->old & KEPT_ATTRIBUTES : 0;
    SECURITY_ATTRIBUTES security = {.nLength = sizeof security};
    struct msalex__identity identity;
    HANDLE renamed;
    DWORD code;

    if ((security.lpSecurityDescriptor = descriptor_for(save->target, exists)) == NULL)
        return fail_save(save, GetLastError(), "GetTokenInformation", error);
    save->file = open_temp(save->target, FILE_ATTRIBUTE_NORMAL | kept, &security, &save->temp);
    code = GetLastError();
    (void)LocalFree(security.lpSecurityDescriptor);
    if (save->file == INVALID_HANDLE_VALUE) {
        if (exists && (code == ERROR_ACCESS_DENIED || code == ERROR_WRITE_PROTECT))
            return IN_PLACE;
        return fail_save(save, code, "CreateFileW", error);
    }
    if ((code = write_all(save->file, save->data, save->size)) != 0)
        return fail_save(save, code, "WriteFile", error);
    /* Before the rename: otherwise a power cut could leave an empty file with the name. */
    if (!FlushFileBuffers(save->file))
        return fail_save(save, GetLastError(), "FlushFileBuffers", error);
    /* The rename needs this handle closed, but finish() needs one to set the times after it.  The
     * new one can only do that, so it is in nobody's way. */
    renamed = msalex__open_attributes(save->temp, FILE_WRITE_ATTRIBUTES);
    if (renamed == INVALID_HANDLE_VALUE || !msalex__identify(renamed, &identity)) {
        code = GetLastError();
        msalex__close(renamed);
        return fail_save(save, code, "CreateFileW", error);
    }
    msalex__close(save->file);
    save->file = renamed;
    save->device = identity.device;
    return PREPARED;
}

/* Closes the temporary file, and removes it unless it has its final name. */
static void end(struct save *save) {
    const bool is_open = save->file != INVALID_HANDLE_VALUE;

    msalex__close(save->file);
    if (is_open && save->temp[0] != L'\0')
        (void)DeleteFileW(save->temp);
    free(save->temp);
}

/* ---- putting the new content in place ---- */

/* Sets the times, because a rename alone does not tell a watcher that only listens for "changed"
 * files, such as .NET's. */
static void finish(HANDLE file, msalex_stamp *stamp) {
    FILETIME now;
    GetSystemTimeAsFileTime(&now);
    (void)SetFileTime(file, NULL, NULL, &now);
    (void)msalex__fill_stamp(file, stamp);
}

/* The last resort, where we may write to a file but not make one in its directory.  A reader
 * meanwhile can find a mixture.  The bytes come first, then the new end: the old end is not cut off
 * before the new content is complete. */
static enum outcome write_in_place(struct save *save, msalex_stamp *stamp, msalex_error *error) {
    HANDLE file = open_patiently(save->target, GENERIC_WRITE, FILE_SHARE_READ, NULL, OPEN_EXISTING);
    const char *call = "WriteFile";
    DWORD code;

    if (file == INVALID_HANDLE_VALUE)
        return fail_save(save, GetLastError(), "CreateFileW", error);
    code = write_all(file, save->data, save->size);
    if (code == 0 && !(SetEndOfFile(file) && FlushFileBuffers(file))) {
        code = GetLastError();
        call = "FlushFileBuffers";
    }
    if (code == 0)
        finish(file, stamp);
    msalex__close(file);
    return code == 0 ? DONE : fail_save(save, code, call, error);
}

/* Does the caller still hold the lock, if there is one?  On Windows nobody can remove its file, but
 * the caller may have given it back. */
static bool is_held(msalex_lock *guard) {
    msalex_error ignored;
    return guard == NULL || msalex_lock_check(guard, &ignored) == MSALEX_OK;
}

/* MoveFileExW, repeated while its error may pass: 0 or GetLastError. */
static DWORD rename_patiently(const wchar_t *from, const wchar_t *to, DWORD flags) {
    const int64_t since = msalex__now_ms();
    DWORD code = 0;

    while (!MoveFileExW(from, to, flags | MOVEFILE_WRITE_THROUGH)) {
        code = GetLastError();
        if (!may_pass(code, to, since))
            return code;
    }
    return 0;
}

/* Gives the temporary file the name. */
static enum outcome put(struct save *save, msalex_stamp *stamp, msalex_error *error) {
    const DWORD code = rename_patiently(save->temp, save->target, save->flags);

    if (code != 0)
        return fail_save(save, code, "MoveFileExW", error);
    save->temp[0] = L'\0';
    finish(save->file, stamp);
    stamp->device = save->device; /* after the rename, Wine does not know it any more */
    return DONE;
}

static int replace(struct save *save, msalex_stamp *stamp, msalex_error *error) {
    enum outcome outcome;
    int status;

    save->old = GetFileAttributesW(save->target);
    if ((status = check_old(save, error)) != MSALEX_OK)
        return status;
    outcome = prepare(save, error);
    if (outcome != FAILED && !is_held(save->guard)) {
        save->status = fail_lost(error);
        outcome = FAILED;
    }
    if (outcome == PREPARED)
        outcome = put(save, stamp, error);
    if (outcome == IN_PLACE)
        outcome = write_in_place(save, stamp, error);
    end(save);
    return outcome == DONE ? msalex__ok(error) : save->status;
}

int msalex_file_replace(const char *path, const unsigned char *data, size_t size,
                        msalex_lock *guard, msalex_stamp *stamp, msalex_error *error) {
    struct save save = {.data = data,
                        .size = size,
                        .flags = MOVEFILE_REPLACE_EXISTING,
                        .guard = guard,
                        .file = INVALID_HANDLE_VALUE};
    wchar_t *target;
    int status;

    *stamp = (msalex_stamp){0};
    if (size > MSALEX_FILE_SIZE_MAX)
        return fail_too_large(error, "WriteFile");
    if ((status = resolve(path, &target, error)) != MSALEX_OK)
        return status;
    save.target = target;
    status = replace(&save, stamp, error);
    free(target);
    return status;
}

int msalex_file_create(const char *path, const unsigned char *data, size_t size,
                       msalex_error *error) {
    struct save save = {.data = data, .size = size, .file = INVALID_HANDLE_VALUE};
    wchar_t *target = msalex__wide_path(path, error); /* as given: a link there exists */
    msalex_stamp ignored;
    int status;

    if (target == NULL)
        return msalex__status_of_errno((int)error->code);
    save.target = target;
    status = size > MSALEX_FILE_SIZE_MAX ? fail_too_large(error, "WriteFile")
                                         : replace(&save, &ignored, error);
    free(target);
    return status;
}

/* ---- the rest of the interface ---- */

int msalex_file_stat(const char *path, msalex_stamp *stamp, msalex_error *error) {
    wchar_t *wide = msalex__wide_path(path, error);
    HANDLE file;
    int status;

    *stamp = (msalex_stamp){0};
    if (wide == NULL)
        return msalex__status_of_errno((int)error->code);
    file = msalex__open_attributes(wide, 0);
    if (file == INVALID_HANDLE_VALUE || !msalex__fill_stamp(file, stamp))
        status = msalex__fail_windows(error, GetLastError(), "GetFileInformationByHandle");
    else
        status = msalex__ok(error);
    msalex__close(file);
    free(wide);
    return status;
}

int msalex_file_is_remote(const char *path) {
    msalex_error ignored;
    wchar_t *wide = msalex__wide_path(path, &ignored);
    HANDLE file;
    int remote = 1;

    if (wide == NULL)
        return remote;
    file = msalex__open_attributes(wide, 0);
    if (file != INVALID_HANDLE_VALUE)
        remote = msalex__is_remote(file) ? 1 : 0;
    msalex__close(file);
    free(wide);
    return remote;
}

/* Reads to the end.  Another process may be writing the file in place, so it may be longer or
 * shorter than `expected`. */
static DWORD read_all(HANDLE file, size_t expected, msalex_buffer *content) {
    size_t room = expected + 1; /* one byte more, so that one read shows a longer file */
    DWORD count;

    if ((content->data = malloc(room)) == NULL)
        return ERROR_NOT_ENOUGH_MEMORY;
    for (;;) {
        if (content->size == room) {
            msalex_buffer larger = {.data = malloc(room * 2), .size = content->size};
            if (larger.data == NULL)
                return ERROR_NOT_ENOUGH_MEMORY;
            memcpy(larger.data, content->data, content->size);
            msalex_buffer_free(content);
            *content = larger;
            room *= 2;
        }
        if (!ReadFile(file, content->data + content->size,
                      room - content->size < MAXDWORD ? (DWORD)(room - content->size) : MAXDWORD,
                      &count, NULL))
            return GetLastError();
        if (count == 0)
            return 0;
        content->size += count;
    }
}

int msalex_file_read(const char *path, msalex_buffer *content, msalex_stamp *stamp,
                     msalex_error *error) {
    wchar_t *wide = msalex__wide_path(path, error);
    HANDLE file;
    DWORD code = 0;
    int status;

    *content = (msalex_buffer){0};
    *stamp = (msalex_stamp){0};
    if (wide == NULL)
        return msalex__status_of_errno((int)error->code);
    file = open_patiently(wide, GENERIC_READ, MSALEX__SHARE_ALL, NULL, OPEN_EXISTING);
    if (file == INVALID_HANDLE_VALUE) {
        status = fail_file(error, wide, GetLastError(), "CreateFileW");
    } else if (GetFileType(file) != FILE_TYPE_DISK) { /* NUL, COM1 and other devices */
        status = msalex__fail(error, MSALEX_INVALID, EINVAL, "CreateFileW", "not a regular file");
    } else {
        if (!msalex__fill_stamp(file, stamp))
            code = GetLastError();
        else if (stamp->size > MSALEX_FILE_SIZE_MAX)
            code = ERROR_FILE_TOO_LARGE;
        else
            code = read_all(file, (size_t)stamp->size, content);
        status = code == 0                      ? msalex__ok(error)
                 : code == ERROR_FILE_TOO_LARGE ? fail_too_large(error, "ReadFile")
                                                : msalex__fail_windows(error, code, "ReadFile");
        if (code != 0) {
            msalex_buffer_free(content);
            *stamp = (msalex_stamp){0};
        }
    }
    msalex__close(file);
    free(wide);
    return status;
}

int msalex_file_touch(const char *path, msalex_error *error) {
    SECURITY_ATTRIBUTES security = {.nLength = sizeof security};
    wchar_t *wide = msalex__wide_path(path, error);
    msalex_stamp ignored;
    HANDLE file;
    int status;

    if (wide == NULL)
        return msalex__status_of_errno((int)error->code);
    security.lpSecurityDescriptor = private_descriptor();
    file = open_patiently(wide, FILE_READ_ATTRIBUTES | FILE_WRITE_ATTRIBUTES, MSALEX__SHARE_ALL,
                          &security, OPEN_ALWAYS);
    if (file == INVALID_HANDLE_VALUE) {
        status = fail_file(error, wide, GetLastError(), "CreateFileW");
    } else {
        finish(file, &ignored);
        status = msalex__ok(error);
    }
    msalex__close(file);
    (void)LocalFree(security.lpSecurityDescriptor);
    free(wide);
    return status;
}

static int delete_patiently(const wchar_t *path, msalex_error *error) {
    const int64_t since = msalex__now_ms();

    while (!DeleteFileW(path)) {
        DWORD code = GetLastError();
        if (!may_pass(code, path, since))
            return fail_file(error, path, code, "DeleteFileW");
    }
    return msalex__ok(error);
}

static void sweep_into(const wchar_t *target, int dead_after_s, wchar_t *path) {
    const size_t length = directory_length(target);
    WIN32_FIND_DATAW found;
    HANDLE entries, file;

    memcpy(path, target, length * sizeof *path);
    (void)swprintf(path + length, MAX_PATH, L"%ls*%ls", TEMP_PREFIX, TEMP_SUFFIX);
    if ((entries = FindFirstFileW(path, &found)) == INVALID_HANDLE_VALUE)
        return;
    do {
        if (!is_temp_name(found.cFileName) || !is_old(&found, dead_after_s))
            continue;
        (void)swprintf(path + length, MAX_PATH, L"%ls", found.cFileName);
        file = msalex__open(path, DELETE, MSALEX__SHARE_ALL, NULL, OPEN_EXISTING,
                            FILE_FLAG_OPEN_REPARSE_POINT);
        if (file != INVALID_HANDLE_VALUE)
            (void)msalex__delete_open_file(file);
        msalex__close(file);
    } while (FindNextFileW(entries, &found));
    (void)FindClose(entries);
}

/* Removes the temporary files that dead writers left in the directory of `target`: 0 or errno. */
static int sweep(const wchar_t *target, int dead_after_s) {
    wchar_t *room = malloc((directory_length(target) + MAX_PATH) * sizeof *room);

    if (room == NULL)
        return ENOMEM;
    sweep_into(target, dead_after_s, room);
    free(room);
    return 0;
}

/* The secret must be gone: so this removes a link, the file that it leads to, and the temporary
 * files of killed saves. */
int msalex_file_delete(const char *path, msalex_error *error) {
    wchar_t *given = msalex__wide_path(path, error), *target = NULL;
    int status = MSALEX_OK;

    if (given == NULL)
        return msalex__status_of_errno((int)error->code);
    if (resolve(path, &target, error) == MSALEX_OK && wcscmp(target, given) != 0)
        status = delete_patiently(target, error);
    if (status == MSALEX_OK)
        status = delete_patiently(given, error);
    (void)sweep(target != NULL ? target : given, DEAD_SOON_S);
    free(target);
    free(given);
    return status;
}

int msalex_file_sweep(const char *path, msalex_error *error) {
    wchar_t *target;
    int code, status;

    if ((status = resolve(path, &target, error)) != MSALEX_OK)
        return status;
    code = sweep(target, DEAD_AFTER_S);
    free(target);
    return code != 0 ? msalex__fail_errno(error, code, "malloc") : msalex__ok(error);
}

int msalex_directory_make(const char *path, msalex_error *error) {
    wchar_t *wide = msalex__wide_path(path, error);
    int status = MSALEX_OK;

    if (wide == NULL)
        return msalex__status_of_errno((int)error->code);
    if (!CreateDirectoryW(wide, NULL))
        status = msalex__fail_windows(error, GetLastError(), "CreateDirectoryW");
    free(wide);
    return status;
}
