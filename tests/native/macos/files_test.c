/*
 * Files on a Mac, over the fakes: the promises of os_posix.h on each version of macOS that differs,
 * and the result of a save when a call fails.  Run by tests/macos/test_over_fakes.py.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "attributes_posix.h"
#include "check.h"
#include "fake_kernel.h"
#include "internal.h"
#include "lock_file_posix.h"
#include "os_posix.h"

static const char PATH[] = "cache.bin";
static const char READERS[] = "group:everyone allow read";
static msalex_stamp stamp;
/* macOS 11 and 12 know neither O_SEARCH nor freadlink. */
static const int VERSIONS[] = {11, 15};
enum { VERSION_COUNT = sizeof VERSIONS / sizeof VERSIONS[0] };

static void start(struct fake_kernel script) {
    fake_kernel = script;
}

static void end(void) {
    fake_kernel = (struct fake_kernel){0};
}

static int save(const char *text) {
    return msalex_file_replace(PATH, (const unsigned char *)text, strlen(text), NULL, &stamp,
                               &error);
}

/* Was it opened?  Closes it then. */
static bool opened(int fd) {
    if (fd >= 0)
        (void)close(fd);
    return fd >= 0;
}

static int open_here(void) {
    int fd = msalex__open_directory(AT_FDCWD, ".");
    CHECK(fd >= 0);
    return fd;
}

/* ---- directories and links ---- */

/* This property must be the first one: the library remembers the proof of a kernel. */
static void no_links_unless_proven(void) {
    CHECK(mkdir("real", 0700) == 0 && symlink("real", "link") == 0);
    start((struct fake_kernel){.macos = 10}); /* this one would follow them */
    CHECK(!opened(msalex__open_directory_without_links(-1, "real")) && errno == ELOOP);
    start((struct fake_kernel){.failing = "opendir", .code = EMFILE});
    CHECK(!opened(msalex__open_directory_without_links(-1, "real")) && errno == ELOOP);
    for (size_t i = 0; i < VERSION_COUNT; i++) {
        start((struct fake_kernel){.macos = VERSIONS[i]});
        CHECK(opened(msalex__open_directory_without_links(-1, "real")));
        CHECK(!opened(msalex__open_directory_without_links(-1, "link")) && errno == ELOOP);
        CHECK(!opened(msalex__open_directory_without_links(-1, "link/")) && errno == ELOOP);
        CHECK(!opened(msalex__open_directory_without_links(-1, "real/../link/.")) &&
              errno == ELOOP);
        CHECK(!opened(msalex__open_directory_without_links(-1, "none")) && errno == ENOENT);
        int here = open_here();
        CHECK(opened(msalex__open_directory_without_links(here, "real/./")));
        CHECK(!opened(msalex__open_directory_without_links(here, "link/.")) && errno == ELOOP);
        CHECK(opened(msalex__open_directory_without_links(here, "/")));
        (void)close(here);
    }
    end();
}

static void directory_of_a_name(void) {
    CHECK(mkdir("real", 0700) == 0 && symlink("real", "link") == 0);
    write_text("file", "");
    for (size_t i = 0; i < VERSION_COUNT; i++) {
        start((struct fake_kernel){.macos = VERSIONS[i]});
        CHECK(opened(msalex__open_directory(AT_FDCWD, "real")));
        CHECK(!opened(msalex__open_directory(AT_FDCWD, "link")));
        CHECK(errno == ENOTDIR || errno == ELOOP);
        CHECK(!opened(msalex__open_directory(AT_FDCWD, "file")) && errno == ENOTDIR);
        CHECK(!opened(msalex__open_directory(AT_FDCWD, "none")) && errno == ENOENT);
    }
    end();
}

/* Kernels that do not know O_SEARCH ask for the right to read. */
static void right_to_search(void) {
    if (geteuid() != 0) {
        skip("it takes root to become another user");
        return;
    }
    CHECK(chmod(".", 0755) == 0);
    CHECK(mkdir("search", 0711) == 0 && mkdir("read", 0744) == 0);
    CHECK(chmod("search", 0711) == 0 && chmod("read", 0744) == 0 && seteuid(12001) == 0);
    for (size_t i = 0; i < VERSION_COUNT; i++) {
        const bool is_new = VERSIONS[i] >= 13;
        start((struct fake_kernel){.macos = VERSIONS[i]});
        CHECK(opened(msalex__open_directory(AT_FDCWD, "search")) == is_new);
        CHECK(opened(msalex__open_directory_without_links(-1, "search")) == is_new);
        CHECK(opened(msalex__open_directory(AT_FDCWD, "read")) != is_new);
    }
    CHECK(seteuid(0) == 0);
    end();
}

