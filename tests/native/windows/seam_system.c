/* Paths, watches and encryption, Windows: see seam.h. */
#include "seam.h"

#include <errno.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void a_path_that_is_not_unicode_makes_no_lock(void) {
    msalex_lock *lock;
    CHECK_STATUS(msalex_lock_new("\xff", "seam", &lock, &error), MSALEX_INVALID);
    CHECK(lock == NULL);
    msalex_lock_free(NULL);
}

static void server_paths_get_their_own_long_form(void) {
    char path[600] = "\\\\server\\share\\";
    wchar_t *wide;

    for (int i = 0; i < 20; i++)
        strcat(path, "directory of 20 char\\");
    wide = msalex__wide_path(path, &error);
    CHECK(wide != NULL && wcsncmp(wide, L"\\\\?\\UNC\\server\\share\\", 21) == 0);
    free(wide);
    wide = msalex__wide_path("C:/short. ", &error);
    CHECK(wide != NULL && wcscmp(wide, L"\\\\?\\C:\\short") == 0);
    free(wide);
    CHECK(msalex__wide_path("", &error) == NULL);
    memset(path, 'x', 300);
    path[300] = '\0';
    CHECK(msalex__wide_path(path, &error) == NULL && error.code == ENAMETOOLONG);
}

/* Directories of 232 to 246 characters: the path of the file is short enough without a prefix, and
 * that of the temporary file is not. */
static void a_directory_may_have_any_length(void) {
    char path[1200], parent[1200];

    for (size_t length = 228; length <= 262; length += length < 250 ? 6 : 12) {
        (void)snprintf(parent, sizeof parent, "%s\\", directory);
        while (strlen(parent) < length)
            strcat(parent, "d");
        (void)snprintf(path, sizeof path, "%s\\file", parent);
        CHECK_STATUS(msalex_directory_make(parent, &error), MSALEX_OK);
        CHECK_STATUS(put(path, "old"), MSALEX_OK);
        CHECK_STATUS(put(path, "new"), MSALEX_OK);
        CHECK(has(path, "new") && count_entries(parent) == 1);
        CHECK_STATUS(msalex_file_sweep(path, &error), MSALEX_OK);
        CHECK_STATUS(msalex_file_delete(path, &error), MSALEX_OK);
        CHECK(RemoveDirectoryA(parent));
    }
}

static void a_path_that_no_system_takes_is_refused(void) {
    const size_t size = 33000;
    char *path = malloc(size + 1);

    for (size_t i = 0; i < size; i++)
        path[i] = i % 200 == 0 ? '\\' : 'd';
    path[size] = '\0';
    memcpy(path, "Z:", 2);
    CHECK_STATUS(put(path, "x"), MSALEX_INVALID);
    CHECK(error.code == ENAMETOOLONG);
    free(path);
}

static void another_thread_may_change_the_directory_meanwhile(void) {
    wchar_t *wide;

    fake_fail(FAKE_FULL_PATH, 0, 3, 1);
    wide = msalex__wide_path("file", &error);
    CHECK(wide != NULL && wcscmp(wide + wcslen(wide) - 5, L"\\file") == 0);
    free(wide);
}

static void a_name_may_have_half_a_character(void) {
    const struct {
        const char *path;
        const wchar_t *wide; /* NULL: no text */
    } names[] = {
        {"\xed\xa0\x80", L"\xd800"},
        {"\xed\xbf\xbf.bin", L"\xdfff.bin"},
        {"J\xc3\xbcrgen", L"J\xfcrgen"},
        {"\xe2\x82\xac", L"\x20ac"},
        {"\xf0\x9f\x94\x91", L"\xd83d\xdd11"},
        {"\xf4\x8f\xbf\xbf", L"\xdbff\xdfff"},
        {"J\xfcrgen", NULL}, /* code page 1252 */
        {"\xc0\xaf", NULL},  /* longer than needed */
        {"\xe0\x80\xaf", NULL},
        {"\xf0\x80\x80\xaf", NULL},
        {"\xf4\x90\x80\x80", NULL},
        {"\xf8\x88\x80\x80\x80", NULL},
        {"\xe2\x82", NULL},
        {"\x80", NULL},
    };

    for (size_t i = 0; i < COUNT(names); i++) {
        wchar_t *wide = msalex__wide_path(names[i].path, &error);
        if (names[i].wide == NULL) {
            CHECK(wide == NULL && error.code == EINVAL);
            CHECK(strstr(error.message, "not Unicode") != NULL);
        } else {
            CHECK(wide != NULL && wcscmp(wcsrchr(wide, L'\\') + 1, names[i].wide) == 0);
        }
        free(wide);
    }
}

