/* Which file a lock file is, and what keeps a lock from opening, making or removing it: see
 * seam.h. */
#include "seam.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- what passes, and what does not ---- */

static void a_name_that_is_being_deleted_is_waited_for(void) {
    const char *path = path_of("lock");
    msalex_lock *lock = lock_for(path);

    fake_fail(FAKE_CREATE_FILE, 0, 3, ERROR_ACCESS_DENIED); /* opening it */
    CHECK_STATUS(msalex_lock_acquire(lock, 1000, 1000, &error), MSALEX_OK);
    CHECK_STATUS(msalex_lock_release(lock, &error), MSALEX_OK);
    fake_fail(FAKE_CREATE_FILE, 1, 1, ERROR_ACCESS_DENIED); /* making it */
    CHECK_STATUS(msalex_lock_acquire(lock, 0, 0, &error), MSALEX_OK);
    CHECK_STATUS(msalex_lock_acquire(lock, 0, 0, &error), MSALEX_INVALID);
    CHECK_STATUS(msalex_lock_release(lock, &error), MSALEX_OK);
    CHECK(!exists(path));
    msalex_lock_free(lock);
}

static void a_directory_that_denies_is_told_at_once(void) {
    msalex_lock *lock = lock_for(path_of("lock"));
    int64_t before = msalex__now_ms();

    fake_fail(FAKE_CREATE_FILE, 0, 1000, ERROR_ACCESS_DENIED);
    CHECK_STATUS(msalex_lock_acquire(lock, 10000, 10000, &error), MSALEX_DENIED);
    CHECK(error.code == EACCES && strstr(error.message, "[WinError 5]") != NULL);
    CHECK(msalex__now_ms() - before < SOON_MS);
    passes_on();
    fake_fail(FAKE_CREATE_FILE, 1, 1, ERROR_DISK_FULL);
    CHECK_STATUS(msalex_lock_acquire(lock, 10000, 10000, &error), MSALEX_OS_ERROR);
    CHECK(error.code == ENOSPC);
    msalex_lock_free(lock);
}

static void a_lock_file_that_denies_us_is_told_as_that_and_soon(void) {
    /* Finding 7 of the review of Windows: it was waited for, and told as "the lock is held". */
    const char *path = path_of("lock");
    const int64_t patiences[] = {-1, 100, 0};
    msalex_lock *lock = lock_for(path);

    leave_behind(path);
    for (size_t i = 0; i < COUNT(patiences); i++) {
        const int64_t before = msalex__now_ms();

        fake_fail(FAKE_CREATE_FILE, 0, 1000000, ERROR_ACCESS_DENIED);
        CHECK_STATUS(msalex_lock_acquire(lock, patiences[i], patiences[i], &error), MSALEX_DENIED);
        CHECK(error.code == EACCES && strstr(error.message, "[WinError 5]") != NULL);
        CHECK(patiences[i] >= 0 || msalex__now_ms() - before >= MSALEX__DENIED_MS);
        CHECK(msalex__now_ms() - before < SOON_MS);
    }
    /* A slice that ends sooner says nothing yet. */
    CHECK_STATUS(msalex_lock_acquire(lock, 50, 5000, &error), MSALEX_TIMEOUT);
    fake_fail(FAKE_CREATE_FILE, 0, 3, ERROR_ACCESS_DENIED); /* a race with a deletion */
    CHECK_STATUS(msalex_lock_acquire(lock, 5000, 5000, &error), MSALEX_OK);
    CHECK_STATUS(msalex_lock_release(lock, &error), MSALEX_OK);
    msalex_lock_free(lock);
}

static void a_file_that_is_being_deleted_is_waited_for_as_long_as_it_takes(void) {
    const char *path = path_of("lock");
    msalex_lock *lock = lock_for(path);

    fake_fail(FAKE_PENDING_DELETE, 0, 1000000, 1);
    CHECK_STATUS(msalex_lock_acquire(lock, 900, 900, &error), MSALEX_TIMEOUT);
    CHECK(fake_count(FAKE_PENDING_DELETE) <= 60); /* soon it is waited for like a peer's */
    CHECK_STATUS(msalex_lock_acquire(lock, 0, 0, &error), MSALEX_TIMEOUT);
    passes_on();
    CHECK_STATUS(msalex_lock_acquire(lock, 5000, 5000, &error), MSALEX_OK);
    msalex_lock_free(lock);
}

static void a_protected_directory_is_named_as_such(void) {
    /* Finding 11 of the review of Windows: "Make sure that its directory exists." */
    msalex_lock *lock = lock_for(path_of("lock"));

    fake_fail(FAKE_CREATE_FILE, 1, 1, ERROR_FILE_NOT_FOUND);
    CHECK_STATUS(msalex_lock_acquire(lock, 1000, 1000, &error), MSALEX_DENIED);
    CHECK(error.code == EACCES && strstr(error.message, "controlled folder access") != NULL);
    msalex_lock_free(lock);
    lock = lock_for(path_of("nowhere\\lock"));
    CHECK_STATUS(msalex_lock_acquire(lock, 1000, 1000, &error), MSALEX_NOT_FOUND);
    CHECK(strstr(error.message, "controlled folder access") == NULL);
    msalex_lock_free(lock);
}

