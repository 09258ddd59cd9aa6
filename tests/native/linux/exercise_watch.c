/* Changes of a file: see msalex.h for the promises. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "exercise.h"

static const char PATH[] = "directory/cache.bin";
static const char BESIDE[] = "directory/.msalex-0123456789abcdef.tmp";

enum {
    PATIENCE_MS = 20000, /* for a step that should take no time */
    QUIET_MS = 600       /* more than two looks */
};

/* musl has no function for it.  2 is RENAME_EXCHANGE of linux/fs.h. */
static long exchange(const char *one, const char *other) {
    return syscall(SYS_renameat2, AT_FDCWD, one, AT_FDCWD, other, 2U);
}

static msalex_watch *new_watch(void) {
    msalex_watch *watch = NULL;
    CHECK_STATUS(msalex_watch_new(PATH, &watch, &error), MSALEX_OK);
    return watch;
}

/* In a directory, with a file in it. */
static msalex_watch *new_watch_of_a_file(void) {
    CHECK(mkdir("directory", 0700) == 0);
    write_text(PATH, "first");
    return new_watch();
}

/* The watch tells of one change.  Takes all events that belong to it. */
static bool tells(msalex_watch *watch) {
    if (!CHECK_STATUS(msalex_watch_wait(watch, PATIENCE_MS, &error), MSALEX_OK))
        return false;
    for (int i = 0; i < 100; i++) {
        if (msalex_watch_wait(watch, 30, &error) == MSALEX_TIMEOUT)
            break;
    }
    return CHECK_STATUS(msalex_watch_wait(watch, 0, &error), MSALEX_TIMEOUT);
}

static bool is_quiet(msalex_watch *watch, int64_t for_ms) {
    return CHECK_STATUS(msalex_watch_wait(watch, for_ms, &error), MSALEX_TIMEOUT);
}

static void replace(const char *path, const char *text) {
    write_text(BESIDE, text);
    CHECK(rename(BESIDE, path) == 0);
}

static void every_way_to_change_a_file_is_told(void) {
    msalex_watch *watch = new_watch_of_a_file();
    msalex_stamp stamp;

    CHECK(is_quiet(watch, 50));
    write_text(PATH, "in place");
    CHECK(tells(watch));
    replace(PATH, "renamed over");
    CHECK(tells(watch));
    CHECK_STATUS(msalex_file_replace(PATH, (const unsigned char *)"own", 3, NULL, &stamp, &error),
                 MSALEX_OK);
    CHECK(tells(watch));
    CHECK_STATUS(msalex_file_touch(PATH, &error), MSALEX_OK);
    CHECK(tells(watch));
    make_old(PATH, 3600);
    CHECK(tells(watch));
    CHECK(unlink(PATH) == 0);
    CHECK(tells(watch));
    CHECK_STATUS(msalex_file_touch(PATH, &error), MSALEX_OK);
    CHECK(tells(watch));
    CHECK(rename(PATH, "elsewhere") == 0);
    CHECK(tells(watch));
    CHECK(link("elsewhere", PATH) == 0);
    CHECK(tells(watch));
    CHECK(is_quiet(watch, QUIET_MS));
    msalex_watch_free(watch);
    msalex_watch_free(NULL);
}

static void other_files_of_the_directory_are_not_told(void) {
    msalex_watch *watch = new_watch_of_a_file();
    msalex_lock *lock;
    char content[8];
    int fd;

    CHECK_STATUS(msalex_lock_new("directory/cache.bin.lockfile", "exercise", &lock, &error),
                 MSALEX_OK);
    for (int i = 0; i < 20; i++) {
        CHECK_STATUS(msalex_lock_acquire(lock, 2000, 2000, &error), MSALEX_OK);
        replace("directory/cache.bin2", "other");
        CHECK(unlink("directory/cache.bin2") == 0);
        CHECK_STATUS(msalex_lock_release(lock, &error), MSALEX_OK);
    }
    msalex_lock_free(lock);
    CHECK(chmod("directory", 0750) == 0);
    fd = open(PATH, O_RDONLY | O_CLOEXEC); /* and reading it changes nothing */
    CHECK(fd >= 0 && read(fd, content, sizeof content) == 5);
    (void)close(fd);
    CHECK(is_quiet(watch, QUIET_MS));
    msalex_watch_free(watch);
}

