/*
 * Does a Mac behave as os_macos.c believes?  on_a_mac.py compiles and runs this program on one, and
 * tests/macos/test_over_fakes.py over the fakes, so that it keeps working.
 *
 *     files_on_a_mac inherits        in a directory from which new files inherit an access list:
 *                                    does a saved file (cache.bin) have it?
 *     files_on_a_mac                 all other questions
 */
#define _DARWIN_C_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/acl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "attributes_posix.h"
#include "check.h"
#include "lock_file_posix.h"
#include "os_posix.h"
#include "process_posix.h"

static int open_here(void) {
    return msalex__open_directory(AT_FDCWD, ".");
}

/* Closes the descriptor, if it was opened: 0, or the errno of opening it. */
static int code_of(int fd) {
    const int code = fd < 0 ? errno : 0;
    if (fd >= 0)
        (void)close(fd);
    return code;
}

static void links(void) {
    char text[PATH_MAX];
    struct stat link, expected;
    int here, code;

    CHECK(mkdir("real", 0700) == 0 && symlink("real", "link") == 0);
    CHECK(lstat("link", &expected) == 0);
    here = open_here();
    CHECK(code_of(msalex__open_directory_without_links(-1, "real/.")) == 0);
    CHECK(code_of(msalex__open_directory_without_links(here, "real/../real/")) == 0);
    CHECK(code_of(msalex__open_directory_without_links(-1, "link/.")) == ELOOP);
    CHECK(code_of(msalex__open_directory_without_links(here, "link")) == ELOOP);
    CHECK(code_of(msalex__open_directory_without_links(here, "real/none/")) == ENOENT);
    code = code_of(msalex__open_directory(here, "link"));
    printf("    a link is opened as a directory: errno %d\n", code);
    CHECK(code == ELOOP || code == ENOTDIR);
    CHECK(msalex__read_link(here, "link", &link, text) == 0 && strcmp(text, "real") == 0);
    CHECK(link.st_ino == expected.st_ino && link.st_dev == expected.st_dev);
    CHECK(msalex__read_link(here, "real", &link, text) == EINVAL);
    CHECK(msalex__read_link(here, "none", &link, text) == ENOENT);
    CHECK(!msalex__is_remote(here) && !msalex__has_magic_links(here));
    (void)close(here);
}

/* From macOS 13 on the right to search is enough to open a directory and to use it in other
 * calls. */
static void right_to_search(void) {
    struct stat file;
    int code, directory;

    CHECK(mkdir("search", 0700) == 0);
    write_text("search/file", "text");
    CHECK(chmod("search", 0300) == 0);
    directory = msalex__open_directory(AT_FDCWD, "search");
    code = directory < 0 ? errno : 0;
    printf("    a directory that may not be read is opened: errno %d\n", code);
    if (directory >= 0) {
        CHECK(fstatat(directory, "file", &file, AT_SYMLINK_NOFOLLOW) == 0);
        CHECK(msalex__rename_new(directory, "file", "other") == 0);
        CHECK(unlinkat(directory, "other", 0) == 0);
        (void)close(directory);
    }
    CHECK(chmod("search", 0700) == 0);
}

static void writing(void) {
    int fd = open("file", O_RDWR | O_CREAT | O_CLOEXEC, 0600), here = open_here();
    struct stat before, after;
    const char *call = "";

    CHECK(write(fd, "old", 3) == 3 && fstat(fd, &before) == 0);
    CHECK(msalex__sync(fd, &call) == 0);
    printf("    sent to the disk by %s\n", call);
    printf("    F_BARRIERFSYNC: %d\n", fcntl(fd, F_BARRIERFSYNC));
    CHECK(msalex__reserve(fd, 1000000) == 0);
    CHECK(fstat(fd, &after) == 0 && after.st_size == 3 && has_text("file", "old"));
    printf("    1000000 bytes reserved: %lld blocks more\n",
           (long long)(after.st_blocks - before.st_blocks));
    write_text("to", "other");
    CHECK(msalex__rename_new(here, "file", "to") == EEXIST && has_text("to", "other"));
    CHECK(msalex__rename_new(here, "file", "new") == 0 && has_text("new", "old"));
    (void)close(fd);
    (void)close(here);
}

static void locks(void) {
    int here = open_here(), one, other, writer;

    CHECK(msalex__try_turn(here, -1, &one) == 0);
    CHECK(msalex__try_turn(here, -1, &other) == EAGAIN && other == -1);
    msalex__end_turn(-1, one);
    CHECK(msalex__try_turn(here, -1, &one) == 0);
    msalex__end_turn(-1, one);
    write_text("file", "");
    writer = open("file", O_RDWR | O_CLOEXEC);
    other = open("file", O_RDONLY | O_CLOEXEC);
    msalex__show_life(writer);
    CHECK(msalex__shows_life(other));
    msalex__end_life(writer);
    CHECK(!msalex__shows_life(other));
    (void)close(writer);
    (void)close(other);
    (void)close(here);
}

