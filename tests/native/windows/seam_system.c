/* Paths, watches and encryption, Windows: see seam.h. */
#include "seam.h"

#include <errno.h>
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
    wide = msalex__wide_path("C:\\short", &error);
    CHECK(wide != NULL && wcscmp(wide, L"C:\\short") == 0);
    free(wide);
    CHECK(msalex__wide_path("", &error) == NULL);
    memset(path, 'x', 300);
    path[300] = '\0';
    CHECK(msalex__wide_path(path, &error) == NULL && error.code == ENAMETOOLONG);
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
    {"A change is told with a watch and without", a_change_is_told_with_a_watch_and_without},
    {"A directory may be deleted and made again under a watch",
     a_directory_may_be_deleted_and_made_again_under_a_watch},
    {"What data protection says arrives as it was said",
     what_data_protection_says_arrives_as_it_was_said},
};
const size_t system_property_count = COUNT(system_properties);
