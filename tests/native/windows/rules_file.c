/*
 * Rules about files: see rules.h.
 *
 * What the headers of Debian 12 do not have is declared here, with the values of the
 * documentation.
 */
#include "rules.h"

#include <string.h>

/* FILE_INFO_BY_HANDLE_CLASS, FILE_INFO_BY_NAME_CLASS, and the flags of their structures. */
enum { ID_INFO = 18, DISPOSITION_EX = 21, RENAME_EX = 22, STAT_BASIC_BY_NAME = 3 };
enum { DISPOSITION_DELETE = 1, DISPOSITION_POSIX = 2, RENAME_REPLACE = 1, RENAME_POSIX = 2 };
enum { NT_RENAME_EX = 65, UNPRIVILEGED_LINK = 2, LONG_NAME = 120 };

struct rename_info {
    DWORD flags;
    HANDLE root;
    DWORD length;
    wchar_t name[2 * MAX_PATH];
};

struct id_info {
    ULONGLONG volume;
    BYTE id[16];
};

/* ---- deletion ---- */

/* A handle whose file is being deleted, in the way that it always was. */
static HANDLE being_deleted(void) {
    FILE_DISPOSITION_INFO info = {TRUE};
    HANDLE file = open_file(FILE_NAME, DELETE, ALL, OPEN_EXISTING, 0);
    (void)SetFileInformationByHandle(file, FileDispositionInfo, &info, sizeof info);
    return file;
}

bool a_deleted_file_is_not_opened(void) {
    HANDLE file = being_deleted();
    const bool shown = !can_open(FILE_NAME) && code == ERROR_ACCESS_DENIED;
    close_file(file);
    return shown;
}

bool a_deleted_files_name_is_taken(void) {
    HANDLE file = being_deleted();
    HANDLE other = open_file(FILE_NAME, GENERIC_WRITE, ALL, CREATE_NEW, 0);
    const bool shown = code == ERROR_ACCESS_DENIED;
    close_file(other);
    close_file(file);
    return shown;
}

bool the_status_tells_a_deletion(void) {
    LONG(NTAPI * last_status)(void);
    HANDLE file = being_deleted();
    LONG status = 0;

    find_function(L"ntdll", "RtlGetLastNtStatus", &last_status);
    if (!can_open(FILE_NAME) && last_status != NULL)
        status = last_status();
    code = (DWORD)status;
    close_file(file);
    return status == (LONG)0xC0000056;
}

bool a_posix_deletion_frees_the_name(void) {
    DWORD flags = DISPOSITION_DELETE | DISPOSITION_POSIX;
    HANDLE file = open_file(FILE_NAME, DELETE, ALL, OPEN_EXISTING, 0);
    HANDLE reader = open_file(FILE_NAME, GENERIC_READ, ALL, OPEN_EXISTING, 0);
    bool shown = said(SetFileInformationByHandle(file, (FILE_INFO_BY_HANDLE_CLASS)DISPOSITION_EX,
                                                 &flags, sizeof flags));
    close_file(file);
    shown = shown && !can_open(FILE_NAME) && code == ERROR_FILE_NOT_FOUND;
    close_file(reader);
    return shown;
}

/* ---- renaming ---- */

static bool handle_has(HANDLE file, const char *text) {
    char content[32];
    DWORD size;
    return ReadFile(file, content, sizeof content, &size, NULL) && size == strlen(text) &&
           memcmp(content, text, size) == 0;
}

/* What renames a file to the file's name with POSIX semantics; the prefix is that of the path. */
static struct rename_info renaming(const wchar_t *prefix) {
    struct rename_info info = {.flags = RENAME_REPLACE | RENAME_POSIX};
    (void)swprintf(info.name, 2 * MAX_PATH, L"%ls%ls\\%ls", prefix, directory, FILE_NAME);
    info.length = (DWORD)(wcslen(info.name) * sizeof *info.name);
    return info;
}

/* Renames the other file so. */
static bool rename_over(void) {
    const FILE_INFO_BY_HANDLE_CLASS kind = (FILE_INFO_BY_HANDLE_CLASS)RENAME_EX;
    struct rename_info info = renaming(L"");
    HANDLE file = open_file(OTHER_NAME, DELETE | SYNCHRONIZE, ALL, OPEN_EXISTING, 0);

    (void)said(SetFileInformationByHandle(file, kind, &info, sizeof info));
    close_file(file);
    return code == 0;
}

static bool move_over(void) {
    return said(MoveFileExW(OTHER_NAME, FILE_NAME, MOVEFILE_REPLACE_EXISTING));
}

bool a_move_replaces_no_open_file(void) {
    HANDLE reader = open_file(FILE_NAME, GENERIC_READ, ALL, OPEN_EXISTING, 0);
    const bool shown = !move_over() && code == ERROR_ACCESS_DENIED;
    close_file(reader);
    return shown;
}

bool a_posix_rename_replaces_an_open_file(void) {
    HANDLE reader = open_file(FILE_NAME, GENERIC_READ, ALL, OPEN_EXISTING, 0);
    const bool shown = rename_over() && handle_has(reader, "file");
    close_file(reader);
    return shown;
}

