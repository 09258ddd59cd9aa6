/* A model of the files of Windows: see fake_files.h. */
#define FAKE_API_ITSELF
#include "fake_files.h"

#include <sddl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <winternl.h>

#include "fake_api.h"
#include "fake_rules.h"

enum { OPEN_MAX = 200 };

static int rename_code = FAKE_RENAME_AS_WINE, opened, buried;
static bool slow_deletion, has_by_name;
static wchar_t client[100], last_list[1000];
static DWORD last_attributes;
static SRWLOCK mutex = SRWLOCK_INIT;

static struct entry {
    HANDLE file;
    wchar_t path[FAKE_PATH_ROOM];
    DWORD access, sharing;
    const struct fake_rule *link; /* the handle is of the link itself */
    bool dying;                   /* deleted, but not gone */
} entries[OPEN_MAX];

static const LONG DENIED = STATUS(0xC0000022), SHARING = STATUS(0xC0000043),
                  DELETE_PENDING = STATUS(0xC0000056);

/* ---- what a test says ---- */

void fake_set_rename(int code) {
    rename_code = code;
}

void fake_set_slow_deletion(bool slow) {
    slow_deletion = slow;
}

void fake_set_by_name(bool has) {
    has_by_name = has;
}

void fake_impersonate(const wchar_t *sid) {
    wcscpy(client, sid == NULL ? L"" : sid);
}

const wchar_t *fake_files_client(void) {
    return client[0] == L'\0' ? NULL : client;
}

const wchar_t *fake_last_list(void) {
    return last_list;
}

DWORD fake_last_attributes(void) {
    return last_attributes;
}

int fake_opened(void) {
    return opened;
}

/* Where the model puts files that have no name any more but are open. */
static void grave(wchar_t *path, int number) {
    wchar_t directory[FAKE_PATH_ROOM];
    (void)GetCurrentDirectoryW(FAKE_PATH_ROOM, directory);
    *wcsrchr(directory, L'\\') = L'\0';
    (void)swprintf(path, FAKE_PATH_ROOM, L"%ls\\msalex-grave-%d", directory, number);
}

void fake_forget_files(void) {
    wchar_t path[FAKE_PATH_ROOM];

    fake_forget_rules();
    rename_code = FAKE_RENAME_AS_WINE;
    slow_deletion = has_by_name = false;
    client[0] = L'\0';
    while (buried > 0) {
        grave(path, buried--);
        (void)DeleteFileW(path);
    }
}

/* ---- open files ---- */

static struct entry *entry_of(HANDLE file) {
    for (int i = 0; i < OPEN_MAX; i++) {
        if (entries[i].file == file && file != NULL)
            return &entries[i];
    }
    return NULL;
}

int fake_open_files(void) {
    int count = 0;
    for (int i = 0; i < OPEN_MAX; i++)
        count += entries[i].file != NULL;
    return count;
}

static void note(HANDLE file, const wchar_t *path, DWORD access, DWORD sharing,
                 const struct fake_rule *link) {
    for (int i = 0; i < OPEN_MAX; i++) {
        if (entries[i].file == NULL) {
            entries[i] =
                (struct entry){.file = file, .access = access, .sharing = sharing, .link = link};
            wcscpy(entries[i].path, path);
            opened++;
            return;
        }
    }
    (void)printf("too many open files\n");
    exit(1);
}

void fake_files_note(HANDLE handle) {
    AcquireSRWLockExclusive(&mutex);
    note(handle, L"", 0, 0, NULL);
    ReleaseSRWLockExclusive(&mutex);
}

/* MS-FSA, "Server Requests Closing an Open": a deleted file goes with its last handle. */
void fake_files_close(HANDLE file) {
    struct entry *entry;

    AcquireSRWLockExclusive(&mutex);
    if ((entry = entry_of(file)) != NULL)
        entry->file = NULL;
    ReleaseSRWLockExclusive(&mutex);
}

/* MS-FSA, "Open of an Existing File": if Link.IsDeleted, the open fails with
 * STATUS_DELETE_PENDING. */
static bool is_dying(const wchar_t *path) {
    for (int i = 0; i < OPEN_MAX; i++) {
        if (entries[i].file != NULL && entries[i].dying && _wcsicmp(entries[i].path, path) == 0)
            return true;
    }
    return false;
}

/* ---- opening ---- */

