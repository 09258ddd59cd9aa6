/*
 * Where a path leads, Windows: see place_windows.h.
 *
 * The usual path has no link.  Then one open gets its directory: it starts at the root of the drive
 * and fails when it meets a link (OBJ_DONT_REPARSE).  Otherwise the parts are opened one by one,
 * each in the directory before it and without following, so that each step can be judged.  A link
 * that is trusted gives a new path, and the search begins again with that.
 */
#include "place_windows.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <winioctl.h>

#include "access_windows.h"

enum {
    HOPS_MAX = 32,
    TAG_INFO = 9, /* FileAttributeTagInfo */
    RETRY_MS = 2000,
    RETRY_PAUSE_MS = 5
};

static int fail_not_trusted(const wchar_t *link, size_t length, const char *owner,
                            msalex_error *error) {
    char text[300], message[sizeof error->message];
    const wchar_t *shown = msalex__without_prefix(link);

    msalex__narrow(shown, length - (size_t)(shown - link), text, sizeof text);
    (void)snprintf(message, sizeof message,
                   "The link \"%s\" belongs to %s and may lead anywhere: it was not followed", text,
                   owner);
    return msalex__fail(error, MSALEX_NOT_TRUSTED, EACCES, "NtCreateFile", message);
}

/* ---- links ---- */

/* FILE_ATTRIBUTE_TAG_INFO */
struct tag_info {
    DWORD attributes;
    DWORD tag;
};

static bool look_at(HANDLE file, struct tag_info *found) {
    BY_HANDLE_FILE_INFORMATION old;

    if (GetFileInformationByHandleEx(file, (FILE_INFO_BY_HANDLE_CLASS)TAG_INFO, found,
                                     sizeof *found))
        return true;
    if (!GetFileInformationByHandle(file, &old)) /* a file system without tags has no links */
        return false;
    found->attributes = old.dwFileAttributes;
    found->tag = 0;
    return true;
}

static bool is_link(const struct tag_info *found) {
    return (found->attributes & FILE_ATTRIBUTE_REPARSE_POINT) != 0 &&
           IsReparseTagNameSurrogate(found->tag);
}

/* REPARSE_DATA_BUFFER of a link, which only the headers of drivers have.  A symbolic link has the
 * flags in front of its text. */
struct link_data {
    DWORD tag;
    WORD size, reserved, text_at, text_size, print_at, print_size;
    BYTE rest[16384 - 16]; /* MAXIMUM_REPARSE_DATA_BUFFER_SIZE */
};

/* Where the link leads, as it is written there, to be freed.  NULL with GetLastError. */
static wchar_t *read_link(HANDLE link, bool *relative) {
    struct link_data *data = calloc(1, sizeof *data);
    const BYTE *text;
    wchar_t *target = NULL;
    DWORD size, flags = 0;

    if (data != NULL &&
        DeviceIoControl(link, FSCTL_GET_REPARSE_POINT, NULL, 0, data, sizeof *data, &size, NULL)) {
        text = data->rest;
        if (data->tag == IO_REPARSE_TAG_SYMLINK) {
            memcpy(&flags, text, sizeof flags);
            text += sizeof flags;
        }
        SetLastError(ERROR_CANT_ACCESS_FILE);
        if ((data->tag == IO_REPARSE_TAG_SYMLINK || data->tag == IO_REPARSE_TAG_MOUNT_POINT) &&
            (size_t)data->text_at + data->text_size <= sizeof data->rest - sizeof flags &&
            (target = calloc(1, data->text_size + sizeof *target)) != NULL)
            memcpy(target, text + data->text_at, data->text_size);
    }
    *relative = (flags & 1) != 0; /* SYMLINK_FLAG_RELATIVE */
    free(data);
    return target;
}

/* Takes "." and ".." out of a path, behind its root. */
static void collapse(wchar_t *path) {
    const size_t root = msalex__root_length(path);
    wchar_t *from = path + root, *to = from;

    while (*from != L'\0') {
        const wchar_t *end = wcschr(from, L'\\');
        const size_t length = end == NULL ? wcslen(from) : (size_t)(end - from);
        const size_t step = length + (end != NULL);

        if (length == 2 && wcsncmp(from, L"..", 2) == 0) {
            for (to -= to > path + root; to > path + root && to[-1] != L'\\';)
                to--;
        } else if (length > 0 && !(length == 1 && from[0] == L'.')) {
            memmove(to, from, step * sizeof *to);
            to += step;
        }
        from += step;
    }
    *to = L'\0';
}

