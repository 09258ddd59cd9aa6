/* The fake of a few calls of Windows: see fake_api.h. */
#define FAKE_API_ITSELF
#include "fake_api.h"

#include <sddl.h>
#include <string.h>
#include <winternl.h>

#include "fake_files.h"

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

static void (*look)(void);

static void (*pausing)(void);

void fake_set_pausing(void (*with)(void)) {
    pausing = with;
}

void fake_set_between(void (*call)(void)) {
    look = call;
}

/* Another process may do something after any call. */
static void between(void) {
    void (*const call)(void) = look;

    if (call == NULL)
        return;
    look = NULL;
    call();
    look = call;
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
    LONG status = 0;
    HANDLE file;
    DWORD code;
    const DWORD named = SECURITY_SQOS_PRESENT | SECURITY_IDENTIFICATION | SECURITY_IMPERSONATION;

    if ((flags & named) != (SECURITY_SQOS_PRESENT | SECURITY_IDENTIFICATION))
        unguarded++;
    if (planned(FAKE_PENDING_DELETE) != 0) { /* as Windows says it: see last_status */
        SetLastError(ERROR_ACCESS_DENIED);
        nt_status = DELETE_PENDING;
        return INVALID_HANDLE_VALUE;
    }
    nt_status = ACCESS_DENIED;
    (void)model;
    if (planned(FAKE_CREATE_FILE) != 0 || (to_write && planned(FAKE_OPEN_TO_WRITE) != 0))
        return INVALID_HANDLE_VALUE;
    file = fake_files_open(path, access, sharing, security, how, flags, &status);
    if (status != 0)
        nt_status = status;
    code = GetLastError();
    between();
    SetLastError(code);
    return file;
}

/* RtlNtStatusToDosError notes the code that it translates, and this returns the noted one (ReactOS,
 * sdk/lib/rtl/error.c): "delete pending" and "access denied" differ only here. */
static LONG WINAPI last_status(void) {
    return nt_status;
}

/* A status that stands for a planned code: see dos_error. */
static LONG status_of(DWORD code) {
    return (LONG)(0xE0DE0000 | code);
}

static ULONG NTAPI dos_error(LONG status) {
    typedef ULONG(NTAPI * translate)(LONG);
    union {
        FARPROC any;
        translate call;
    } real = {.any = GetProcAddress(GetModuleHandleW(L"ntdll.dll"), "RtlNtStatusToDosError")};
    if (((DWORD)status & 0xFFFF0000) == 0xE0DE0000)
        return (DWORD)status & 0xFFFF;
    return real.call(status);
}

static LONG NTAPI nt_create(HANDLE *file, DWORD access, OBJECT_ATTRIBUTES *object, void *result,
                            void *size, DWORD attributes, DWORD sharing, DWORD how, DWORD options,
                            void *extra, DWORD extra_size) {
    const SECURITY_QUALITY_OF_SERVICE *quality = object->SecurityQualityOfService;
    LONG status;

    (void)size, (void)extra, (void)extra_size;
    if (quality == NULL || quality->ImpersonationLevel != SecurityIdentification)
        unguarded++;
    if (planned(FAKE_NT_OPEN) != 0)
        return status_of(plans[FAKE_NT_OPEN].code);
    if (how == 1 && (access & GENERIC_READ) != 0 && planned(FAKE_NT_READ) != 0)
        return status_of(plans[FAKE_NT_READ].code);
    if (how == 1 && (access & GENERIC_WRITE) != 0 && planned(FAKE_NT_WRITE) != 0)
        return status_of(plans[FAKE_NT_WRITE].code);
    if (how != 1 && planned(FAKE_NT_CREATE) != 0)
        return status_of(plans[FAKE_NT_CREATE].code);
    if (how == 1 && (access & DELETE) != 0 && planned(FAKE_DELETE) != 0)
        return status_of(plans[FAKE_DELETE].code);
    if ((object->Attributes & 0x1000) != 0 && planned(FAKE_OLD_NT) != 0)
        return status_of(ERROR_INVALID_PARAMETER);
    status = fake_files_nt_open(file, access, object, result, attributes, sharing, how, options);
    between();
    return status;
}

static LONG NTAPI nt_set(HANDLE file, void *result, void *information, DWORD size, DWORD kind) {
    LONG status;

    if (planned(FAKE_MOVE) != 0)
        return status_of(plans[FAKE_MOVE].code);
    status = fake_files_nt_set(file, result, information, size, kind);
    between();
    return status;
}

static BOOL WINAPI by_name(const wchar_t *path, int kind, void *found, ULONG size) {
    (void)kind, (void)size;
    return planned(FAKE_BY_NAME) == 0 && fake_files_by_name(path, found);
}