static void link_and_its_text(void) {
    char text[PATH_MAX];
    struct stat link, expected;

    CHECK(symlink("/some/where", "link") == 0 && lstat("link", &expected) == 0);
    write_text("file", "");
    CHECK(mkfifo("fifo", 0600) == 0);
    for (size_t i = 0; i < VERSION_COUNT; i++) {
        start((struct fake_kernel){.macos = VERSIONS[i]});
        int here = open_here();
        CHECK(msalex__read_link(here, "link", &link, text) == 0);
        CHECK(strcmp(text, "/some/where") == 0 && link.st_ino == expected.st_ino);
        CHECK(msalex__read_link(here, "none", &link, text) == ENOENT);
        fake_kernel.failing = "openat";
        CHECK(msalex__read_link(here, "file", &link, text) == EINVAL);
        CHECK(msalex__read_link(here, "fifo", &link, text) == EINVAL);
        CHECK(fake_kernel.failing != NULL); /* it was not opened */
        (void)close(here);
    }
    end();
}

/* Another process puts "theirs" in the place of "link" just before the link is read, and back
 * before the next look; once, or every time. */
static bool is_away, for_ever;
static int exchanges;

static void exchange_around_the_reading(const char *name) {
    if (strcmp(name, "freadlink") == 0 || strcmp(name, "readlinkat") == 0) {
        if (exchanges++ > 0 && !for_ever)
            return;
        CHECK(rename("link", "away") == 0 && rename("theirs", "link") == 0);
        is_away = true;
    } else if (is_away && (strcmp(name, "fstatat") == 0 || strcmp(name, "fstat") == 0)) {
        is_away = false;
        CHECK(rename("link", "theirs") == 0 && rename("away", "link") == 0);
    }
}

static void link_that_is_exchanged(void) {
    char text[PATH_MAX];
    struct stat link, expected;

    CHECK(symlink("ours", "link") == 0 && symlink("theirs", "theirs") == 0);
    CHECK(lstat("link", &expected) == 0);
    for (size_t i = 0; i < VERSION_COUNT; i++) {
        const bool is_new = VERSIONS[i] >= 13;
        int here = open_here();
        for (int round = 0; round < 2; round++) {
            for_ever = round == 1;
            exchanges = 0;
            start((struct fake_kernel){.macos = VERSIONS[i],
                                       .quiet_renames = true,
                                       .before = exchange_around_the_reading});
            if (for_ever && !is_new) {
                CHECK(msalex__read_link(here, "link", &link, text) == ELOOP);
                CHECK(exchanges == 10);
            } else {
                CHECK(msalex__read_link(here, "link", &link, text) == 0);
                CHECK(strcmp(text, "ours") == 0 && link.st_ino == expected.st_ino);
            }
            exchange_around_the_reading("fstat");
        }
        (void)close(here);
    }
    end();
}

static void failing_reads_of_links(void) {
    static const struct {
        int macos;
        const char *name;
        int after;
    } failing[] = {{15, "fstatat", 0},   {15, "openat", 0},  {15, "fstat", 0},
                   {15, "freadlink", 0}, {11, "fstat", 0},   {11, "fstat", 1},
                   {11, "fstatat", 1},   {11, "fstatat", 2}, {11, "readlinkat", 0}};
    char text[PATH_MAX];
    struct stat link;
    int here = open_here();

    CHECK(symlink("target", "link") == 0);
    for (size_t i = 0; i < sizeof failing / sizeof failing[0]; i++) {
        start((struct fake_kernel){.macos = failing[i].macos,
                                   .failing = failing[i].name,
                                   .after = failing[i].after,
                                   .code = EIO});
        CHECK(msalex__read_link(here, "link", &link, text) == EIO);
        CHECK(fake_kernel.failing == NULL);
    }
    start((struct fake_kernel){.long_links = true});
    CHECK(msalex__read_link(here, "link", &link, text) == ENAMETOOLONG);
    (void)close(here);
    end();
}

static void become_a_file(const char *name) {
    if (strcmp(name, "openat") == 0 && unlink("link") == 0)
        write_text("link", "");
}