static void changes_before_the_first_wait_and_between_waits_are_told(void) {
    msalex_watch *watch = new_watch_of_a_file();

    for (int i = 0; i < 100; i++) {
        write_text(PATH, i % 2 == 0 ? "second" : "third!");
        CHECK_STATUS(msalex_watch_wait(watch, 0, &error), MSALEX_OK);
    }
    msalex_watch_free(watch);
}

/* Opens the file for writing and closes it: the kernel sends an event, but no look finds a
 * change. */
static void pretend_to_write(const char *path) {
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    CHECK(fd >= 0);
    (void)close(fd);
}

static void overflow_of_events_is_told(void) {
    msalex_watch *watch = new_watch_of_a_file();
    FILE *limit = fopen("/proc/sys/fs/inotify/max_queued_events", "r");
    char text[32] = "";
    long events;

    CHECK(limit != NULL && fgets(text, sizeof text, limit) != NULL);
    (void)fclose(limit);
    events = strtol(text, NULL, 10);
    if (events > 200000) {
        skip("the kernel's queue of events is too long to fill");
    } else {
        write_text("directory/one", "");
        write_text("directory/two", "");
        for (long i = 0; i <= events; i++) /* the kernel merges two equal events in a row */
            CHECK(chmod(i % 2 == 0 ? "directory/one" : "directory/two", 0640) == 0);
        pretend_to_write(PATH); /* there is no room for this event */
        CHECK(tells(watch));
        CHECK(is_quiet(watch, 50));
        pretend_to_write(PATH);
        CHECK(tells(watch));
    }
    msalex_watch_free(watch);
}

static void directory_may_be_missing_go_and_come(void) {
    msalex_watch *watch = new_watch();

    CHECK(is_quiet(watch, 50));
    for (int i = 0; i < 3; i++) {
        CHECK(mkdir("directory", 0700) == 0);
        write_text(PATH, "made");
        CHECK(tells(watch));
        replace(PATH, "replaced");
        CHECK(tells(watch));
        CHECK(unlink(PATH) == 0 && rmdir("directory") == 0);
        CHECK(tells(watch));
        CHECK(is_quiet(watch, 50));
    }
    msalex_watch_free(watch);
}

static void directory_may_be_moved_and_another_take_its_place(void) {
    msalex_watch *watch = new_watch_of_a_file();

    CHECK(rename("directory", "moved") == 0);
    CHECK(tells(watch));
    write_text("moved/cache.bin", "another file now");
    CHECK(is_quiet(watch, QUIET_MS));
    CHECK(mkdir("directory", 0700) == 0);
    CHECK(tells(watch));
    write_text(PATH, "made");
    CHECK(tells(watch));
    CHECK(exchange("moved", "directory") == 0);
    CHECK(tells(watch));
    write_text("moved/cache.bin", "another file again");
    CHECK(is_quiet(watch, QUIET_MS));
    write_text(PATH, "in place");
    CHECK(tells(watch));
    msalex_watch_free(watch);
}

static void parent_that_moves_away_is_noticed(void) {
    msalex_watch *watch;

    CHECK(mkdir("parent", 0700) == 0 && mkdir("parent/directory", 0700) == 0);
    CHECK(symlink("parent/directory", "directory") == 0);
    write_text(PATH, "first");
    watch = new_watch();
    CHECK(rename("parent", "gone") == 0);
    CHECK(tells(watch));
    CHECK(mkdir("parent", 0700) == 0 && mkdir("parent/directory", 0700) == 0);
    CHECK(tells(watch));
    write_text(PATH, "second");
    CHECK(tells(watch));
    msalex_watch_free(watch);
}

