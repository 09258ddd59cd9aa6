/* Saves and the ways to a file, Windows, over the model of files: see seam.h and fake_files.h. */
#include "seam.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SAVES = 1000, SHARE_ALL = FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE };

static const wchar_t STRANGER[] = L"S-1-5-21-1-2-3-4";
static const wchar_t ADMINISTRATORS[] = L"S-1-5-32-544";

/* ---- beside readers ---- */

static HANDLE opened(const char *path, DWORD sharing) {
    return CreateFileW(wide_of(path), GENERIC_READ, sharing, NULL, OPEN_EXISTING,
                       SECURITY_SQOS_PRESENT | SECURITY_IDENTIFICATION, NULL);
}

static void a_reader_that_shares_deletion_is_in_no_save_s_way(void) {
    const char *path = path_of("file");
    char text[20];
    HANDLE reader;
    int64_t began;

    CHECK_STATUS(put(path, "old"), MSALEX_OK);
    fake_set_rename(FAKE_RENAME_POSIX);
    reader = opened(path, SHARE_ALL); /* all the time */
    began = msalex__now_ms();
    for (int i = 0; i < SAVES; i++) {
        HANDLE next;
        (void)snprintf(text, sizeof text, "%d", i);
        CHECK_STATUS(put(path, text), MSALEX_OK);
        next = opened(path, SHARE_ALL);
        CHECK(next != INVALID_HANDLE_VALUE && CloseHandle(reader));
        reader = next;
    }
    CHECK(has(path, "999"));
    printf("    %d of %d saves beside a reader, in %lld ms\n", SAVES, SAVES,
           (long long)(msalex__now_ms() - began));
    CHECK(CloseHandle(reader));
    CHECK_STATUS(msalex_file_delete(path, &error), MSALEX_OK);
}

/* Where there is no such rename, a save waits for each reader, whatever that shares. */
static void without_the_posix_rename_a_save_waits_for_the_reader(void) {
    const DWORD codes[] = {ERROR_INVALID_PARAMETER, ERROR_NOT_SUPPORTED, ERROR_INVALID_FUNCTION};
    const char *path = path_of("file");
    HANDLE reader;

    for (int i = 0; i < 3; i++) {
        fake_set_rename((int)codes[i]);
        CHECK_STATUS(put(path, "old"), MSALEX_OK);
        CHECK_STATUS(put(path, "new"), MSALEX_OK);
        reader = opened(path, SHARE_ALL);
        CHECK_STATUS(put(path, "newer"), MSALEX_DENIED);
        CHECK(CloseHandle(reader));
        CHECK(has(path, "new") && count_entries(".") == 1);
        CHECK_STATUS(put(path, "newest"), MSALEX_OK);
    }
    CHECK_STATUS(msalex_file_delete(path, &error), MSALEX_OK);
}

/* ---- 1.3.1 beside us ---- */

static char read_path[1200];
static int reads, failures;

/* As open() of Python reads: it shares reading and writing, and does not try again. */
static void read_as_python(void) {
    HANDLE file = opened(read_path, FILE_SHARE_READ | FILE_SHARE_WRITE);
    char text[8];
    DWORD size = 0;

    reads++;
    if (file == INVALID_HANDLE_VALUE || !ReadFile(file, text, 8, &size, NULL) || size != 8)
        failures++;
    if (file != INVALID_HANDLE_VALUE)
        (void)CloseHandle(file);
}

/* As open(path, "w") of Python writes: first it cuts the file. */
static void write_as_python(const char *path, const char *text) {
    HANDLE file =
        CreateFileW(wide_of(path), GENERIC_WRITE, FILE_SHARE_READ | FILE_SHARE_WRITE, NULL,
                    CREATE_ALWAYS, SECURITY_SQOS_PRESENT | SECURITY_IDENTIFICATION, NULL);
    DWORD size;

    CHECK(file != INVALID_HANDLE_VALUE);
    CHECK(WriteFile(file, text, (DWORD)strlen(text), &size, NULL));
    CHECK(CloseHandle(file));
}