FARPROC WINAPI fake_GetProcAddress(HMODULE module, LPCSTR name) {
    union {
        LONG(WINAPI *status)(void);
        ULONG(NTAPI *dos)(LONG);
        LONG(NTAPI *create)(HANDLE *, DWORD, OBJECT_ATTRIBUTES *, void *, void *, DWORD, DWORD,
                            DWORD, DWORD, void *, DWORD);
        LONG(NTAPI *set)(HANDLE, void *, void *, DWORD, DWORD);
        BOOL(WINAPI *name)(const wchar_t *, int, void *, ULONG);
        FARPROC any;
    } fake = {.any = NULL};

    if (strcmp(name, "RtlGetLastNtStatus") == 0 && planned(FAKE_NO_STATUS) == 0)
        fake.status = last_status;
    else if (strcmp(name, "RtlNtStatusToDosError") == 0)
        fake.dos = dos_error;
    else if (strcmp(name, "NtCreateFile") == 0)
        fake.create = nt_create;
    else if (strcmp(name, "NtSetInformationFile") == 0)
        fake.set = nt_set;
    else if (strcmp(name, "GetFileInformationByName") == 0 && fake_files_has_by_name())
        fake.name = by_name;
    else
        (void)module;
    return fake.any;
}

/* A write that fails has written the first half: a disk may be full or fail in the middle. */
BOOL WINAPI fake_WriteFile(HANDLE file, LPCVOID data, DWORD size, LPDWORD written,
                           LPOVERLAPPED where) {
    const DWORD failure = planned(FAKE_WRITE_FILE);
    const BOOL done = fake_check_range(file, true, where, size) == 0 &&
                      WriteFile(file, data, failure != 0 ? size / 2 : size, written, where);
    const DWORD code = failure != 0 ? failure : GetLastError();

    between();
    SetLastError(code);
    return done && failure == 0;
}

BOOL WINAPI fake_ReadFile(HANDLE file, LPVOID data, DWORD size, LPDWORD count, LPOVERLAPPED where) {
    return planned(FAKE_READ_FILE) == 0 && fake_check_range(file, false, where, size) == 0 &&
           ReadFile(file, data, size, count, where);
}

BOOL WINAPI fake_FlushFileBuffers(HANDLE file) {
    return planned(FAKE_FLUSH) == 0 && FlushFileBuffers(file);
}

BOOL WINAPI fake_SetEndOfFile(HANDLE file) {
    return planned(FAKE_SET_END) == 0 && SetEndOfFile(file);
}

BOOL WINAPI fake_SetFileTime(HANDLE file, const FILETIME *made, const FILETIME *read,
                             const FILETIME *written) {
    return planned(FAKE_SET_TIME) == 0 && SetFileTime(file, made, read, written);
}

BOOL WINAPI fake_CloseHandle(HANDLE handle) {
    BOOL done;

    fake_files_close(handle);
    fake_locks_close(handle);
    done = CloseHandle(handle);
    between();
    return done;
}

