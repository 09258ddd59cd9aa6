/* Files: a reader sees the old content or the new one, and never a part. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "exercise.h"

static const char PATH[] = "cache.bin";
static msalex_stamp stamp;

static int replace(const char *path, const char *text) {
    return msalex_file_replace(path, (const unsigned char *)text, strlen(text), NULL, &stamp,
                               &error);
}

static bool reads_as(const char *path, const char *text) {
    msalex_stamp read_stamp, stat_stamp;
    msalex_buffer content;
    bool same;

    if (!CHECK_STATUS(msalex_file_read(path, &content, &read_stamp, &error), MSALEX_OK))
        return false;
    same = content.size == strlen(text) &&
           (content.size == 0 || memcmp(content.data, text, content.size) == 0);
    msalex_buffer_free(&content);
    CHECK_STATUS(msalex_file_stat(path, &stat_stamp, &error), MSALEX_OK);
    CHECK(memcmp(&read_stamp, &stat_stamp, sizeof stat_stamp) == 0);
    return same;
}

static void what_is_written_is_read(void) {
    msalex_stamp first;
    size_t size = 3000000;
    char *large = malloc(size + 1);

    CHECK_STATUS(replace(PATH, "one"), MSALEX_OK);
    first = stamp;
    CHECK(reads_as(PATH, "one") && mode_of(PATH) == 0600 && stamp.size == 3);
    CHECK_STATUS(msalex_file_stat(PATH, &stamp, &error), MSALEX_OK);
    CHECK(memcmp(&first, &stamp, sizeof first) == 0);
    CHECK_STATUS(replace(PATH, ""), MSALEX_OK);
    CHECK(reads_as(PATH, "") && stamp.size == 0);
    if (CHECK(large != NULL)) {
        memset(large, 'L', size);
        large[size] = '\0';
        CHECK_STATUS(replace(PATH, large), MSALEX_OK);
        CHECK(reads_as(PATH, large));
    }
    free(large);
    CHECK(count_entries(".") == 1);
}

static void mode_of_the_old_file_is_kept(void) {
    write_text(PATH, "old");
    CHECK(chmod(PATH, 0640) == 0);
    CHECK_STATUS(replace(PATH, "new"), MSALEX_OK);
    CHECK(mode_of(PATH) == 0640 && reads_as(PATH, "new"));
}

static void links_are_followed(void) {
    CHECK(mkdir("real", 0700) == 0 && symlink("real/cache", "link") == 0);
    CHECK(symlink("link", "link to link") == 0 && symlink("loop", "loop") == 0);
    CHECK_STATUS(replace("link", "x"), MSALEX_INVALID);
    CHECK(count_entries("real") == 0);
    CHECK_STATUS(msalex_file_stat("link", &stamp, &error), MSALEX_NOT_FOUND);
    write_text("real/cache", "old");
    CHECK_STATUS(replace("link to link", "new"), MSALEX_OK);
    CHECK(reads_as("link", "new") && has_text("real/cache", "new"));
    CHECK(count_entries("real") == 1 && mode_of("link") == 0777);
    CHECK_STATUS(replace("loop", "x"), MSALEX_INVALID);
    CHECK_STATUS(msalex_file_delete("link", &error), MSALEX_OK);
    CHECK(!file_exists("link") && !file_exists("real/cache"));
}

static void links_in_the_middle_of_a_path_are_followed(void) {
    char here[4096], path[4200];

    CHECK(mkdir("a", 0700) == 0 && mkdir("a/b", 0700) == 0 && mkdir("a/b/c", 0700) == 0);
    CHECK(symlink("b", "a/relative") == 0 && getcwd(here, sizeof here) != NULL);
    (void)snprintf(path, sizeof path, "%s/a", here);
    CHECK(symlink(path, "absolute") == 0 && symlink("../b/c", "a/b/up") == 0);
    CHECK_STATUS(replace("a/relative/c/first", "1"), MSALEX_OK);
    CHECK(has_text("a/b/c/first", "1"));
    CHECK_STATUS(replace("absolute//relative/./up/second", "2"), MSALEX_OK);
    CHECK(has_text("a/b/c/second", "2") && reads_as("absolute/b/c/../c/second", "2"));
    (void)snprintf(path, sizeof path, "%s/absolute/relative/c/third", here);
    CHECK_STATUS(replace(path, "3"), MSALEX_OK);
    CHECK(has_text("a/b/c/third", "3"));
    CHECK_STATUS(msalex_file_touch("absolute/relative/c/fourth", &error), MSALEX_OK);
    CHECK_STATUS(msalex_file_delete("absolute/relative/c/third", &error), MSALEX_OK);
    CHECK(file_exists("a/b/c/fourth") && !file_exists("a/b/c/third"));
    CHECK_STATUS(replace("absolute/relative/", "x"), MSALEX_INVALID);
    CHECK_STATUS(replace("absolute/relative/c/first/x", "x"), MSALEX_INVALID);
    CHECK_STATUS(replace("absolute/relative/missing/x", "x"), MSALEX_NOT_FOUND);
    CHECK(count_entries("a/b/c") == 3);
}

static void a_link_that_leads_nowhere_is_refused_and_removed(void) {
    const char *links[] = {"to file", "to directory"};
    msalex_buffer content;

    CHECK(symlink("missing", links[0]) == 0 && symlink("missing/file", links[1]) == 0);
    for (size_t i = 0; i < 2; i++) {
        CHECK_STATUS(replace(links[i], "x"), MSALEX_INVALID);
        CHECK_STATUS(msalex_file_touch(links[i], &error), MSALEX_INVALID);
        CHECK_STATUS(msalex_file_read(links[i], &content, &stamp, &error), MSALEX_NOT_FOUND);
        CHECK_STATUS(msalex_file_create(links[i], (const unsigned char *)"x", 1, &error),
                     MSALEX_OS_ERROR);
        CHECK_STATUS(msalex_file_delete(links[i], &error), MSALEX_OK);
    }
    CHECK(count_entries(".") == 0);
}

static void what_is_created_replaces_nothing(void) {
    const unsigned char new[] = "new";

    CHECK_STATUS(msalex_file_create(PATH, new, 3, &error), MSALEX_OK);
    CHECK(has_text(PATH, "new") && mode_of(PATH) == 0600);
    write_text(PATH, "old");
    CHECK(symlink(PATH, "link") == 0);
    CHECK_STATUS(msalex_file_create(PATH, new, 3, &error), MSALEX_OS_ERROR);
    CHECK(error.code == EEXIST);
    CHECK_STATUS(msalex_file_create("link", new, 3, &error), MSALEX_OS_ERROR);
    CHECK(error.code == EEXIST && has_text(PATH, "old"));
    CHECK_STATUS(msalex_file_create("missing/file", new, 3, &error), MSALEX_NOT_FOUND);
    CHECK(count_entries(".") == 2);
    CHECK_STATUS(msalex_directory_make("directory", &error), MSALEX_OK);
    CHECK_STATUS(msalex_directory_make("directory/below", &error), MSALEX_OK);
    CHECK(mode_of("directory/below") == 0700);
    CHECK_STATUS(msalex_directory_make("link", &error), MSALEX_OS_ERROR);
    CHECK(error.code == EEXIST && has_text(PATH, "old"));
    CHECK_STATUS(msalex_directory_make("missing/directory", &error), MSALEX_NOT_FOUND);
    CHECK(rmdir("directory/below") == 0 && rmdir("directory") == 0);
}

static void what_is_no_file_is_refused(void) {
    msalex_buffer content;
    char name[300];

    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    CHECK(mkdir("directory", 0700) == 0 && mkfifo("fifo", 0600) == 0);
    CHECK_STATUS(replace("directory", "x"), MSALEX_INVALID);
    CHECK_STATUS(replace("fifo", "x"), MSALEX_INVALID);
    CHECK_STATUS(replace(name, "x"), MSALEX_INVALID);
    CHECK_STATUS(replace("missing/cache", "x"), MSALEX_NOT_FOUND);
    CHECK_STATUS(replace("", "x"), MSALEX_NOT_FOUND);
    CHECK_STATUS(msalex_file_read("directory", &content, &stamp, &error), MSALEX_INVALID);
    CHECK_STATUS(msalex_file_read("fifo", &content, &stamp, &error), MSALEX_INVALID);
    CHECK_STATUS(msalex_file_read("missing", &content, &stamp, &error), MSALEX_NOT_FOUND);
    CHECK(content.data == NULL && content.size == 0);
    CHECK_STATUS(msalex_file_read(name, &content, &stamp, &error), MSALEX_INVALID);
    CHECK(count_entries(".") == 2);
}

static void touch_and_delete(void) {
    msalex_stamp before;

    CHECK_STATUS(msalex_file_touch(PATH, &error), MSALEX_OK);
    CHECK(mode_of(PATH) == 0600 && reads_as(PATH, ""));
    write_text(PATH, "kept");
    make_old(PATH, 3600);
    CHECK_STATUS(msalex_file_stat(PATH, &before, &error), MSALEX_OK);
    CHECK_STATUS(msalex_file_touch(PATH, &error), MSALEX_OK);
    CHECK_STATUS(msalex_file_stat(PATH, &stamp, &error), MSALEX_OK);
    CHECK(stamp.mtime_ns - before.mtime_ns > INT64_C(3500000000000) && has_text(PATH, "kept"));
    CHECK_STATUS(msalex_file_delete(PATH, &error), MSALEX_OK);
    CHECK_STATUS(msalex_file_delete(PATH, &error), MSALEX_NOT_FOUND);
    CHECK_STATUS(msalex_file_touch("missing/cache", &error), MSALEX_NOT_FOUND);
    CHECK(symlink("nowhere", "link") == 0);
    CHECK(msalex_file_touch("link", &error) != MSALEX_OK && !file_exists("nowhere"));
}

static void sweep_removes_what_the_dead_left_and_nothing_else(void) {
    static const char OLD[] = ".msalex-0123456789abcdef.tmp",
                      YOUNG[] = ".msalex-1111111111111111.tmp",
                      LOCKED[] = ".msalex-2222222222222222.tmp", OTHER[] = ".msalex-0123.tmp";
    int fd;

    write_text(OLD, "x"), write_text(YOUNG, "x"), write_text(LOCKED, "x"), write_text(OTHER, "x");
    write_text(PATH, "kept");
    CHECK(symlink(PATH, ".msalex-3333333333333333.tmp") == 0);
    CHECK(mkdir(".msalex-4444444444444444.tmp", 0700) == 0);
    make_old(OLD, 3600), make_old(LOCKED, 3600), make_old(OTHER, 3600), make_old(PATH, 3600);
    make_old(".msalex-4444444444444444.tmp", 3600);
    fd = open(LOCKED, O_RDWR | O_CLOEXEC);
    CHECK(fd >= 0 && flock(fd, LOCK_EX) == 0);
    CHECK_STATUS(msalex_file_sweep(PATH, &error), MSALEX_OK);
    CHECK(!file_exists(OLD) && file_exists(YOUNG) && file_exists(LOCKED) && file_exists(OTHER));
    CHECK(has_text(PATH, "kept") && count_entries(".") == 6);
    (void)close(fd);
    CHECK_STATUS(msalex_file_sweep("missing/cache", &error), MSALEX_NOT_FOUND);
    CHECK(msalex_file_is_remote(PATH) == 0 && msalex_file_is_remote("missing/cache") == 1);
}

static void full_disk_leaves_the_old_content(void) {
    size_t size = 1000000;
    unsigned char *large = calloc(1, size);

    CHECK(mkdir("disk", 0700) == 0 && large != NULL);
    if (mount("tmpfs", "disk", "tmpfs", 0, "size=64k") != 0) {
        skip("mounting a small tmpfs needs root");
    } else {
        CHECK_STATUS(replace("disk/cache", "old"), MSALEX_OK);
        CHECK_STATUS(msalex_file_replace("disk/cache", large, size, NULL, &stamp, &error),
                     MSALEX_OS_ERROR);
        CHECK(error.code == ENOSPC && reads_as("disk/cache", "old"));
        CHECK(count_entries("disk") == 1);
        CHECK(umount("disk") == 0);
    }
    free(large);
}

/* Runs in a child without root's rights, in a directory that it may not write into. */
static void read_only_directory(void) {
    pid_t child;

    CHECK(mkdir("shut", 0755) == 0 && chmod(".", 0755) == 0);
    write_text("shut/cache", "old");
    write_text("shut/read-only", "old");
    CHECK(chmod("shut/cache", 0666) == 0 && chmod("shut/read-only", 0444) == 0);
    CHECK(chmod("shut", 0555) == 0);
    if ((child = fork()) == 0) {
        bool right = getuid() != 0 || setuid(65534) == 0;
        right = right && replace("shut/cache", "n") == MSALEX_OK;
        right = right && replace("shut/new", "n") == MSALEX_DENIED;
        right = right && replace("shut/read-only", "n") == MSALEX_DENIED;
        right = right && msalex_file_delete("shut/cache", &error) == MSALEX_DENIED;
        _exit(right ? 0 : 1);
    }
    CHECK(wait_for_child(child) == 0);
    CHECK(reads_as("shut/cache", "n") && reads_as("shut/read-only", "old"));
    CHECK(count_entries("shut") == 2 && chmod("shut", 0755) == 0);
}

