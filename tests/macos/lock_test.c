/*
 * The macOS lock over a scripted kernel and a clock of its own, in one thread: what a waiter
 * does when each of the things that can happen happens just then.  Run by tests/test_macos.py.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "fake_kernel.h"
#include "internal.h"
#include "lock_record.h"

static const char PATH[] = "cache.lockfile";
static int64_t now, begin;   /* the clock */
static int waits;            /* so far */
static int64_t longest;      /* of them */
static msalex_lock *holder, *waiter, *third;
static int holder_fd;
static void (*event)(void); /* what happens during a wait */
static int event_at;        /* during which one; all, when 0 */

int64_t msalex__now_ms(void) {
    return now;
}

/* ---- scripts ---- */

/* Time passes to the end of the wait, unless something happens. */
static int wait_script(int queue, int64_t timeout_ms) {
    (void)queue;
    waits++;
    longest = timeout_ms > longest ? timeout_ms : longest;
    if (event != NULL && (event_at == 0 || waits == event_at)) {
        now += 1;
        event();
        return 1;
    }
    now += timeout_ms;
    return 0;
}

static int interrupted_script(int queue, int64_t timeout_ms) {
    (void)queue, (void)timeout_ms;
    waits++;
    errno = EINTR;
    return -1;
}

static void start(int (*script)(int queue, int64_t timeout_ms)) {
    fake_kernel = (struct fake_kernel){.wait = script};
    now = begin = 1000000;
    waits = 0;
    longest = 0;
    event = NULL;
    event_at = 0;
    holder_fd = -1;
    CHECK_STATUS(msalex_lock_new(PATH, "holder", &holder, &error), MSALEX_OK);
    CHECK_STATUS(msalex_lock_new(PATH, "waiter", &waiter, &error), MSALEX_OK);
    CHECK_STATUS(msalex_lock_new(PATH, "third", &third, &error), MSALEX_OK);
}

/* The same, with the lock held by somebody. */
static void start_held(int (*script)(int queue, int64_t timeout_ms)) {
    start(script);
    CHECK_STATUS(msalex_lock_acquire(holder, 0, 0, &error), MSALEX_OK);
    memset(fake_kernel.log, 0, sizeof fake_kernel.log);
}

static void end(void) {
    fake_kernel = (struct fake_kernel){0};
    msalex_lock_free(waiter); /* in an order of its own */
    msalex_lock_free(third);
    msalex_lock_free(holder);
    if (holder_fd >= 0)
        (void)close(holder_fd);
    (void)unlink(PATH);
}