static void link_that_becomes_a_file(void) {
    char text[PATH_MAX];
    struct stat link;
    int here = open_here();

    CHECK(symlink("target", "link") == 0);
    start((struct fake_kernel){.before = become_a_file});
    CHECK(msalex__read_link(here, "link", &link, text) == EINVAL);
    (void)close(here);
    end();
}

static void whose_file_system(void) {
    static const char *const programs[] = {"macfuse", "osxfuse", "virtiofs", "9p"};
    int here = open_here();

    CHECK(!msalex__is_remote(here));
    CHECK(!msalex__is_path_remote(".") && msalex__is_path_remote("nothing"));
    start((struct fake_kernel){.remote = true});
    CHECK(msalex__is_remote(here) && msalex__is_path_remote("."));
    CHECK(msalex__lock_view(here, 1) == 0); /* the server's locks are for all */
    for (size_t i = 0; i < sizeof programs / sizeof programs[0]; i++) {
        uint64_t view;
        start((struct fake_kernel){.file_system = programs[i]}); /* mounted with -o local */
        CHECK(msalex__is_remote(here));
        CHECK((view = msalex__lock_view(here, 1)) != 0 && view == msalex__lock_view(here, 1));
        CHECK(view != msalex__lock_view(here, 2)); /* another mount */
    }
    start((struct fake_kernel){.failing = "statfs", .code = EIO, .always = true});
    CHECK(msalex__is_path_remote("."));
    start((struct fake_kernel){.failing = "fstatfs", .code = EIO, .always = true});
    CHECK(msalex__is_remote(here) && msalex__lock_view(here, 1) != 0);
    end();
    CHECK(!msalex__has_magic_links(here) && !msalex__is_unmapped(65534));
    (void)close(here);
}

/* Functions that lock_posix.c calls and that macOS does not need. */
static void what_locks_lack(void) {
    int here = open_here(), fd = open("file", O_RDWR | O_CREAT | O_CLOEXEC, 0600);

    CHECK(msalex__open_nameless(here) == -1 && errno == EOPNOTSUPP);
    CHECK(msalex__give_name(fd, here, "name") == EOPNOTSUPP && !file_exists("name"));
    CHECK(flock(fd, LOCK_EX | LOCK_NB) == 0 && msalex__exclude_fcntl(fd) == 0);
    msalex__announce(fd);
    CHECK(!msalex__is_announced(fd) && !msalex__is_fcntl_locked(fd));
    msalex__withdraw(fd);
    msalex__unlock(fd, true);
    (void)close(fd);
    (void)close(here);
}

/* Both ways of finding a place, on both kinds of kernel. */
static void saves_through_links(void) {
    CHECK(mkdir("private", 0700) == 0 && mkdir("private/tmp", 0700) == 0);
    CHECK(symlink("private", "alias") == 0 && symlink("../alias/tmp", "private/link") == 0);
    CHECK(symlink("private/tmp", "tmp") == 0 && symlink("tmp/../link/./real", PATH) == 0);
    for (size_t i = 0; i < VERSION_COUNT; i++) {
        const char *text = i == 0 ? "one" : "two";
        start((struct fake_kernel){.macos = VERSIONS[i]});
        if (i == 0) {
            CHECK_STATUS(save(text), MSALEX_INVALID); /* it leads nowhere yet */
            write_text("private/tmp/real", "");
        }
        CHECK_STATUS(save(text), MSALEX_OK);
        CHECK(has_text("private/tmp/real", text) && count_entries(".") == 4);
    }
    end();
}

static int save_to(const char *path) {
    return msalex_file_replace(path, (const unsigned char *)"new", 3, NULL, &stamp, &error);
}

static void give(const char *path, uid_t owner) {
    CHECK(lchown(path, owner, owner) == 0);
}