/* The reader looks after each call of the writer: how often does it fail for one save? */
static void a_reader_like_1_3_1_fails_no_more_than_beside_1_3_1(void) {
    int theirs;

    (void)snprintf(read_path, sizeof read_path, "%s\\file", directory);
    CHECK_STATUS(put(read_path, "contents"), MSALEX_OK);
    fake_set_rename(FAKE_RENAME_POSIX);
    reads = failures = 0;
    fake_set_between(read_as_python);
    write_as_python(read_path, "contents");
    fake_set_between(NULL);
    theirs = failures;
    printf("    beside 1.3.1 %d of %d reads fail", failures, reads);
    reads = failures = 0;
    fake_set_between(read_as_python);
    CHECK_STATUS(put(read_path, "contents"), MSALEX_OK);
    fake_set_between(NULL);
    printf(", beside us %d of %d\n", failures, reads);
    CHECK(theirs == 1 && reads > 10);
    CHECK(failures <= 1); /* between the rename and the close, which follows at once */
    CHECK_STATUS(msalex_file_delete(read_path, &error), MSALEX_OK);
}

/* ---- access lists ---- */

static void a_list_without_deletion_leaves_no_litter(void) {
    const char *path = path_of("file");

    CHECK_STATUS(put(path, "a longer content"), MSALEX_OK);
    fake_set_rename(FAKE_RENAME_POSIX);
    fake_forbid(wide_of(directory), DELETE); /* GRANT R,W */
    for (int i = 0; i < 10; i++) {
        CHECK_STATUS(put(path, i % 2 == 0 ? "short" : "longer"), MSALEX_OK);
        CHECK(has(path, i % 2 == 0 ? "short" : "longer"));
        CHECK(count_entries(".") == 1);
    }
    /* Also after a failure. */
    fake_fail(FAKE_FLUSH, 0, 1, ERROR_WRITE_FAULT);
    CHECK_STATUS(put(path, "x"), MSALEX_OS_ERROR);
    CHECK(count_entries(".") == 1 && has(path, "longer"));
    passes_on();
    CHECK_STATUS(msalex_file_delete(path, &error), MSALEX_OK);
}

static void a_denial_that_stays_is_told_soon(void) {
    const char *path = path_of("file");
    int64_t before = msalex__now_ms();

    CHECK_STATUS(put(path, "old"), MSALEX_OK);
    fake_set_rename(FAKE_RENAME_POSIX);
    fake_forbid(wide_of(path), DELETE | FILE_WRITE_DATA | FILE_READ_DATA);
    CHECK_STATUS(put(path, "new"), MSALEX_DENIED);
    CHECK(!has(path, "old"));
    CHECK_STATUS(msalex_file_delete(path, &error), MSALEX_DENIED);
    CHECK(error.code == EACCES && strstr(error.message, "[WinError 5]") != NULL);
    printf("    three denials, told after %lld ms\n", (long long)(msalex__now_ms() - before));
    CHECK(msalex__now_ms() - before < 2 * RETRY_MS); /* and not three times RETRY_MS */
    passes_on();
    CHECK_STATUS(msalex_file_delete(path, &error), MSALEX_OK);
}