static void long_words_are_cut_between_characters(void) {
    char words[30];

    fake_fail(FAKE_LONG_WORDS, 0, 2, 1);
    msalex__words_of_windows(ERROR_ACCESS_DENIED, words, sizeof words);
    CHECK(strlen(words) == 28 && strncmp(words + 24, "\xf0\x9f\x94\x91", 5) == 0);
    (void)msalex__fail_windows(&error, ERROR_ACCESS_DENIED, "call");
    CHECK(strstr(error.message, "\x91 [WinError 5]") != NULL);
    msalex__words_of_windows(0xffff, words, sizeof words);
    CHECK(strcmp(words, "no description") == 0);
}

/* By the table of 1252, 0xa0 is a space: the second byte of "a" with a grave accent. */
static void a_locale_changes_no_record(void) {
    char text[] = "77 voil\xc3\xa0 \n", bytes[MSALEX__RECORD_SIZE];
    const struct msalex__record record = {.pid = 77};
    const char *before = setlocale(LC_CTYPE, NULL);

    CHECK(setlocale(LC_CTYPE, "English_United States.1252") != NULL);
    CHECK(msalex__record_text(text, strlen(text)) == 9);
    CHECK(strncmp(text, "77 voil\xc3\xa0", 9) == 0);
    msalex__record_format(&record, "\xc2\x81", bytes); /* and 0x81 controls something */
    CHECK(strncmp(bytes, "77 \xc2\x81", 5) == 0);
    (void)setlocale(LC_CTYPE, before);
}

static void codes_of_newer_systems_have_a_meaning(void) {
    CHECK(msalex__errno_of_windows(395) == EACCES && msalex__errno_of_windows(225) == EACCES);
    CHECK(msalex__errno_of_windows(303) == EACCES && msalex__errno_of_windows(1295) == ENOSPC);
    CHECK(msalex__errno_of_windows(336) == EISDIR && msalex__errno_of_windows(99999) == EIO);
}

/* ---- opening, and what a file is ---- */

static void a_deletion_is_told_from_a_denial(void) {
    wchar_t *wide = msalex__wide_path(path_of("file"), &error);

    CHECK_STATUS(put(path_of("file"), "content"), MSALEX_OK);
    fake_fail(FAKE_PENDING_DELETE, 0, 1, 1);
    CHECK(msalex__open_attributes(wide, 0) == INVALID_HANDLE_VALUE);
    CHECK(GetLastError() == ERROR_DELETE_PENDING);
    fake_fail(FAKE_CREATE_FILE, 0, 1, ERROR_ACCESS_DENIED);
    CHECK(msalex__open_attributes(wide, 0) == INVALID_HANDLE_VALUE);
    CHECK(GetLastError() == ERROR_ACCESS_DENIED);
    /* Where NT's word is not to be had, a deletion counts as a denial. */
    fake_fail(FAKE_PENDING_DELETE, 0, 1, 1);
    fake_fail(FAKE_NO_STATUS, 0, 1, 1);
    CHECK(msalex__open_attributes(wide, 0) == INVALID_HANDLE_VALUE);
    CHECK(GetLastError() == ERROR_ACCESS_DENIED);
    CHECK(msalex__may_pass(ERROR_DELETE_PENDING, 100000));
    CHECK(msalex__may_pass(ERROR_ACCESS_DENIED, 0));
    CHECK(!msalex__may_pass(ERROR_ACCESS_DENIED, MSALEX__DENIED_MS));
    CHECK(!msalex__may_pass(ERROR_FILE_NOT_FOUND, 0));
    CHECK_STATUS(msalex_file_delete(path_of("file"), &error), MSALEX_OK);
    free(wide);
}

static void no_server_of_a_pipe_can_act_as_our_user(void) {
    const char *path = path_of("file");
    msalex_lock *lock = lock_for(path_of("lock"));
    const int before = fake_unguarded();

    CHECK_STATUS(put(path, "content"), MSALEX_OK);
    CHECK(has(path, "content"));
    CHECK_STATUS(msalex_lock_acquire(lock, 1000, 1000, &error), MSALEX_OK);
    CHECK_STATUS(msalex_lock_release(lock, &error), MSALEX_OK);
    CHECK_STATUS(msalex_file_delete(path, &error), MSALEX_OK);
    CHECK(fake_unguarded() == before);
    msalex_lock_free(lock);
}

