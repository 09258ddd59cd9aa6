/* What the Windows files share.  The promises are in os_windows.h. */
#include "os_windows.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The one place where GetLastError codes of file calls get their meaning. */
static const struct {
    DWORD code;
    int meaning;
} windows_table[] = {
    {ERROR_FILE_NOT_FOUND, ENOENT},
    {ERROR_PATH_NOT_FOUND, ENOENT},    /* its directory */
    {ERROR_BAD_NETPATH, ENOENT},       /* no such server */
    {ERROR_BAD_NET_NAME, ENOENT},      /* no such share */
    {ERROR_ACCESS_DENIED, EACCES},     /* access lists, read-only, pending deletion */
    {ERROR_SHARING_VIOLATION, EACCES}, /* open elsewhere, and not shared */
    {ERROR_LOCK_VIOLATION, EACCES},    /* a byte range is locked */
    {ERROR_USER_MAPPED_FILE, EACCES},  /* mapped into memory by a program */
    {ERROR_PRIVILEGE_NOT_HELD, EPERM},
    {ERROR_WRITE_PROTECT, EROFS},
    {ERROR_ALREADY_EXISTS, EEXIST},
    {ERROR_FILE_EXISTS, EEXIST},
    {ERROR_DISK_FULL, ENOSPC},
    {ERROR_HANDLE_DISK_FULL, ENOSPC},
    {ERROR_NOT_ENOUGH_QUOTA, ENOSPC},
    {ERROR_NOT_ENOUGH_MEMORY, ENOMEM},
    {ERROR_OUTOFMEMORY, ENOMEM},
    {ERROR_TOO_MANY_OPEN_FILES, EMFILE},
    {ERROR_DIRECTORY, ENOTDIR},   /* a file where a directory belongs */
    {ERROR_INVALID_NAME, EINVAL}, /* characters that no file name may have */
    {ERROR_BAD_PATHNAME, EINVAL},
    {ERROR_INVALID_PARAMETER, EINVAL},
    {ERROR_CANT_RESOLVE_FILENAME, EINVAL}, /* links in a circle */
    {ERROR_FILENAME_EXCED_RANGE, ENAMETOOLONG},
    {ERROR_BUFFER_OVERFLOW, ENAMETOOLONG},
};

int msalex__errno_of_windows(DWORD code) {
    for (size_t i = 0; i < sizeof windows_table / sizeof windows_table[0]; i++) {
        if (windows_table[i].code == code)
            return windows_table[i].meaning;
    }
    return EIO;
}

void msalex__words_of_windows(DWORD code, char *words, size_t size) {
    const DWORD flags = FORMAT_MESSAGE_FROM_SYSTEM | FORMAT_MESSAGE_IGNORE_INSERTS;
    wchar_t wide[160]; /* at most three bytes each in UTF-8, and the error holds 472 */
    DWORD length = FormatMessageW(flags, NULL, code, 0, wide, 160, NULL);
    int bytes;

    while (length > 0 && wcschr(L"\r\n .", wide[length - 1]) != NULL)
        length--;
    bytes = WideCharToMultiByte(CP_UTF8, 0, wide, (int)length, words, (int)size - 1, NULL, NULL);
    words[bytes] = '\0';
    if (bytes == 0)
        (void)snprintf(words, size, "no description");
}

int msalex__fail_windows(msalex_error *error, DWORD code, const char *call) {
    const int meaning = msalex__errno_of_windows(code);
    char words[400], message[sizeof error->message];

    msalex__words_of_windows(code, words, sizeof words);
    (void)snprintf(message, sizeof message, "%s [WinError %lu]", words, (unsigned long)code);
    return msalex__fail(error, msalex__status_of_errno(meaning), meaning, call, message);
}

/* ---- paths ---- */

enum {
    LONGEST_NAME = 255,      /* of one part, on every file system of Windows */
    LONGEST_PLAIN_PATH = 247 /* the most that a directory may have without the prefix */
};

static wchar_t *utf16_of(const char *text) {
    int length = MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, text, -1, NULL, 0);
    wchar_t *wide;

    if (length <= 0 || (wide = malloc((size_t)length * sizeof *wide)) == NULL)
        return NULL;
    (void)MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, text, -1, wide, length);
    return wide;
}

/* We look ourselves, because file systems have many codes for this, even "not found". */
static bool has_long_name(const wchar_t *path) {
    size_t length = 0;
    while (*path != L'\0' && length <= LONGEST_NAME) {
        length = *path == L'\\' ? 0 : length + 1;
        path++;
    }
    return length > LONGEST_NAME;
}