/* A lock file of ours whose holder is another process, as far as one can see. */
static void make_held_by_other(void) {
    const struct msalex__record record = {.pid = 1, .state = MSALEX__HELD, .nonce = 1};
    char bytes[MSALEX__RECORD_SIZE];

    msalex__record_format(&record, "other", bytes);
    holder_fd = open(PATH, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    CHECK(write(holder_fd, bytes, sizeof bytes) == (ssize_t)sizeof bytes);
    CHECK(flock(holder_fd, LOCK_EX) == 0);
}

static void write_peer(long pid) {
    char text[64];
    (void)snprintf(text, sizeof text, "%ld peer", pid);
    write_text(PATH, text);
}

static bool names(const char *program) {
    msalex_buffer text;
    bool found;

    if (msalex_lock_holder(PATH, &text, &error) != MSALEX_OK)
        return false;
    found = text.size > strlen(program) &&
            memcmp(text.data + text.size - strlen(program), program, strlen(program)) == 0;
    msalex_buffer_free(&text);
    return found;
}

/* A pid that was somebody's and is nobody's. */
static pid_t dead_pid(void) {
    pid_t child = fork();
    if (child == 0)
        _exit(0);
    (void)waitpid(child, NULL, 0);
    return child;
}

/* ---- what happens during a wait ---- */

static void nothing(void) {
}

static void holder_releases(void) {
    CHECK_STATUS(msalex_lock_release(holder, &error), MSALEX_OK);
}

static void holder_dies(void) {
    (void)close(holder_fd);
    holder_fd = -1;
}

static void holder_dies_before_adding(int fd) {
    (void)fd;
    holder_dies();
}

static void somebody_unlinks(void) {
    CHECK(unlink(PATH) == 0);
}

static void peer_replaces(void) {
    write_text("other", "");
    CHECK(rename("other", PATH) == 0);
    write_peer(getpid());
}

static void third_is_faster(void) {
    if (waits == 1) {
        holder_releases();
        CHECK_STATUS(msalex_lock_acquire(third, 0, 0, &error), MSALEX_OK);
    } else if (waits == 2) {
        CHECK_STATUS(msalex_lock_release(third, &error), MSALEX_OK);
    }
}

static void peer_is_replaced_then_leaves(void) {
    if (waits == 1)
        peer_replaces();
    else if (waits == 3)
        somebody_unlinks();
}

/* ---- properties ---- */

static void grant(void) {
    start_held(wait_script);
    event = holder_releases;
    CHECK_STATUS(msalex_lock_acquire(waiter, 5000, 5000, &error), MSALEX_OK);
    CHECK(now == begin + 1 && waits == 1);
    /* Tried, watched, tried again, and only then waited. */
    CHECK(strcmp(fake_kernel.log, "LOALWL") == 0);
    /* For an unlock, a removal, a rename or a replacement, and a forced unmount. */
    CHECK(fake_kernel.added == (0x100 | 0x1 | 0x20 | 0x40));
    CHECK(names("waiter") && msalex_lock_check(waiter, &error) == MSALEX_OK);
    CHECK_STATUS(msalex_lock_check(holder, &error), MSALEX_NOT_FOUND);
    CHECK_STATUS(msalex_lock_release(waiter, &error), MSALEX_OK);
    CHECK(!file_exists(PATH));
    end();
}

static void time_out(void) {
    start_held(wait_script);
    CHECK_STATUS(msalex_lock_acquire(waiter, 1000, 1000, &error), MSALEX_TIMEOUT);
    CHECK(now == begin + 1000 && waits == 4 && longest == 250);
    memset(fake_kernel.log, 0, sizeof fake_kernel.log);
    CHECK_STATUS(msalex_lock_acquire(waiter, 90, 90, &error), MSALEX_TIMEOUT);
    CHECK(now == begin + 1090 && waits == 5);
    CHECK(strcmp(fake_kernel.log, "LWL") == 0); /* it was still watching */
    CHECK_STATUS(msalex_lock_acquire(third, 0, 0, &error), MSALEX_TIMEOUT);
    CHECK(waits == 5);
    CHECK_STATUS(msalex_lock_release(waiter, &error), MSALEX_OK); /* leaves */
    CHECK_STATUS(msalex_lock_check(holder, &error), MSALEX_OK);
    CHECK_STATUS(msalex_lock_acquire(holder, 0, 0, &error), MSALEX_INVALID); /* it is held */
    end();
}

static void waits_for_ever(void) {
    start_held(wait_script);
    event = holder_releases;
    event_at = 1000;
    CHECK_STATUS(msalex_lock_acquire(waiter, -1, -1, &error), MSALEX_OK);
    CHECK(waits == 1000 && now > begin + 900 * 250);
    end();
}

static void spurious_wakes(void) {
    start_held(wait_script);
    event = nothing;
    CHECK_STATUS(msalex_lock_acquire(waiter, 50, 50, &error), MSALEX_TIMEOUT);
    CHECK(waits == 50 && now == begin + 50);
    CHECK_STATUS(msalex_lock_check(holder, &error), MSALEX_OK);
    end();
}

static void missed_event(void) {
    start_held(wait_script);
    event = nothing;
    event_at = -1; /* never: the queue says nothing */
    CHECK_STATUS(msalex_lock_acquire(waiter, 400, 400, &error), MSALEX_TIMEOUT);
    holder_releases();
    CHECK_STATUS(msalex_lock_acquire(waiter, 400, 400, &error), MSALEX_OK);
    CHECK(now == begin + 400);
    end();
}

static void deletion(void) {
    start_held(wait_script);
    event = somebody_unlinks;
    CHECK_STATUS(msalex_lock_acquire(waiter, 5000, 5000, &error), MSALEX_OK);
    CHECK(waits == 1);
    CHECK_STATUS(msalex_lock_check(holder, &error), MSALEX_NOT_FOUND);
    CHECK_STATUS(msalex_lock_release(holder, &error), MSALEX_NOT_FOUND);
    CHECK_STATUS(msalex_lock_check(waiter, &error), MSALEX_OK); /* left alone */
    end();
}

static void replacement(void) {
    start_held(wait_script);
    event = peer_is_replaced_then_leaves;
    CHECK_STATUS(msalex_lock_acquire(waiter, 5000, 5000, &error), MSALEX_OK);
    CHECK(waits == 3);
    CHECK(strchr(strchr(fake_kernel.log, 'O') + 1, 'O') != NULL); /* it watched the new file */
    end();
}

static void interruption(void) {
    start_held(interrupted_script);
    CHECK_STATUS(msalex_lock_acquire(waiter, 5000, 5000, &error), MSALEX_INTERRUPTED);
    CHECK(error.code == EINTR && waits == 1);
    memset(fake_kernel.log, 0, sizeof fake_kernel.log);
    CHECK_STATUS(msalex_lock_acquire(waiter, 5000, 5000, &error), MSALEX_INTERRUPTED);
    CHECK(strcmp(fake_kernel.log, "LW") == 0); /* it was still watching */
    fake_kernel.wait = wait_script;
    event = holder_releases;
    CHECK_STATUS(msalex_lock_acquire(waiter, 5000, 5000, &error), MSALEX_OK);
    end();
}

static void lost_race(void) {
    start_held(wait_script);
    event = third_is_faster;
    CHECK_STATUS(msalex_lock_acquire(waiter, 5000, 5000, &error), MSALEX_OK);
    CHECK(waits == 2);
    CHECK(names("waiter"));
    end();
}

static void unlock_before_the_watch(void) {
    start(wait_script);
    make_held_by_other();
    fake_kernel.adding = holder_dies_before_adding;
    CHECK_STATUS(msalex_lock_acquire(waiter, 5000, 5000, &error), MSALEX_OK);
    CHECK(waits == 0 && strcmp(fake_kernel.log, "LOAL") == 0);
    CHECK(names("waiter"));
    end();
}

static void death(void) {
    start(wait_script);
    make_held_by_other();
    event = holder_dies;
    CHECK_STATUS(msalex_lock_acquire(waiter, 5000, 5000, &error), MSALEX_OK);
    CHECK(waits == 1 && names("waiter"));
    end();
}

static void granted_then_unlinked(void) {
    start(wait_script);
    make_held_by_other();
    fake_kernel.adding = holder_dies_before_adding;
    event = nothing;
    CHECK_STATUS(msalex_lock_acquire(waiter, 0, 0, &error), MSALEX_OK);
    CHECK(unlink(PATH) == 0);
    CHECK_STATUS(msalex_lock_check(waiter, &error), MSALEX_NOT_FOUND);
    CHECK_STATUS(msalex_lock_release(waiter, &error), MSALEX_NOT_FOUND);
    end();
}

/* The name goes, or the record, between the look and the grant. */
static void unlink_at_flock(void) {
    somebody_unlinks();
    holder_dies();
}

static void overwrite_at_flock(void) {
    write_peer(getpid());
    holder_dies();
}

static void (*at_try)(void);
static void act_at_try(int fd) {
    void (*act)(void) = at_try;
    (void)fd;
    at_try = NULL;
    if (act != NULL)
        act();
}

static void change_between_look_and_grant(void) {
    start(wait_script);
    make_held_by_other();
    at_try = unlink_at_flock;
    fake_kernel.trying = act_at_try;
    CHECK_STATUS(msalex_lock_acquire(waiter, 0, 0, &error), MSALEX_OK); /* on a file of its own */
    CHECK_STATUS(msalex_lock_check(waiter, &error), MSALEX_OK);
    CHECK_STATUS(msalex_lock_release(waiter, &error), MSALEX_OK);

    make_held_by_other();
    at_try = overwrite_at_flock;
    CHECK_STATUS(msalex_lock_acquire(waiter, 500, 500, &error), MSALEX_TIMEOUT); /* a peer's now */
    CHECK(!names("waiter"));
    end();
}

static void no_kqueue(void) {
    static const char *const failing[] = {"kqueue", "kevent"};
    for (size_t i = 0; i < 2; i++) {
        start_held(wait_script);
        fake_kernel.failing = failing[i];
        fake_kernel.code = i == 0 ? EMFILE : ENOMEM;
        fake_kernel.always = true;
        CHECK_STATUS(msalex_lock_acquire(waiter, 100, 100, &error), MSALEX_TIMEOUT);
        CHECK(now == begin + 100 && longest == 20);
        event = holder_releases;
        CHECK_STATUS(msalex_lock_acquire(waiter, 100, 100, &error), MSALEX_OK);
        end();
    }
    start_held(wait_script);
    CHECK_STATUS(msalex_lock_acquire(waiter, 10, 10, &error), MSALEX_TIMEOUT);
    fake_kernel.failing = "kevent"; /* it was there, and fails later */
    fake_kernel.code = ENOMEM;
    fake_kernel.always = true;
    waits = 0;
    CHECK_STATUS(msalex_lock_acquire(waiter, 500, 500, &error), MSALEX_TIMEOUT);
    CHECK(now == begin + 510 && waits == 2); /* without spinning */
    fake_kernel.wait = interrupted_script;
    CHECK_STATUS(msalex_lock_acquire(waiter, 500, 500, &error), MSALEX_INTERRUPTED);
    end();
}

static void no_flock(void) {
    start(wait_script);
    fake_kernel.failing = "flock";
    fake_kernel.code = ENOTSUP;
    fake_kernel.always = true;
    CHECK_STATUS(msalex_lock_acquire(holder, 0, 0, &error), MSALEX_OK);
    CHECK_STATUS(msalex_lock_check(holder, &error), MSALEX_OK);
    CHECK_STATUS(msalex_lock_acquire(waiter, 1000, 1000, &error), MSALEX_TIMEOUT);
    event = holder_releases;
    CHECK_STATUS(msalex_lock_acquire(waiter, 1000, 1000, &error), MSALEX_OK);
    CHECK_STATUS(msalex_lock_release(waiter, &error), MSALEX_OK);

    write_peer(dead_pid()); /* without flock, stale files are removed under a guard */
    write_text("cache.lockfile.stale", "");
    event = NULL;
    CHECK_STATUS(msalex_lock_acquire(waiter, 100, 100, &error), MSALEX_TIMEOUT);
    CHECK(unlink("cache.lockfile.stale") == 0);
    CHECK_STATUS(msalex_lock_acquire(waiter, 100, 100, &error), MSALEX_OK);
    CHECK(!file_exists("cache.lockfile.stale"));
    CHECK_STATUS(msalex_lock_release(waiter, &error), MSALEX_OK);

    fake_kernel.failing = NULL; /* ours was locked: an error is better than a guess */
    CHECK_STATUS(msalex_lock_acquire(holder, 0, 0, &error), MSALEX_OK);
    fake_kernel.failing = "flock";
    fake_kernel.code = EIO;
    CHECK_STATUS(msalex_lock_acquire(waiter, 100, 100, &error), MSALEX_OS_ERROR);
    CHECK(error.code == EIO);
    end();
}

static void no_exclusive_rename(void) {
    start(wait_script);
    fake_kernel.failing = "renameatx_np";
    fake_kernel.code = ENOTSUP;
    fake_kernel.always = true;
    CHECK_STATUS(msalex_lock_acquire(holder, 0, 0, &error), MSALEX_OK);
    CHECK_STATUS(msalex_lock_acquire(waiter, 100, 100, &error), MSALEX_TIMEOUT);
    event = holder_releases;
    CHECK_STATUS(msalex_lock_acquire(waiter, 100, 100, &error), MSALEX_OK);
    CHECK_STATUS(msalex_lock_release(waiter, &error), MSALEX_OK);
    CHECK(!file_exists(PATH));
    end();
}

/* Without the exclusive rename: after the temporary file's, the second try is the real file's. */
static int tries_left;
static void fail_a_later_try(int fd) {
    (void)fd;
    if (--tries_left == 0) {
        fake_kernel.failing = "flock";
        fake_kernel.always = false;
    }
}

static void created_file_is_caught(void) {
    start(wait_script);
    fake_kernel.rename_code = ENOTSUP;
    fake_kernel.trying = fail_a_later_try;
    fake_kernel.code = EWOULDBLOCK; /* a peer was faster with its flock */
    tries_left = 2;
    CHECK_STATUS(msalex_lock_acquire(waiter, 100, 100, &error), MSALEX_TIMEOUT);
    CHECK(file_exists(PATH)); /* it is the peer's */
    CHECK_STATUS(msalex_lock_release(waiter, &error), MSALEX_OK);
    CHECK(unlink(PATH) == 0);

    fake_kernel.code = EIO;
    tries_left = 2;
    CHECK_STATUS(msalex_lock_acquire(waiter, 100, 100, &error), MSALEX_OS_ERROR);
    CHECK(error.code == EIO && !file_exists(PATH));
    end();
}

static void failures_leave_nothing(void) {
    static const struct {
        const char *name;
        int code, status, after, rename_code;
    } failing[] = {
        {"renameatx_np", EACCES, MSALEX_DENIED, 0, 0}, {"pwrite", ENOSPC, MSALEX_OS_ERROR, 0, 0},
        {"fstat", EIO, MSALEX_OS_ERROR, 0, 0},         {"flock", EIO, MSALEX_OS_ERROR, 0, 0},
        {"opendir", EMFILE, MSALEX_OS_ERROR, 0, 0},    {"openat", EMFILE, MSALEX_OS_ERROR, 0, 0},
        {"openat", EROFS, MSALEX_DENIED, 1, 0},        {"openat", EMFILE, MSALEX_OS_ERROR, 2, ENOTSUP},
    };
    for (size_t i = 0; i < sizeof failing / sizeof failing[0]; i++) {
        start(wait_script);
        fake_kernel.failing = failing[i].name;
        fake_kernel.code = failing[i].code;
        fake_kernel.after = failing[i].after;
        fake_kernel.rename_code = failing[i].rename_code;
        CHECK_STATUS(msalex_lock_acquire(waiter, 100, 100, &error), failing[i].status);
        CHECK(error.code == failing[i].code && waits == 0);
        CHECK(!file_exists(PATH));
        CHECK_STATUS(msalex_lock_acquire(waiter, 100, 100, &error), MSALEX_OK);
        end();
    }
    fake_kernel.failing = "calloc";
    fake_kernel.code = ENOMEM;
    CHECK_STATUS(msalex_lock_new(PATH, "waiter", &waiter, &error), MSALEX_OS_ERROR);
    CHECK(waiter == NULL);
    msalex_lock_free(NULL);
}

static void another_user_s_file(void) {
    start(wait_script);
    write_peer(getpid());
    fake_kernel.failing = "openat";
    fake_kernel.code = EACCES;
    fake_kernel.always = true;
    CHECK_STATUS(msalex_lock_acquire(waiter, 100, 100, &error), MSALEX_TIMEOUT);
    CHECK(waits == 5 && longest == 20);
    CHECK(unlink(PATH) == 0);
    CHECK_STATUS(msalex_lock_acquire(waiter, 100, 100, &error), MSALEX_DENIED);
    end();
}

static void unstable_inodes(void) {
    start(wait_script);
    fake_kernel.unstable = true;
    CHECK_STATUS(msalex_lock_acquire(holder, 0, 0, &error), MSALEX_OK);
    CHECK_STATUS(msalex_lock_check(holder, &error), MSALEX_OK);
    CHECK_STATUS(msalex_lock_acquire(waiter, 100, 100, &error), MSALEX_TIMEOUT);
    somebody_unlinks();
    write_peer(getpid());
    CHECK_STATUS(msalex_lock_check(holder, &error), MSALEX_NOT_FOUND);
    CHECK_STATUS(msalex_lock_release(holder, &error), MSALEX_NOT_FOUND);
    CHECK(file_exists(PATH));
    fake_kernel.failing = "pread";
    fake_kernel.code = EIO;
    CHECK_STATUS(msalex_lock_acquire(holder, 0, 0, &error), MSALEX_TIMEOUT);
    end();
}

static void paths_that_cannot_be(void) {
    char name[NAME_MAX + 1] = "", path[PATH_MAX + 1] = "";
    msalex_lock *lock;

    start(wait_script);
    CHECK(symlink("elsewhere", PATH) == 0);
    CHECK_STATUS(msalex_lock_acquire(waiter, 100, 100, &error), MSALEX_INVALID);
    CHECK(unlink(PATH) == 0 && mkfifo(PATH, 0600) == 0);
    CHECK_STATUS(msalex_lock_acquire(waiter, 100, 100, &error), MSALEX_INVALID);
    end();

    memset(path, '/', PATH_MAX);
    CHECK_STATUS(msalex_lock_new(path, "waiter", &lock, &error), MSALEX_OK);
    CHECK_STATUS(msalex_lock_acquire(lock, 0, 0, &error), MSALEX_INVALID);
    CHECK(error.code == ENAMETOOLONG);
    msalex_lock_free(lock);

    /* A name that is just short enough itself, but has no room for that of a guard. */
    memset(name, 'x', NAME_MAX);
    CHECK_STATUS(msalex_lock_new(name, "waiter", &lock, &error), MSALEX_OK);
    CHECK_STATUS(msalex_lock_acquire(lock, 0, 0, &error), MSALEX_OK);
    CHECK_STATUS(msalex_lock_release(lock, &error), MSALEX_OK);
    write_peer(dead_pid());
    CHECK(rename(PATH, name) == 0);
    fake_kernel = (struct fake_kernel){
        .failing = "flock", .code = ENOTSUP, .always = true, .wait = wait_script};
    CHECK_STATUS(msalex_lock_acquire(lock, 0, 0, &error), MSALEX_TIMEOUT);
    fake_kernel = (struct fake_kernel){0};
    msalex_lock_free(lock);
}

/* The directory is exchanged for another one with that name. */
static void exchange_directory(void) {
    CHECK(rename("place", "elsewhere") == 0 && mkdir("place", 0700) == 0);
}

static void directory_that_moves(void) {
    msalex_lock *one, *other;

    CHECK(mkdir("place", 0700) == 0);
    CHECK_STATUS(msalex_lock_new("place/lockfile", "one", &one, &error), MSALEX_OK);
    CHECK_STATUS(msalex_lock_new("place/lockfile", "other", &other, &error), MSALEX_OK);
    CHECK_STATUS(msalex_lock_acquire(one, 0, 0, &error), MSALEX_OK);
    start(wait_script);
    event = exchange_directory;
    event_at = 1;
    CHECK_STATUS(msalex_lock_acquire(other, 5000, 5000, &error), MSALEX_OK); /* in the new one */
    CHECK(waits == 1 && file_exists("place/lockfile") && file_exists("elsewhere/lockfile"));
    CHECK_STATUS(msalex_lock_check(one, &error), MSALEX_NOT_FOUND);
    CHECK_STATUS(msalex_lock_check(other, &error), MSALEX_OK);
    CHECK_STATUS(msalex_lock_release(one, &error), MSALEX_OK);
    CHECK(file_exists("place/lockfile") && !file_exists("elsewhere/lockfile"));
    CHECK(rename("place", "away") == 0);
    CHECK_STATUS(msalex_lock_check(other, &error), MSALEX_NOT_FOUND);
    CHECK_STATUS(msalex_lock_acquire(one, 0, 0, &error), MSALEX_NOT_FOUND); /* no directory */
    CHECK_STATUS(msalex_lock_holder("place/lockfile", &(msalex_buffer){0}, &error),
                 MSALEX_NOT_FOUND);
    msalex_lock_free(one);
    msalex_lock_free(other);
    CHECK(!file_exists("away/lockfile"));
    end();
}

/* What a lock file may be removed by, once its maker is dead. */
static void owner_of_the_directory(void) {
    struct stat made;

    if (geteuid() != 0) {
        skip("it takes root to give files away");
        return;
    }
    start(wait_script);
    CHECK(chown(".", 12001, 12002) == 0 && chmod(".", 0775) == 0);
    CHECK_STATUS(msalex_lock_acquire(waiter, 0, 0, &error), MSALEX_OK);
    CHECK(stat(PATH, &made) == 0 && made.st_uid == 12001 && made.st_gid == 12002);
    CHECK((made.st_mode & 07777) == 0660);
    CHECK_STATUS(msalex_lock_release(waiter, &error), MSALEX_OK);
    fake_kernel.failing = "fchown"; /* refused: the lock is worth more */
    fake_kernel.code = EPERM;
    CHECK_STATUS(msalex_lock_acquire(waiter, 0, 0, &error), MSALEX_OK);
    CHECK(stat(PATH, &made) == 0 && made.st_uid == 0 && (made.st_mode & 07777) == 0600);
    CHECK_STATUS(msalex_lock_release(waiter, &error), MSALEX_OK);
    CHECK(chmod(".", 01777) == 0); /* sticky: each file is its owner's affair */
    CHECK_STATUS(msalex_lock_acquire(waiter, 0, 0, &error), MSALEX_OK);
    CHECK(stat(PATH, &made) == 0 && made.st_uid == 0 && (made.st_mode & 07777) == 0600);
    end();
}

static void stale_file_that_stays(void) {
    start(wait_script);
    write_peer(dead_pid());
    fake_kernel.failing = "unlinkat";
    fake_kernel.code = EPERM;
    fake_kernel.always = true;
    CHECK_STATUS(msalex_lock_acquire(waiter, 1000, 1000, &error), MSALEX_TIMEOUT);
    CHECK(waits == 4); /* without spinning */
    end();
}

static void peers(void) {
    const struct {
        pid_t pid;
        time_t age;
        bool remote, without_sysctl, gone;
    } cases[] = {
        {getpid(), 0, false, false, false},   {dead_pid(), 0, false, false, true},
        {getpid(), 9999999, false, false, true}, /* given away again since */
        {dead_pid(), 0, true, false, false},  {dead_pid(), 61, true, false, true},
        {dead_pid(), 0, false, true, true},   {getpid(), 0, false, true, false},
        {0, 0, false, false, false},          {0, 6, false, false, true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        start(wait_script);
        if (cases[i].pid != 0)
            write_peer(cases[i].pid);
        else
            write_text(PATH, "");
        make_old(PATH, cases[i].age);
        fake_kernel.remote = cases[i].remote;
        if (cases[i].without_sysctl) {
            fake_kernel.failing = "sysctl";
            fake_kernel.code = EPERM;
            fake_kernel.always = true;
        }
        CHECK_STATUS(msalex_lock_acquire(waiter, 100, 100, &error),
                     cases[i].gone ? MSALEX_OK : MSALEX_TIMEOUT);
        end();
    }
    start(wait_script);
    write_peer(dead_pid());
    fake_kernel.trying = act_at_try;
    at_try = somebody_unlinks; /* another one removes the stale file first */
    CHECK_STATUS(msalex_lock_acquire(waiter, 0, 0, &error), MSALEX_OK);
    end();
    start(wait_script);
    write_peer(dead_pid());
    fake_kernel.failing = "fstat";
    fake_kernel.code = EIO;
    fake_kernel.after = 1; /* the one that asks for its age */
    CHECK_STATUS(msalex_lock_acquire(waiter, 0, 0, &error), MSALEX_OK);
    CHECK(fake_kernel.failing == NULL); /* it was met, and the second look got through */
    end();
}

static void others_in_a_loop(void) {
    start(wait_script);
    CHECK_STATUS(msalex_lock_acquire(waiter, 100, 100, &error), MSALEX_OK);
    CHECK_STATUS(msalex_lock_release(waiter, &error), MSALEX_OK);
    fake_kernel.failing = "renameatx_np"; /* always there when we make it, never when we look */
    fake_kernel.code = EEXIST;
    fake_kernel.always = true;
    CHECK_STATUS(msalex_lock_acquire(waiter, 100, 100, &error), MSALEX_TIMEOUT);
    CHECK(waits == 5 && longest == 20); /* it does not spin for ever */
    CHECK_STATUS(msalex_lock_holder(PATH, &(msalex_buffer){0}, &error), MSALEX_NOT_FOUND);
    end();
}

static void child_keeps_nothing(void) {
    pid_t child;

    start_held(wait_script);
    CHECK_STATUS(msalex_lock_acquire(waiter, 10, 10, &error), MSALEX_TIMEOUT);
    (void)fflush(stdout);
    child = fork();
    if (child == 0) {
        memset(fake_kernel.log, 0, sizeof fake_kernel.log);
        bool lost = msalex_lock_check(holder, &error) == MSALEX_NOT_FOUND &&
                    msalex_lock_release(holder, &error) == MSALEX_NOT_FOUND &&
                    msalex_lock_acquire(waiter, 10, 10, &error) == MSALEX_TIMEOUT &&
                    strcmp(fake_kernel.log, "LOALWL") == 0; /* a kqueue of its own */
        exit(lost ? 0 : 1);
    }
    CHECK(wait_for_child(child) == 0);
    CHECK_STATUS(msalex_lock_check(holder, &error), MSALEX_OK);
    end();
}

static const struct property properties[] = {
    {"A waiter is granted the lock by the release that it waited for", grant},
    {"A wait ends at its deadline, in slices, and goes on where it was", time_out},
    {"A wait without a deadline has none", waits_for_ever},
    {"A wake-up for nothing grants nothing", spurious_wakes},
    {"An unlock that nobody told of is found at the next try", missed_event},
    {"A file that somebody deletes lets the waiter in, and its holder knows", deletion},
    {"A file that a peer replaces is waited for in its turn", replacement},
    {"A signal ends the wait, which may go on", interruption},
    {"Who loses the race for a free lock waits for the winner", lost_race},
    {"An unlock between the first try and the watch is not lost", unlock_before_the_watch},
    {"A holder that dies is followed at once", death},
    {"A holder whose file was removed removes nothing", granted_then_unlinked},
    {"What changes between the look and the grant makes the grant void",
     change_between_look_and_grant},
    {"Without a kqueue the waiter polls", no_kqueue},
    {"Without flock the existence of the file is the lock", no_flock},
    {"Without an exclusive rename the file is made in place", no_exclusive_rename},
    {"A file made in place that a peer catches is the peer's", created_file_is_caught},
    {"A call that fails is an error that leaves nothing behind", failures_leave_nothing},
    {"A file that we may not open is waited for", another_user_s_file},
    {"Where inode numbers change, the nonce tells whose file it is", unstable_inodes},
    {"A path that can be no lock file fails at once", paths_that_cannot_be},
    {"A directory that is exchanged takes its lock along", directory_that_moves},
    {"Root's lock file belongs to the owner of its directory", owner_of_the_directory},
    {"A stale file that cannot be removed is waited for", stale_file_that_stays},
    {"A peer's file is stale when its process is dead, or it is old", peers},
    {"Files that come and go in a loop do not make the waiter spin", others_in_a_loop},
    {"A child made by fork has neither the lock nor the wait", child_keeps_nothing},
};

int main(void) {
    const size_t count = sizeof properties / sizeof properties[0];
    int failed = run_properties(properties, count);
    printf("%zu properties, %d checks failed\n", count, failed);
    return failed == 0 ? 0 : 1;
}