static void changes_behind_a_symbolic_link_are_told(void) {
    msalex_watch *watch;

    CHECK(mkdir("directory", 0700) == 0 && mkdir("target", 0700) == 0);
    write_text("target/file", "first");
    CHECK(symlink("../target/file", PATH) == 0);
    watch = new_watch();
    CHECK(is_quiet(watch, QUIET_MS));
    write_text("target/file", "second");
    CHECK(tells(watch));
    replace("target/file", "third");
    CHECK(tells(watch));
    replace(PATH, "no link any more");
    CHECK(tells(watch));
    CHECK(is_quiet(watch, QUIET_MS));
    write_text(PATH, "fourth");
    CHECK(tells(watch));
    msalex_watch_free(watch);
}

static void writer_that_never_closes_is_noticed(void) {
    msalex_watch *watch = new_watch_of_a_file();
    int fd = open(PATH, O_WRONLY | O_APPEND | O_CLOEXEC);

    CHECK(fd >= 0 && write(fd, "more", 4) == 4);
    CHECK(tells(watch));
    CHECK(write(fd, "still more", 10) == 10);
    CHECK(tells(watch));
    (void)close(fd);
    msalex_watch_free(watch);
}

static void *write_soon(void *argument) {
    (void)argument;
    sleep_ms(100);
    write_text(PATH, "second");
    return NULL;
}

static int64_t processor_ms(void) {
    struct timespec used;
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    return (int64_t)used.tv_sec * 1000 + used.tv_nsec / 1000000;
}

struct writing {
    const char *path;
    int64_t at; /* ms; atomic */
};

static void *write_at_some_time(void *argument) {
    struct writing *writing = argument;
    sleep_ms(20 + now_ms() % 100);
    __atomic_store_n(&writing->at, now_ms(), __ATOMIC_SEQ_CST);
    pretend_to_write(writing->path);
    return NULL;
}

/* No look finds this change.  With looks only, half of the waits would be longer than this. */
static void kernel_wakes_the_waiter(void) {
    enum { ROUNDS = 15, SOON_MS = 60 };
    msalex_watch *watch;
    int soon = 0;

    CHECK(mkdir("directory", 0700) == 0 && symlink("../target", PATH) == 0);
    write_text("target", "first");
    watch = new_watch();
    for (int i = 0; i < ROUNDS; i++) {
        struct writing writing = {.path = i % 2 == 0 ? PATH : "target"};
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, write_at_some_time, &writing) == 0);
        CHECK_STATUS(msalex_watch_wait(watch, PATIENCE_MS, &error), MSALEX_OK);
        soon += now_ms() - __atomic_load_n(&writing.at, __ATOMIC_SEQ_CST) < SOON_MS;
        (void)pthread_join(thread, NULL);
        CHECK(is_quiet(watch, 5));
    }
    CHECK(soon > ROUNDS / 2);
    msalex_watch_free(watch);
}

static void wait_lasts_as_long_as_it_should(void) {
    msalex_watch *watch = new_watch_of_a_file();
    int64_t start = now_ms(), used = processor_ms();
    pthread_t thread;

    CHECK(is_quiet(watch, 1000));
    CHECK(now_ms() - start >= 999 && now_ms() - start < 1000 + PATIENCE_MS);
    CHECK(processor_ms() - used < 200); /* a sanitizer's own threads included */
    start = now_ms();
    CHECK(is_quiet(watch, 0));
    CHECK(now_ms() - start < 1000);
    CHECK(pthread_create(&thread, NULL, write_soon, NULL) == 0);
    start = now_ms();
    CHECK_STATUS(msalex_watch_wait(watch, -1, &error), MSALEX_OK);
    CHECK(now_ms() - start >= 90 && now_ms() - start < PATIENCE_MS);
    (void)pthread_join(thread, NULL);
    msalex_watch_free(watch);
}

static void handle_alarm(int number) {
    (void)number;
}

