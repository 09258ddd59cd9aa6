/* What the Windows files share.  The promises are in os_windows.h. */
#include "os_windows.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Codes that old headers lack. */
enum {
    VIRUS_INFECTED = 225,      /* ERROR_VIRUS_INFECTED */
    IS_DIRECTORY = 336,        /* ERROR_DIRECTORY_NOT_SUPPORTED: see nt_windows.h */
    CLOUD_ACCESS_DENIED = 395, /* ERROR_CLOUD_FILE_ACCESS_DENIED */
    DISK_QUOTA_EXCEEDED = 1295 /* ERROR_DISK_QUOTA_EXCEEDED */
};

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
    {ERROR_DELETE_PENDING, EACCES},    /* gone when the last program closes it */
    {VIRUS_INFECTED, EACCES},          /* a scanner keeps everybody from it */
    {CLOUD_ACCESS_DENIED, EACCES},     /* OneDrive and others */
    {ERROR_PRIVILEGE_NOT_HELD, EPERM},
    {ERROR_WRITE_PROTECT, EROFS},
    {ERROR_ALREADY_EXISTS, EEXIST},
    {ERROR_FILE_EXISTS, EEXIST},
    {ERROR_DISK_FULL, ENOSPC},
    {ERROR_HANDLE_DISK_FULL, ENOSPC},
    {ERROR_NOT_ENOUGH_QUOTA, ENOSPC},
    {DISK_QUOTA_EXCEEDED, ENOSPC},
    {ERROR_NOT_ENOUGH_MEMORY, ENOMEM},
    {ERROR_OUTOFMEMORY, ENOMEM},
    {ERROR_TOO_MANY_OPEN_FILES, EMFILE},
    {IS_DIRECTORY, EISDIR},
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

void msalex__narrow(const wchar_t *wide, size_t length, char *text, size_t size) {
    int bytes;

    for (;; length--) { /* cut between characters until it fits */
        if (length > 0 && wide[length - 1] >= 0xd800 && wide[length - 1] < 0xdc00)
            continue; /* a pair has its second half behind this one */
        bytes = length == 0
                    ? 0
                    : WideCharToMultiByte(CP_UTF8, 0, wide, (int)length, NULL, 0, NULL, NULL);
        if (bytes < (int)size)
            break;
    }
    if (bytes > 0)
        (void)WideCharToMultiByte(CP_UTF8, 0, wide, (int)length, text, bytes, NULL, NULL);
    text[bytes] = '\0';
}

/* Some translations are long.  FormatMessageW gives nothing of a text that does not fit, so it gets
 * more room than any text needs, and the cut is made here. */
void msalex__words_of_windows(DWORD code, char *words, size_t size) {
    const DWORD flags = FORMAT_MESSAGE_FROM_SYSTEM | FORMAT_MESSAGE_IGNORE_INSERTS;
    wchar_t wide[1024];
    DWORD length = FormatMessageW(flags, NULL, code, 0, wide, 1024, NULL);

    while (length > 0 && wcschr(L"\r\n .", wide[length - 1]) != NULL)
        length--;
    msalex__narrow(wide, length, words, size);
    if (words[0] == '\0')
        (void)snprintf(words, size, "no description");
}

int msalex__fail_windows(msalex_error *error, DWORD code, const char *call) {
    const int meaning = msalex__errno_of_windows(code);
    char words[400], message[sizeof error->message];

    msalex__words_of_windows(code, words, sizeof words);
    (void)snprintf(message, sizeof message, "%s [WinError %lu]", words, (unsigned long)code);
    return msalex__fail(error, msalex__status_of_errno(meaning), meaning, call, message);
}

/* ---- opening ---- */

msalex__function msalex__find_function(const wchar_t *module, const char *name) {
    const HMODULE loaded = GetModuleHandleW(module);
    union {
        FARPROC found;
        msalex__function function;
    } pointer = {.found = loaded == NULL ? NULL : GetProcAddress(loaded, name)};
    return pointer.function;
}

/* Sleep ends at a tick of the system, and since Windows 10 2004 these come every 16 ms, whatever
 * other programs ask for.  This timer (since 1803) is exact to half a millisecond.  It is made for
 * each call: that takes microseconds, and a thread has nothing to keep and to free. */
