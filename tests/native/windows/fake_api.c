/* The fake of a few calls of Windows: see fake_api.h. */
#define FAKE_API_ITSELF
#include "fake_api.h"

#include <string.h>

static struct {
    int skip, times, count;
    DWORD code;
} plans[FAKE_CALLS];

static int unguarded;
static volatile LONG nt_status;

enum { DELETE_PENDING = (LONG)0xC0000056, ACCESS_DENIED = (LONG)0xC0000022 };

void fake_fail(enum fake_call call, int skip, int times, DWORD code) {
    plans[call].skip = skip;
    plans[call].times = times;
    plans[call].count = 0;
    plans[call].code = code;
}

int fake_count(enum fake_call call) {
    return plans[call].count;
}

int fake_unguarded(void) {
    return unguarded;
}

/* The error with which this call fails, or 0. */
static DWORD planned(enum fake_call call) {
    plans[call].count++;
    if (plans[call].times == 0)
        return 0;
    if (plans[call].skip > 0) {
        plans[call].skip--;
        return 0;
    }
    plans[call].times--;
    SetLastError(plans[call].code);
    return plans[call].code;
}

DWORD fake_planned(enum fake_call call) {
    return planned(call);
}

HANDLE WINAPI fake_CreateFileW(LPCWSTR path, DWORD access, DWORD sharing,
                               LPSECURITY_ATTRIBUTES security, DWORD how, DWORD flags,
                               HANDLE model) {
    const bool to_write = how == OPEN_EXISTING && (access & GENERIC_WRITE) != 0;
    const DWORD named = SECURITY_SQOS_PRESENT | SECURITY_IDENTIFICATION | SECURITY_IMPERSONATION;

    if ((flags & named) != (SECURITY_SQOS_PRESENT | SECURITY_IDENTIFICATION))
        unguarded++;
    if (planned(FAKE_PENDING_DELETE) != 0) { /* as Windows says it: see last_status */
        SetLastError(ERROR_ACCESS_DENIED);
        nt_status = DELETE_PENDING;
        return INVALID_HANDLE_VALUE;
    }
    nt_status = ACCESS_DENIED;
    if (planned(FAKE_CREATE_FILE) != 0 || (to_write && planned(FAKE_OPEN_TO_WRITE) != 0))
        return INVALID_HANDLE_VALUE;
    return CreateFileW(path, access, sharing, security, how, flags, model);
}

/* RtlNtStatusToDosError notes the code that it translates, and this returns the noted one (ReactOS,
 * sdk/lib/rtl/error.c): after a failed open "delete pending" and "access denied" differ only here. */
static LONG WINAPI last_status(void) {
    return nt_status;
}

FARPROC WINAPI fake_GetProcAddress(HMODULE module, LPCSTR name) {
    union {
        LONG(WINAPI *status)(void);
        FARPROC any;
    } fake = {.status = last_status};

    if (strcmp(name, "RtlGetLastNtStatus") == 0)
        return planned(FAKE_NO_STATUS) != 0 ? NULL : fake.any;
    return GetProcAddress(module, name);
}

BOOL WINAPI fake_WriteFile(HANDLE file, LPCVOID data, DWORD size, LPDWORD written,
                           LPOVERLAPPED where) {
    return planned(FAKE_WRITE_FILE) == 0 && fake_check_range(file, true, where, size) == 0 &&
           WriteFile(file, data, size, written, where);
}

BOOL WINAPI fake_ReadFile(HANDLE file, LPVOID data, DWORD size, LPDWORD count, LPOVERLAPPED where) {
    return planned(FAKE_READ_FILE) == 0 && fake_check_range(file, false, where, size) == 0 &&
           ReadFile(file, data, size, count, where);
}

BOOL WINAPI fake_FlushFileBuffers(HANDLE file) {
    return planned(FAKE_FLUSH) == 0 && FlushFileBuffers(file);
}

BOOL WINAPI fake_MoveFileExW(LPCWSTR from, LPCWSTR to, DWORD flags) {
    return planned(FAKE_MOVE) == 0 && MoveFileExW(from, to, flags);
}

BOOL WINAPI fake_DeleteFileW(LPCWSTR path) {
    return planned(FAKE_DELETE) == 0 && DeleteFileW(path);
}

BOOL WINAPI fake_SetFileInformationByHandle(HANDLE file, FILE_INFO_BY_HANDLE_CLASS kind,
                                            LPVOID information, DWORD size) {
    return planned(FAKE_DISPOSITION) == 0 &&
           SetFileInformationByHandle(file, kind, information, size);
}

BOOL WINAPI fake_CryptProtectData(DATA_BLOB *clear, LPCWSTR text, DATA_BLOB *entropy, PVOID zero,
                                  CRYPTPROTECT_PROMPTSTRUCT *prompt, DWORD flags, DATA_BLOB *made) {
    return planned(FAKE_PROTECT) == 0 &&
           CryptProtectData(clear, text, entropy, zero, prompt, flags, made);
}

