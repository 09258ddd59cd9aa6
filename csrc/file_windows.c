/*
 * Files, Windows.  The promise is in msalex.h.  How a file is saved: save_windows.c.  Twin:
 * file_posix.c.
 *
 * Sharing.  A file that another program has open without sharing it gives error 32, and a file
 * that is being deleted gives error 303 (nt_windows.h).  Virus scanners and indexers cause both at
 * any time.  Both pass, so each call tries again for 2 s (place_windows.h); a caller that has more
 * patience calls again, and handles Ctrl-C in between.  A denial by an access list (error 5)
 * stays, and is told after MSALEX__DENIED_MS.  A read-only file gives error 5 as well, and is told
 * at once.
 */
#include "place_windows.h"

#include <errno.h>
#include <stdlib.h>

#include "access_windows.h"
#include "save_windows.h"
#include "temp_windows.h"

/* ---- saving ---- */

int msalex_file_replace(const char *path, const unsigned char *data, size_t size,
                        msalex_lock *guard, msalex_stamp *stamp, msalex_error *error) {
    const struct msalex__new_content content = {data, size, guard, true};
    return msalex__save(path, content, stamp, error);
}

int msalex_file_create(const char *path, const unsigned char *data, size_t size,
                       msalex_error *error) {
    const struct msalex__new_content content = {data, size, NULL, false};
    msalex_stamp ignored;
    return msalex__save(path, content, &ignored, error);
}

/* ---- looking ---- */