static void nothing_is_saved_under_a_lock_that_is_lost(void) {
    msalex_lock *lock = NULL;
    int entries;

    CHECK_STATUS(replace(PATH, "old"), MSALEX_OK);
    CHECK_STATUS(msalex_lock_new("guard", "exerciser", &lock, &error), MSALEX_OK);
    CHECK_STATUS(msalex_lock_acquire(lock, 0, 0, &error), MSALEX_OK);
    CHECK_STATUS(msalex_file_replace(PATH, (const unsigned char *)"held", 4, lock, &stamp, &error),
                 MSALEX_OK);
    CHECK(reads_as(PATH, "held") && unlink("guard") == 0);
    entries = count_entries(".");
    CHECK_STATUS(msalex_file_replace(PATH, (const unsigned char *)"lost", 4, lock, &stamp, &error),
                 MSALEX_LOCK_LOST);
    CHECK(reads_as(PATH, "held") && count_entries(".") == entries);
    msalex_lock_free(lock);
}

const struct property file_properties[] = {
    {"What is written is read, whatever its size, and the stamps agree", what_is_written_is_read},
    {"The mode of the file that is replaced is kept", mode_of_the_old_file_is_kept},
    {"Symbolic links are followed, and refused where they lead nowhere", links_are_followed},
    {"Links in the middle of a path are followed, wherever they begin",
     links_in_the_middle_of_a_path_are_followed},
    {"A link that leads nowhere is refused by all, and removed by a deletion",
     a_link_that_leads_nowhere_is_refused_and_removed},
    {"A file that is created replaces nothing, not even a link", what_is_created_replaces_nothing},
    {"What is no file is refused, and nothing is left behind", what_is_no_file_is_refused},
    {"Touching makes a file or sets its time; deleting removes it", touch_and_delete},
    {"Sweeping removes what dead writers left, and nothing else",
     sweep_removes_what_the_dead_left_and_nothing_else},
    {"A full disk is an error that leaves the old content", full_disk_leaves_the_old_content},
    {"In a read-only directory a writable file is written in place, others are refused",
     read_only_directory},
    {"Nothing is saved under a lock whose file somebody removed",
     nothing_is_saved_under_a_lock_that_is_lost},
};
const size_t file_property_count = COUNT(file_properties);