static void the_list_is_kept_unless_a_stranger_owns_the_file(void) {
    const struct {
        const wchar_t *old;
        const wchar_t *given; /* a part of the new list; "": it inherits */
    } files[] = {
        {L"O:BAD:P(A;;FA;;;BA)(A;;FR;;;AU)", L"(A;;FR;;;AU)"},
        {L"O:SYD:AI(A;;FR;;;AU)(A;ID;FA;;;SY)", L"(A;;FR;;;AU)"},
        {L"O:SYD:AI(A;ID;FR;;;AU)(A;ID;FA;;;SY)", L""}, /* it inherits anew: nothing doubles */
        {L"O:SYD:P", L"D:P"},
        {L"O:S-1-5-21-1-2-3-4D:(A;;FA;;;WD)", L"D:P"},
        {L"O:S-1-5-21-1-2-3-4D:AI(A;ID;FA;;;WD)", L"D:P"},
    };
    const char *path = path_of("file");

    CHECK_STATUS(put(path, "old"), MSALEX_OK);
    CHECK(wcsstr(fake_last_list(), L"D:P") != NULL);
    CHECK((fake_last_attributes() & FILE_ATTRIBUTE_NOT_CONTENT_INDEXED) != 0);
    for (size_t i = 0; i < COUNT(files); i++) {
        fake_set_security(wide_of(path), files[i].old);
        CHECK_STATUS(put(path, "new"), MSALEX_OK);
        CHECK(files[i].given[0] == L'\0' ? fake_last_list()[0] == L'\0'
                                         : wcsstr(fake_last_list(), files[i].given) != NULL);
        CHECK(wcsstr(fake_last_list(), L";;;WD)") == NULL);
    }
    passes_on();
    CHECK_STATUS(msalex_file_delete(path, &error), MSALEX_OK);
}

static void a_thread_that_acts_for_a_client_makes_the_client_s_file(void) {
    const char *path = path_of("file");

    fake_impersonate(STRANGER);
    CHECK_STATUS(put(path, "new"), MSALEX_OK);
    CHECK(wcsstr(fake_last_list(), STRANGER) != NULL);
    passes_on();
    CHECK_STATUS(msalex_file_delete(path, &error), MSALEX_OK);
}

/* ---- in place ---- */

/* No file can be made beside it; `times` calls fail after `skip` more. */
static int put_in_place(const char *path, const char *text, enum fake_call call, int skip,
                        int times, DWORD code) {
    int status;

    fake_fail(FAKE_NT_CREATE, 0, 1, ERROR_ACCESS_DENIED);
    fake_fail(call, skip, times, code);
    status = put(path, text);
    fake_fail(call, 0, 0, 0);
    CHECK(fake_count(FAKE_NT_CREATE) == 1);
    return status;
}

static void a_failed_write_in_place_leaves_the_old_content_or_says_that_it_is_lost(void) {
    const struct {
        enum fake_call call;
        int skip, times;
        const char *text;
        DWORD code;
        int number, status;
    } ways[] = {
        {FAKE_WRITE_FILE, 0, 1, "new", ERROR_DISK_FULL, ENOSPC, MSALEX_OS_ERROR},
        {FAKE_SET_END, 0, 1, "new", ERROR_USER_MAPPED_FILE, EACCES, MSALEX_DENIED},
        {FAKE_FLUSH, 0, 1, "new", ERROR_WRITE_FAULT, EIO, MSALEX_OS_ERROR},
        /* What is longer gets its room first, before the old content changes. */
        {FAKE_WRITE_FILE, 0, 1, "longer than old", ERROR_DISK_FULL, ENOSPC, MSALEX_OS_ERROR},
        {FAKE_WRITE_FILE, 0, 9, "longer than old", ERROR_DISK_FULL, ENOSPC, MSALEX_OS_ERROR},
        {FAKE_WRITE_FILE, 1, 1, "longer than old", ERROR_DISK_FULL, ENOSPC, MSALEX_OS_ERROR},
        {FAKE_FLUSH, 0, 1, "longer than old", ERROR_WRITE_FAULT, EIO, MSALEX_OS_ERROR},
        /* It cannot be restored, either. */
        {FAKE_WRITE_FILE, 0, 2, "new", ERROR_DISK_FULL, ENOSPC, MSALEX_TORN},
        {FAKE_SET_END, 0, 2, "new", ERROR_USER_MAPPED_FILE, EACCES, MSALEX_TORN},
        {FAKE_FLUSH, 0, 2, "longer than old", ERROR_WRITE_FAULT, EIO, MSALEX_TORN},
    };
    const char *path = path_of("file");

    for (size_t i = 0; i < COUNT(ways); i++) {
        CHECK_STATUS(put(path, "content"), MSALEX_OK);
        CHECK_STATUS(put_in_place(path, ways[i].text, ways[i].call, ways[i].skip, ways[i].times,
                                  ways[i].code),
                     ways[i].status);
        CHECK(error.code == ways[i].number);
        CHECK(ways[i].status == MSALEX_TORN || has(path, "content"));
        CHECK(count_entries(".") == 1);
    }
    CHECK_STATUS(msalex_file_delete(path, &error), MSALEX_OK);
}