/* A file that is being deleted is as good as gone. */
int msalex_file_stat(const char *path, msalex_stamp *stamp, msalex_error *error) {
    wchar_t *wide = msalex__wide_path(path, error);
    DWORD code;

    *stamp = (msalex_stamp){0};
    if (wide == NULL)
        return msalex__status_of_errno((int)error->code);
    code = msalex__stamp_of_path(wide, stamp);
    free(wide);
    if (code == ERROR_DELETE_PENDING)
        code = ERROR_FILE_NOT_FOUND;
    return code == 0 ? msalex__ok(error)
                     : msalex__fail_windows(error, code, "GetFileInformationByHandle");
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

/* ---- reading ---- */

/* Opens the file to read it.  The usual one is no link, so this does not look before. */
static int open_to_read(const char *path, HANDLE *file, msalex_error *error) {
    enum msalex__look look = MSALEX__BLINDLY;
    struct msalex__place place;
    DWORD code;
    int status;

    for (;; look = MSALEX__FOLLOW) {
        if ((status = msalex__place_find(path, look, &place, error)) != MSALEX_OK)
            return status;
        *file = msalex__place_open_patiently(&place, GENERIC_READ, MSALEX__SHARE_ALL,
                                             MSALEX__NT_OPEN, NULL);
        code = GetLastError();
        msalex__place_leave(&place);
        if (*file != INVALID_HANDLE_VALUE && GetFileType(*file) == FILE_TYPE_DISK)
            return MSALEX_OK;
        if (*file != INVALID_HANDLE_VALUE) { /* a pipe: a read could wait for ever */
            msalex__close(*file);
            return msalex__fail(error, MSALEX_INVALID, EINVAL, "NtCreateFile",
                                "not a regular file");
        }
        if (code != MSALEX__MET_LINK || look == MSALEX__FOLLOW)
            return msalex__fail_windows(error, code, "NtCreateFile");
    }
}

int msalex_file_read(const char *path, msalex_buffer *content, msalex_stamp *stamp,
                     msalex_error *error) {
    HANDLE file;
    DWORD code = 0;
    int status;

    *content = (msalex_buffer){0};
    *stamp = (msalex_stamp){0};
    if ((status = open_to_read(path, &file, error)) != MSALEX_OK)
        return status;
    if (!msalex__fill_stamp(file, stamp))
        code = GetLastError();
    else if (stamp->size > MSALEX_FILE_SIZE_MAX)
        code = ERROR_FILE_TOO_LARGE;
    else
        code = msalex__read_all(file, (size_t)stamp->size, content);
    msalex__close(file);
    if (code == 0)
        return msalex__ok(error);
    msalex_buffer_free(content);
    *stamp = (msalex_stamp){0};
    return code == ERROR_FILE_TOO_LARGE ? msalex__fail_too_large(error, "ReadFile")
                                        : msalex__fail_windows(error, code, "ReadFile");
}

/* ---- the rest of the interface ---- */

int msalex_file_touch(const char *path, msalex_error *error) {
    struct msalex__place place;
    PSECURITY_DESCRIPTOR list;
    HANDLE file;
    DWORD code;
    int status;

    if ((status = msalex__place_find(path, MSALEX__FOLLOW, &place, error)) != MSALEX_OK)
        return status;
    list = msalex__private_list();
    file = msalex__place_open_patiently(&place, FILE_WRITE_ATTRIBUTES, MSALEX__SHARE_ALL,
                                        MSALEX__NT_OPEN_OR_CREATE, list);
    code = GetLastError();
    if (file == INVALID_HANDLE_VALUE)
        status = msalex__fail_to_make(error, code, "NtCreateFile");
    else if (!msalex__set_time(file))
        status = msalex__fail_windows(error, GetLastError(), "SetFileTime");
    else
        status = msalex__ok(error);
    msalex__close(file);
    (void)LocalFree(list);
    msalex__place_leave(&place);
    return status;
}

/* Removes what has the name: a file, or a link and not its target. */
static int delete_patiently(const struct msalex__place *place, msalex_error *error) {
    const struct msalex__nt_open request = {.name = place->name,
                                            .length = wcslen(place->name),
                                            .access = DELETE,
                                            .sharing = MSALEX__SHARE_ALL,
                                            .how = MSALEX__NT_OPEN,
                                            .options = MSALEX__NT_FILE | MSALEX__NT_LINK_ITSELF};
    const int64_t since = msalex__now_ms();
    HANDLE file;
    DWORD code;

    for (;;) {
        file = msalex__nt_open(place->directory, &request);
        code = GetLastError();
        if (file != INVALID_HANDLE_VALUE)
            code = msalex__delete_open_file(file) ? 0 : GetLastError();
        msalex__close(file);
        if (code == 0)
            return msalex__ok(error);
        if (!msalex__place_may_pass(code, place, since))
            return msalex__fail_windows(error, code, "NtCreateFile");
    }
}

/* The secret must be gone: so this removes a link, the file that it leads to, and the temporary
 * files of killed saves. */
int msalex_file_delete(const char *path, msalex_error *error) {
    struct msalex__place given, target;
    int status;

    if ((status = msalex__place_find(path, MSALEX__ONLY_LOOK, &given, error)) != MSALEX_OK)
        return status;
    if (given.is_link) {
        status = msalex__place_find(path, MSALEX__FOLLOW, &target, error);
        if (status == MSALEX_OK) {
            if (target.exists)
                status = delete_patiently(&target, error);
            (void)msalex__temp_sweep(&target, MSALEX__TEMP_DEAD_SOON_S);
            msalex__place_leave(&target);
        } else if (status != MSALEX_NOT_TRUSTED) {
            status = MSALEX_OK; /* it leads nowhere, and can go */
        }
    }
    if (status == MSALEX_OK)
        status = delete_patiently(&given, error);
    (void)msalex__temp_sweep(&given, MSALEX__TEMP_DEAD_SOON_S);
    msalex__place_leave(&given);
    return status;
}

int msalex_file_sweep(const char *path, msalex_error *error) {
    struct msalex__place place;
    int code, status;

    if ((status = msalex__place_find(path, MSALEX__FOLLOW, &place, error)) != MSALEX_OK)
        return status;
    code = msalex__temp_sweep(&place, MSALEX__TEMP_DEAD_S);
    msalex__place_leave(&place);
    return code != 0 ? msalex__fail_errno(error, code, "malloc") : msalex__ok(error);
}

int msalex_directory_make(const char *path, msalex_error *error) {
    wchar_t *wide = msalex__wide_path(path, error);
    int status;

    if (wide == NULL)
        return msalex__status_of_errno((int)error->code);
    status = CreateDirectoryW(wide, NULL)
                 ? msalex__ok(error)
                 : msalex__fail_windows(error, GetLastError(), "CreateDirectoryW");
    free(wide);
    return status;
}