/* The path with the link (the first `length` characters) replaced by what it leads to. */
static wchar_t *replace_link(const wchar_t *path, size_t length, const wchar_t *target,
                             bool relative) {
    const size_t room = wcslen(path) + wcslen(target) + 8;
    wchar_t *made = malloc(room * sizeof *made);
    size_t kept = 0;

    if (made == NULL)
        return NULL;
    if (relative && target[0] == L'\\') {
        kept = msalex__root_length(path);
        target++;
    } else if (relative) {
        for (kept = length; path[kept - 1] != L'\\';)
            kept--;
    } else if (wcsncmp(target, L"\\??\\", 4) == 0) { /* NT's name for what Win32 calls \\?\ */
        target += 4;
    }
    (void)swprintf(made, room, L"%ls%.*ls%ls", relative ? L"" : L"\\\\?\\", (int)kept, path,
                   target);
    if (path[length] == L'\\' && made[wcslen(made) - 1] == L'\\')
        length++;
    wcscat(made, path + length);
    collapse(made);
    return made;
}

/* The link is the first `length` characters of the path; `part` is its name in the directory.
 * MSALEX_OK: `target` is the path to go on with. */
static int follow(HANDLE directory, const struct msalex__nt_open *part, const wchar_t *path,
                  size_t length, wchar_t **target, msalex_error *error) {
    struct msalex__nt_open again = *part;
    char owner[MSALEX__OWNER_SIZE] = "another user";
    struct tag_info found;
    wchar_t *text = NULL;
    bool relative;
    HANDLE link;

    again.access = READ_CONTROL;
    link = msalex__nt_open(directory, &again);
    if (link == INVALID_HANDLE_VALUE || !msalex__is_trusted(link, owner)) {
        msalex__close(link);
        return fail_not_trusted(path, length, owner, error);
    }
    if (look_at(link, &found) && is_link(&found) && (text = read_link(link, &relative)) != NULL)
        *target = replace_link(path, length, text, relative);
    msalex__close(link);
    free(text);
    if (*target != NULL)
        return MSALEX_OK;
    return msalex__fail_windows(error, GetLastError(), "FSCTL_GET_REPARSE_POINT");
}

/* ---- the directory ---- */

/* Opens the directories one by one.  MSALEX_OK with a `target`: a link was met, and that is the
 * path to go on with. */
static int walk(HANDLE *directory, const wchar_t *path, size_t at, size_t end, wchar_t **target,
                msalex_error *error) {
    struct msalex__nt_open part = {.sharing = MSALEX__SHARE_ALL, .how = MSALEX__NT_OPEN};
    struct tag_info found;
    HANDLE next;

    part.options = MSALEX__NT_LINK_ITSELF | MSALEX__NT_DIRECTORY;
    while (at < end) {
        part.name = path + at;
        part.length = wcscspn(part.name, L"\\");
        at += part.length + 1;
        next = msalex__nt_open(*directory, &part);
        if (next == INVALID_HANDLE_VALUE || !look_at(next, &found)) {
            const DWORD code = GetLastError();
            msalex__close(next);
            return msalex__fail_windows(error, code, "NtCreateFile");
        }
        if (is_link(&found)) {
            const int status = follow(*directory, &part, path, at - 1, target, error);
            msalex__close(next);
            return status;
        }
        msalex__close(*directory);
        *directory = next;
    }
    return MSALEX_OK;
}

/* The start of the path, up to a backslash, opened by Win32. */
static HANDLE open_start(wchar_t *path, size_t length) {
    const wchar_t next = path[length];
    HANDLE start;

    path[length] = L'\0';
    start = msalex__open_attributes(path, 0);
    path[length] = next;
    return start;
}

/* A drive, or a volume by its number; and not a share, or a name of NT (GLOBALROOT). */
static bool is_volume(const wchar_t *path) {
    return path[5] == L':' || _wcsnicmp(path + 4, L"Volume{", 7) == 0;
}

static int fail_no_file(msalex_error *error) {
    return msalex__fail(error, MSALEX_INVALID, EINVAL, "CreateFileW", "not a regular file");
}

