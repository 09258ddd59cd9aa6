/*
 * The watch of macOS, over a kernel with a script and a clock of its own: the test chooses what
 * happens during each wait.  Run by tests/macos/test_over_fakes.py.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "fake_kernel.h"
#include "internal.h"
#include "watch.h"

static const char PATH[] = "directory/cache.bin";
static int64_t now = 1000000; /* the clock */
static int waits;             /* how many there were so far */
static int64_t longest;       /* the longest of them */
static void (*event)(void);   /* what happens during a wait... */
static int event_at;          /* ...of this number */
static int watched[2];        /* what the last look asked the kqueue to watch: directory, file */

int64_t msalex__now_ms(void) {
    return now;
}

int64_t msalex__now_us(void) {
    return now * 1000;
}

/* Takes the place of clock_macos.c, which is left out. */
uint64_t msalex__moment(void) {
    static uint64_t moments;
    return ++moments;
}

/* ---- scripts ---- */

static int wait_script(int queue, int64_t timeout_ms) {
    (void)queue;
    if (timeout_ms == 0)
        return 0;
    waits++;
    longest = timeout_ms > longest ? timeout_ms : longest;
    fake_kernel.told = 0;
    if (event != NULL && waits == event_at) {
        now += 1;
        event();
        return fake_kernel.told != 0;
    }
    now += timeout_ms;
    return 0;
}

static int interrupted_script(int queue, int64_t timeout_ms) {
    (void)queue;
    errno = EINTR;
    return timeout_ms == 0 ? 0 : -1;
}

static void remember(int fd) {
    watched[0] = watched[1];
    watched[1] = fd;
}

static void at_wait(int number, void (*what)(void)) {
    waits = 0;
    longest = 0;
    event_at = number;
    event = what;
}

static void start(void) {
    fake_kernel = (struct fake_kernel){.wait = wait_script, .adding = remember};
    at_wait(0, NULL);
}

static msalex_watch *new_watch(const char *path) {
    msalex_watch *watch = NULL;
    CHECK_STATUS(msalex_watch_new(path, &watch, &error), MSALEX_OK);
    return watch;
}

static msalex_watch *start_with_a_file(void) {
    start();
    CHECK(mkdir("directory", 0700) == 0);
    write_text(PATH, "first");
    return new_watch(PATH);
}

static void end(msalex_watch *watch) {
    fake_kernel = (struct fake_kernel){0};
    msalex_watch_free(watch);
}

/* ---- what happens during a wait ---- */

static void make_all(void) {
    CHECK(mkdir("directory", 0700) == 0);
    write_text(PATH, "made");
}

static void change_quietly(void) {
    write_text(PATH, "changed, and longer");
}

static void file_is_told(void) {
    fake_kernel.told = watched[1];
}

static void directory_is_told(void) {
    fake_kernel.told = watched[0];
}

static void change_and_tell_the_directory(void) {
    change_quietly();
    directory_is_told();
}

static void exchange_directory(void) {
    CHECK(rename("directory", "elsewhere") == 0);
    make_all();
}

/* ---- properties ---- */

static void events_of_the_file(void) {
    msalex_watch *watch = start_with_a_file();

    at_wait(1, file_is_told);
    CHECK_STATUS(msalex_watch_wait(watch, 5000, &error), MSALEX_OK);
    CHECK(waits == 1);
    CHECK_STATUS(msalex_watch_wait(watch, 1000, &error), MSALEX_TIMEOUT); /* told once */
    end(watch);
}

static void events_of_the_directory(void) {
    msalex_watch *watch = start_with_a_file();
    int64_t begin = now;

    at_wait(1, directory_is_told);
    CHECK_STATUS(msalex_watch_wait(watch, 1000, &error), MSALEX_TIMEOUT);
    CHECK(now == begin + 1000);
    at_wait(1, change_and_tell_the_directory);
    CHECK_STATUS(msalex_watch_wait(watch, 1000, &error), MSALEX_OK);
    CHECK(waits == 1);
    end(watch);
}

static void changes_that_nobody_tells(void) {
    msalex_watch *watch = start_with_a_file();
    int64_t begin = now;

    at_wait(1, change_quietly);
    CHECK_STATUS(msalex_watch_wait(watch, 60000, &error), MSALEX_OK);
    CHECK(now <= begin + 250 && longest <= 250);
    at_wait(1, exchange_directory);
    begin = now;
    CHECK_STATUS(msalex_watch_wait(watch, 60000, &error), MSALEX_OK);
    CHECK(now <= begin + 251);
    CHECK_STATUS(msalex_watch_wait(watch, 1000, &error), MSALEX_TIMEOUT);
    end(watch);
}