bool nt_renames_so_too(void) {
    LONG(NTAPI * set_information)(HANDLE, ULONG_PTR *, void *, ULONG, int);
    struct rename_info info = renaming(L"\\??\\");
    ULONG_PTR result[2];
    HANDLE reader = open_file(FILE_NAME, GENERIC_READ, ALL, OPEN_EXISTING, 0);
    HANDLE file = open_file(OTHER_NAME, DELETE | SYNCHRONIZE, ALL, OPEN_EXISTING, 0);

    find_function(L"ntdll", "NtSetInformationFile", &set_information);
    if (set_information != NULL)
        code = (DWORD)set_information(file, result, &info, sizeof info, NT_RENAME_EX);
    close_file(file);
    close_file(reader);
    return set_information != NULL && code == 0;
}

bool a_posix_rename_needs_shared_deletion(void) {
    HANDLE reader =
        open_file(FILE_NAME, GENERIC_READ, FILE_SHARE_READ | FILE_SHARE_WRITE, OPEN_EXISTING, 0);
    const bool shown = !rename_over() && code == ERROR_SHARING_VIOLATION;
    close_file(reader);
    return shown;
}

bool a_move_replaces_no_read_only_file(void) {
    (void)SetFileAttributesW(FILE_NAME, FILE_ATTRIBUTE_READONLY);
    return !move_over() && code == ERROR_ACCESS_DENIED;
}

bool a_posix_rename_replaces_no_read_only_file(void) {
    (void)SetFileAttributesW(FILE_NAME, FILE_ATTRIBUTE_READONLY);
    return !rename_over() && code == ERROR_ACCESS_DENIED;
}

bool a_rename_is_told(void) {
    HANDLE watch = FindFirstChangeNotificationW(directory, FALSE, FILE_NOTIFY_CHANGE_FILE_NAME);
    bool shown = said(watch != INVALID_HANDLE_VALUE);

    if (shown) {
        (void)MoveFileExW(OTHER_NAME, FILE_NAME, MOVEFILE_REPLACE_EXISTING);
        shown = WaitForSingleObject(watch, PATIENCE_MS) == WAIT_OBJECT_0;
        (void)FindCloseChangeNotification(watch);
    }
    return shown;
}

/* ---- names and identity ---- */

bool a_long_path_needs_its_prefix(void) {
    wchar_t name[LONG_NAME + 1], made[4 * MAX_PATH], inner[4 * MAX_PATH];
    bool shown = false;

    (void)wmemset(name, L'n', LONG_NAME);
    name[LONG_NAME] = 0;
    (void)swprintf(made, 4 * MAX_PATH, L"\\\\?\\%ls\\%ls", directory, name);
    (void)swprintf(inner, 4 * MAX_PATH, L"%ls\\%ls%ls", made, name, name);
    if (CreateDirectoryW(made, NULL)) {
        close_file(open_file(inner, GENERIC_WRITE, 0, CREATE_NEW, 0));
        shown = code == 0 && !can_open(inner + 4) && code != ERROR_FILE_NOT_FOUND;
        (void)DeleteFileW(inner);
        (void)RemoveDirectoryW(made);
    }
    return shown;
}

bool a_file_has_an_id_of_128_bits(void) {
    struct id_info one = {0}, two = {0};
    HANDLE first = open_file(FILE_NAME, 0, ALL, OPEN_EXISTING, 0);
    HANDLE second = open_file(FILE_NAME, 0, ALL, OPEN_EXISTING, 0);
    const FILE_INFO_BY_HANDLE_CLASS kind = (FILE_INFO_BY_HANDLE_CLASS)ID_INFO;
    const bool shown = said(GetFileInformationByHandleEx(first, kind, &one, sizeof one)) &&
                       said(GetFileInformationByHandleEx(second, kind, &two, sizeof two)) &&
                       memcmp(&one, &two, sizeof one) == 0;
    close_file(second);
    close_file(first);
    return shown;
}

bool a_file_is_looked_at_by_name(void) {
    BOOL(WINAPI * by_name)(PCWSTR, int, PVOID, ULONG);
    ULONGLONG information[32];

    find_function(L"kernelbase", "GetFileInformationByName", &by_name);
    code = ERROR_PROC_NOT_FOUND;
    return by_name != NULL &&
           said(by_name(FILE_NAME, STAT_BASIC_BY_NAME, information, sizeof information));
}

bool a_time_is_kept_to_100_ns(void) {
    const FILETIME asked = {0x12345677, 0x01d00001};
    FILETIME told = {0};
    HANDLE file = open_file(FILE_NAME, GENERIC_READ | GENERIC_WRITE, ALL, OPEN_EXISTING, 0);
    const bool shown = said(SetFileTime(file, NULL, NULL, &asked)) &&
                       said(GetFileTime(file, NULL, NULL, &told)) &&
                       CompareFileTime(&asked, &told) == 0;
    close_file(file);
    return shown;
}

bool a_link_can_be_made(void) {
    DWORD attributes;

    take_away(OTHER_NAME);
    if (!said(CreateSymbolicLinkW(OTHER_NAME, FILE_NAME, UNPRIVILEGED_LINK)))
        return false;
    attributes = GetFileAttributesW(OTHER_NAME);
    return said(attributes != INVALID_FILE_ATTRIBUTES) &&
           (attributes & FILE_ATTRIBUTE_REPARSE_POINT) != 0;
}
