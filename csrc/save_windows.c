/*
 * Saving a file, Windows: a reader never finds half of a content.  The promise is in msalex.h.
 *
 * A save.  One handle makes the temporary file, writes it, and gives it its final name.  With the
 * POSIX rename of Windows 10 no reader that shares deletion is in the way.  Everything else comes
 * before the rename, also the times and the stamp, which a rename does not change (except that FAT
 * may give the file another number: then the cache is read once more than needed).  The handle is
 * closed right after it, because until then a reader that does not share deletion, such as Python's
 * open(), is refused.  A time that was set by a handle stays when that handle is closed.
 *
 * Access lists.  Only its owner, the system and administrators may read a new file.  A save keeps
 * the access list of the file that it replaces, unless a stranger owns that (access_windows.h), and
 * the attributes KEPT_ATTRIBUTES.  The new file belongs to the user that saves, as on POSIX without
 * privileges.
 */
#include "save_windows.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "access_windows.h"
#include "temp_windows.h"

enum {
    KEPT_ATTRIBUTES = FILE_ATTRIBUTE_HIDDEN | FILE_ATTRIBUTE_SYSTEM | FILE_ATTRIBUTE_ENCRYPTED |
                      FILE_ATTRIBUTE_NOT_CONTENT_INDEXED
};

/* ---- the bytes of an open file ---- */

