/* Files, Windows: see seam.h. */
#include "seam.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- files ---- */

static void what_passes_is_tried_again_and_what_stays_is_told(void) {
    const char *path = path_of("file");
    int64_t before;

    CHECK_STATUS(put(path, "old"), MSALEX_OK);
    fake_fail(FAKE_MOVE, 0, 3, ERROR_SHARING_VIOLATION);
    CHECK_STATUS(put(path, "new"), MSALEX_OK);
    fake_fail(FAKE_MOVE, 0, 3, ERROR_ACCESS_DENIED);
    CHECK_STATUS(put(path, "newer"), MSALEX_OK);
    fake_fail(FAKE_NT_READ, 0, 3, ERROR_ACCESS_DENIED);
    CHECK(has(path, "newer"));
    before = msalex__now_ms();
    fake_fail(FAKE_MOVE, 0, 100000, ERROR_SHARING_VIOLATION);
    CHECK_STATUS(put(path, "newest"), MSALEX_DENIED);
    CHECK(strstr(error.message, "[WinError 32]") != NULL);
    CHECK(msalex__now_ms() - before >= 900 && msalex__now_ms() - before < SOON_MS);
    fake_fail(FAKE_MOVE, 0, 1, ERROR_DISK_FULL);
    CHECK_STATUS(put(path, "newest"), MSALEX_OS_ERROR);
    CHECK(error.code == ENOSPC);
    passes_on();
    CHECK(has(path, "newer")); /* whatever failed: the old content */
    fake_fail(FAKE_DELETE, 0, 2, ERROR_SHARING_VIOLATION);
    CHECK_STATUS(msalex_file_delete(path, &error), MSALEX_OK);
    CHECK_STATUS(msalex_file_delete(path, &error), MSALEX_NOT_FOUND);
}

static void a_failure_on_the_way_leaves_the_old_content_and_no_litter(void) {
    const char *path = path_of("file");
    const struct {
        enum fake_call call;
        int skip;
        DWORD code;
        int status;
    } ways[] = {
        {FAKE_CREATE_FILE, 0, ERROR_NOT_SUPPORTED, MSALEX_OS_ERROR},
        {FAKE_NT_OPEN, 0, ERROR_NOT_SUPPORTED, MSALEX_OS_ERROR},
        {FAKE_NT_OPEN, 1, ERROR_NOT_SUPPORTED, MSALEX_OS_ERROR},
        {FAKE_NT_CREATE, 0, ERROR_DISK_FULL, MSALEX_OS_ERROR},
        {FAKE_NT_CREATE, 0, 1295, MSALEX_OS_ERROR},
        {FAKE_NT_CREATE, 0, ERROR_FILE_NOT_FOUND, MSALEX_DENIED},
        {FAKE_IDENTIFY, 0, ERROR_INVALID_FUNCTION, MSALEX_OS_ERROR},
        {FAKE_WRITE_FILE, 0, ERROR_DISK_FULL, MSALEX_OS_ERROR},
        {FAKE_FLUSH, 0, ERROR_WRITE_FAULT, MSALEX_OS_ERROR},
    };

    CHECK_STATUS(put(path, "old"), MSALEX_OK);
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        fake_fail(ways[i].call, ways[i].skip, 1, ways[i].code);
        CHECK_STATUS(put(path, "new"), ways[i].status);
        passes_on();
        CHECK(has(path, "old"));
        CHECK(count_entries(".") == 1);
    }
    /* The name of a temporary file may be taken; another one is not. */
    fake_fail(FAKE_NT_CREATE, 0, 2, ERROR_ALREADY_EXISTS);
    CHECK_STATUS(put(path, "new"), MSALEX_OK);
    CHECK(has(path, "new"));
    fake_fail(FAKE_NT_CREATE, 0, 100, ERROR_ALREADY_EXISTS);
    CHECK_STATUS(put(path, "newer"), MSALEX_OS_ERROR);
    CHECK(fake_count(FAKE_NT_CREATE) == 10);
    passes_on();
    CHECK_STATUS(msalex_file_delete(path, &error), MSALEX_OK);
}