static void what_cannot_be_read_is_written_in_place_but_not_restored(void) {
    const char *path = path_of("file");

    CHECK_STATUS(put(path, "old"), MSALEX_OK);
    fake_fail(FAKE_READ_FILE, 0, 1, ERROR_CRC);
    CHECK_STATUS(put_in_place(path, "new", FAKE_FLUSH, 0, 1, ERROR_WRITE_FAULT), MSALEX_TORN);
    CHECK(error.code == EIO);
    fake_forbid(wide_of(path), FILE_READ_DATA); /* its list grants writing only */
    CHECK_STATUS(put_in_place(path, "newer", FAKE_FLUSH, 0, 1, ERROR_WRITE_FAULT), MSALEX_TORN);
    CHECK_STATUS(put_in_place(path, "newest", FAKE_FLUSH, 0, 0, 0), MSALEX_OK);
    passes_on();
    CHECK(has(path, "newest"));
    CHECK_STATUS(msalex_file_delete(path, &error), MSALEX_OK);
}

/* ---- deletion ---- */

static void a_file_that_is_being_deleted_is_not_found(void) {
    const char *path = path_of("file");
    msalex_stamp stamp;
    HANDLE reader;

    for (int by_name = 0; by_name < 2; by_name++) {
        fake_set_by_name(by_name == 1);
        fake_set_slow_deletion(true);
        CHECK_STATUS(put(path, "old"), MSALEX_OK);
        reader = opened(path, SHARE_ALL);
        CHECK_STATUS(msalex_file_delete(path, &error), MSALEX_OK);
        CHECK_STATUS(msalex_file_stat(path, &stamp, &error), MSALEX_NOT_FOUND);
        CHECK(opened(path, SHARE_ALL) == INVALID_HANDLE_VALUE);
        CHECK(CloseHandle(reader));
        passes_on();
        CHECK(!exists(path));
    }
}

/* ---- stamps ---- */

static void all_ways_to_a_stamp_give_the_same_one(void) {
    const char *path = path_of("file");
    msalex_stamp saved, read, by_handle, by_name;
    msalex_buffer content;
    int before;

    CHECK_STATUS(msalex_file_replace(path, (const unsigned char *)"new", 3, NULL, &saved, &error),
                 MSALEX_OK);
    for (int old = 0; old < 2; old++) { /* the second time without FileIdInfo */
        fake_fail(FAKE_ID_INFO, 0, old * 1000, ERROR_INVALID_PARAMETER);
        CHECK_STATUS(msalex_file_read(path, &content, &read, &error), MSALEX_OK);
        msalex_buffer_free(&content);
        CHECK_STATUS(msalex_file_stat(path, &by_handle, &error), MSALEX_OK);
        CHECK(memcmp(&saved, &read, sizeof saved) == 0);
        CHECK(memcmp(&saved, &by_handle, sizeof saved) == 0);
    }
    passes_on();
    fake_set_by_name(true);
    before = fake_opened();
    CHECK_STATUS(msalex_file_stat(path, &by_name, &error), MSALEX_OK);
    CHECK(fake_opened() == before); /* without a handle */
    CHECK(memcmp(&saved, &by_name, sizeof saved) == 0);
    CHECK_STATUS(msalex_file_stat(path_of("none"), &by_name, &error), MSALEX_NOT_FOUND);
    fake_fail(FAKE_BY_NAME, 0, 1, ERROR_INVALID_PARAMETER); /* a file system that cannot */
    CHECK_STATUS(msalex_file_stat(path, &by_name, &error), MSALEX_OK);
    CHECK(memcmp(&saved, &by_name, sizeof saved) == 0);
    CHECK_STATUS(msalex_file_delete(path, &error), MSALEX_OK);
    passes_on();
}