/* Opens the directory without a look at the way to it. */
static int enter_at_once(struct msalex__place *place, size_t end, msalex_error *error) {
    place->directory = open_start(place->path, end);
    return place->directory != INVALID_HANDLE_VALUE
               ? MSALEX_OK
               : msalex__fail_windows(error, GetLastError(), "CreateFileW");
}

/* Opens the directory of the path, which ends at `end`.  A process that may not even look at
 * the root of a drive may still use directories below it, for example in a sandbox. */
static int enter(struct msalex__place *place, size_t end, wchar_t **target, msalex_error *error) {
    const size_t root = msalex__root_length(place->path);
    struct msalex__nt_open all = {.name = place->path + root,
                                  .length = end > root ? end - root - 1 : 0,
                                  .sharing = MSALEX__SHARE_ALL,
                                  .how = MSALEX__NT_OPEN,
                                  .options = MSALEX__NT_DIRECTORY,
                                  .no_links = true};
    HANDLE start, directory;
    DWORD code;

    if (!is_volume(place->path))
        return enter_at_once(place, end, error);
    start = open_start(place->path, root);
    if (start == INVALID_HANDLE_VALUE && GetLastError() == ERROR_ACCESS_DENIED)
        return enter_at_once(place, end, error);
    if (start == INVALID_HANDLE_VALUE)
        return msalex__fail_windows(error, GetLastError(), "CreateFileW");
    place->directory = start;
    if (all.length == 0)
        return MSALEX_OK;
    all.no_links = !msalex__is_remote(start);
    directory = msalex__nt_open(start, &all);
    code = GetLastError();
    if (directory != INVALID_HANDLE_VALUE) {
        msalex__close(start);
        place->directory = directory;
        return MSALEX_OK;
    }
    if (code != MSALEX__MET_LINK && code != ERROR_INVALID_PARAMETER)
        return msalex__fail_windows(error, code, "NtCreateFile");
    return walk(&place->directory, place->path, root, end, target, error);
}

/* ---- the last part ---- */

static struct msalex__nt_open last_part(const struct msalex__place *place) {
    return (struct msalex__nt_open){.name = place->name,
                                    .length = wcslen(place->name),
                                    .sharing = MSALEX__SHARE_ALL,
                                    .how = MSALEX__NT_OPEN,
                                    .options = MSALEX__NT_LINK_ITSELF};
}

/* A file that may not even be looked at exists.  One that is being deleted is as good as gone. */
static int look_at_name(struct msalex__place *place, enum msalex__look look, wchar_t **target,
                        msalex_error *error) {
    const struct msalex__nt_open part = last_part(place);
    HANDLE file = msalex__nt_open(place->directory, &part);
    struct tag_info found = {.attributes = FILE_ATTRIBUTE_NORMAL};
    const DWORD code = GetLastError();

    if (file == INVALID_HANDLE_VALUE && code != ERROR_ACCESS_DENIED) {
        if (code == ERROR_FILE_NOT_FOUND || code == ERROR_DELETE_PENDING)
            return MSALEX_OK;
        return msalex__fail_windows(error, code, "NtCreateFile");
    }
    if (file != INVALID_HANDLE_VALUE)
        (void)look_at(file, &found);
    msalex__close(file);
    place->exists = true;
    place->attributes = found.attributes;
    if (!is_link(&found))
        return MSALEX_OK;
    place->is_link = true;
    if (look != MSALEX__FOLLOW)
        return MSALEX_OK;
    place->exists = false;
    return follow(place->directory, &part, place->path, wcslen(place->path), target, error);
}

/* One round of the search.  MSALEX_OK with a `target`: go on with that. */
static int find(struct msalex__place *place, enum msalex__look look, wchar_t **target,
                msalex_error *error) {
    const size_t root = msalex__root_length(place->path);
    const wchar_t *last = wcsrchr(place->path, L'\\');
    int status;

    if (root == 0) /* NUL, COM1 and other devices */
        return fail_no_file(error);
    place->name = last + 1;
    if (place->name[0] == L'\0')
        return msalex__fail_errno(error, EISDIR, "NtCreateFile");
    status = enter(place, (size_t)(place->name - place->path), target, error);
    if (status != MSALEX_OK || *target != NULL)
        return status;
    if (GetFileType(place->directory) != FILE_TYPE_DISK) /* named pipes */
        return fail_no_file(error);
    return look == MSALEX__BLINDLY ? MSALEX_OK : look_at_name(place, look, target, error);
}

/* ---- the interface ---- */

