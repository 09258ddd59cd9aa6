/* Asks for each rule, and has what the rules share: see rules.h. */
#include "rules.h"

#include <stdio.h>
#include <string.h>

DWORD code;
wchar_t directory[MAX_PATH];
const wchar_t *const FILE_NAME = L"file", *const OTHER_NAME = L"other";

bool said(BOOL succeeded) {
    code = succeeded ? 0 : GetLastError();
    return succeeded != FALSE;
}

HANDLE open_file(const wchar_t *name, DWORD access, DWORD sharing, DWORD how, DWORD flags) {
    HANDLE file = CreateFileW(name, access, sharing, NULL, how, flags, NULL);
    (void)said(file != INVALID_HANDLE_VALUE);
    return file;
}

void close_file(HANDLE file) {
    if (file != NULL && file != INVALID_HANDLE_VALUE)
        (void)CloseHandle(file);
}

/* A new file with a text; whatever had the name goes. */
static void put(const wchar_t *name, const char *text) {
    HANDLE file;
    DWORD size;

    (void)SetFileAttributesW(name, FILE_ATTRIBUTE_NORMAL);
    (void)DeleteFileW(name);
    file = CreateFileW(name, GENERIC_WRITE, 0, NULL, CREATE_ALWAYS, 0, NULL);
    (void)WriteFile(file, text, (DWORD)strlen(text), &size, NULL);
    close_file(file);
}

void take_away(const wchar_t *name) {
    (void)SetFileAttributesW(name, FILE_ATTRIBUTE_NORMAL);
    (void)DeleteFileW(name);
}

bool can_open(const wchar_t *name) {
    HANDLE file = open_file(name, GENERIC_READ, ALL, OPEN_EXISTING, 0);
    close_file(file);
    return code == 0;
}

/* A function of a library that may be too old to have it. */
void find_function(const wchar_t *library, const char *name, void *function) {
    FARPROC found = GetProcAddress(GetModuleHandleW(library), name);
    memcpy(function, &found, sizeof found);
}

static const struct {
    const char *sentence;
    bool (*is_shown)(void);
} rules[] = {
    {"a try for a lock that is held is refused at once", a_lock_is_refused},
    {"shared locks exclude an exclusive one", a_shared_lock_excludes},
    {"a lock ends with its handle", a_lock_ends_with_its_handle},
    {"a locked byte is not read", a_locked_byte_is_not_read},
    {"a byte behind 2^63 can be locked", a_far_byte_can_be_locked},
    {"an overlapped request for a lock waits", a_request_waits},
    {"it is granted when the holder lets go, and its event tells", a_request_is_granted},
    {"CancelIoEx takes it back", a_request_is_taken_back},
    {"requests are granted in the order of their arrival", requests_are_granted_in_order},
    {"a request ends with its thread", a_request_ends_with_its_thread},
    {"a lock outlives its thread", a_lock_outlives_its_thread},
    {"a file pending deletion refuses opens", a_deleted_file_is_not_opened},
    {"the name of a file pending deletion is taken", a_deleted_files_name_is_taken},
    {"the NT status tells a pending deletion", the_status_tells_a_deletion},
    {"FileDispositionInfoEx with POSIX semantics frees a name", a_posix_deletion_frees_the_name},
    {"MoveFileExW replaces no file that is open", a_move_replaces_no_open_file},
    {"FileRenameInfoEx with POSIX semantics does", a_posix_rename_replaces_an_open_file},
    {"NtSetInformationFile does so, too", nt_renames_so_too},
    {"but not if the reader shares no deletion", a_posix_rename_needs_shared_deletion},
    {"MoveFileExW replaces no read-only file", a_move_replaces_no_read_only_file},
    {"FileRenameInfoEx replaces no read-only file", a_posix_rename_replaces_no_read_only_file},
    {"a rename wakes the watch of its directory", a_rename_is_told},
    {"MAX_PATH limits a path without prefix", a_long_path_needs_its_prefix},
    {"FileIdInfo gives a file's 128 bits", a_file_has_an_id_of_128_bits},
    {"GetFileInformationByName looks at a file", a_file_is_looked_at_by_name},
    {"a file's time is kept to 100 ns", a_time_is_kept_to_100_ns},
    {"Sleep(1) waits for a tick", sleep_waits_for_a_tick},
    {"CREATE_WAITABLE_TIMER_HIGH_RESOLUTION is finer", a_timer_is_finer_than_a_tick},
    {"a link can be made", a_link_can_be_made},
    {"a new file has the list that it was given", a_new_file_has_the_list_it_was_given},
    {"an access list refuses writing", a_list_refuses_writing},
    {"the effective token needs no opening", the_effective_token_needs_no_opening},
    {"DPAPI notices a change of any bit", a_changed_secret_is_noticed},
    {"CryptProtectMemory changes the memory", memory_is_sealed},
};

int wmain(void) {
    if (GetCurrentDirectoryW(MAX_PATH, directory) == 0)
        return 1;
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
        bool shown;
        put(FILE_NAME, "file");
        put(OTHER_NAME, "other");
        code = 0;
        shown = rules[i].is_shown();
        printf("%s: %s (code %lu)\n", rules[i].sentence, shown ? "shown" : "not shown", code);
        (void)fflush(stdout);
        take_away(OTHER_NAME);
        take_away(FILE_NAME);
    }
    return 0;
}