wchar_t *msalex__wide_path(const char *path, msalex_error *error) {
    static const wchar_t PLAIN[] = L"\\\\?\\", SHARE[] = L"\\\\?\\UNC\\";
    const size_t room = sizeof SHARE / sizeof SHARE[0];
    wchar_t *given = utf16_of(path), *full = NULL, *start;
    const wchar_t *prefix = L"";
    DWORD length;

    if (given == NULL) {
        (void)msalex__fail(error, MSALEX_INVALID, EINVAL, "MultiByteToWideChar",
                           "the path is not Unicode text");
        return NULL;
    }
    length = GetFullPathNameW(given, 0, NULL, NULL); /* with the NUL */
    if (length == 0 || (full = malloc((length + room) * sizeof *full)) == NULL) {
        (void)msalex__fail_windows(error, length == 0 ? GetLastError() : ERROR_NOT_ENOUGH_MEMORY,
                                   "GetFullPathNameW");
        free(given);
        return NULL;
    }
    /* In front of it is room for the longer prefix. */
    start = full + room;
    length = GetFullPathNameW(given, length, start, NULL);
    free(given);
    if (length > LONGEST_PLAIN_PATH && wcsncmp(start, L"\\\\?\\", 4) != 0 &&
        wcsncmp(start, L"\\\\.\\", 4) != 0) {
        const bool share = wcsncmp(start, L"\\\\", 2) == 0;
        prefix = share ? SHARE : PLAIN;
        start += share ? 2 : 0;
    }
    length = (DWORD)wcslen(prefix);
    memcpy(full, prefix, length * sizeof *full);
    memmove(full + length, start, (wcslen(start) + 1) * sizeof *full);
    if (!has_long_name(full))
        return full;
    (void)msalex__fail_windows(error, ERROR_FILENAME_EXCED_RANGE, "GetFullPathNameW");
    free(full);
    return NULL;
}

/* ---- handles ---- */

void msalex__close(HANDLE handle) {
    const DWORD code = GetLastError();
    if (handle != INVALID_HANDLE_VALUE)
        (void)CloseHandle(handle);
    SetLastError(code);
}

bool msalex__identify(HANDLE file, struct msalex__identity *identity) {
    BY_HANDLE_FILE_INFORMATION found;
    if (!GetFileInformationByHandle(file, &found))
        return false;
    identity->device = found.dwVolumeSerialNumber;
    identity->index = (uint64_t)found.nFileIndexHigh << 32 | found.nFileIndexLow;
    return true;
}

enum { REMOTE_PROTOCOL_INFO = 13 }; /* FileRemoteProtocolInfo, which old headers lack */

bool msalex__is_remote(HANDLE file) {
    union {
        BYTE bytes[512]; /* FILE_REMOTE_PROTOCOL_INFO */
        int64_t aligned;
    } unused;
    return GetFileInformationByHandleEx(file, (FILE_INFO_BY_HANDLE_CLASS)REMOTE_PROTOCOL_INFO,
                                        &unused, sizeof unused) != 0;
}

bool msalex__fill_stamp(HANDLE file, msalex_stamp *stamp) {
    const int64_t ticks_until_1970 = 116444736000000000;
    BY_HANDLE_FILE_INFORMATION found;
    int64_t ticks;

    if (!GetFileInformationByHandle(file, &found))
        return false;
    stamp->device = found.dwVolumeSerialNumber;
    stamp->inode = (uint64_t)found.nFileIndexHigh << 32 | found.nFileIndexLow;
    stamp->size = (uint64_t)found.nFileSizeHigh << 32 | found.nFileSizeLow;
    ticks = (int64_t)found.ftLastWriteTime.dwHighDateTime << 32 |
            found.ftLastWriteTime.dwLowDateTime; /* 100 ns since 1601 */
    stamp->mtime_ns = (ticks - ticks_until_1970) * 100;
    return true;
}

HANDLE msalex__open_attributes(const wchar_t *path, DWORD access) {
    return CreateFileW(path, FILE_READ_ATTRIBUTES | access, MSALEX__SHARE_ALL, NULL, OPEN_EXISTING,
                       FILE_FLAG_BACKUP_SEMANTICS, NULL);
}

/* FILE_DISPOSITION_INFO_EX, which the headers have only for Windows 10 and later. */
enum { DISPOSITION_DELETE = 1, DISPOSITION_POSIX_SEMANTICS = 2, DISPOSITION_INFO_EX = 21 };

bool msalex__delete_open_file(HANDLE file) {
    /* With POSIX semantics the name is free at once, though others have the file open. */
    DWORD posix = DISPOSITION_DELETE | DISPOSITION_POSIX_SEMANTICS;
    FILE_DISPOSITION_INFO classic = {TRUE};

    return SetFileInformationByHandle(file, (FILE_INFO_BY_HANDLE_CLASS)DISPOSITION_INFO_EX, &posix,
                                      sizeof posix) ||
           SetFileInformationByHandle(file, FileDispositionInfo, &classic, sizeof classic);
}