void msalex__pause(DWORD ms) {
    const DWORD high_resolution = 2; /* CREATE_WAITABLE_TIMER_HIGH_RESOLUTION */
    const LARGE_INTEGER due = {.QuadPart = -(int64_t)ms * 10000}; /* from now, in 100 ns */
    const HANDLE timer =
        CreateWaitableTimerExW(NULL, NULL, high_resolution, TIMER_MODIFY_STATE | SYNCHRONIZE);

    /* A wait that is too long by itself ends the pause if the timer does not. */
    if (timer != NULL && SetWaitableTimer(timer, &due, 0, NULL, NULL, FALSE))
        (void)WaitForSingleObject(timer, ms);
    else
        Sleep(ms);
    if (timer != NULL)
        (void)CloseHandle(timer);
}

/* Asks NT for its own code of the failure that this thread just met.  LLVM and git ask the same
 * way.  filelock does not, since CreateFileW may have called NT again after the failure
 * (tox-dev/filelock#617).  If that happens here, a deletion counts as a denial, which costs
 * patience and nothing else. */
static bool is_deletion(void) {
    typedef LONG(WINAPI * last_status)(void);
    union {
        msalex__function any;
        last_status get;
    } function = {.any = msalex__find_function(L"ntdll.dll", "RtlGetLastNtStatus")};
    return function.any != NULL && function.get() == (LONG)0xC0000056; /* STATUS_DELETE_PENDING */
}

HANDLE msalex__open(const wchar_t *path, DWORD access, DWORD sharing, SECURITY_ATTRIBUTES *security,
                    DWORD how, DWORD flags) {
    const DWORD all = flags | SECURITY_SQOS_PRESENT | SECURITY_IDENTIFICATION;
    HANDLE file = CreateFileW(path, access, sharing, security, how, all, NULL);

    if (file == INVALID_HANDLE_VALUE && GetLastError() == ERROR_ACCESS_DENIED) {
        const bool deleting = is_deletion();
        SetLastError(deleting ? ERROR_DELETE_PENDING : ERROR_ACCESS_DENIED);
    }
    return file;
}

bool msalex__may_pass(DWORD code, int64_t tried_ms) {
    return code == ERROR_SHARING_VIOLATION || code == ERROR_LOCK_VIOLATION ||
           code == ERROR_DELETE_PENDING ||
           (code == ERROR_ACCESS_DENIED && tried_ms < MSALEX__DENIED_MS);
}

/* ---- handles ---- */

void msalex__close(HANDLE handle) {
    const DWORD code = GetLastError();
    if (handle != INVALID_HANDLE_VALUE)
        (void)CloseHandle(handle);
    SetLastError(code);
}

/* FILE_ID_INFO, which old headers lack. */
enum { ID_INFO = 18 };
struct id_info {
    uint64_t volume;
    uint64_t index[2];
};

/* A driver without such numbers says 0.  A driver with numbers that are not unique says ~0 (MS-FSCC
 * 2.1.9 and 2.1.10). */
static void fill_identity(uint64_t volume, const uint64_t index[2],
                          struct msalex__identity *identity) {
    identity->device = volume;
    identity->index[0] = index[0];
    identity->index[1] = index[1];
    identity->known = (index[0] | index[1]) != 0 && index[0] != UINT64_MAX;
}

/* 64 bits are not enough on ReFS: two files can have the same ones.  A file system without the
 * longer numbers has several codes for that, so after any failure this asks the old way. */
bool msalex__identify(HANDLE file, struct msalex__identity *identity) {
    BY_HANDLE_FILE_INFORMATION found;
    struct id_info id;

    *identity = (struct msalex__identity){0};
    if (GetFileInformationByHandleEx(file, (FILE_INFO_BY_HANDLE_CLASS)ID_INFO, &id, sizeof id)) {
        fill_identity(id.volume, id.index, identity);
        return true;
    }
    if (!GetFileInformationByHandle(file, &found))
        return false;
    id.index[0] = (uint64_t)found.nFileIndexHigh << 32 | found.nFileIndexLow;
    id.index[1] = 0;
    fill_identity(found.dwVolumeSerialNumber, id.index, identity);
    return true;
}