/* More than four looks a second for hours would empty a battery. */
static void no_directory_for_long(void) {
    int64_t begin = now;
    msalex_watch *watch;

    start();
    watch = new_watch(PATH);
    at_wait(10, make_all);
    CHECK_STATUS(msalex_watch_wait(watch, 60000, &error), MSALEX_OK);
    CHECK(now <= begin + 200 && longest <= 20); /* a program makes it at its start */
    CHECK(unlink(PATH) == 0 && rmdir("directory") == 0);
    CHECK_STATUS(msalex_watch_wait(watch, 60000, &error), MSALEX_OK);
    at_wait(0, NULL);
    begin = now;
    CHECK_STATUS(msalex_watch_wait(watch, 60000, &error), MSALEX_TIMEOUT);
    CHECK(now == begin + 60000 && waits <= 400 && longest <= 250);
    at_wait(1, make_all);
    begin = now;
    CHECK_STATUS(msalex_watch_wait(watch, 60000, &error), MSALEX_OK);
    CHECK(now <= begin + 251);
    end(watch);
}

/* It looks instead, and a signal ends a wait all the same. */
static void no_kqueue(void) {
    static const char *const failing[] = {"kqueue", "kevent"};

    for (size_t i = 0; i < 2; i++) {
        msalex_watch *watch;
        start();
        make_all();
        fake_kernel.failing = failing[i];
        fake_kernel.code = i == 0 ? EMFILE : ENOMEM;
        fake_kernel.always = true;
        watch = new_watch(PATH);
        at_wait(2, change_quietly);
        CHECK_STATUS(msalex_watch_wait(watch, 1000, &error), MSALEX_OK);
        CHECK(waits == 3 && longest == 20); /* found at the next look */
        fake_kernel.wait = interrupted_script;
        CHECK_STATUS(msalex_watch_wait(watch, 1000, &error), MSALEX_INTERRUPTED);
        end(watch);
        CHECK(unlink(PATH) == 0 && rmdir("directory") == 0);
    }
}

static void signals(void) {
    msalex_watch *watch = start_with_a_file();

    fake_kernel.wait = interrupted_script;
    CHECK_STATUS(msalex_watch_wait(watch, 5000, &error), MSALEX_INTERRUPTED);
    CHECK(error.code == EINTR);
    end(watch);
}

static void relative_name(void) {
    msalex_watch *watch = NULL;

    start();
    CHECK_STATUS(msalex__watch_new_leaving("cache.bin", &watch, &error), MSALEX_OK);
    write_text("cache.bin", "new");
    CHECK_STATUS(msalex_watch_wait(watch, 5000, &error), MSALEX_OK);
    end(watch);
    fake_kernel.failing = "calloc";
    fake_kernel.code = ENOMEM;
    CHECK_STATUS(msalex_watch_new("cache.bin", &watch, &error), MSALEX_OS_ERROR);
    CHECK(watch == NULL);
    msalex_watch_free(NULL);
    end(NULL);
}

/* A child of Darwin does not inherit a kqueue: its number may be another file's there. */
static void child(void) {
    msalex_watch *watch = start_with_a_file();
    pid_t pid;

    (void)fflush(stdout);
    if ((pid = fork()) == 0) {
        memset(fake_kernel.log, 0, sizeof fake_kernel.log);
        bool told = msalex_watch_wait(watch, 100, &error) == MSALEX_TIMEOUT &&
                    strncmp(fake_kernel.log, "OAA", 3) == 0; /* a kqueue of its own */
        at_wait(1, file_is_told);
        told = told && msalex_watch_wait(watch, 5000, &error) == MSALEX_OK;
        msalex_watch_free(watch);
        exit(told ? 0 : 1);
    }
    CHECK(wait_for_child(pid) == 0);
    at_wait(1, file_is_told);
    CHECK_STATUS(msalex_watch_wait(watch, 5000, &error), MSALEX_OK);
    end(watch);
}

static const struct property properties[] = {
    {"An event of the file is told, once", events_of_the_file},
    {"An event of the directory is told if the file has changed", events_of_the_directory},
    {"A change that nobody tells of is found within 250 ms", changes_that_nobody_tells},
    {"A directory that is not there for long is looked for a few times a second",
     no_directory_for_long},
    {"Without a kqueue the watch looks", no_kqueue},
    {"A signal ends the wait", signals},
    {"A name without a directory is one in the working directory", relative_name},
    {"A child made by fork opens a kqueue of its own", child},
};

int main(void) {
    run_properties(properties, COUNT(properties));
    return end_of_properties();
}