int msalex__place_find(const char *path, enum msalex__look look, struct msalex__place *place,
                       msalex_error *error) {
    wchar_t *target = NULL;
    bool is_link = false;
    int status = MSALEX_OK;

    *place = (struct msalex__place){.directory = INVALID_HANDLE_VALUE};
    if ((place->path = msalex__wide_path(path, error)) == NULL)
        return msalex__status_of_errno((int)error->code);
    for (int hops = 0; hops <= HOPS_MAX; hops++) {
        target = NULL;
        status = find(place, look, &target, error);
        if (status != MSALEX_OK)
            break;
        is_link = is_link || place->is_link;
        place->is_link = is_link;
        if (target == NULL)
            return MSALEX_OK;
        msalex__place_leave(place);
        *place = (struct msalex__place){.directory = INVALID_HANDLE_VALUE, .path = target};
    }
    msalex__place_leave(place);
    if (status != MSALEX_OK)
        return status;
    return msalex__fail_windows(error, ERROR_CANT_RESOLVE_FILENAME, "NtCreateFile");
}

HANDLE msalex__place_open(const struct msalex__place *place, DWORD access, DWORD sharing, DWORD how,
                          PSECURITY_DESCRIPTOR security) {
    struct msalex__nt_open file = last_part(place);
    HANDLE opened;

    file.access = access;
    file.sharing = sharing;
    file.how = how;
    file.security = security;
    file.attributes = FILE_ATTRIBUTE_NORMAL;
    file.options = MSALEX__NT_FILE;
    file.no_links = (place->attributes & FILE_ATTRIBUTE_REPARSE_POINT) == 0;
    opened = msalex__nt_open(place->directory, &file);
    if (opened != INVALID_HANDLE_VALUE || GetLastError() != ERROR_INVALID_PARAMETER ||
        !file.no_links)
        return opened;
    file.no_links = false; /* something between here and the disk does not know this */
    file.options |= MSALEX__NT_LINK_ITSELF;
    return msalex__nt_open(place->directory, &file);
}

DWORD msalex__place_attributes(const struct msalex__place *place) {
    const struct msalex__nt_open part = last_part(place);
    HANDLE file = msalex__nt_open(place->directory, &part);
    struct tag_info found = {.attributes = INVALID_FILE_ATTRIBUTES};

    if (file != INVALID_HANDLE_VALUE)
        (void)look_at(file, &found);
    msalex__close(file);
    return found.attributes;
}

bool msalex__place_may_pass(DWORD code, const struct msalex__place *place, int64_t since) {
    const int64_t tried_ms = msalex__now_ms() - since;

    if (!msalex__may_pass(code, tried_ms) || tried_ms >= RETRY_MS)
        return false;
    if (code == ERROR_ACCESS_DENIED) {
        const DWORD attributes = msalex__place_attributes(place);
        if (attributes != INVALID_FILE_ATTRIBUTES && (attributes & FILE_ATTRIBUTE_READONLY) != 0)
            return false;
    }
    msalex__pause(RETRY_PAUSE_MS);
    return true;
}

HANDLE msalex__place_open_patiently(const struct msalex__place *place, DWORD access, DWORD sharing,
                                    DWORD how, PSECURITY_DESCRIPTOR list) {
    const int64_t since = msalex__now_ms();
    HANDLE file;
    DWORD code;

    for (;;) {
        file = msalex__place_open(place, access, sharing, how, list);
        if (file != INVALID_HANDLE_VALUE)
            return file;
        code = GetLastError();
        if (!msalex__place_may_pass(code, place, since)) {
            SetLastError(code);
            return file;
        }
    }
}

/* The directory is open, so a file that cannot be made there for want of it is refused by something
 * else: controlled folder access says "not found" to each program that it does not know. */
int msalex__fail_to_make(msalex_error *error, DWORD code, const char *call) {
    if (code != ERROR_FILE_NOT_FOUND && code != ERROR_PATH_NOT_FOUND)
        return msalex__fail_windows(error, code, call);
    return msalex__fail(error, MSALEX_DENIED, EACCES, call,
                        "The directory is there, but no file can be made in it.  A protection such "
                        "as Controlled folder access of Windows Security forbids that to this "
                        "program [WinError 2]");
}

void msalex__place_leave(struct msalex__place *place) {
    msalex__close(place->directory);
    free(place->path);
    place->directory = INVALID_HANDLE_VALUE;
    place->path = NULL;
}
