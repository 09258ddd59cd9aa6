/* Files by a directory and a name in it, Windows: see nt_windows.h. */
#include "nt_windows.h"

#include <winternl.h>

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

/* Of the documentation of NtCreateFile and OBJECT_ATTRIBUTES; some headers lack them. */
enum {
    CASE_INSENSITIVE = 0x40, /* OBJ_CASE_INSENSITIVE, as Win32 opens files */
    DONT_REPARSE = 0x1000,   /* OBJ_DONT_REPARSE, since Windows 10 */
    SYNCHRONOUS = 0x20,      /* FILE_SYNCHRONOUS_IO_NONALERT */
    RENAME = 10,             /* FileRenameInformation */
    RENAME_EX = 65,          /* FileRenameInformationEx, since Windows 10 1607 */
    REPLACE_IF_EXISTS = 1,
    POSIX_SEMANTICS = 2,
    LONGEST_PATH = 32766 /* characters of a UNICODE_STRING */
};

typedef NTSTATUS(NTAPI *create_file)(PHANDLE, ACCESS_MASK, POBJECT_ATTRIBUTES, PIO_STATUS_BLOCK,
                                     PLARGE_INTEGER, ULONG, ULONG, ULONG, ULONG, PVOID, ULONG);
typedef NTSTATUS(NTAPI *set_information)(HANDLE, PIO_STATUS_BLOCK, PVOID, ULONG, ULONG);
typedef ULONG(NTAPI *dos_error)(NTSTATUS);

/* All of them are in every Windows. */
static msalex__function function(const char *name) {
    return msalex__find_function(L"ntdll.dll", name);
}

static DWORD code_of(NTSTATUS status) {
    union {
        msalex__function any;
        dos_error get;
    } translate = {.any = function("RtlNtStatusToDosError")};

    if ((DWORD)status == 0xC0000056) /* STATUS_DELETE_PENDING */
        return ERROR_DELETE_PENDING;
    if ((DWORD)status == 0xC00000BA) /* STATUS_FILE_IS_A_DIRECTORY */
        return MSALEX__IS_DIRECTORY;
    if ((DWORD)status == 0xC000050B) /* STATUS_REPARSE_POINT_ENCOUNTERED: not in old tables */
        return MSALEX__MET_LINK;
    return translate.get(status);
}

HANDLE msalex__nt_open(HANDLE directory, const struct msalex__nt_open *request) {
    union {
        msalex__function any;
        create_file call;
    } create = {.any = function("NtCreateFile")};
    SECURITY_QUALITY_OF_SERVICE quality = {.Length = sizeof quality,
                                           .ImpersonationLevel = SecurityIdentification};
    UNICODE_STRING name;
    OBJECT_ATTRIBUTES object = {.Length = sizeof object, .RootDirectory = directory};
    union {
        const wchar_t *borrowed; /* the system does not write to it */
        wchar_t *text;
    } pointer = {.borrowed = request->name};
    IO_STATUS_BLOCK result;
    HANDLE file = INVALID_HANDLE_VALUE;
    NTSTATUS status;

    if (request->length > LONGEST_PATH) {
        SetLastError(ERROR_FILENAME_EXCED_RANGE);
        return INVALID_HANDLE_VALUE;
    }
    name.Buffer = pointer.text;
    name.Length = name.MaximumLength = (USHORT)(request->length * sizeof(wchar_t));
    object.ObjectName = &name;
    object.Attributes = CASE_INSENSITIVE | (ULONG)(request->no_links ? DONT_REPARSE : 0);
    object.SecurityDescriptor = request->security;
    object.SecurityQualityOfService = &quality;
    status = create.call(&file, request->access | SYNCHRONIZE | FILE_READ_ATTRIBUTES, &object,
                         &result, NULL, request->attributes, request->sharing, request->how,
                         request->options | SYNCHRONOUS, NULL, 0);
    if (status >= 0)
        return file;
    SetLastError(code_of(status));
    return INVALID_HANDLE_VALUE;
}

/* FILE_RENAME_INFORMATION, and FILE_RENAME_INFORMATION_EX, which old headers lack. */
struct rename {
    union {
        BOOLEAN replace;
        ULONG flags;
    } how;
    HANDLE directory;
    ULONG bytes;
    wchar_t name[1];
};

DWORD msalex__nt_rename(HANDLE file, HANDLE directory, const wchar_t *name, bool replace,
                        bool posix) {
    union {
        msalex__function any;
        set_information call;
    } set = {.any = function("NtSetInformationFile")};
    const size_t bytes = wcslen(name) * sizeof *name;
    const size_t size = sizeof(struct rename) + bytes;
    struct rename *request = calloc(1, size);
    IO_STATUS_BLOCK result;
    NTSTATUS status;

    if (request == NULL)
        return ERROR_NOT_ENOUGH_MEMORY;
    if (posix)
        request->how.flags = POSIX_SEMANTICS | (ULONG)(replace ? REPLACE_IF_EXISTS : 0);
    else
        request->how.replace = replace;
    request->directory = directory;
    request->bytes = (ULONG)bytes;
    memcpy(request->name, name, bytes);
    status = set.call(file, &result, request, (ULONG)size, posix ? RENAME_EX : RENAME);
    free(request);
    return status >= 0 ? 0 : code_of(status);
}