/* The rules of place_posix.h, for user 12002 among things of user 12001. */
static void links_and_files_of_others(void) {
    struct stat file;

    if (geteuid() != 0) {
        skip("it takes root to become another user");
        return;
    }
    CHECK(chmod(".", 0755) == 0 && mkdir("sticky", 0700) == 0 && mkdir("open", 0700) == 0);
    CHECK(chmod("sticky", 01777) == 0 && chmod("open", 0777) == 0);
    write_text("open/mine", "old");
    write_text("open/theirs", "old");
    write_text("sticky/theirs", "old");
    give("open/mine", 12002);
    give("open/theirs", 12001);
    give("sticky/theirs", 12001);
    CHECK(chmod("open/theirs", 0666) == 0 && chmod("sticky/theirs", 0666) == 0);
    CHECK(symlink("mine", "open/to_mine") == 0 && symlink("theirs", "open/to_theirs") == 0);
    CHECK(symlink("../open/theirs", "sticky/to_theirs") == 0);
    CHECK(symlink("../open", "open/to_directory") == 0);
    give("open/to_mine", 12001);
    give("open/to_theirs", 12001);
    give("open/to_directory", 12001);
    give("sticky/to_theirs", 12001);
    for (size_t i = 0; i < VERSION_COUNT; i++) {
        start((struct fake_kernel){.macos = VERSIONS[i]});
        CHECK(seteuid(12002) == 0);
        CHECK_STATUS(save_to("open/to_mine"), MSALEX_NOT_TRUSTED);
        CHECK_STATUS(save_to("sticky/to_theirs"), MSALEX_NOT_TRUSTED);
        CHECK_STATUS(save_to("open/to_directory/mine"), MSALEX_NOT_TRUSTED);
        CHECK_STATUS(save_to("open/to_directory/none"), MSALEX_NOT_TRUSTED);
        CHECK_STATUS(save_to("sticky/theirs"), MSALEX_NOT_TRUSTED);
        CHECK_STATUS(msalex_file_touch("sticky/theirs", &error), MSALEX_NOT_TRUSTED);
        CHECK_STATUS(msalex_file_delete("sticky/theirs", &error), MSALEX_NOT_TRUSTED);
        CHECK(has_text("open/mine", "old") && has_text("sticky/theirs", "old"));
        CHECK(seteuid(0) == 0);
    }
    CHECK(seteuid(12002) == 0);
    CHECK_STATUS(save_to("open/to_theirs"), MSALEX_OK); /* its owner could write to it anyway */
    CHECK(seteuid(0) == 0);
    CHECK(stat("open/theirs", &file) == 0 && file.st_uid == 12002 &&
          mode_of("open/theirs") == 0600);
    end();
}

static void paths_that_lead_nowhere(void) {
    char path[PATH_MAX + 1];

    memset(path, 'x', PATH_MAX);
    path[PATH_MAX] = '\0';
    CHECK(symlink("loop", "loop") == 0 && symlink("/none/file", "dangling") == 0);
    CHECK(mkdir("directory", 0700) == 0 && symlink("/", "root") == 0);
    for (size_t i = 0; i < VERSION_COUNT; i++) {
        start((struct fake_kernel){.macos = VERSIONS[i]});
        CHECK_STATUS(save_to("loop"), MSALEX_INVALID);
        CHECK_STATUS(save_to("dangling"), MSALEX_INVALID);
        CHECK_STATUS(msalex_file_delete("dangling/file", &error), MSALEX_NOT_FOUND);
        CHECK_STATUS(save_to("none/file"), MSALEX_NOT_FOUND);
        CHECK(save_to("directory") != MSALEX_OK && error.code == EISDIR);
        CHECK(save_to("directory/") != MSALEX_OK && error.code == EISDIR);
        CHECK(save_to("root/") != MSALEX_OK && error.code == EISDIR);
        CHECK_STATUS(save_to(""), MSALEX_NOT_FOUND);
        CHECK(save_to(path) != MSALEX_OK && error.code == ENAMETOOLONG);
    }
    end();
}

/* ---- writing ---- */