bool msalex__is_same_file(const struct msalex__identity *one,
                          const struct msalex__identity *other) {
    return one->known && other->known && one->device == other->device &&
           one->index[0] == other->index[0] && one->index[1] == other->index[1];
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

/* On NTFS the upper half is 0, and the number stays what it is.  On ReFS the halves are the number
 * of the directory and that of the file in it; an odd factor keeps apart what a sum would mix. */
static uint64_t fold(const uint64_t index[2]) {
    return index[0] ^ index[1] * 0x9e3779b97f4a7c15;
}

/* The lower half of a volume's number is the shorter number that the old call gives: so all ways to
 * ask give the same stamp.  `ticks`: 100 ns since 1601. */
static void fill(msalex_stamp *stamp, uint64_t device, const uint64_t index[2], uint64_t size,
                 int64_t ticks) {
    const int64_t ticks_until_1970 = 116444736000000000;
    stamp->device = (uint32_t)device;
    stamp->inode = fold(index);
    stamp->size = size;
    stamp->mtime_ns = (ticks - ticks_until_1970) * 100;
}

bool msalex__fill_stamp(HANDLE file, msalex_stamp *stamp) {
    BY_HANDLE_FILE_INFORMATION found;
    struct msalex__identity identity;

    if (!msalex__identify(file, &identity) || !GetFileInformationByHandle(file, &found))
        return false;
    fill(stamp, identity.device, identity.index,
         (uint64_t)found.nFileSizeHigh << 32 | found.nFileSizeLow,
         (int64_t)found.ftLastWriteTime.dwHighDateTime << 32 | found.ftLastWriteTime.dwLowDateTime);
    return true;
}

/* FILE_STAT_BASIC_INFORMATION, which only newest headers have. */
struct basic_info {
    int64_t id, created, accessed, written, changed, allocated, size;
    DWORD attributes, tag, links, type, characteristics, reserved;
    uint64_t volume;
    uint64_t index[2];
};

/* Without a handle, since Windows 11 24H2.  It takes a quarter of the time and is in nobody's way.
 * False with GetLastError; ERROR_NOT_SUPPORTED: ask with a handle.  A link has to be followed, for
 * example, and that needs one (CPython's os.stat does the same). */
static bool stamp_by_name(const wchar_t *path, msalex_stamp *stamp) {
    typedef BOOL(WINAPI * by_name)(const wchar_t *, int, void *, ULONG);
    const int basic = 3; /* FileStatBasicByNameInfo */
    union {
        msalex__function any;
        by_name get;
    } function = {.any = msalex__find_function(L"kernelbase.dll", "GetFileInformationByName")};
    struct basic_info found;

    if (function.any != NULL && function.get(path, basic, &found, sizeof found)) {
        if ((found.attributes & FILE_ATTRIBUTE_REPARSE_POINT) == 0) {
            fill(stamp, found.volume, found.index, (uint64_t)found.size, found.written);
            return true;
        }
        SetLastError(ERROR_NOT_SUPPORTED);
    } else if (function.any == NULL ||
               (GetLastError() != ERROR_FILE_NOT_FOUND && GetLastError() != ERROR_PATH_NOT_FOUND)) {
        SetLastError(ERROR_NOT_SUPPORTED);
    }
    return false;
}

DWORD msalex__stamp_of_path(const wchar_t *path, msalex_stamp *stamp) {
    DWORD code = 0;
    HANDLE file;

    *stamp = (msalex_stamp){0};
    if (stamp_by_name(path, stamp))
        return 0;
    if (GetLastError() != ERROR_NOT_SUPPORTED)
        return GetLastError();
    file = msalex__open_attributes(path, 0);
    if (file == INVALID_HANDLE_VALUE || !msalex__fill_stamp(file, stamp))
        code = GetLastError();
    if (file != INVALID_HANDLE_VALUE)
        (void)CloseHandle(file);
    return code;
}

HANDLE msalex__open_attributes(const wchar_t *path, DWORD access) {
    return msalex__open(path, FILE_READ_ATTRIBUTES | access, MSALEX__SHARE_ALL, NULL, OPEN_EXISTING,
                        FILE_FLAG_BACKUP_SEMANTICS);
}

/* FILE_DISPOSITION_INFO_EX, which the headers have only for Windows 10 and later. */
enum { DISPOSITION_DELETE = 1, DISPOSITION_POSIX_SEMANTICS = 2, DISPOSITION_INFO_EX = 21 };

bool msalex__delete_at_once(HANDLE file) {
    DWORD posix = DISPOSITION_DELETE | DISPOSITION_POSIX_SEMANTICS;
    return SetFileInformationByHandle(file, (FILE_INFO_BY_HANDLE_CLASS)DISPOSITION_INFO_EX, &posix,
                                      sizeof posix) != 0;
}

bool msalex__delete_open_file(HANDLE file) {
    FILE_DISPOSITION_INFO classic = {TRUE};
    return msalex__delete_at_once(file) ||
           SetFileInformationByHandle(file, FileDispositionInfo, &classic, sizeof classic);
}