static void a_directory_is_no_file(void) {
    msalex_buffer content;
    msalex_stamp stamp;

    CHECK_STATUS(put(directory, "x"), MSALEX_INVALID);
    CHECK(error.code == EISDIR);
    CHECK_STATUS(msalex_file_read(directory, &content, &stamp, &error), MSALEX_INVALID);
    CHECK(error.code == EISDIR);
    CHECK_STATUS(msalex_file_delete(directory, &error), MSALEX_INVALID);
    CHECK(error.code == EISDIR);
    CHECK(fake_count(FAKE_TIMER) == 0); /* nothing was tried again */
}

static void a_read_only_file_is_not_replaced(void) {
    const char *path = path_of("file");
    wchar_t *wide = msalex__wide_path(path, &error);

    CHECK_STATUS(put(path, "old"), MSALEX_OK);
    CHECK(SetFileAttributesW(wide, FILE_ATTRIBUTE_READONLY));
    CHECK_STATUS(put(path, "new"), MSALEX_DENIED);
    CHECK(error.code == EACCES);
    CHECK(fake_count(FAKE_TIMER) == 0); /* nothing was tried again */
    CHECK(SetFileAttributesW(wide, FILE_ATTRIBUTE_NORMAL));
    CHECK(has(path, "old"));
    CHECK_STATUS(msalex_file_delete(path, &error), MSALEX_OK);
    free(wide);
}

static void a_sweep_takes_what_the_dead_left_and_nothing_else(void) {
    char dead[1200], young[1200], other[1200], living[1200];
    wchar_t *wide;
    HANDLE writer;

    (void)snprintf(dead, sizeof dead, "%s\\.msalex-00000000000000aa.tmp", directory);
    (void)snprintf(young, sizeof young, "%s\\.msalex-00000000000000bb.tmp", directory);
    (void)snprintf(other, sizeof other, "%s\\.msalex-notes.tmp", directory);
    (void)snprintf(living, sizeof living, "%s\\.msalex-00000000000000cc.tmp", directory);
    CHECK_STATUS(msalex_file_touch(dead, &error), MSALEX_OK);
    CHECK_STATUS(msalex_file_touch(young, &error), MSALEX_OK);
    CHECK_STATUS(msalex_file_touch(other, &error), MSALEX_OK);
    CHECK_STATUS(msalex_file_touch(living, &error), MSALEX_OK);
    make_old(dead, 61);
    make_old(other, 61);
    make_old(living, 61);
    wide = msalex__wide_path(living, &error);
    writer = CreateFileW(wide, GENERIC_WRITE, FILE_SHARE_READ, NULL, OPEN_EXISTING, 0, NULL);
    CHECK_STATUS(msalex_file_sweep(path_of("file"), &error), MSALEX_OK);
    CHECK(!exists(dead) && exists(young) && exists(other) && exists(living));
    msalex__close(writer);
    fake_fail(FAKE_DISPOSITION, 0, 1, ERROR_INVALID_PARAMETER); /* before Windows 10: classic */
    CHECK_STATUS(msalex_file_sweep(path_of("file"), &error), MSALEX_OK);
    CHECK(!exists(living));
    CHECK_STATUS(msalex_file_delete(young, &error), MSALEX_OK);
    CHECK_STATUS(msalex_file_delete(other, &error), MSALEX_OK);
    free(wide);
}

static void a_save_whose_lock_was_lost_changes_nothing(void) {
    char path[1200];
    msalex_lock *lock = lock_for(path_of("lock"));
    msalex_stamp stamp;

    (void)snprintf(path, sizeof path, "%s\\file", directory);
    CHECK_STATUS(put(path, "old"), MSALEX_OK);
    CHECK_STATUS(msalex_lock_acquire(lock, 1000, 1000, &error), MSALEX_OK);
    CHECK_STATUS(msalex_file_replace(path, (const unsigned char *)"new", 3, lock, &stamp, &error),
                 MSALEX_OK);
    CHECK_STATUS(msalex_lock_release(lock, &error), MSALEX_OK);
    CHECK_STATUS(msalex_file_replace(path, (const unsigned char *)"lost", 4, lock, &stamp, &error),
                 MSALEX_LOCK_LOST);
    CHECK(has(path, "new") && count_entries(".") == 1);
    fake_fail(FAKE_NT_CREATE, 0, 1, ERROR_ACCESS_DENIED); /* in place, too */
    CHECK_STATUS(msalex_file_replace(path, (const unsigned char *)"lost", 4, lock, &stamp, &error),
                 MSALEX_LOCK_LOST);
    CHECK(has(path, "new"));
    CHECK_STATUS(msalex_file_delete(path, &error), MSALEX_OK);
    msalex_lock_free(lock);
}