/* ---- links ---- */

/* A directory "real" with a file in it, and "link" beside it, which the model makes a link. */
static void make_directories(void) {
    CHECK_STATUS(msalex_directory_make(path_of("real"), &error), MSALEX_OK);
    CHECK_STATUS(msalex_directory_make(path_of("link"), &error), MSALEX_OK);
    CHECK_STATUS(put(path_of("real\\file"), "old"), MSALEX_OK);
}

static void remove_directories(void) {
    passes_on();
    CHECK(count_entries("link") == 0);
    (void)msalex_file_delete(path_of("real\\file"), &error);
    CHECK(RemoveDirectoryA(path_of("real")) && RemoveDirectoryA(path_of("link")));
}

static void a_link_of_a_stranger_is_refused(void) {
    msalex_buffer content;
    msalex_stamp stamp;
    char deep[1200];

    make_directories();
    fake_make_link(wide_of(path_of("link")), wide_of(path_of("real")), false, STRANGER);
    (void)snprintf(deep, sizeof deep, "%s\\link\\file", directory);
    CHECK_STATUS(put(deep, "new"), MSALEX_NOT_TRUSTED);
    CHECK(strstr(error.message, "S-1-5-21-1-2-3-4") != NULL);
    CHECK(strstr(error.message, "\\link\"") != NULL && strstr(error.message, "\\\\?\\") == NULL);
    CHECK_STATUS(msalex_file_read(deep, &content, &stamp, &error), MSALEX_NOT_TRUSTED);
    CHECK_STATUS(msalex_file_touch(deep, &error), MSALEX_NOT_TRUSTED);
    CHECK_STATUS(msalex_file_delete(deep, &error), MSALEX_NOT_TRUSTED);
    CHECK_STATUS(msalex_file_sweep(deep, &error), MSALEX_NOT_TRUSTED);
    CHECK_STATUS(msalex_file_create(deep, NULL, 0, &error), MSALEX_NOT_TRUSTED);
    CHECK(has(path_of("real\\file"), "old"));
    fake_fail(FAKE_SECURITY_INFO, 0, 1, ERROR_ACCESS_DENIED); /* its owner is not known */
    CHECK_STATUS(put(deep, "new"), MSALEX_NOT_TRUSTED);
    remove_directories();
}

static void a_link_that_is_trusted_is_followed(void) {
    const wchar_t *owners[] = {ADMINISTRATORS, L"S-1-5-18",
                               L"S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464"};
    char deep[1200], real[1200];
    const char *relative[] = {"real", ".\\real", "..\\%s\\real"};
    char text[1300];

    make_directories();
    (void)snprintf(deep, sizeof deep, "%s\\link\\file", directory);
    (void)snprintf(real, sizeof real, "%s\\real\\file", directory);
    for (int i = 0; i < 3; i++) {
        fake_make_link(wide_of(path_of("link")), wide_of(path_of("real")), false, owners[i]);
        CHECK_STATUS(put(deep, "new"), MSALEX_OK);
        CHECK(has(deep, "new") && has(real, "new"));
        CHECK_STATUS(msalex_file_touch(deep, &error), MSALEX_OK);
        CHECK_STATUS(msalex_file_sweep(deep, &error), MSALEX_OK);
        fake_fail(FAKE_OLD_NT, 0, 1000, 1); /* a system that asks each part */
        CHECK_STATUS(put(deep, "newer"), MSALEX_OK);
        CHECK(has(real, "newer"));
        passes_on();
        (void)snprintf(text, sizeof text, relative[i], strrchr(directory, '\\') + 1);
        fake_make_link(wide_of(path_of("link")), wide_of(text), true, owners[i]);
        CHECK_STATUS(put(deep, "newest"), MSALEX_OK);
        passes_on();
        CHECK(has(real, "newest"));
    }
    remove_directories();
}