BOOL WINAPI fake_CryptUnprotectData(DATA_BLOB *sealed, LPWSTR *text, DATA_BLOB *entropy, PVOID zero,
                                    CRYPTPROTECT_PROMPTSTRUCT *prompt, DWORD flags,
                                    DATA_BLOB *made) {
    return planned(FAKE_UNPROTECT) == 0 &&
           CryptUnprotectData(sealed, text, entropy, zero, prompt, flags, made);
}

DWORD WINAPI fake_GetNamedSecurityInfoW(LPCWSTR name, SE_OBJECT_TYPE type,
                                        SECURITY_INFORMATION information, PSID *owner, PSID *group,
                                        PACL *dacl, PACL *sacl, PSECURITY_DESCRIPTOR *descriptor) {
    DWORD code = planned(FAKE_SECURITY_INFO);
    return code != 0 ? code
                     : GetNamedSecurityInfoW(name, type, information, owner, group, dacl, sacl,
                                             descriptor);
}

BOOL WINAPI fake_OpenProcessToken(HANDLE process, DWORD access, PHANDLE token) {
    return planned(FAKE_PROCESS_TOKEN) == 0 && OpenProcessToken(process, access, token);
}

HANDLE WINAPI fake_OpenProcess(DWORD access, BOOL inherit, DWORD pid) {
    return planned(FAKE_OPEN_PROCESS) != 0 ? NULL : OpenProcess(access, inherit, pid);
}

enum { REMOTE_PROTOCOL_INFO = 13, ID_INFO = 18 };

static volatile DWORD unidentified; /* the code with which the other way to identify fails next */

/* A file on a server: the real call fails for a local one, so the plan makes it succeed. */
BOOL WINAPI fake_GetFileInformationByHandleEx(HANDLE file, FILE_INFO_BY_HANDLE_CLASS kind,
                                              LPVOID information, DWORD size) {
    uint64_t *const number = (uint64_t *)information + 1;

    if ((int)kind == REMOTE_PROTOCOL_INFO && planned(FAKE_REMOTE) != 0)
        return TRUE;
    if ((int)kind != ID_INFO)
        return GetFileInformationByHandleEx(file, kind, information, size);
    if (planned(FAKE_ID_INFO) != 0)
        return FALSE;
    if ((unidentified = planned(FAKE_IDENTIFY)) != 0 ||
        !GetFileInformationByHandleEx(file, kind, information, size))
        return FALSE;
    if (planned(FAKE_NUMBERS) != 0)
        *number += (uint64_t)plans[FAKE_NUMBERS].count;
    if (planned(FAKE_NO_NUMBER) != 0)
        number[0] = number[1] = plans[FAKE_NO_NUMBER].code == 0xffffffff ? UINT64_MAX : 0;
    return TRUE;
}

BOOL WINAPI fake_GetFileInformationByHandle(HANDLE file, LPBY_HANDLE_FILE_INFORMATION found) {
    if (unidentified != 0) {
        SetLastError(unidentified);
        unidentified = 0;
        return FALSE;
    }
    if (planned(FAKE_IDENTIFY) != 0 || !GetFileInformationByHandle(file, found))
        return FALSE;
    if (planned(FAKE_NUMBERS) != 0)
        found->nFileIndexLow += (DWORD)plans[FAKE_NUMBERS].count;
    if (planned(FAKE_NO_NUMBER) != 0)
        found->nFileIndexHigh = found->nFileIndexLow =
            plans[FAKE_NO_NUMBER].code == 0xffffffff ? 0xffffffff : 0;
    return TRUE;
}

HANDLE WINAPI fake_FindFirstChangeNotificationW(LPCWSTR path, BOOL below, DWORD filter) {
    return planned(FAKE_WATCH) != 0 ? INVALID_HANDLE_VALUE
                                    : FindFirstChangeNotificationW(path, below, filter);
}

BOOL WINAPI fake_FindNextChangeNotification(HANDLE watch) {
    return planned(FAKE_NEXT) == 0 && FindNextChangeNotification(watch);
}

HANDLE WINAPI fake_CreateWaitableTimerExW(LPSECURITY_ATTRIBUTES security, LPCWSTR name, DWORD flags,
                                          DWORD access) {
    return planned(FAKE_TIMER) != 0 ? NULL : CreateWaitableTimerExW(security, name, flags, access);
}

HANDLE WINAPI fake_CreateEventW(LPSECURITY_ATTRIBUTES security, BOOL manual, BOOL set,
                                LPCWSTR name) {
    return planned(FAKE_EVENT) != 0 ? NULL : CreateEventW(security, manual, set, name);
}

/* Wine makes no links. */
DWORD WINAPI fake_GetFileAttributesW(LPCWSTR path) {
    const DWORD found = GetFileAttributesW(path);
    if (found == INVALID_FILE_ATTRIBUTES || planned(FAKE_LINK) == 0)
        return found;
    return found | FILE_ATTRIBUTE_REPARSE_POINT;
}

DWORD WINAPI fake_GetFinalPathNameByHandleW(HANDLE file, LPWSTR path, DWORD size, DWORD flags) {
    return planned(FAKE_FINAL_PATH) != 0 ? 0 : GetFinalPathNameByHandleW(file, path, size, flags);
}
