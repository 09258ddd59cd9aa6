/* Runs the properties of seam_*.c, and has what they share: see seam.h. */
#include "seam.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

char directory[1000];

void passes_on(void) {
    for (int call = 0; call < FAKE_CALLS; call++)
        fake_fail((enum fake_call)call, 0, 0, 0);
    fake_pass_locks_on();
    fake_set_pausing(NULL);
    fake_forget_files();
}

const char *path_of(const char *name) {
    static char path[2][1200];
    static int next;
    next = 1 - next;
    (void)snprintf(path[next], sizeof path[next], "%s\\%s", directory, name);
    return path[next];
}

const wchar_t *wide_of(const char *path) {
    static wchar_t wide[2][1200];
    static int next;
    next = 1 - next;
    (void)MultiByteToWideChar(CP_UTF8, 0, path, -1, wide[next], 1200);
    return wide[next];
}

bool exists(const char *path) {
    msalex_stamp stamp;
    msalex_error ignored;
    return msalex_file_stat(path, &stamp, &ignored) == MSALEX_OK;
}

int put(const char *path, const char *text) {
    msalex_stamp stamp;
    return msalex_file_replace(path, (const unsigned char *)text, strlen(text), NULL, &stamp,
                               &error);
}

bool has(const char *path, const char *text) {
    msalex_buffer content;
    msalex_stamp stamp;
    msalex_error ignored;
    bool same;

    if (msalex_file_read(path, &content, &stamp, &ignored) != MSALEX_OK)
        return false;
    same = content.size == strlen(text) && memcmp(content.data, text, content.size) == 0;
    msalex_buffer_free(&content);
    return same;
}

msalex_lock *lock_for(const char *path) {
    msalex_lock *lock = NULL;
    CHECK_STATUS(msalex_lock_new(path, "seam", &lock, &error), MSALEX_OK);
    return lock;
}

void put_record(const char *path, enum msalex__record_state state, int64_t when, uint64_t view) {
    const struct msalex__record record = {
        .pid = 99999999, .state = state, .nonce = 7, .when = when, .view = view};
    char bytes[MSALEX__RECORD_SIZE + 1] = "";

    msalex__record_format(&record, "somebody", bytes);
    CHECK_STATUS(put(path, bytes), MSALEX_OK);
}

void leave_behind(const char *path) {
    msalex_lock *lock = lock_for(path);
    CHECK_STATUS(msalex_lock_acquire(lock, 1000, 1000, &error), MSALEX_OK);
    fake_fail(FAKE_CREATE_FILE, 0, 100000, ERROR_SHARING_VIOLATION);
    msalex_lock_free(lock);
    passes_on();
    CHECK(exists(path));
}

HANDLE lock_range(const char *path, uint64_t first, uint64_t length, DWORD *code) {
    wchar_t *wide = msalex__wide_path(path, &error);
    HANDLE handle = msalex__open(wide, GENERIC_READ, MSALEX__SHARE_ALL, NULL, OPEN_EXISTING, 0);
    OVERLAPPED where = {.Offset = (DWORD)first, .OffsetHigh = (DWORD)(first >> 32)};
    const DWORD flags = LOCKFILE_EXCLUSIVE_LOCK | LOCKFILE_FAIL_IMMEDIATELY;

    free(wide);
    *code = LockFileEx(handle, flags, 0, (DWORD)length, (DWORD)(length >> 32), &where)
                ? 0
                : GetLastError();
    return handle;
}

void joined(HANDLE thread) {
    (void)WaitForSingleObject(thread, INFINITE);
    (void)CloseHandle(thread);
}

static void begin(void) {
    (void)GetCurrentDirectoryA(sizeof directory, directory);
    passes_on();
}

static void end(void) {
    passes_on();
    CHECK(count_entries(".") == 0);
    CHECK(fake_open_files() == 0);
}

int main(void) {
    around_each_property(begin, end);
    run_properties(byte_properties, byte_property_count);
    run_properties(queue_properties, queue_property_count);
    run_properties(lock_properties, lock_property_count);
    run_properties(refusal_properties, refusal_property_count);
    run_properties(gap_properties, gap_property_count);
    run_properties(file_properties, file_property_count);
    run_properties(save_properties, save_property_count);
    run_properties(system_properties, system_property_count);
    return end_of_properties();
}