static void note_list(PSECURITY_DESCRIPTOR list, DWORD attributes) {
    wchar_t *text = NULL;

    last_list[0] = L'\0';
    last_attributes = attributes;
    if (list != NULL && ConvertSecurityDescriptorToStringSecurityDescriptorW(
                            list, SDDL_REVISION_1, DACL_SECURITY_INFORMATION, &text, NULL)) {
        wcscpy(last_list, text);
        (void)LocalFree(text);
    }
}

HANDLE fake_files_open(const wchar_t *given, DWORD access, DWORD sharing,
                       SECURITY_ATTRIBUTES *security, DWORD how, DWORD flags, LONG *status) {
    const bool itself = (flags & FILE_FLAG_OPEN_REPARSE_POINT) != 0;
    const struct fake_rule *link = NULL;
    wchar_t path[FAKE_PATH_ROOM], prefixed[FAKE_PATH_ROOM + 4];
    HANDLE file = INVALID_HANDLE_VALUE;

    if (wcslen(given) >= FAKE_PATH_ROOM - 4 || fake_is_too_long(given, false))
        return CreateFileW(given, access, sharing, security, how, flags, NULL);
    AcquireSRWLockExclusive(&mutex);
    wcscpy(path, fake_bare(given));
    fake_exchange_now(path, how == CREATE_NEW);
    *status = fake_lead(path, 0, itself, false, &link);
    if (is_dying(path))
        *status = DELETE_PENDING;
    else if (how != CREATE_NEW && fake_is_forbidden(path, access))
        *status = DENIED;
    if (*status == 0) {
        (void)swprintf(prefixed, FAKE_PATH_ROOM + 4, L"%ls%ls",
                       given == fake_bare(given) ? L"" : L"\\\\?\\", path);
        file = CreateFileW(prefixed, access, sharing, security, how, flags, NULL);
        if (file != INVALID_HANDLE_VALUE)
            note(file, path, access, sharing, link);
    } else {
        SetLastError(ERROR_ACCESS_DENIED);
    }
    ReleaseSRWLockExclusive(&mutex);
    return file;
}

/* The real path of a name in a directory that this model opened. */
static LONG place_of(OBJECT_ATTRIBUTES *object, DWORD options, wchar_t *path,
                     const struct fake_rule **link) {
    const struct entry *directory = entry_of(object->RootDirectory);
    const UNICODE_STRING *name = object->ObjectName;
    size_t length = wcslen(directory->path);

    wcscpy(path, directory->path);
    if (length > 0 && path[length - 1] != L'\\')
        path[length++] = L'\\';
    memcpy(path + length, name->Buffer, name->Length);
    path[length + name->Length / 2] = L'\0';
    /* What is above the directory was looked up when that was opened: a handle stays. */
    return fake_lead(path, length - 1, (options & 0x200000) != 0,
                     (object->Attributes & 0x1000) != 0, link);
}

LONG fake_files_nt_open(HANDLE *file, DWORD access, void *given, void *result, DWORD attributes,
                        DWORD sharing, DWORD how, DWORD options) {
    typedef NTSTATUS(NTAPI * create_file)(PHANDLE, ACCESS_MASK, POBJECT_ATTRIBUTES,
                                          PIO_STATUS_BLOCK, PLARGE_INTEGER, ULONG, ULONG, ULONG,
                                          ULONG, PVOID, ULONG);
    union {
        FARPROC any;
        create_file call;
    } create = {.any = GetProcAddress(GetModuleHandleW(L"ntdll.dll"), "NtCreateFile")};
    OBJECT_ATTRIBUTES object = *(OBJECT_ATTRIBUTES *)given;
    const struct fake_rule *link = NULL;
    wchar_t path[FAKE_PATH_ROOM * 2], nt[FAKE_PATH_ROOM * 2 + 4];
    PSECURITY_DESCRIPTOR list = object.SecurityDescriptor;
    UNICODE_STRING name;
    LONG status;

    object.SecurityDescriptor = NULL; /* Wine would make the mode of a Unix file of it */
    AcquireSRWLockExclusive(&mutex);
    status = place_of(&object, options, path, &link);
    fake_exchange_now(path, how == 2);
    if (status == 0 && is_dying(path))
        status = DELETE_PENDING;
    else if (status == 0 && how != 2 && fake_is_forbidden(path, access))
        status = DENIED;
    if (status == 0) {
        (void)swprintf(nt, FAKE_PATH_ROOM * 2 + 4, L"\\??\\%ls", path);
        name.Buffer = nt;
        name.Length = name.MaximumLength = (USHORT)(wcslen(nt) * 2);
        object.RootDirectory = NULL;
        object.ObjectName = &name;
        if (link != NULL) /* a stand-in has the name */
            options &= ~(DWORD)0x41;
        status = create.call(file, access, &object, result, NULL, attributes, sharing, how,
                             options & ~(DWORD)0x200000, NULL, 0);
        if (status == 0)
            note(*file, path, access, sharing, link);
        if (status == 0 && how == 2)
            note_list(list, attributes);
    }
    ReleaseSRWLockExclusive(&mutex);
    return status;
}