static void two_files_are_never_taken_for_one(void) {
    struct msalex__identity one = {0}, other = {0};
    wchar_t *wide = msalex__wide_path(path_of("file"), &error);
    HANDLE file;

    CHECK_STATUS(put(path_of("file"), "content"), MSALEX_OK);
    file = msalex__open_attributes(wide, 0);
    CHECK(!msalex__is_same_file(&one, &other));
    CHECK(msalex__identify(file, &one) && one.known && msalex__is_same_file(&one, &one));
    other = one; /* as on ReFS, where two files may have the same 64 bits */
    other.index[1]++;
    CHECK(!msalex__is_same_file(&one, &other));
    for (int old = 0; old < 2; old++) {
        fake_fail(FAKE_ID_INFO, 0, old * 3, ERROR_INVALID_PARAMETER); /* FAT */
        CHECK(msalex__identify(file, &one) && one.known);
        fake_fail(FAKE_NO_NUMBER, 0, 1, 1);
        CHECK(msalex__identify(file, &other) && !other.known);
        fake_fail(FAKE_NO_NUMBER, 0, 1, 0xffffffff);
        CHECK(msalex__identify(file, &other) && !other.known);
        CHECK(!msalex__is_same_file(&other, &other));
    }
    fake_fail(FAKE_IDENTIFY, 0, 1, ERROR_INVALID_FUNCTION);
    CHECK(!msalex__identify(file, &one) && GetLastError() == ERROR_INVALID_FUNCTION && !one.known);
    msalex__close(file);
    CHECK_STATUS(msalex_file_delete(path_of("file"), &error), MSALEX_OK);
    free(wide);
}

static void a_pause_ends_and_leaves_nothing(void) {
    const int before = fake_open_files(); /* timers count */
    const int64_t began = msalex__now_us();

    for (int round = 0; round < 20; round++)
        msalex__pause(1);
    CHECK(msalex__now_us() - began >= 20 * 500);
    for (int round = 0; round < 2; round++) { /* before Windows 10 1803 */
        fake_fail(FAKE_TIMER, 0, 1, ERROR_INVALID_PARAMETER);
        msalex__pause(1);
    }
    msalex__pause(0);
    CHECK(fake_open_files() == before);
}

/* ---- watching ---- */

static DWORD WINAPI put_soon(void *path) {
    Sleep(60);
    (void)put(path, "new");
    return 0;
}

static void a_change_is_told_with_a_watch_and_without(void) {
    char path[1200];
    msalex_watch *watch;

    (void)snprintf(path, sizeof path, "%s\\file", directory);
    for (int blind = 0; blind < 3; blind++) {
        int64_t before;
        HANDLE thread;

        if (blind == 1) /* the system has no watch left */
            fake_fail(FAKE_WATCH, 0, 1000, ERROR_NOT_ENOUGH_MEMORY);
        CHECK(msalex_watch_new(path, &watch, &error) == MSALEX_OK);
        if (blind == 2) /* or no longer: it looks, and tries again to watch */
            fake_fail(FAKE_NEXT, 0, 1, ERROR_ACCESS_DENIED);
        CHECK(msalex_watch_wait(watch, 50, &error) == MSALEX_TIMEOUT);
        before = msalex__now_ms();
        thread = CreateThread(NULL, 0, put_soon, path, 0, NULL);
        CHECK(msalex_watch_wait(watch, 5000, &error) == MSALEX_OK);
        CHECK(msalex__now_ms() - before < SOON_MS);
        joined(thread);
        while (msalex_watch_wait(watch, 100, &error) == MSALEX_OK)
            continue; /* the save sets the time after the rename */
        CHECK(put(path_of("another"), "x") == MSALEX_OK);
        CHECK(msalex_watch_wait(watch, 300, &error) == MSALEX_TIMEOUT);
        CHECK(msalex_file_delete(path, &error) == MSALEX_OK);
        CHECK(msalex_watch_wait(watch, -1, &error) == MSALEX_OK);
        msalex_watch_free(watch);
        passes_on();
        CHECK(msalex_file_delete(path_of("another"), &error) == MSALEX_OK);
    }
    CHECK(msalex_watch_new("\xff", &watch, &error) == MSALEX_INVALID && watch == NULL);
    msalex_watch_free(NULL);
}

