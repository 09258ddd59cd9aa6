/* Runs the properties of seam_*.c, and has what they share: see seam.h. */
#include "seam.h"

#include <stdio.h>
#include <string.h>

char directory[1000];

void passes_on(void) {
    for (int call = 0; call < FAKE_CALLS; call++)
        fake_fail((enum fake_call)call, 0, 0, 0);
    fake_set_locks(FAKE_PASS_ON);
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

static DWORD WINAPI answer_soon(void *status) {
    for (int tries = 0; tries < 300; tries++) {
        Sleep(60);
        if (fake_grant((LONG)(LONG_PTR)status))
            break;
    }
    return 0;
}

HANDLE answering(LONG status) {
    return CreateThread(NULL, 0, answer_soon, (void *)(LONG_PTR)status, 0, NULL);
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
    run_properties(lock_properties, lock_property_count);
    run_properties(gap_properties, gap_property_count);
    run_properties(file_properties, file_property_count);
    run_properties(save_properties, save_property_count);
    run_properties(system_properties, system_property_count);
    return end_of_properties();
}
