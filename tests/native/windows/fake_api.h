/*
 * A few calls of Windows that fail when a test says so, or behave as Windows does where Wine does
 * not.  Otherwise the fake makes the real call.  The build of seam.c, and no other one, includes
 * this header before every C file of the Windows half.
 */
#ifndef FAKE_API_H
#define FAKE_API_H

#define WIN32_LEAN_AND_MEAN
#include <windows.h>

#include <aclapi.h>
#include <dpapi.h>
#include <stdbool.h>

#include "fake_locks.h"
#include <stdint.h>

enum fake_call {
    FAKE_CREATE_FILE,
    FAKE_WRITE_FILE,
    FAKE_READ_FILE,
    FAKE_FLUSH,
    FAKE_SET_END,
    FAKE_SET_TIME,
    FAKE_MOVE,
    FAKE_DELETE, /* an open to delete, by NT */
    FAKE_DISPOSITION,
    FAKE_PROTECT,
    FAKE_UNPROTECT,
    FAKE_SECURITY_INFO,
    FAKE_PROCESS_TOKEN,
    FAKE_OPEN_PROCESS,
    FAKE_REMOTE,
    FAKE_WATCH,
    FAKE_NEXT,
    FAKE_EVENT,
    FAKE_IDENTIFY,
    FAKE_LOCK,
    FAKE_OPEN_TO_WRITE,  /* CreateFileW of an existing file, to write to it */
    FAKE_NUMBERS,        /* a file has another number at each look: not a failure */
    FAKE_ID_INFO,        /* the 128 bits of FileIdInfo */
    FAKE_NO_NUMBER,      /* files have the number 0, or, with code 0xffffffff, ~0: not a failure */
    FAKE_PENDING_DELETE, /* CreateFileW finds a file that is being deleted */
    FAKE_NO_STATUS,      /* ntdll does not export RtlGetLastNtStatus */
    FAKE_TIMER,
    FAKE_NT_OPEN,   /* NtCreateFile, of anything */
    FAKE_NT_READ,   /* of an existing file, to read it */
    FAKE_NT_WRITE,  /* of an existing file, to write to it */
    FAKE_NT_CREATE, /* of a file that may be new */
    FAKE_OLD_NT,    /* it does not know OBJ_DONT_REPARSE */
    FAKE_NO_TAGS,   /* nor the file system FileAttributeTagInfo */
    FAKE_READ_LINK,
    FAKE_FULL_PATH,  /* another thread changes the directory: not a failure */
    FAKE_LONG_WORDS, /* a long translation: not a failure */
    FAKE_BY_NAME,
    FAKE_CALLS
};

/* The next `skip` calls are real ones, and then `times` calls fail with `code`. */
void fake_fail(enum fake_call call, int skip, int times, DWORD code);
/* How often that call was made since the last fake_fail for it. */
int fake_count(enum fake_call call);
/* For the other fakes: the error with which this call fails, which is set, or 0. */
DWORD fake_planned(enum fake_call call);
/* How many files were opened so that the server of a named pipe could act as our user. */
int fake_unguarded(void);

/* What another process does after each call that opens, writes, renames or closes, or NULL. */
void fake_set_between(void (*look)(void));

/* What happens at the start of each pause, or NULL. */
void fake_set_pausing(void (*pausing)(void));

HANDLE WINAPI fake_CreateFileW(LPCWSTR, DWORD, DWORD, LPSECURITY_ATTRIBUTES, DWORD, DWORD, HANDLE);
FARPROC WINAPI fake_GetProcAddress(HMODULE, LPCSTR);
BOOL WINAPI fake_WriteFile(HANDLE, LPCVOID, DWORD, LPDWORD, LPOVERLAPPED);
BOOL WINAPI fake_ReadFile(HANDLE, LPVOID, DWORD, LPDWORD, LPOVERLAPPED);
BOOL WINAPI fake_FlushFileBuffers(HANDLE);
BOOL WINAPI fake_SetEndOfFile(HANDLE);
BOOL WINAPI fake_SetFileTime(HANDLE, const FILETIME *, const FILETIME *, const FILETIME *);
BOOL WINAPI fake_CloseHandle(HANDLE);
BOOL WINAPI fake_SetFileInformationByHandle(HANDLE, FILE_INFO_BY_HANDLE_CLASS, LPVOID, DWORD);
BOOL WINAPI fake_CryptProtectData(DATA_BLOB *, LPCWSTR, DATA_BLOB *, PVOID,
                                  CRYPTPROTECT_PROMPTSTRUCT *, DWORD, DATA_BLOB *);