static void a_directory_may_be_deleted_and_made_again_under_a_watch(void) {
    char path[1200], parent[1200];
    msalex_watch *watch;
    wchar_t *wide;

    (void)snprintf(parent, sizeof parent, "%s\\parent", directory);
    (void)snprintf(path, sizeof path, "%s\\file", parent);
    wide = msalex__wide_path(parent, &error);
    CHECK(msalex_watch_new(path, &watch, &error) == MSALEX_OK); /* before there is one */
    for (int round = 0; round < 2; round++) {
        CHECK(CreateDirectoryW(wide, NULL));
        CHECK(put(path, "content") == MSALEX_OK);
        CHECK(msalex_watch_wait(watch, 5000, &error) == MSALEX_OK);
        CHECK(msalex_file_delete(path, &error) == MSALEX_OK);
        CHECK(RemoveDirectoryW(wide));
        /* As on Windows, where a directory that is being deleted cannot be opened. */
        fake_fail(FAKE_CREATE_FILE, 0, 4, ERROR_ACCESS_DENIED);
        CHECK(msalex_watch_wait(watch, 5000, &error) == MSALEX_OK);
        (void)msalex_watch_wait(watch, 300, &error);
        passes_on(); /* it has let go of the directory: the name is free */
    }
    msalex_watch_free(watch);
    free(wide);
}

/* ---- encryption ---- */

static void what_data_protection_says_arrives_as_it_was_said(void) {
    const DWORD codes[] = {0x8009000B, 0x80090009, ERROR_INVALID_DATA, ERROR_FILE_NOT_FOUND,
                           0x8007054F};
    const unsigned char data[] = "secret";
    const size_t too_much = (size_t)(UINT64_C(1) << 32); /* in 32 bits nothing is */
    msalex_buffer blob, clear;

    CHECK(msalex_dpapi_protect(data, 6, data, 6, MSALEX_DPAPI_CURRENT_USER, &blob, &error) ==
          MSALEX_OK);
    for (int i = 0; i < 5; i++) {
        fake_fail(FAKE_UNPROTECT, 0, 1, codes[i]);
        CHECK(msalex_dpapi_unprotect(blob.data, blob.size, data, 6, &clear, &error) ==
              MSALEX_OS_ERROR);
        CHECK(error.code == (int32_t)codes[i] && clear.data == NULL);
        CHECK(strstr(error.message, "secret") == NULL && error.message[0] != '\0');
    }
    fake_fail(FAKE_PROTECT, 0, 1, 0x8009000B);
    CHECK(msalex_dpapi_protect(data, 6, NULL, 0, MSALEX_DPAPI_LOCAL_MACHINE, &clear, &error) ==
          MSALEX_OS_ERROR);
    CHECK(error.code == (int32_t)0x8009000B);
    /* More than the API can take is refused, not cut. */
    if (too_much > 0) {
        CHECK(msalex_dpapi_protect(data, too_much, NULL, 0, 0, &clear, &error) == MSALEX_OS_ERROR);
        CHECK(msalex_dpapi_unprotect(data, too_much, NULL, 0, &clear, &error) == MSALEX_OS_ERROR);
    }
    CHECK(msalex_dpapi_unprotect(blob.data, blob.size, data, 6, &clear, &error) == MSALEX_OK);
    CHECK(clear.size == 6 && memcmp(clear.data, data, 6) == 0);
    msalex_buffer_free(&clear);
    msalex_buffer_free(&blob);
}

const struct property system_properties[] = {
    {"A path that is not Unicode makes no lock", a_path_that_is_not_unicode_makes_no_lock},
    {"Server paths get their own long form", server_paths_get_their_own_long_form},
    {"A directory may have any length", a_directory_may_have_any_length},
    {"A path that no system takes is refused", a_path_that_no_system_takes_is_refused},
    {"Another thread may change the directory meanwhile",
     another_thread_may_change_the_directory_meanwhile},
    {"A name may have half a character", a_name_may_have_half_a_character},
    {"Long words are cut between characters", long_words_are_cut_between_characters},
    {"A locale changes no record", a_locale_changes_no_record},
    {"Codes of newer systems have a meaning", codes_of_newer_systems_have_a_meaning},
    {"A deletion is told from a denial", a_deletion_is_told_from_a_denial},
    {"No server of a pipe can act as our user", no_server_of_a_pipe_can_act_as_our_user},
    {"Two files are never taken for one", two_files_are_never_taken_for_one},
    {"A pause ends and leaves nothing", a_pause_ends_and_leaves_nothing},
    {"A change is told with a watch and without", a_change_is_told_with_a_watch_and_without},
    {"A directory may be deleted and made again under a watch",
     a_directory_may_be_deleted_and_made_again_under_a_watch},
    {"What data protection says arrives as it was said",
     what_data_protection_says_arrives_as_it_was_said},
};
const size_t system_property_count = COUNT(system_properties);