static void where_no_file_can_be_made_it_is_written_in_place(void) {
    const char *path = path_of("file");

    CHECK_STATUS(put(path, "a longer content"), MSALEX_OK);
    fake_fail(FAKE_NT_CREATE, 0, 1, ERROR_ACCESS_DENIED);
    CHECK_STATUS(put(path, "short"), MSALEX_OK);
    CHECK(has(path, "short"));
    fake_fail(FAKE_NT_CREATE, 0, 1, ERROR_ACCESS_DENIED);
    fake_fail(FAKE_WRITE_FILE, 0, 1, ERROR_DISK_FULL);
    CHECK_STATUS(put(path, "x"), MSALEX_OS_ERROR);
    CHECK(error.code == ENOSPC);
    passes_on();
    fake_fail(FAKE_NT_CREATE, 0, 1, ERROR_ACCESS_DENIED);
    fake_fail(FAKE_FLUSH, 0, 1, ERROR_WRITE_FAULT);
    CHECK_STATUS(put(path, "x"), MSALEX_OS_ERROR);
    CHECK(error.code == EIO);
    passes_on();
    fake_fail(FAKE_NT_CREATE, 0, 1, ERROR_ACCESS_DENIED);
    fake_fail(FAKE_NT_WRITE, 0, 100000, ERROR_ACCESS_DENIED);
    CHECK_STATUS(put(path, "x"), MSALEX_DENIED);
    passes_on();
    CHECK_STATUS(msalex_file_delete(path, &error), MSALEX_OK);
}

/* A peer may wait for the time of the file and look at nothing else.  The file that a save just wrote
 * is young without it. */
static void a_time_that_cannot_be_set_fails_a_touch_and_no_save(void) {
    const char *path = path_of("file");
    msalex_stamp saved, touched;

    CHECK_STATUS(put(path, "old"), MSALEX_OK);
    make_old(path, 3600);
    fake_fail(FAKE_SET_TIME, 0, 1, ERROR_ACCESS_DENIED);
    CHECK_STATUS(msalex_file_touch(path, &error), MSALEX_DENIED);
    CHECK(error.code == EACCES && strcmp(error.call, "SetFileTime") == 0);
    CHECK_STATUS(msalex_file_stat(path, &saved, &error), MSALEX_OK);
    CHECK_STATUS(msalex_file_touch(path, &error), MSALEX_OK);
    CHECK_STATUS(msalex_file_stat(path, &touched, &error), MSALEX_OK);
    CHECK(touched.mtime_ns - saved.mtime_ns > INT64_C(3500000000000));
    fake_fail(FAKE_SET_TIME, 0, 1, ERROR_ACCESS_DENIED);
    CHECK_STATUS(put(path, "new"), MSALEX_OK);
    CHECK(fake_count(FAKE_SET_TIME) == 1 && has(path, "new"));
    fake_fail(FAKE_SET_TIME, 0, 1, ERROR_ACCESS_DENIED);
    fake_fail(FAKE_NT_CREATE, 0, 1, ERROR_ACCESS_DENIED); /* in place, too */
    CHECK_STATUS(put(path, "newer"), MSALEX_OK);
    CHECK(fake_count(FAKE_SET_TIME) == 1 && has(path, "newer"));
    CHECK_STATUS(msalex_file_delete(path, &error), MSALEX_OK);
}