/* The questions of the lock about processes, the boot and file systems. */
static void processes(void) {
    const time_t now = time(NULL);
    const pid_t child = fork();
    int here = open_here();
    char id[64] = "";
    size_t size = sizeof id;

    if (child == 0)
        _exit(0);
    CHECK(wait_for_child(child) == 0);
    CHECK(msalex__life_of(child, now) == MSALEX__DEAD);
    CHECK(msalex__life_of(getpid(), now) == MSALEX__ALIVE);
    CHECK(msalex__life_of(getppid(), now) == MSALEX__ALIVE);
    CHECK(msalex__life_of(1, now) == MSALEX__ALIVE);              /* another user's */
    CHECK(msalex__life_of(getpid(), now - 7200) == MSALEX__DEAD); /* it has begun since */
    CHECK(msalex__lock_view(here, 1) == 0);
    CHECK(sysctlbyname("kern.bootsessionuuid", id, &size, NULL, 0) == 0 && size == 37);
    printf("    this boot is %s\n", id);
    (void)close(here);
}

enum ending { RELEASE, DEATH, REMOVAL };

/* Runs in a child: holds the lock until the parent waits for it, and tells the time of the end. */
static void hold(enum ending ending, int ready, int ended) {
    msalex_lock *lock;
    int64_t at;
    bool held = msalex_lock_new("lockfile", "holder", &lock, &error) == MSALEX_OK &&
                msalex_lock_acquire(lock, 0, 0, &error) == MSALEX_OK && write(ready, "", 1) == 1;

    sleep_ms(300);
    at = now_ms();
    held = held && write(ended, &at, sizeof at) == (ssize_t)sizeof at;
    if (ending == RELEASE)
        held = held && msalex_lock_release(lock, &error) == MSALEX_OK;
    else if (ending == REMOVAL)
        held = held && unlink("lockfile") == 0;
    if (ending == REMOVAL)
        sleep_ms(1000); /* it still has the lock of the removed file */
    _exit(held ? 0 : 1);
}

/* How soon is a waiter granted the lock?  At once if the kqueue has an event, else within 250
 * ms. */
static void wakes(void) {
    static const char *const endings[] = {"a release", "a death", "a removal"};
    for (int ending = RELEASE; ending <= REMOVAL; ending++) {
        int ready[2], ended[2];
        int64_t at = 0, in;
        msalex_lock *lock;
        pid_t child;
        char byte;

        CHECK(pipe(ready) == 0 && pipe(ended) == 0);
        (void)fflush(stdout);
        if ((child = fork()) == 0)
            hold((enum ending)ending, ready[1], ended[1]);
        CHECK(read(ready[0], &byte, 1) == 1);
        CHECK_STATUS(msalex_lock_new("lockfile", "waiter", &lock, &error), MSALEX_OK);
        CHECK_STATUS(msalex_lock_acquire(lock, 20000, 20000, &error), MSALEX_OK);
        in = now_ms();
        CHECK(read(ended[0], &at, sizeof at) == (ssize_t)sizeof at);
        printf("    a waiter comes in %lld ms after %s\n", (long long)(in - at), endings[ending]);
        CHECK(wait_for_child(child) == 0);
        msalex_lock_free(lock);
        for (int i = 0; i < 2; i++) {
            (void)close(ready[i]);
            (void)close(ended[i]);
        }
    }
}

/* Prints whether a new file inherits a list, and checks that a saved one has none. */
static int inherits(void) {
    msalex_stamp stamp;
    struct stat file;
    acl_t list;
    int fd = open("plain", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600), failed;

    list = acl_get_fd_np(fd, ACL_TYPE_EXTENDED);
    printf("a new file inherits %s\n", list == NULL ? "no list" : "a list");
    if (list != NULL)
        (void)acl_free(list);
    failed = msalex__remove_access_list(fd);
    printf("its removal: errno %d\n", failed);
    (void)close(fd);
    if (msalex_file_replace("cache.bin", (const unsigned char *)"x", 1, NULL, &stamp, &error) !=
        MSALEX_OK) {
        printf("the save failed: %s: %s\n", error.call, error.message);
        return 1;
    }
    return failed == 0 && stat("cache.bin", &file) == 0 && (file.st_mode & 07777) == 0600 ? 0 : 1;
}

static const struct property properties[] = {
    {"A path without links is opened in one call, a link is read with its status", links},
    {"The right to search is enough, where the kernel knows O_SEARCH", right_to_search},
    {"Content is sent to the disk, room is reserved, a rename replaces nothing", writing},
    {"Turns and signs of life are locks", locks},
    {"The living and the dead are told apart, and this boot from others", processes},
    {"A waiter for the lock is woken by a release, a death and a removal", wakes},
};

int main(int count, char *const *arguments) {
    if (count > 1 && strcmp(arguments[1], "inherits") == 0)
        return inherits();
    run_properties(properties, COUNT(properties));
    return end_of_properties();
}