/* ---- renaming ---- */

struct rename {
    ULONG flags;
    HANDLE directory;
    ULONG bytes;
    wchar_t name[1];
};

static LONG real_rename(HANDLE file, void *result, void *information, DWORD size, DWORD kind) {
    typedef NTSTATUS(NTAPI * set_information)(HANDLE, PIO_STATUS_BLOCK, PVOID, ULONG, ULONG);
    union {
        FARPROC any;
        set_information call;
    } set = {.any = GetProcAddress(GetModuleHandleW(L"ntdll.dll"), "NtSetInformationFile")};
    return set.call(file, result, information, size, kind);
}

/* FILE_RENAME_POSIX_SEMANTICS (ntifs.h): a target that is open is replaced if it "has been opened
 * with FILE_SHARE_DELETE", and its handles stay valid.  Another open of it is a sharing violation;
 * rust-lang/rust#131072 and gitgitgadget/git#1948 rely on both. */
static LONG posix_rename(const wchar_t *target, bool replace) {
    wchar_t away[FAKE_PATH_ROOM];

    if (GetFileAttributesW(target) == INVALID_FILE_ATTRIBUTES || !replace)
        return 0;
    grave(away, ++buried);
    if (MoveFileExW(target, away, 0)) /* which opens it for deletion */
        return 0;
    buried--;
    return GetLastError() == ERROR_SHARING_VIOLATION ? SHARING : DENIED;
}

LONG fake_files_nt_set(HANDLE file, void *result, void *information, DWORD size, DWORD kind) {
    const struct rename *request = information;
    const bool replace = kind == 65 ? (request->flags & 1) != 0 : *(BYTE *)information != 0;
    const struct entry *directory, *source;
    wchar_t target[FAKE_PATH_ROOM];
    LONG status = 0;

    if (kind == 65 && rename_code == FAKE_RENAME_AS_WINE)
        return real_rename(file, result, information, size, kind);
    if (kind == 65 && rename_code != FAKE_RENAME_POSIX)
        return STATUS(0xE0DE0000 | (DWORD)rename_code);
    AcquireSRWLockExclusive(&mutex);
    directory = entry_of(request->directory);
    source = entry_of(file);
    (void)swprintf(target, FAKE_PATH_ROOM, L"%ls\\%.*ls", directory->path, (int)request->bytes / 2,
                   request->name);
    /* MS-FSA, "FileRenameInformation": the handle needs DELETE, and the caller needs it on a target
     * that goes. */
    if ((source->access & DELETE) == 0)
        status = DENIED;
    else if (GetFileAttributesW(target) != INVALID_FILE_ATTRIBUTES &&
             fake_is_forbidden(target, DELETE))
        status = DENIED;
    else if (kind == 65)
        status = posix_rename(target, replace);
    if (status == 0 && kind == 65)
        *(BYTE *)information = replace;
    if (status == 0)
        status = real_rename(file, result, information, size, 10);
    if (status == 0) {
        struct entry *renamed = entry_of(file);
        wcscpy(renamed->path, target);
    }
    ReleaseSRWLockExclusive(&mutex);
    return status;
}

/* ---- deleting ---- */

/* FILE_DISPOSITION_POSIX_SEMANTICS (ntddk.h): the name is free at once.  Without it the file is in
 * the state "delete pending" until its last handle is closed. */
bool fake_files_delete(HANDLE file, bool posix, bool *handled) {
    struct entry *entry = entry_of(file);

    *handled = slow_deletion && entry != NULL;
    if (!*handled)
        return false;
    if (posix) { /* FAT */
        SetLastError(ERROR_INVALID_PARAMETER);
        return false;
    }
    *handled = false; /* Wine removes the file at the last close */
    for (int i = 0; i < OPEN_MAX; i++) {
        if (entries[i].file != NULL && _wcsicmp(entries[i].path, entry->path) == 0)
            entries[i].dying = true;
    }
    return true;
}