static void a_new_file_that_the_server_does_not_lock_in_time_is_removed(void) {
    const int64_t before = msalex__now_ms();
    msalex_lock *lock = lock_for(path_of("lock"));

    fake_model_locks((struct fake_rules){.late = true, .late_ms = 2500});
    CHECK_STATUS(msalex_lock_acquire(lock, 0, 0, &error), MSALEX_TIMEOUT);
    CHECK(msalex__now_ms() - before < SOON_MS);
    CHECK(!exists(path_of("lock")));
    msalex_lock_free(lock);
}

/* ---- which file it is ---- */

static void on_a_file_server_the_nonce_tells_as_well_which_file_it_is(void) {
    /* Finding 3 of the lock's review: the next file of a name may have the number of the last. */
    const char *path = path_of("lock");
    msalex_lock *lock = lock_for(path);
    OVERLAPPED nonce = {.Offset = MSALEX__RECORD_SIZE - 2};
    DWORD size;

    for (int remote = 0; remote < 2; remote++) {
        wchar_t *wide = msalex__wide_path(path, &error);
        HANDLE file;
        char digit[1];

        fake_fail(FAKE_REMOTE, 0, remote ? 1000 : 0, 1);
        CHECK_STATUS(msalex_lock_acquire(lock, 0, 0, &error), MSALEX_OK);
        CHECK_STATUS(msalex_lock_check(lock, &error), MSALEX_OK);
        fake_fail(FAKE_CREATE_FILE, 0, 1, ERROR_ACCESS_DENIED); /* not known: not held */
        CHECK_STATUS(msalex_lock_check(lock, &error), MSALEX_DENIED);
        fake_fail(FAKE_READ_FILE, 0, 1, ERROR_LOCK_VIOLATION); /* the first byte: it is ours */
        CHECK_STATUS(msalex_lock_check(lock, &error), MSALEX_OK);
        CHECK_STATUS(msalex_lock_release(lock, &error), MSALEX_OK);
        CHECK(!exists(path));
        leave_behind(path);
        fake_fail(FAKE_REMOTE, 0, remote ? 1000 : 0, 1);
        CHECK_STATUS(msalex_lock_acquire(lock, 0, 0, &error), MSALEX_OK);
        file = CreateFileW(wide, GENERIC_READ | GENERIC_WRITE, MSALEX__SHARE_ALL, NULL,
                           OPEN_EXISTING, 0, NULL);
        CHECK(ReadFile(file, digit, 1, &size, &nonce));
        digit[0] = digit[0] == '0' ? '1' : '0';
        CHECK(WriteFile(file, digit, 1, &size, &nonce));
        msalex__close(file);
        CHECK_STATUS(msalex_lock_check(lock, &error), remote ? MSALEX_NOT_FOUND : MSALEX_OK);
        CHECK_STATUS(msalex_lock_release(lock, &error), remote ? MSALEX_NOT_FOUND : MSALEX_OK);
        CHECK(exists(path) == (remote != 0)); /* we do not remove another file */
        free(wide);
    }
    passes_on();
    CHECK_STATUS(msalex_file_delete(path, &error), MSALEX_OK);
    msalex_lock_free(lock);
}

static void without_numbers_the_nonce_tells_which_file_it_is(void) {
    /* Finding 13 of the review of Windows: with number 0 every file was "ours". */
    const DWORD numbers[] = {0, 0xffffffff};
    const char *path = path_of("lock");
    msalex_lock *lock = lock_for(path);

    for (int i = 0; i < 2; i++) {
        fake_fail(FAKE_NO_NUMBER, 0, 1000000, numbers[i] == 0 ? 1 : numbers[i]);
        CHECK_STATUS(msalex_lock_acquire(lock, 0, 0, &error), MSALEX_OK);
        CHECK_STATUS(msalex_lock_check(lock, &error), MSALEX_OK);
        CHECK_STATUS(msalex_lock_release(lock, &error), MSALEX_OK);
        CHECK(!exists(path));
        /* Another file with that number: while a peer had the name. */
        CHECK_STATUS(msalex_lock_acquire(lock, 0, 0, &error), MSALEX_OK);
        fake_fail(FAKE_DISPOSITION, 0, 1000000, ERROR_ACCESS_DENIED);
        CHECK_STATUS(msalex_lock_release(lock, &error), MSALEX_OK);
        fake_fail(FAKE_DISPOSITION, 0, 0, 0);
        CHECK_STATUS(msalex_lock_acquire(lock, 0, 0, &error), MSALEX_OK);
        CHECK_STATUS(msalex_lock_release(lock, &error), MSALEX_OK);
        CHECK(!exists(path));
    }
    msalex_lock_free(lock);
}