DWORD msalex__read_all(HANDLE file, size_t expected, msalex_buffer *content) {
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

/* Writes all bytes at that offset: 0 or GetLastError. */
static DWORD write_all(HANDLE file, const unsigned char *data, size_t size, uint64_t offset) {
    while (size > 0) {
        OVERLAPPED where = {.Offset = (DWORD)offset, .OffsetHigh = (DWORD)(offset >> 32)};
        DWORD part = size < MAXDWORD ? (DWORD)size : MAXDWORD, written;
        if (!WriteFile(file, data, part, &written, &where))
            return GetLastError();
        data += written;
        size -= written;
        offset += written;
    }
    return 0;
}

/* 0 or GetLastError. */
static DWORD set_end(HANDLE file, uint64_t size) {
    const LARGE_INTEGER end = {.QuadPart = (int64_t)size};
    return SetFilePointerEx(file, end, NULL, FILE_BEGIN) && SetEndOfFile(file) ? 0 : GetLastError();
}

/* The bytes come first, then the new end: the old end is not cut off before the new content is
 * complete.  0 or GetLastError. */
static DWORD replace_all(HANDLE file, const unsigned char *data, size_t size) {
    DWORD code = write_all(file, data, size, 0);

    if (code == 0)
        code = set_end(file, size);
    if (code == 0 && !FlushFileBuffers(file))
        code = GetLastError();
    return code;
}

/* Makes sure that the disk has room, before the old content changes: writes the part that is longer
 * than that.  0 or GetLastError. */
static DWORD make_room(HANDLE file, const unsigned char *data, size_t size, uint64_t old_size) {
    const size_t kept = size <= old_size ? size : (size_t)old_size;
    return write_all(file, data + kept, size - kept, kept);
}

/* Cuts off what make_room() may have added.  True when the file is as long as before. */
static bool cut_off(HANDLE file, uint64_t size) {
    msalex_stamp stamp;
    return set_end(file, size) == 0 || (msalex__fill_stamp(file, &stamp) && stamp.size == size);
}

/* Writes new content over the old content, and sends it to the disk.  A reader can find a mixture
 * meanwhile.  On failure the old content is there again, or the status is MSALEX_TORN.  (The old
 * content can only be restored when the handle may read as well.) */
static int overwrite(HANDLE file, const unsigned char *data, size_t size, msalex_error *error) {
    const char *call = "write in place";
    msalex_buffer content = {0};
    bool is_whole = true, has_content;
    msalex_stamp old;
    DWORD code;
    int status;

    if (!msalex__fill_stamp(file, &old))
        return msalex__fail_windows(error, GetLastError(), call);
    has_content =
        old.size <= MSALEX_FILE_SIZE_MAX && msalex__read_all(file, (size_t)old.size, &content) == 0;
    if ((code = make_room(file, data, size, old.size)) != 0)
        is_whole = cut_off(file, old.size);
    else if ((code = replace_all(file, data, size)) != 0)
        is_whole = has_content && replace_all(file, content.data, content.size) == 0;
    msalex_buffer_free(&content);
    if (code == 0)
        return msalex__ok(error);
    status = msalex__fail_windows(error, code, call);
    return is_whole ? status : MSALEX_TORN;
}

/* ---- preparing a save ---- */

struct save {
    struct msalex__place place; /* of the file to replace */
    struct msalex__new_content content;
    HANDLE file; /* the temporary file, or INVALID_HANDLE_VALUE */
    wchar_t temp[MSALEX__TEMP_NAME_SIZE];
    bool renamed; /* it has its final name */
    msalex_stamp stamp;
    int status; /* what to return after FAILED */
};

/* How far a save has come. */
enum outcome {
    DONE,     /* the new content has the name */
    PREPARED, /* the new content is in the temporary file */
    IN_PLACE, /* a temporary file cannot be made, or not be renamed: write into the old file */
    FAILED    /* the error says why */
};

int msalex__fail_too_large(msalex_error *error, const char *call) {
    return msalex__fail(error, MSALEX_INVALID, EFBIG, call,
                        "larger than 256 MiB, which no token cache is");
}

static int fail_lost(msalex_error *error) {
    return msalex__fail(error, MSALEX_LOCK_LOST, ENOENT, "GetFileInformationByHandle",
                        "somebody removed the lock file");
}

static enum outcome fail_save(struct save *save, DWORD code, const char *call,
                              msalex_error *error) {
    save->status = msalex__fail_windows(error, code, call);
    return FAILED;
}

/* May the file be replaced, if there is one?  A rename onto a directory fails, and Wine replaces a
 * read-only file, so this checks both. */
static int check_old(const struct save *save, msalex_error *error) {
    const struct msalex__place *place = &save->place;

    if (!place->exists && place->is_link) /* the target may only be away for a while */
        return msalex__fail(error, MSALEX_INVALID, ENOENT, "NtCreateFile",
                            "a symbolic link that leads nowhere");
    if (!place->exists)
        return msalex__ok(error);
    if (!save->content.replaces)
        return msalex__fail_errno(error, EEXIST, "NtCreateFile");
    if ((place->attributes & FILE_ATTRIBUTE_DIRECTORY) != 0)
        return msalex__fail_errno(error, EISDIR, "NtCreateFile");
    if ((place->attributes & FILE_ATTRIBUTE_READONLY) != 0)
        return msalex__fail(error, MSALEX_DENIED, EACCES, "NtCreateFile", "the file is read-only");
    return msalex__ok(error);
}

/* Makes the temporary file as the old file is.  A new file is kept out of the index of Windows
 * Search, which holds the text of files. */
static enum outcome make_temp(struct save *save, msalex_error *error) {
    const struct msalex__place *place = &save->place;
    const DWORD kept = place->exists ? place->attributes & KEPT_ATTRIBUTES
                                     : (DWORD)FILE_ATTRIBUTE_NOT_CONTENT_INDEXED;
    HANDLE old = INVALID_HANDLE_VALUE;
    PSECURITY_DESCRIPTOR list;
    bool listed;
    DWORD code;

    if (place->exists)
        old = msalex__place_open(place, READ_CONTROL, MSALEX__SHARE_ALL, MSALEX__NT_OPEN, NULL);
    listed = msalex__list_for(old, &list);
    msalex__close(old);
    if (!listed)
        return fail_save(save, GetLastError(), "GetTokenInformation", error);
    save->file =
        msalex__temp_open(place, kept != 0 ? kept : (DWORD)FILE_ATTRIBUTE_NORMAL, list, save->temp);
    code = GetLastError();
    (void)LocalFree(list);
    if (save->file != INVALID_HANDLE_VALUE)
        return PREPARED;
    if (place->exists && (code == ERROR_ACCESS_DENIED || code == ERROR_WRITE_PROTECT))
        return IN_PLACE;
    save->status = msalex__fail_to_make(error, code, "NtCreateFile");
    return FAILED;
}

bool msalex__set_time(HANDLE file) {
    FILETIME now;
    GetSystemTimeAsFileTime(&now);
    return SetFileTime(file, NULL, NULL, &now) != 0;
}

/* Sets the time, and fills the stamp, which is complete then.  The write itself has set a time that
 * is nearly the same, so it does no harm if this one is refused.  False with GetLastError: there is
 * no stamp. */
static bool finish(HANDLE file, msalex_stamp *stamp) {
    (void)msalex__set_time(file);
    return msalex__fill_stamp(file, stamp);
}

/* Writes the new content into a temporary file beside the old file. */
static enum outcome prepare(struct save *save, msalex_error *error) {
    const enum outcome outcome = make_temp(save, error);
    DWORD code;

    if (outcome != PREPARED)
        return outcome;
    if ((code = write_all(save->file, save->content.data, save->content.size, 0)) != 0)
        return fail_save(save, code, "WriteFile", error);
    if (!finish(save->file, &save->stamp))
        return fail_save(save, GetLastError(), "GetFileInformationByHandle", error);
    /* Before the rename: otherwise a power cut could leave an empty file with the name. */
    if (!FlushFileBuffers(save->file))
        return fail_save(save, GetLastError(), "FlushFileBuffers", error);
    return PREPARED;
}

/* Removes the temporary file by its handle, which no access list forbids, and closes it. */
static void drop_temp(struct save *save) {
    if (save->file != INVALID_HANDLE_VALUE && !save->renamed)
        (void)msalex__delete_open_file(save->file);
    msalex__close(save->file);
    save->file = INVALID_HANDLE_VALUE;
}

/* ---- putting the new content in place ---- */

/* For reading as well, so that a failure can be undone; but a list may grant writing only. */
static HANDLE open_in_place(const struct msalex__place *place) {
    HANDLE file = msalex__place_open_patiently(place, GENERIC_READ | GENERIC_WRITE, FILE_SHARE_READ,
                                               MSALEX__NT_OPEN, NULL);

    if (file == INVALID_HANDLE_VALUE && GetLastError() == ERROR_ACCESS_DENIED)
        file = msalex__place_open(place, GENERIC_WRITE, FILE_SHARE_READ, MSALEX__NT_OPEN, NULL);
    return file;
}

/* The last resort, where we may write to a file but not replace it. */
static enum outcome write_in_place(struct save *save, msalex_error *error) {
    HANDLE file = open_in_place(&save->place);

    if (file == INVALID_HANDLE_VALUE)
        return fail_save(save, GetLastError(), "NtCreateFile", error);
    save->status = overwrite(file, save->content.data, save->content.size, error);
    if (save->status == MSALEX_OK)
        (void)finish(file, &save->stamp);
    msalex__close(file);
    return save->status == MSALEX_OK ? DONE : FAILED;
}

/* Does the caller still hold the lock, if there is one?  On Windows nobody can remove its file, but
 * the caller may have given it back. */
static bool is_held(msalex_lock *guard) {
    msalex_error ignored;
    return guard == NULL || msalex_lock_check(guard, &ignored) == MSALEX_OK;
}

/* Does its access list keep us from deleting the file that has the name?  Then it keeps us from
 * replacing it, too. */
static bool refuses_deletion(const struct msalex__place *place) {
    HANDLE file = msalex__place_open(place, DELETE, MSALEX__SHARE_ALL, MSALEX__NT_OPEN, NULL);
    const DWORD code = GetLastError();
    msalex__close(file);
    return file == INVALID_HANDLE_VALUE && code == ERROR_ACCESS_DENIED;
}

/* Does this code mean that the file system has no POSIX rename?  FAT, Windows before 1607 and Wine
 * say 87 or 1; git met 50 and 1 on ReFS and Server 2016 (gitgitgadget/git#1948).  Volumes differ,
 * so this is not remembered. */
static bool lacks_posix(DWORD code) {
    return code == ERROR_INVALID_PARAMETER || code == ERROR_NOT_SUPPORTED ||
           code == ERROR_INVALID_FUNCTION;
}

/* Gives the temporary file the name.  0, or the code; `in_place`: the old file cannot be
 * replaced.  A classic rename says "denied" of a file that is open anywhere (MS-FSA,
 * "FileRenameInformation").  Once we know that no access list is the reason, that counts as a
 * sharing violation. */
static DWORD rename_patiently(struct save *save, bool *in_place) {
    const int64_t since = msalex__now_ms();
    bool posix = true, asked = false;
    DWORD code;

    *in_place = false;
    for (;;) {
        code = msalex__nt_rename(save->file, save->place.directory, save->place.name,
                                 save->content.replaces, posix);
        if (code == 0)
            return 0;
        if (posix && lacks_posix(code)) {
            posix = false;
            continue;
        }
        if (code == ERROR_ACCESS_DENIED && save->place.exists && !asked) {
            asked = true;
            *in_place = refuses_deletion(&save->place);
            if (*in_place)
                return code;
        }
        if (code == ERROR_ACCESS_DENIED && !posix && asked)
            code = ERROR_SHARING_VIOLATION;
        if (!msalex__place_may_pass(code, &save->place, since))
            return code;
    }
}

static enum outcome put(struct save *save, msalex_error *error) {
    bool in_place;
    const DWORD code = rename_patiently(save, &in_place);

    save->renamed = code == 0;
    drop_temp(save); /* at once: see the top */
    if (in_place)
        return IN_PLACE;
    return code == 0 ? DONE : fail_save(save, code, "NtSetInformationFile", error);
}

static int replace(struct save *save, msalex_stamp *stamp, msalex_error *error) {
    enum outcome outcome;
    int status;

    if ((status = check_old(save, error)) != MSALEX_OK)
        return status;
    outcome = prepare(save, error);
    if (outcome != FAILED && !is_held(save->content.guard)) {
        save->status = fail_lost(error);
        outcome = FAILED;
    }
    if (outcome == PREPARED)
        outcome = put(save, error);
    if (outcome == IN_PLACE)
        outcome = write_in_place(save, error);
    drop_temp(save);
    if (outcome != DONE)
        return save->status;
    *stamp = save->stamp;
    return msalex__ok(error);
}

int msalex__save(const char *path, struct msalex__new_content content, msalex_stamp *stamp,
                 msalex_error *error) {
    struct save save = {.content = content, .file = INVALID_HANDLE_VALUE};
    /* A link where a new file shall be exists, too. */
    const enum msalex__look look = content.replaces ? MSALEX__FOLLOW : MSALEX__ONLY_LOOK;
    int status;

    *stamp = (msalex_stamp){0};
    if (content.size > MSALEX_FILE_SIZE_MAX)
        return msalex__fail_too_large(error, "WriteFile");
    if ((status = msalex__place_find(path, look, &save.place, error)) != MSALEX_OK)
        return status;
    status = replace(&save, stamp, error);
    msalex__place_leave(&save.place);
    return status;
}