static void without_a_list_to_copy_the_new_file_is_private(void) {
    const char *path = path_of("file");

    CHECK_STATUS(put(path, "old"), MSALEX_OK);
    fake_fail(FAKE_SECURITY_INFO, 0, 1, ERROR_ACCESS_DENIED);
    CHECK_STATUS(put(path, "new"), MSALEX_OK);
    CHECK(has(path, "new"));
    fake_fail(FAKE_SECURITY_INFO, 0, 1, ERROR_ACCESS_DENIED);
    fake_fail(FAKE_PROCESS_TOKEN, 0, 1, ERROR_ACCESS_DENIED);
    CHECK_STATUS(put(path, "newer"), MSALEX_DENIED);
    CHECK(has(path, "new"));
    CHECK_STATUS(msalex_file_delete(path, &error), MSALEX_OK);
}

static void what_cannot_be_read_is_told(void) {
    const char *path = path_of("file");
    msalex_buffer content;
    msalex_stamp stamp;

    CHECK_STATUS(put(path, "content"), MSALEX_OK);
    fake_fail(FAKE_READ_FILE, 0, 1, ERROR_CRC);
    CHECK_STATUS(msalex_file_read(path, &content, &stamp, &error), MSALEX_OS_ERROR);
    CHECK(content.data == NULL && stamp.size == 0 && error.code == EIO);
    CHECK(msalex_file_is_remote(path) == 0);
    fake_fail(FAKE_REMOTE, 0, 1, 1);
    CHECK(msalex_file_is_remote(path) == 1);
    fake_fail(FAKE_IDENTIFY, 0, 1, ERROR_INVALID_FUNCTION);
    CHECK_STATUS(msalex_file_stat(path, &stamp, &error), MSALEX_OS_ERROR);
    CHECK_STATUS(msalex_file_read("NUL", &content, &stamp, &error), MSALEX_INVALID);
    CHECK_STATUS(msalex_file_read("\xff", &content, &stamp, &error), MSALEX_INVALID);
    CHECK_STATUS(msalex_file_stat("\xff", &stamp, &error), MSALEX_INVALID);
    CHECK(msalex_file_is_remote("\xff") == 1 && msalex_file_is_remote("Z:\\nowhere\\none") == 1);
    CHECK_STATUS(msalex_file_touch("\xff", &error), MSALEX_INVALID);
    CHECK_STATUS(msalex_file_delete("\xff", &error), MSALEX_INVALID);
    CHECK_STATUS(msalex_file_sweep("\xff", &error), MSALEX_INVALID);
    CHECK_STATUS(put("\xff", ""), MSALEX_INVALID);
    CHECK_STATUS(msalex_lock_holder("\xff", &content, &error), MSALEX_INVALID);
    CHECK_STATUS(msalex_lock_holder(path_of("none"), &content, &error), MSALEX_NOT_FOUND);
    fake_fail(FAKE_NT_CREATE, 0, 100000, ERROR_ACCESS_DENIED);
    CHECK_STATUS(msalex_file_touch(path, &error), MSALEX_DENIED);
    passes_on();
    CHECK_STATUS(msalex_file_delete(path, &error), MSALEX_OK);
}

static char growing[1200];

/* A peer writes the file in place, after each call of ours. */
static void grow(void) {
    HANDLE file = CreateFileA(growing, FILE_APPEND_DATA,
                              FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE, NULL,
                              OPEN_EXISTING, 0, NULL);
    DWORD size;

    CHECK(WriteFile(file, "0123456789", 10, &size, NULL) && CloseHandle(file));
}

static void a_file_that_grows_meanwhile_is_read_to_its_end(void) {
    msalex_buffer content;
    msalex_stamp stamp;

    (void)snprintf(growing, sizeof growing, "%s\\file", directory);
    CHECK_STATUS(put(growing, ""), MSALEX_OK);
    fake_set_between(grow);
    CHECK_STATUS(msalex_file_read(growing, &content, &stamp, &error), MSALEX_OK);
    fake_set_between(NULL);
    CHECK(content.size > stamp.size && content.size % 10 == 0);
    CHECK(memcmp(content.data + content.size - 10, "0123456789", 10) == 0);
    msalex_buffer_free(&content);
    CHECK_STATUS(msalex_file_delete(growing, &error), MSALEX_OK);
}