static void a_file_whose_number_is_another_at_each_look_is_known_by_its_nonce(void) {
    /* It could never be taken. */
    const char *path = path_of("lock");
    msalex_lock *lock = lock_for(path);

    leave_behind(path);
    fake_fail(FAKE_NUMBERS, 0, 100000, 1);
    fake_fail(FAKE_CREATE_FILE, 0, 0, 0);
    CHECK_STATUS(msalex_lock_acquire(lock, 5000, 5000, &error), MSALEX_OK);
    CHECK(fake_count(FAKE_CREATE_FILE) >= 20 && fake_count(FAKE_CREATE_FILE) <= 100);
    CHECK_STATUS(msalex_lock_check(lock, &error), MSALEX_OK);
    CHECK_STATUS(msalex_lock_release(lock, &error), MSALEX_OK);
    CHECK(!exists(path));
    msalex_lock_free(lock);
}

static void a_lock_whose_session_with_the_server_is_lost_is_not_held(void) {
    /* Finding 14 of the review of Windows: the file was still there, so the lock "was held". */
    msalex_lock *lock = lock_for(path_of("lock"));

    fake_fail(FAKE_REMOTE, 0, 1000, 1);
    CHECK_STATUS(msalex_lock_acquire(lock, 0, 0, &error), MSALEX_OK);
    CHECK_STATUS(msalex_lock_check(lock, &error), MSALEX_OK);
    fake_fail(FAKE_IDENTIFY, 1, 1, ERROR_NETNAME_DELETED); /* of our own handle */
    CHECK_STATUS(msalex_lock_check(lock, &error), MSALEX_NOT_FOUND);
    CHECK_STATUS(msalex_lock_release(lock, &error), MSALEX_OK);
    msalex_lock_free(lock);
}

/* ---- its end ---- */

static void a_release_on_a_local_disk_opens_the_file_to_delete_it_only(void) {
    /* Finding 16 of the review of Windows. */
    const char *path = path_of("lock");
    msalex_lock *lock = lock_for(path);

    CHECK_STATUS(msalex_lock_acquire(lock, 0, 0, &error), MSALEX_OK);
    fake_fail(FAKE_CREATE_FILE, 0, 0, 0);
    CHECK_STATUS(msalex_lock_release(lock, &error), MSALEX_OK);
    CHECK(fake_count(FAKE_CREATE_FILE) == 1);
    CHECK(!exists(path));
    msalex_lock_free(lock);
}

static void the_name_is_free_at_once_although_others_have_the_file_open(void) {
    /* Finding 18 of the review of Windows: 1.3.1's open("x") met "access denied". */
    const char *path = path_of("lock");
    msalex_lock *lock = lock_for(path);
    wchar_t *wide = msalex__wide_path(path, &error);
    HANDLE open, new;

    CHECK_STATUS(msalex_lock_acquire(lock, 0, 0, &error), MSALEX_OK);
    open = msalex__open(wide, GENERIC_READ, MSALEX__SHARE_ALL, NULL, OPEN_EXISTING, 0);
    CHECK(open != INVALID_HANDLE_VALUE);
    /* No POSIX deletion: Wine 8.  Wine 10 says that it has deleted the file, but the name stays as
     * long as somebody has a lock and another one has the file open. */
    fake_fail(FAKE_DISPOSITION, 0, 1, ERROR_INVALID_PARAMETER);
    CHECK_STATUS(msalex_lock_release(lock, &error), MSALEX_OK);
    new = msalex__open(wide, GENERIC_WRITE, FILE_SHARE_READ, NULL, CREATE_NEW, 0);
    CHECK(new != INVALID_HANDLE_VALUE);
    msalex__close(new);
    CHECK_STATUS(msalex_file_delete(path, &error), MSALEX_OK);
    msalex__close(open);
    free(wide);
    msalex_lock_free(lock);
}

const struct property refusal_properties[] = {
    {"A name that is being deleted is waited for", a_name_that_is_being_deleted_is_waited_for},
    {"A directory that denies is told at once", a_directory_that_denies_is_told_at_once},
    {"A lock file that denies us is told as that and soon",
     a_lock_file_that_denies_us_is_told_as_that_and_soon},
    {"A file that is being deleted is waited for as long as it takes",
     a_file_that_is_being_deleted_is_waited_for_as_long_as_it_takes},
    {"A protected directory is named as such", a_protected_directory_is_named_as_such},
    {"A new file that the server does not lock in time is removed",
     a_new_file_that_the_server_does_not_lock_in_time_is_removed},
    {"On a file server the nonce tells as well which file it is",
     on_a_file_server_the_nonce_tells_as_well_which_file_it_is},
    {"Without numbers the nonce tells which file it is",
     without_numbers_the_nonce_tells_which_file_it_is},
    {"A file whose number is another at each look is known by its nonce",
     a_file_whose_number_is_another_at_each_look_is_known_by_its_nonce},
    {"A lock whose session with the server is lost is not held",
     a_lock_whose_session_with_the_server_is_lost_is_not_held},
    {"A release on a local disk opens the file to delete it only",
     a_release_on_a_local_disk_opens_the_file_to_delete_it_only},
    {"The name is free at once although others have the file open",
     the_name_is_free_at_once_although_others_have_the_file_open},
};
const size_t refusal_property_count = COUNT(refusal_properties);