BOOL WINAPI fake_CryptUnprotectData(DATA_BLOB *, LPWSTR *, DATA_BLOB *, PVOID,
                                    CRYPTPROTECT_PROMPTSTRUCT *, DWORD, DATA_BLOB *);
DWORD WINAPI fake_GetSecurityInfo(HANDLE, SE_OBJECT_TYPE, SECURITY_INFORMATION, PSID *, PSID *,
                                  PACL *, PACL *, PSECURITY_DESCRIPTOR *);
BOOL WINAPI fake_GetTokenInformation(HANDLE, TOKEN_INFORMATION_CLASS, LPVOID, DWORD, PDWORD);
BOOL WINAPI fake_DeviceIoControl(HANDLE, DWORD, LPVOID, DWORD, LPVOID, DWORD, LPDWORD,
                                 LPOVERLAPPED);
DWORD WINAPI fake_GetFullPathNameW(LPCWSTR, DWORD, LPWSTR, LPWSTR *);
DWORD WINAPI fake_FormatMessageW(DWORD, LPCVOID, DWORD, DWORD, LPWSTR, DWORD, va_list *);
BOOL WINAPI fake_CreateDirectoryW(LPCWSTR, LPSECURITY_ATTRIBUTES);
HANDLE WINAPI fake_FindFirstFileW(LPCWSTR, LPWIN32_FIND_DATAW);
HANDLE WINAPI fake_OpenProcess(DWORD, BOOL, DWORD);
BOOL WINAPI fake_GetFileInformationByHandleEx(HANDLE, FILE_INFO_BY_HANDLE_CLASS, LPVOID, DWORD);
BOOL WINAPI fake_GetFileInformationByHandle(HANDLE, LPBY_HANDLE_FILE_INFORMATION);
HANDLE WINAPI fake_FindFirstChangeNotificationW(LPCWSTR, BOOL, DWORD);
BOOL WINAPI fake_FindNextChangeNotification(HANDLE);
HANDLE WINAPI fake_CreateWaitableTimerExW(LPSECURITY_ATTRIBUTES, LPCWSTR, DWORD, DWORD);
HANDLE WINAPI fake_CreateEventW(LPSECURITY_ATTRIBUTES, BOOL, BOOL, LPCWSTR);
DWORD WINAPI fake_GetFileAttributesW(LPCWSTR);

#ifndef FAKE_API_ITSELF
#define CreateFileW fake_CreateFileW
#define GetProcAddress fake_GetProcAddress
#define WriteFile fake_WriteFile
#define ReadFile fake_ReadFile
#define FlushFileBuffers fake_FlushFileBuffers
#define SetEndOfFile fake_SetEndOfFile
#define SetFileTime fake_SetFileTime
#define CloseHandle fake_CloseHandle
#define SetFileInformationByHandle fake_SetFileInformationByHandle
#define CryptProtectData fake_CryptProtectData
#define CryptUnprotectData fake_CryptUnprotectData
#undef FormatMessageW
#define GetSecurityInfo fake_GetSecurityInfo
#define GetTokenInformation fake_GetTokenInformation
#define DeviceIoControl fake_DeviceIoControl
#define GetFullPathNameW fake_GetFullPathNameW
#define FormatMessageW fake_FormatMessageW
#define CreateDirectoryW fake_CreateDirectoryW
#define FindFirstFileW fake_FindFirstFileW
#define OpenProcess fake_OpenProcess
#define GetFileInformationByHandleEx fake_GetFileInformationByHandleEx
#define GetFileInformationByHandle fake_GetFileInformationByHandle
#define FindFirstChangeNotificationW fake_FindFirstChangeNotificationW
#define FindNextChangeNotification fake_FindNextChangeNotification
#define CreateWaitableTimerExW fake_CreateWaitableTimerExW
#define CreateEventW fake_CreateEventW
#define GetFileAttributesW fake_GetFileAttributesW
#endif

#endif