static void signal_interrupts_a_wait_that_loses_nothing(void) {
    const struct sigaction action = {.sa_handler = handle_alarm};
    const struct itimerval soon = {.it_value = {.tv_usec = 50000}};
    msalex_watch *watch = new_watch_of_a_file();
    int64_t start = now_ms();

    CHECK(sigaction(SIGALRM, &action, NULL) == 0 && setitimer(ITIMER_REAL, &soon, NULL) == 0);
    CHECK_STATUS(msalex_watch_wait(watch, PATIENCE_MS, &error), MSALEX_INTERRUPTED);
    CHECK(now_ms() - start < 5000 && signal(SIGALRM, SIG_DFL) != SIG_ERR);
    write_text(PATH, "second");
    CHECK_STATUS(msalex_watch_wait(watch, 0, &error), MSALEX_OK);
    msalex_watch_free(watch);
}

static void child_made_by_fork_takes_no_event_from_its_parent(void) {
    msalex_watch *watch = new_watch_of_a_file();
    pid_t child;

    pretend_to_write(PATH);
    if ((child = fork()) == 0)
        _exit(tells(watch) && is_quiet(watch, 50) ? 0 : 1);
    CHECK(wait_for_child(child) == 0);
    CHECK_STATUS(msalex_watch_wait(watch, 0, &error), MSALEX_OK);
    CHECK(is_quiet(watch, 50));
    if ((child = fork()) == 0) {
        bool told = tells(watch); /* in case there was something */
        pretend_to_write(PATH);
        told = told && tells(watch) && is_quiet(watch, 50);
        msalex_watch_free(watch);
        _exit(told ? 0 : 1);
    }
    CHECK(wait_for_child(child) == 0);
    CHECK(tells(watch)); /* of the write by the child */
    pretend_to_write(PATH);
    CHECK(tells(watch));
    msalex_watch_free(watch);
}

static void impossible_paths_are_quiet(void) {
    static const char *const paths[] = {"", "/", "cache.bin/", "loop", "file/in/a/file"};
    char name[5000];

    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    CHECK(symlink("loop", "loop") == 0);
    write_text("file", "not a directory");
    for (size_t i = 0; i <= sizeof paths / sizeof paths[0]; i++) {
        msalex_watch *watch;
        const char *path = i < sizeof paths / sizeof paths[0] ? paths[i] : name;
        CHECK_STATUS(msalex_watch_new(path, &watch, &error), MSALEX_OK);
        CHECK(is_quiet(watch, 30));
        msalex_watch_free(watch);
    }
}

const struct property watch_properties[] = {
    {"Every way to change, make or remove a file is told", every_way_to_change_a_file_is_told},
    {"Other files of the directory, and readers, are not told",
     other_files_of_the_directory_are_not_told},
    {"A change before the first wait, or between waits, is told",
     changes_before_the_first_wait_and_between_waits_are_told},
    {"The directory may be missing, go and come", directory_may_be_missing_go_and_come},
    {"The directory may be moved, and another one take its place",
     directory_may_be_moved_and_another_take_its_place},
    {"A parent directory that moves away is noticed", parent_that_moves_away_is_noticed},
    {"A change behind a symbolic link, and of the link, is told",
     changes_behind_a_symbolic_link_are_told},
    {"A writer that never closes the file is noticed", writer_that_never_closes_is_noticed},
    {"A signal interrupts a wait, and loses no change",
     signal_interrupts_a_wait_that_loses_nothing},
    {"A path that can be no file is quiet", impossible_paths_are_quiet},
};
const size_t watch_property_count = COUNT(watch_properties);

/* Limits of inotify, events that leave nothing a look could find, and waits that do not poll. */
const struct property inotify_properties[] = {
    {"More events than the kernel keeps are told as a change", overflow_of_events_is_told},
    {"The kernel wakes the waiter, behind a symbolic link too", kernel_wakes_the_waiter},
    {"A wait lasts as long as it should, and uses no processor", wait_lasts_as_long_as_it_should},
    {"A child made by fork takes no event from its parent, and has its own",
     child_made_by_fork_takes_no_event_from_its_parent},
};
const size_t inotify_property_count = COUNT(inotify_properties);