static void a_link_at_the_end_keeps_its_place(void) {
    char link[1200], real[1200];

    (void)snprintf(link, sizeof link, "%s\\link", directory);
    (void)snprintf(real, sizeof real, "%s\\real", directory);
    CHECK_STATUS(put(link, ""), MSALEX_OK); /* a stand-in */
    fake_make_link(wide_of(link), wide_of(real), false, ADMINISTRATORS);
    CHECK_STATUS(put(link, "new"), MSALEX_INVALID);
    CHECK(strstr(error.message, "leads nowhere") != NULL);
    CHECK_STATUS(put(real, "old"), MSALEX_OK);
    CHECK_STATUS(put(link, "new"), MSALEX_OK);
    CHECK(has(real, "new") && has(link, "new"));
    CHECK_STATUS(msalex_file_create(link, NULL, 0, &error), MSALEX_OS_ERROR);
    CHECK(error.code == EEXIST);
    fake_fail(FAKE_READ_LINK, 0, 1, ERROR_ACCESS_DENIED);
    CHECK_STATUS(put(link, "new"), MSALEX_DENIED);
    /* A delete removes both; and a link that leads nowhere, alone. */
    CHECK_STATUS(msalex_file_delete(link, &error), MSALEX_OK);
    passes_on();
    CHECK(!exists(real) && !exists(link));
    CHECK_STATUS(put(link, ""), MSALEX_OK);
    fake_make_link(wide_of(link), L"Z:\\nowhere\\at\\all", false, ADMINISTRATORS);
    CHECK_STATUS(msalex_file_delete(link, &error), MSALEX_OK);
    passes_on();
    CHECK(!exists(link));
}

/* A symbolic link may begin at the root of its drive; a file system without tags has no links. */
static void the_way_may_begin_at_the_root_or_have_no_tags(void) {
    char deep[1200];

    make_directories();
    (void)snprintf(deep, sizeof deep, "%s\\link\\file", directory);
    fake_make_link(wide_of(path_of("link")), wide_of(path_of("real")) + 2, true, ADMINISTRATORS);
    CHECK_STATUS(put(deep, "new"), MSALEX_OK);
    passes_on();
    CHECK(has(path_of("real\\file"), "new"));
    fake_fail(FAKE_OLD_NT, 0, 1000, 1);
    fake_fail(FAKE_NO_TAGS, 0, 1000, ERROR_INVALID_PARAMETER);
    CHECK_STATUS(put(deep, "new"), MSALEX_OK);
    CHECK(has(deep, "new"));
    fake_fail(FAKE_NT_OPEN, 3, 1, ERROR_ACCESS_DENIED); /* on the way */
    CHECK_STATUS(put(deep, "new"), MSALEX_DENIED);
    passes_on();
    CHECK_STATUS(msalex_file_delete(deep, &error), MSALEX_OK);
    remove_directories();
}

/* Home directories on a server, or a sandbox: the root may not be looked at. */
static void the_root_may_be_closed_to_us(void) {
    const char *path = path_of("file");

    fake_fail(FAKE_CREATE_FILE, 0, 1, ERROR_ACCESS_DENIED);
    CHECK_STATUS(put(path, "new"), MSALEX_OK);
    CHECK(has(path, "new"));
    fake_fail(FAKE_CREATE_FILE, 0, 2, ERROR_ACCESS_DENIED);
    CHECK_STATUS(put(path, "newer"), MSALEX_DENIED);
    CHECK_STATUS(put("\\\\no.such.server.invalid\\share\\file", "x"), MSALEX_NOT_FOUND);
    CHECK_STATUS(msalex_file_delete(path, &error), MSALEX_OK);
}