static void what_is_created_replaces_nothing(void) {
    const char *path = path_of("file");
    const unsigned char new[] = "new";

    CHECK_STATUS(msalex_file_create(path, new, 3, &error), MSALEX_OK);
    CHECK(has(path, "new"));
    CHECK_STATUS(put(path, "old"), MSALEX_OK);
    CHECK_STATUS(msalex_file_create(path, new, 3, &error), MSALEX_OS_ERROR);
    CHECK(error.code == EEXIST);
    CHECK_STATUS(msalex_directory_make(path, &error), MSALEX_OS_ERROR);
    CHECK(error.code == EEXIST);
    CHECK_STATUS(msalex_file_create("\xff", new, 3, &error), MSALEX_INVALID);
    CHECK_STATUS(msalex_directory_make("\xff", &error), MSALEX_INVALID);
    CHECK(has(path, "old") && msalex_file_delete(path, &error) == MSALEX_OK);
    CHECK_STATUS(msalex_directory_make(path, &error), MSALEX_OK);
    CHECK_STATUS(put(path, "x"), MSALEX_INVALID);
    CHECK(error.code == EISDIR);
    CHECK(RemoveDirectoryA(path));
}

static void what_is_larger_than_any_cache_is_neither_read_nor_written(void) {
    const LARGE_INTEGER size = {.QuadPart = (int64_t)MSALEX_FILE_SIZE_MAX + 1};
    const char *path = path_of("file");
    msalex_buffer content;
    msalex_stamp stamp;
    HANDLE file;

    CHECK_STATUS(msalex_file_replace(path, NULL, (size_t)size.QuadPart, NULL, &stamp, &error),
                 MSALEX_INVALID);
    CHECK(error.code == EFBIG);
    CHECK_STATUS(msalex_file_create(path, NULL, (size_t)size.QuadPart, &error), MSALEX_INVALID);
    CHECK_STATUS(put(path, "x"), MSALEX_OK);
    file = CreateFileA(path, GENERIC_WRITE, 0, NULL, OPEN_EXISTING, 0, NULL);
    CHECK(SetFilePointerEx(file, size, NULL, FILE_BEGIN) && SetEndOfFile(file));
    CHECK(CloseHandle(file));
    CHECK_STATUS(msalex_file_read(path, &content, &stamp, &error), MSALEX_INVALID);
    CHECK(error.code == EFBIG && content.data == NULL && stamp.size == 0);
    CHECK_STATUS(msalex_file_delete(path, &error), MSALEX_OK);
}

const struct property file_properties[] = {
    {"What passes is tried again and what stays is told",
     what_passes_is_tried_again_and_what_stays_is_told},
    {"A failure on the way leaves the old content and no litter",
     a_failure_on_the_way_leaves_the_old_content_and_no_litter},
    {"A directory is no file", a_directory_is_no_file},
    {"A read-only file is not replaced", a_read_only_file_is_not_replaced},
    {"A sweep takes what the dead left and nothing else",
     a_sweep_takes_what_the_dead_left_and_nothing_else},
    {"A save whose lock was lost changes nothing", a_save_whose_lock_was_lost_changes_nothing},
    {"Where no file can be made it is written in place",
     where_no_file_can_be_made_it_is_written_in_place},
    {"A time that cannot be set fails a touch and no save",
     a_time_that_cannot_be_set_fails_a_touch_and_no_save},
    {"Without a list to copy the new file is private",
     without_a_list_to_copy_the_new_file_is_private},
    {"What cannot be read is told", what_cannot_be_read_is_told},
    {"A file that grows meanwhile is read to its end",
     a_file_that_grows_meanwhile_is_read_to_its_end},
    {"What is created replaces nothing", what_is_created_replaces_nothing},
    {"What is larger than any cache is neither read nor written",
     what_is_larger_than_any_cache_is_neither_read_nor_written},
};
const size_t file_property_count = COUNT(file_properties);