static void what_is_sent_to_the_disk(void) {
    int fd = open("file", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    const char *call = NULL;

    start((struct fake_kernel){.with_barriers = true, .failing = "fsync", .code = EIO});
    CHECK(msalex__sync(fd, &call) == 0); /* not asked for */
    start((struct fake_kernel){.failing = "fsync", .code = EIO});
    CHECK(msalex__sync(fd, &call) == EIO && strcmp(call, "fsync") == 0);
    start((struct fake_kernel){.failing = "F_BARRIERFSYNC", .code = EIO});
    CHECK(msalex__sync(fd, &call) == EIO); /* a second answer would hide this one */
    CHECK(strcmp(call, "F_BARRIERFSYNC") == 0);
    start((struct fake_kernel){.failing = "F_BARRIERFSYNC", .code = ENOTSUP});
    CHECK(msalex__sync(fd, &call) == 0);
    (void)close(fd);
    start((struct fake_kernel){.failing = "F_BARRIERFSYNC", .code = ENOSPC});
    CHECK_STATUS(save("new"), MSALEX_OS_ERROR);
    CHECK(strcmp(error.call, "F_BARRIERFSYNC") == 0);
    end();
}

static void room_for_content(void) {
    int fd = open("file", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    struct stat before, after;

    CHECK(write(fd, "old", 3) == 3 && fstat(fd, &before) == 0);
    CHECK(msalex__reserve(fd, 1000000) == 0);
    CHECK(fstat(fd, &after) == 0 && after.st_size == 3);
    CHECK((after.st_blocks - before.st_blocks) * 512 >= 1000000 - 3);
    CHECK(ftruncate(fd, 1000000) == 0 && fstat(fd, &before) == 0);
    CHECK(msalex__reserve(fd, 1000001) == 0 && fstat(fd, &after) == 0);
    CHECK((after.st_blocks - before.st_blocks) * 512 < 1000000); /* it reserves only the new part */
    CHECK(ftruncate(fd, 3) == 0);
    start((struct fake_kernel){.failing = "F_PREALLOCATE", .code = ENOSPC});
    CHECK(msalex__reserve(fd, 3) == 0); /* it is there already */
    CHECK(msalex__reserve(fd, 4) == ENOSPC);
    start((struct fake_kernel){.failing = "F_PREALLOCATE", .code = ENOTSUP});
    CHECK(msalex__reserve(fd, 4) == EOPNOTSUPP);
    start((struct fake_kernel){.failing = "F_PREALLOCATE", .code = EINVAL});
    CHECK(msalex__reserve(fd, 4) == EOPNOTSUPP);
    start((struct fake_kernel){.failing = "fstat", .code = EIO});
    CHECK(msalex__reserve(fd, 4) == EIO);
    (void)close(fd);
    end();
}

static void rename_to_a_new_name(void) {
    int here = open_here();

    write_text("from", "new");
    write_text("to", "old");
    CHECK(msalex__rename_new(here, "from", "to") == EEXIST && has_text("to", "old"));
    start((struct fake_kernel){.failing = "renameatx_np", .code = ENOTSUP});
    CHECK(msalex__rename_new(here, "from", "other") == EINVAL && !file_exists("other"));
    end();
    CHECK(msalex__rename_new(here, "from", "other") == 0 && has_text("other", "new"));
    (void)close(here);
}

static void time_of_a_file(void) {
    struct stat file = {.st_mtim = {.tv_sec = 3, .tv_nsec = 7}};
    CHECK(msalex__mtime_ns(&file) == 3000000007);
}

/* Deadlines that C and Python compute have to agree, and a peer that sleeps with the machine is not
 * late. */
static void sleep_is_no_time(void) {
    const int64_t before = msalex__now_ms();

    start((struct fake_kernel){.slept_ms = 3600 * 1000});
    CHECK(msalex__now_ms() >= before && msalex__now_ms() < before + 1800 * 1000);
    CHECK(msalex__now_us() / 1000 >= before);
    end();
}

static void numbers_that_differ(void) {
    enum { NUMBERS = 1000 };
    uint64_t numbers[NUMBERS];

    for (int i = 0; i < NUMBERS; i++)
        numbers[i] = msalex__nonce(); /* faster than the clock ticks */
    for (int i = 0; i < NUMBERS; i++) {
        for (int j = 0; j < i; j++) {
            if (!CHECK(numbers[i] != numbers[j]))
                return;
        }
    }
}

static int in_place_code;

/* After the rename has failed, reserving does. */
static void fail_reserving(const char *name) {
    if (strcmp(name, "F_PREALLOCATE") != 0)
        return;
    fake_kernel.failing = "F_PREALLOCATE";
    fake_kernel.code = in_place_code;
}

/* EBUSY: it is a mount point. */
static void write_in_place(void) {
    struct stat before, after;

    write_text(PATH, "old");
    CHECK(stat(PATH, &before) == 0);
    start((struct fake_kernel){.failing = "renameat", .code = EBUSY});
    CHECK_STATUS(save("one, longer"), MSALEX_OK);
    CHECK(stat(PATH, &after) == 0 && after.st_ino == before.st_ino);
    CHECK(has_text(PATH, "one, longer") && count_entries(".") == 1);
    write_text(PATH, "old");
    for (int code = 0; code < 2; code++) {
        in_place_code = code == 0 ? ENOSPC : ENOTSUP;
        start((struct fake_kernel){.before = fail_reserving, .failing = "renameat", .code = EBUSY});
        CHECK_STATUS(save("two, longer still"), code == 0 ? MSALEX_OS_ERROR : MSALEX_OK);
        CHECK(code != 0 || error.code == ENOSPC);
        CHECK(has_text(PATH, code == 0 ? "old" : "two, longer still") && count_entries(".") == 1);
    }
    end();
}

/* ---- locks on data files ---- */

static void signs_of_life(void) {
    int writer, other;

    write_text("file", "");
    writer = open("file", O_RDWR | O_CLOEXEC);
    other = open("file", O_RDONLY | O_CLOEXEC);
    CHECK(!msalex__shows_life(other));
    CHECK(flock(writer, LOCK_EX | LOCK_NB) == 0); /* asking left nothing behind */
    CHECK(flock(writer, LOCK_UN) == 0);
    msalex__show_life(writer);
    CHECK(msalex__shows_life(other));
    msalex__end_life(writer);
    CHECK(!msalex__shows_life(other));
    msalex__show_life(writer);
    (void)close(writer); /* it died */
    CHECK(!msalex__shows_life(other));
    CHECK(flock(other, LOCK_SH) == 0); /* another one is asking */
    writer = open("file", O_RDONLY | O_CLOEXEC);
    CHECK(!msalex__shows_life(writer));
    start((struct fake_kernel){.failing = "flock", .code = ENOTSUP});
    CHECK(!msalex__shows_life(writer));
    (void)close(writer);
    (void)close(other);
    end();
}

static void one_turn_at_a_time(void) {
    int here = open_here(), one, other;

    CHECK(msalex__try_turn(here, -1, &one) == 0 && one >= 0);
    CHECK(msalex__try_turn(here, -1, &other) == EAGAIN && other == -1);
    msalex__end_turn(-1, other);
    msalex__end_turn(-1, one);
    CHECK(msalex__try_turn(here, -1, &other) == 0);
    msalex__end_turn(-1, other);
    start((struct fake_kernel){.failing = "openat", .code = EACCES});
    CHECK(msalex__try_turn(here, -1, &one) == EACCES && one == -1);
    start((struct fake_kernel){.failing = "flock", .code = ENOTSUP});
    CHECK(msalex__try_turn(here, -1, &one) == ENOTSUP && one == -1);
    (void)close(here);
    end();
}

/* ---- whole operations, and each call that they make ---- */

static int call_save(void) {
    return save("new");
}

static int call_guarded_save(void) {
    msalex_lock *lock;
    int status = msalex_lock_new("cache.lockfile", "test", &lock, &error);
    msalex_error first;

    if (status != MSALEX_OK)
        return status;
    if ((status = msalex_lock_acquire(lock, 0, 0, &error)) == MSALEX_OK)
        status = msalex_file_replace(PATH, (const unsigned char *)"new", 3, lock, &stamp, &error);
    first = error;
    msalex_lock_free(lock);
    error = first;
    return status;
}

static int call_touch(void) {
    return msalex_file_touch(PATH, &error);
}

static int call_read(void) {
    msalex_buffer content;
    int status = msalex_file_read(PATH, &content, &stamp, &error);
    CHECK(status != MSALEX_OK || (content.size == 3 && memcmp(content.data, "old", 3) == 0));
    msalex_buffer_free(&content);
    return status;
}

static int call_create(void) {
    return msalex_file_create("copy", (const unsigned char *)"new", 3, &error);
}

static int call_delete(void) {
    return msalex_file_delete(PATH, &error);
}

static const char *const CALLS[] = {
    "malloc",    "opendir",       "openat",        "fstat",          "fstatat",       "readlinkat",
    "freadlink", "unlinkat",      "mkdirat",       "renameat",       "renameatx_np",  "linkat",
    "fchmod",    "fchown",        "ftruncate",     "fsync",          "futimens",      "read",
    "pread",     "pwrite",        "flock",         "F_BARRIERFSYNC", "F_PREALLOCATE", "fstatfs",
    "acl_init",  "acl_get_fd_np", "acl_set_fd_np", "flistxattr",     "fgetxattr",     "fsetxattr",
};

/* Neither torn nor empty; gone only if it may be. */
static bool holds_old_or_new(bool may_be_gone) {
    return CHECK(access(PATH, F_OK) == 0 ? has_text(PATH, "old") || has_text(PATH, "new")
                                         : may_be_gone);
}

/* A call that failed may have left a directory in it. */
static void remove_directory(const char *path) {
    DIR *entries = opendir(path);
    const struct dirent *entry;
    char below[PATH_MAX];

    while (entries != NULL && (entry = readdir(entries)) != NULL) {
        (void)snprintf(below, sizeof below, "%s/%s", path, entry->d_name);
        if (unlinkat(dirfd(entries), entry->d_name, 0) != 0 && entry->d_name[0] == '.' &&
            entry->d_name[1] == 'm')
            remove_directory(below);
    }
    CHECK(entries != NULL && closedir(entries) == 0 && rmdir(path) == 0);
}

/* `linked`: the path is a link, so it is walked.  How many failures were met. */
static int fail_each_call(int macos, bool linked, int code, int (*operation)(void)) {
    int met = 0;

    for (size_t i = 0; i < sizeof CALLS / sizeof CALLS[0]; i++) {
        for (int after = 0; after < 100; after++) {
            CHECK(mkdir("work", 0700) == 0 && chdir("work") == 0);
            write_text(linked ? "real" : PATH, "old");
            CHECK(!linked || symlink("real", PATH) == 0);
            start((struct fake_kernel){.macos = macos,
                                       .inherited = READERS,
                                       .failing = CALLS[i],
                                       .code = code,
                                       .after = after});
            int status = operation();
            const bool was_met = fake_kernel.failing == NULL;
            end();
            if (!(holds_old_or_new(operation == call_delete) &&
                  (status == MSALEX_OK || (was_met && error.code != 0))))
                printf("    macOS %d, call %d of %s, error %d: status %d\n", macos, after, CALLS[i],
                       code, status);
            CHECK(chdir("..") == 0);
            remove_directory("work");
            if (!was_met)
                break;
            met++;
        }
    }
    return met;
}

static void every_call_may_fail(void) {
    static int (*const operations[])(void) = {call_save, call_guarded_save, call_touch,
                                              call_read, call_create,       call_delete};
    static const int codes[] = {EIO, EINTR, EACCES, ENOTSUP};
    int met = 0;

    for (size_t operation = 0; operation < 6; operation++) {
        for (size_t i = 0; i < VERSION_COUNT; i++) {
            for (size_t code = 0; code < 4; code++)
                met +=
                    fail_each_call(VERSIONS[i], code % 2 == 0, codes[code], operations[operation]);
        }
    }
    printf("    %d failures met\n", met);
}

static const struct property properties[] = {
    {"Without the kernel's proof no path counts as free of links", no_links_unless_proven},
    {"A directory is opened by its name, and a link is not", directory_of_a_name},
    {"From macOS 13 on the right to search is enough", right_to_search},
    {"A link is read with its status, and nothing else is opened", link_and_its_text},
    {"A link that is exchanged meanwhile never lends its owner to another", link_that_is_exchanged},
    {"A link that cannot be read is an error", failing_reads_of_links},
    {"A link that becomes a file is none", link_that_becomes_a_file},
    {"Other hosts' files and programs' files are told apart", whose_file_system},
    {"What only Linux's locks have is not there", what_locks_lack},
    {"A save follows the links that macOS has, on old and new kernels", saves_through_links},
    {"Links and files of others are trusted by the rules of place_posix.h",
     links_and_files_of_others},
    {"A path that leads nowhere is an error", paths_that_lead_nowhere},
    {"Content is sent to the disk by a barrier, or by fsync", what_is_sent_to_the_disk},
    {"Room is reserved behind the content, unseen", room_for_content},
    {"What cannot be renamed is written in place, where there is room", write_in_place},
    {"A rename to a new name replaces nothing", rename_to_a_new_name},
    {"The time of a file is told in nanoseconds", time_of_a_file},
    {"While the machine sleeps no time passes", sleep_is_no_time},
    {"A thousand nonces in a row all differ", numbers_that_differ},
    {"A writer shows its life until it ends", signs_of_life},
    {"One at a time has the turn", one_turn_at_a_time},
    {"Whatever call fails, the content is the old one or the new one", every_call_may_fail},
};

int main(void) {
    run_properties(properties, COUNT(properties));
    return end_of_properties();
}