BOOL WINAPI fake_SetFileInformationByHandle(HANDLE file, FILE_INFO_BY_HANDLE_CLASS kind,
                                            LPVOID information, DWORD size) {
    bool handled;

    if (planned(FAKE_DISPOSITION) != 0)
        return FALSE;
    (void)fake_files_delete(file, (int)kind == 21, &handled);
    return !handled && SetFileInformationByHandle(file, kind, information, size);
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

DWORD WINAPI fake_GetSecurityInfo(HANDLE file, SE_OBJECT_TYPE type, SECURITY_INFORMATION wanted,
                                  PSID *owner, PSID *group, PACL *dacl, PACL *sacl,
                                  PSECURITY_DESCRIPTOR *descriptor) {
    const DWORD code = planned(FAKE_SECURITY_INFO);
    const wchar_t *sddl;
    BOOL ignored;

    if (code != 0)
        return code;
    if (!fake_files_security(file, &sddl))
        return GetSecurityInfo(file, type, wanted, owner, group, dacl, sacl, descriptor);
    if (!ConvertStringSecurityDescriptorToSecurityDescriptorW(sddl, SDDL_REVISION_1, descriptor,
                                                              NULL))
        return GetLastError();
    if (owner != NULL)
        (void)GetSecurityDescriptorOwner(*descriptor, owner, &ignored);
    return ERROR_SUCCESS;
}

/* A thread that acts for a client has the client's token; the pseudo handle -6 is the one that
 * counts (documentation of GetCurrentThreadEffectiveToken). */
BOOL WINAPI fake_GetTokenInformation(HANDLE token, TOKEN_INFORMATION_CLASS kind, LPVOID information,
                                     DWORD room, PDWORD size) {
    TOKEN_USER *user = information;
    PSID sid;

    if (planned(FAKE_PROCESS_TOKEN) != 0)
        return FALSE;
    if (token != (HANDLE)(LONG_PTR)-6 || fake_files_client() == NULL || kind != TokenUser)
        return GetTokenInformation(token, kind, information, room, size);
    (void)ConvertStringSidToSidW(fake_files_client(), &sid);
    user->User.Sid = user + 1;
    (void)CopySid(room - (DWORD)sizeof *user, user->User.Sid, sid);
    (void)LocalFree(sid);
    return TRUE;
}

BOOL WINAPI fake_DeviceIoControl(HANDLE file, DWORD code, LPVOID in, DWORD in_size, LPVOID out,
                                 DWORD size, LPDWORD count, LPOVERLAPPED where) {
    if (planned(FAKE_READ_LINK) != 0)
        return FALSE;
    return fake_files_read_link(file, out, size) ||
           DeviceIoControl(file, code, in, in_size, out, size, count, where);
}

/* "If the buffer is too small, the return value is the required size": another thread may change
 * the current directory between two calls, and then even more is required. */
DWORD WINAPI fake_GetFullPathNameW(LPCWSTR path, DWORD size, LPWSTR full, LPWSTR *part) {
    return planned(FAKE_FULL_PATH) != 0 ? size + 50 : GetFullPathNameW(path, size, full, part);
}

/* A translation of 900 characters.  "If the function fails, the return value is zero": also when
 * the text does not fit. */
DWORD WINAPI fake_FormatMessageW(DWORD flags, LPCVOID source, DWORD code, DWORD language,
                                 LPWSTR text, DWORD size, va_list *arguments) {
    if (planned(FAKE_LONG_WORDS) == 0)
        return FormatMessageW(flags, source, code, language, text, size, arguments);
    if (size <= 900)
        return 0;
    for (int i = 0; i < 900; i++)
        text[i] = i % 2 == 0 ? 0xd83d : 0xdd11; /* a key, in two parts */
    text[900] = L'\0';
    return 900;
}

BOOL WINAPI fake_CreateDirectoryW(LPCWSTR path, LPSECURITY_ATTRIBUTES security) {
    return !fake_is_too_long(path, true) && CreateDirectoryW(path, security);
}

HANDLE WINAPI fake_FindFirstFileW(LPCWSTR path, LPWIN32_FIND_DATAW found) {
    return fake_is_too_long(path, false) ? INVALID_HANDLE_VALUE : FindFirstFileW(path, found);
}

HANDLE WINAPI fake_OpenProcess(DWORD access, BOOL inherit, DWORD pid) {
    return planned(FAKE_OPEN_PROCESS) != 0 ? NULL : OpenProcess(access, inherit, pid);
}

enum { TAG_INFO = 9, REMOTE_PROTOCOL_INFO = 13, ID_INFO = 18 };

static volatile DWORD unidentified; /* the code with which the other way to identify fails next */

/* A file on a server: the real call fails for a local one, so the plan makes it succeed. */
BOOL WINAPI fake_GetFileInformationByHandleEx(HANDLE file, FILE_INFO_BY_HANDLE_CLASS kind,
                                              LPVOID information, DWORD size) {
    uint64_t *const number = (uint64_t *)information + 1;

    if ((int)kind == REMOTE_PROTOCOL_INFO && planned(FAKE_REMOTE) != 0)
        return TRUE;
    if ((int)kind == TAG_INFO && fake_files_tag(file, information))
        return TRUE;
    if ((int)kind == TAG_INFO && planned(FAKE_NO_TAGS) != 0)
        return FALSE;
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
    between();
    return TRUE;
}

HANDLE WINAPI fake_FindFirstChangeNotificationW(LPCWSTR path, BOOL below, DWORD filter) {
    return planned(FAKE_WATCH) != 0 || fake_is_too_long(path, false)
               ? INVALID_HANDLE_VALUE
               : FindFirstChangeNotificationW(path, below, filter);
}

BOOL WINAPI fake_FindNextChangeNotification(HANDLE watch) {
    return planned(FAKE_NEXT) == 0 && FindNextChangeNotification(watch);
}

HANDLE WINAPI fake_CreateWaitableTimerExW(LPSECURITY_ATTRIBUTES security, LPCWSTR name, DWORD flags,
                                          DWORD access) {
    if (pausing != NULL)
        pausing();
    HANDLE timer;

    if (planned(FAKE_TIMER) != 0)
        return NULL;
    if ((timer = CreateWaitableTimerExW(security, name, flags, access)) == NULL)
        timer = CreateWaitableTimerExW(security, name, 0, access); /* Wine 8 */
    fake_files_note(timer);
    return timer;
}

HANDLE WINAPI fake_CreateEventW(LPSECURITY_ATTRIBUTES security, BOOL manual, BOOL set,
                                LPCWSTR name) {
    return planned(FAKE_EVENT) != 0 ? NULL : CreateEventW(security, manual, set, name);
}

DWORD WINAPI fake_GetFileAttributesW(LPCWSTR path) {
    return fake_is_too_long(path, false) ? INVALID_FILE_ATTRIBUTES : GetFileAttributesW(path);
}