/* ---- links and lists ---- */

bool fake_files_tag(HANDLE file, DWORD tag[2]) {
    const struct entry *entry = entry_of(file);

    if (entry == NULL || entry->link == NULL)
        return false;
    tag[0] = FILE_ATTRIBUTE_REPARSE_POINT;
    tag[1] = entry->link->relative ? IO_REPARSE_TAG_SYMLINK : IO_REPARSE_TAG_MOUNT_POINT;
    return true;
}

/* REPARSE_DATA_BUFFER (ntifs.h; MS-FSCC 2.1.2.4 and 2.1.2.5). */
bool fake_files_read_link(HANDLE file, void *data, DWORD size) {
    const struct entry *entry = entry_of(file);
    BYTE *bytes = data;
    wchar_t text[FAKE_PATH_ROOM + 4];
    WORD length;
    DWORD tag, flags = 1;
    size_t at = 16;

    if (entry == NULL || entry->link == NULL)
        return false;
    memset(bytes, 0, size);
    (void)swprintf(text, FAKE_PATH_ROOM + 4, L"%ls%ls", entry->link->relative ? L"" : L"\\??\\",
                   entry->link->text);
    length = (WORD)(wcslen(text) * 2);
    tag = entry->link->relative ? IO_REPARSE_TAG_SYMLINK : IO_REPARSE_TAG_MOUNT_POINT;
    memcpy(bytes, &tag, sizeof tag);
    memcpy(bytes + 10, &length, sizeof length);
    if (entry->link->relative) {
        memcpy(bytes + at, &flags, sizeof flags);
        at += sizeof flags;
    }
    memcpy(bytes + at, text, length);
    return true;
}

bool fake_files_security(HANDLE file, const wchar_t **sddl) {
    static wchar_t owner[110];
    const struct entry *entry = entry_of(file);
    const struct fake_rule *rule;

    if (entry == NULL)
        return false;
    if (entry->link != NULL) {
        (void)swprintf(owner, 110, L"O:%ls", entry->link->owner);
        *sddl = owner;
        return true;
    }
    rule = fake_rule_for(FAKE_RULE_SECURITY, entry->path);
    if (rule != NULL)
        *sddl = rule->text;
    return rule != NULL;
}

/* ---- without a handle ---- */

bool fake_files_has_by_name(void) {
    return has_by_name;
}

/* It does not follow links (python/cpython#102149), and what it tells is what a handle tells. */
bool fake_files_by_name(const wchar_t *path, void *data) {
    struct {
        int64_t numbers[7];
        DWORD attributes, tag, links, type, characteristics, reserved;
        uint64_t volume, index[2];
    } *found = data;
    struct {
        uint64_t volume, index[2];
    } id;
    BY_HANDLE_FILE_INFORMATION basic;
    HANDLE file;

    memset(found, 0, sizeof *found);
    if (is_dying(fake_bare(path))) {
        SetLastError(ERROR_ACCESS_DENIED);
        return false;
    }
    file = CreateFileW(path, FILE_READ_ATTRIBUTES,
                       FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE, NULL, OPEN_EXISTING,
                       FILE_FLAG_BACKUP_SEMANTICS, NULL);
    if (file == INVALID_HANDLE_VALUE)
        return false;
    (void)GetFileInformationByHandle(file, &basic);
    (void)GetFileInformationByHandleEx(file, (FILE_INFO_BY_HANDLE_CLASS)18, &id, sizeof id);
    (void)CloseHandle(file);
    found->numbers[3] =
        (int64_t)basic.ftLastWriteTime.dwHighDateTime << 32 | basic.ftLastWriteTime.dwLowDateTime;
    found->numbers[6] = (int64_t)basic.nFileSizeHigh << 32 | basic.nFileSizeLow;
    found->attributes = basic.dwFileAttributes;
    if (fake_rule_for(FAKE_RULE_LINK, fake_bare(path)) != NULL)
        found->attributes |= FILE_ATTRIBUTE_REPARSE_POINT;
    found->volume = id.volume;
    memcpy(found->index, id.index, sizeof id.index);
    return true;
}