static void a_drive_may_be_written_as_a_device_and_a_pipe_is_no_file(void) {
    msalex_buffer content;
    msalex_stamp stamp;
    char path[1200];

    (void)snprintf(path, sizeof path, "\\\\.\\%s\\file", directory);
    CHECK_STATUS(put(path, "new"), MSALEX_OK);
    CHECK(has(path, "new") && has(path_of("file"), "new"));
    CHECK_STATUS(msalex_file_delete(path, &error), MSALEX_OK);
    CHECK(msalex_file_read("\\\\.\\pipe\\none", &content, &stamp, &error) != MSALEX_OK);
    CHECK(msalex_file_read("\\\\?\\pipe\\none", &content, &stamp, &error) != MSALEX_OK);
    CHECK(put("\\\\?\\GLOBALROOT\\none\\file", "x") != MSALEX_OK);
}

static void links_in_a_circle_end(void) {
    make_directories();
    fake_make_link(wide_of(path_of("link")), wide_of(path_of("link")), false, ADMINISTRATORS);
    CHECK_STATUS(put(path_of("link\\file"), "new"), MSALEX_INVALID);
    remove_directories();
}

/* An attacker exchanges the directory between the look and the writing: that changes nothing any
 * more, because the directory is open. */
static void a_directory_that_is_exchanged_meanwhile_redirects_nothing(void) {
    char path[1200];

    make_directories();
    (void)snprintf(path, sizeof path, "%s\\link\\file", directory);
    fake_exchange(wide_of(path_of("link")), wide_of(path_of("real")));
    CHECK_STATUS(put(path, "secret"), MSALEX_OK);
    CHECK(has(path_of("real\\file"), "old"));
    passes_on(); /* there was no link before the attack */
    CHECK(has(path, "secret"));
    CHECK_STATUS(msalex_file_delete(path, &error), MSALEX_OK);
    remove_directories();
}

const struct property save_properties[] = {
    {"A reader that shares deletion is in no save's way",
     a_reader_that_shares_deletion_is_in_no_save_s_way},
    {"Without the POSIX rename a save waits for the reader",
     without_the_posix_rename_a_save_waits_for_the_reader},
    {"A reader like 1.3.1 fails no more than beside 1.3.1",
     a_reader_like_1_3_1_fails_no_more_than_beside_1_3_1},
    {"A list without deletion leaves no litter", a_list_without_deletion_leaves_no_litter},
    {"A denial that stays is told soon", a_denial_that_stays_is_told_soon},
    {"The list is kept unless a stranger owns the file",
     the_list_is_kept_unless_a_stranger_owns_the_file},
    {"A thread that acts for a client makes the client's file",
     a_thread_that_acts_for_a_client_makes_the_client_s_file},
    {"A failed write in place leaves the old content or says that it is lost",
     a_failed_write_in_place_leaves_the_old_content_or_says_that_it_is_lost},
    {"What cannot be read is written in place but not restored",
     what_cannot_be_read_is_written_in_place_but_not_restored},
    {"A file that is being deleted is not found", a_file_that_is_being_deleted_is_not_found},
    {"All ways to a stamp give the same one", all_ways_to_a_stamp_give_the_same_one},
    {"A link of a stranger is refused", a_link_of_a_stranger_is_refused},
    {"A link that is trusted is followed", a_link_that_is_trusted_is_followed},
    {"A link at the end keeps its place", a_link_at_the_end_keeps_its_place},
    {"The way may begin at the root or have no tags",
     the_way_may_begin_at_the_root_or_have_no_tags},
    {"The root may be closed to us", the_root_may_be_closed_to_us},
    {"A drive may be written as a device and a pipe is no file",
     a_drive_may_be_written_as_a_device_and_a_pipe_is_no_file},
    {"Links in a circle end", links_in_a_circle_end},
    {"A directory that is exchanged meanwhile redirects nothing",
     a_directory_that_is_exchanged_meanwhile_redirects_nothing},
};
const size_t save_property_count = COUNT(save_properties);
