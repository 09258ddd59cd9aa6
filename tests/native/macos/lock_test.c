/*
 * The macOS lock in one thread, over a kernel with a script and a clock of its own: the test
 * chooses what happens at each moment of a wait.  Run by tests/macos/test_over_fakes.py.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "check.h"
#include "fake_kernel.h"
#include "internal.h"
#include "lock_record.h"

enum { GAP_DUE_MS = 4100, GAP_MS = 270 }; /* of lock_gap.c */

static const char PATH[] = "cache.lockfile";
/* Another name of the same file: our process remembers nothing of it, as another process would. */
static const char ALIAS[] = "./cache.lockfile";
static int64_t now, begin; /* the clock */
static int waits;          /* how many there were so far */
static int64_t longest;    /* the longest of them */
static msalex_lock *holder, *waiter, *third;
static int holder_fd;
static void (*event)(void); /* what happens during a wait */
static int event_at;        /* the number of that wait; 0: all waits */

int64_t msalex__now_ms(void) {
    return now;
}

int64_t msalex__now_us(void) {
    return now * 1000;
}

/* Takes the place of clock_macos.c, which is left out. */
uint64_t msalex__moment(void) {
    static uint64_t moments;
    return ++moments ^ (uint64_t)getpid() << 40;
}

/* ---- scripts ---- */

/* Time passes to the end of the wait, unless there is an event.  A timeout of 0 is no wait. */
static int wait_script(int queue, int64_t timeout_ms) {
    (void)queue;
    if (timeout_ms == 0)
        return 0;
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
    static int64_t clock = 1000000;

    fake_kernel = (struct fake_kernel){.wait = script};
    /* So late that nothing counts which the process remembers of a lock. */
    now = begin = clock += 100000000;
    waits = 0;
    longest = 0;
    event = NULL;
    event_at = 0;
    holder_fd = -1;
    CHECK_STATUS(msalex_lock_new(PATH, "holder", &holder, &error), MSALEX_OK);
    CHECK_STATUS(msalex_lock_new(PATH, "waiter", &waiter, &error), MSALEX_OK);
    CHECK_STATUS(msalex_lock_new(PATH, "third", &third, &error), MSALEX_OK);
}

/* The same, and `holder` has the lock. */
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
    CHECK(fake_idle_unlocks() == 0); /* nobody was woken for nothing */
    if (holder_fd >= 0)
        (void)close(holder_fd);
    (void)unlink(PATH);
}

/* Writes a record at the start of the file. */
static void write_record(int fd, const struct msalex__record *record) {
    char bytes[MSALEX__RECORD_SIZE];

    msalex__record_format(record, "other", bytes);
    CHECK(pwrite(fd, bytes, sizeof bytes, 0) == (ssize_t)sizeof bytes);
}

/* A lock file of this library whose holder looks like another process. */
static void make_held_by_other(const char *path) {
    const struct msalex__record record = {.pid = 1, .state = MSALEX__HELD, .nonce = 1};

    holder_fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    write_record(holder_fd, &record);
    CHECK(flock(holder_fd, LOCK_EX) == 0);
}

static bool read_record(int fd, struct msalex__record *record) {
    char bytes[MSALEX__RECORD_SIZE];
    const ssize_t size = pread(fd, bytes, sizeof bytes, 0);
    return size > 0 && msalex__record_parse(bytes, (size_t)size, record);
}

/* The record of the file that has the name. */
static bool read_record_at(const char *path, struct msalex__record *record) {
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    const bool found = fd >= 0 && read_record(fd, record);
    if (fd >= 0)
        (void)close(fd);
    return found;
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
    /* Tried, watched, tried again, and only then waited.  The holder unlocks the file, which has
     * lost its name.  So the waiter leaves it alone, and locks the new one. */
    CHECK(strcmp(fake_kernel.log, "LOALWUL") == 0);
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
    CHECK(waits > 1000 && now > begin + 900 * 250); /* there is a gap at the end */
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

/* The name was free when the waiter looked, and belongs to another process a moment later. */
static void name_that_is_taken_meanwhile(void) {
    start_held(wait_script);
    fake_kernel.made = 0;
    fake_kernel.failing = "openat";
    fake_kernel.code = ENOENT;
    CHECK_STATUS(msalex_lock_acquire(waiter, 100, 100, &error), MSALEX_TIMEOUT);
    CHECK(fake_kernel.failing == NULL && fake_kernel.made == 0);
    end();
}

static void unlock_before_the_watch(void) {
    start(wait_script);
    make_held_by_other(PATH);
    fake_kernel.adding = holder_dies_before_adding;
    CHECK_STATUS(msalex_lock_acquire(waiter, 5000, 5000, &error), MSALEX_OK);
    CHECK(waits == 0 && strcmp(fake_kernel.log, "LOAL") == 0);
    CHECK(names("waiter"));
    end();
}

static void death(void) {
    start(wait_script);
    make_held_by_other(PATH);
    event = holder_dies;
    CHECK_STATUS(msalex_lock_acquire(waiter, 5000, 5000, &error), MSALEX_OK);
    CHECK(waits == 1 && names("waiter"));
    end();
}

static void granted_then_unlinked(void) {
    start(wait_script);
    make_held_by_other(PATH);
    fake_kernel.adding = holder_dies_before_adding;
    event = nothing;
    CHECK_STATUS(msalex_lock_acquire(waiter, 0, 0, &error), MSALEX_TIMEOUT);
    CHECK(strcmp(fake_kernel.log, "L") == 0); /* a call that does not wait watches nothing */
    CHECK_STATUS(msalex_lock_acquire(waiter, 10, 10, &error), MSALEX_OK);
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
    make_held_by_other(PATH);
    at_try = unlink_at_flock;
    fake_kernel.trying = act_at_try;
    CHECK_STATUS(msalex_lock_acquire(waiter, 0, 0, &error), MSALEX_OK); /* with a new file */
    CHECK_STATUS(msalex_lock_check(waiter, &error), MSALEX_OK);
    CHECK_STATUS(msalex_lock_release(waiter, &error), MSALEX_OK);

    make_held_by_other(PATH);
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
    fake_kernel.failing = "kevent"; /* the kqueue was made, and fails later */
    fake_kernel.code = ENOMEM;
    fake_kernel.always = true;
    waits = 0;
    CHECK_STATUS(msalex_lock_acquire(waiter, 500, 500, &error), MSALEX_TIMEOUT);
    CHECK(now == begin + 510 && waits == 2); /* it does not spin */
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

    fake_kernel.failing = NULL; /* the holder has its flock: a try that fails is an error */
    CHECK_STATUS(msalex_lock_acquire(holder, 0, 0, &error), MSALEX_OK);
    fake_kernel.failing = "flock";
    fake_kernel.code = EIO;
    CHECK_STATUS(msalex_lock_acquire(waiter, 100, 100, &error), MSALEX_OS_ERROR);
    CHECK(error.code == EIO);
    end();
}

static void no_exclusive_rename(void) {
    static const int link_codes[] = {0, EPERM, ENOTSUP}; /* linked; in place */
    for (size_t i = 0; i < 3; i++) {
        start(wait_script);
        fake_kernel.rename_code = ENOTSUP;
        fake_kernel.link_code = link_codes[i];
        CHECK_STATUS(msalex_lock_acquire(holder, 0, 0, &error), MSALEX_OK);
        CHECK_STATUS(msalex_lock_acquire(waiter, 100, 100, &error), MSALEX_TIMEOUT);
        event = holder_releases;
        CHECK_STATUS(msalex_lock_acquire(waiter, 100, 100, &error), MSALEX_OK);
        CHECK(count_entries(".") == 1); /* no temporary file */
        CHECK_STATUS(msalex_lock_release(waiter, &error), MSALEX_OK);
        CHECK(count_entries(".") == 0);
        end();
    }
}

/* In place: after the temporary file's, the second try is the real file's. */
static int tries_left;
static void fail_a_later_try(int fd) {
    (void)fd;
    if (--tries_left == 0)
        fake_kernel.failing = "flock";
}

static void created_file_is_caught(void) {
    start(wait_script);
    fake_kernel.rename_code = fake_kernel.link_code = ENOTSUP;
    fake_kernel.trying = fail_a_later_try;
    fake_kernel.code = EWOULDBLOCK; /* a peer was faster with its flock */
    tries_left = 2;
    CHECK_STATUS(msalex_lock_acquire(waiter, 100, 100, &error), MSALEX_TIMEOUT);
    CHECK(file_exists(PATH)); /* it is the peer's */
    CHECK_STATUS(msalex_lock_release(waiter, &error), MSALEX_OK);
    CHECK(unlink(PATH) == 0);

    /* The file was made, and cannot be told from a peer's: nobody removes it before it is old. */
    fake_kernel.code = EIO;
    tries_left = 2;
    CHECK_STATUS(msalex_lock_acquire(waiter, 100, 100, &error), MSALEX_TIMEOUT);
    CHECK(file_exists(PATH) && count_entries(".") == 1);
    make_old(PATH, 6);
    CHECK_STATUS(msalex_lock_acquire(waiter, 100, 100, &error), MSALEX_OK);
    end();
}

/* A peer that locks the file as soon as it has its name, while our process does the next thing. */
static int peer_fd;
static void peer_locks_at_once(const char *name) {
    if (strcmp(name, "fstat") == 0 && peer_fd < 0 && file_exists(PATH)) {
        peer_fd = open(PATH, O_RDWR | O_CLOEXEC);
        CHECK(flock(peer_fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK);
    }
}

static void created_file_is_locked_at_once(void) {
    start(wait_script);
    fake_kernel.rename_code = fake_kernel.link_code = ENOTSUP;
    fake_kernel.before = peer_locks_at_once;
    peer_fd = -1;
    CHECK_STATUS(msalex_lock_acquire(waiter, 100, 100, &error), MSALEX_OK);
    CHECK(peer_fd >= 0);
    (void)close(peer_fd);
    end();
}

static void failures_leave_nothing(void) {
    static const struct {
        const char *name;
        int code, status, after, rename_code, link_code;
    } failing[] = {
        {"pwrite", ENOSPC, MSALEX_OS_ERROR, 0, 0, 0},
        {"fstat", EIO, MSALEX_OS_ERROR, 0, 0, 0},
        {"fstat", EIO, MSALEX_OS_ERROR, 1, 0, 0},
        {"flock", EIO, MSALEX_OS_ERROR, 0, 0, 0},
        {"opendir", EMFILE, MSALEX_OS_ERROR, 0, 0, 0},
        {"openat", EMFILE, MSALEX_OS_ERROR, 0, 0, 0},
        {"openat", EROFS, MSALEX_DENIED, 1, 0, 0},
        {"openat", EMFILE, MSALEX_OS_ERROR, 2, ENOTSUP, ENOTSUP},
        {"linkat", EACCES, MSALEX_DENIED, 0, ENOTSUP, 0},
        {"linkat", EIO, MSALEX_OS_ERROR, 0, EACCES, 0},
        {"calloc", ENOMEM, MSALEX_OS_ERROR, 0, 0, 0},
    };
    for (size_t i = 0; i < sizeof failing / sizeof failing[0]; i++) {
        start(wait_script);
        fake_kernel.failing = failing[i].name;
        fake_kernel.code = failing[i].code;
        fake_kernel.after = failing[i].after;
        fake_kernel.rename_code = failing[i].rename_code;
        fake_kernel.link_code = failing[i].link_code;
        CHECK_STATUS(msalex_lock_acquire(waiter, 100, 100, &error), failing[i].status);
        CHECK(error.code == failing[i].code && waits == 0);
        CHECK(count_entries(".") == 0);
        CHECK_STATUS(msalex_lock_acquire(waiter, 100, 100, &error), MSALEX_OK);
        end();
    }
    fake_kernel.failing = "calloc";
    fake_kernel.code = ENOMEM;
    CHECK_STATUS(msalex_lock_new(PATH, "waiter", &waiter, &error), MSALEX_OS_ERROR);
    CHECK(waiter == NULL);
    msalex_lock_free(NULL);
}

static const char *const CALLS[] = {
    "fstat",  "fstatat", "openat", "pread",  "pwrite", "unlinkat",     "flock",
    "linkat", "kqueue",  "kevent", "calloc", "fchmod", "renameatx_np", "fstatfs",
};
static const int CODES[] = {EIO, ENOMEM, EACCES, ESTALE, ETIMEDOUT};
enum { CALL_COUNT = sizeof CALLS / sizeof CALLS[0], CODE_COUNT = sizeof CODES / sizeof CODES[0] };

static void fail_later(const char *name, int code, int after) {
    fake_kernel.failing = name;
    fake_kernel.code = code;
    fake_kernel.after = after;
    fake_kernel.always = false;
}

/* Did the failure happen?  From now on nothing fails. */
static bool is_met;
static void fail_no_more(void) {
    is_met = fake_kernel.failing == NULL;
    fake_kernel.failing = NULL;
}

/* Lets each call that `act` makes fail, one at a time; how many did. */
static int with_every_failure(void (*prepare)(void), void (*act)(void)) {
    int met = 0;

    for (int call = 0; call < CALL_COUNT; call++) {
        for (int code = 0; code < CODE_COUNT; code++) {
            is_met = true;
            for (int after = 0; is_met && after < 100; after++) {
                prepare();
                fail_later(CALLS[call], CODES[code], after);
                act();
                met += is_met;
                end();
            }
        }
    }
    return met;
}

/* The lock is free, so the status must not say that it is held; and afterwards it is free again. */
static void acquire_while_something_fails(void) {
    const char *const name = fake_kernel.failing;
    const int status = msalex_lock_acquire(waiter, 100, 100, &error);

    fail_no_more();
    CHECK(status != MSALEX_TIMEOUT && status != MSALEX_INTERRUPTED);
    CHECK(is_met || status == MSALEX_OK);
    CHECK(status == MSALEX_OK || count_entries(".") == 0 || strcmp(name, "unlinkat") == 0);
    if (status == MSALEX_OK)
        CHECK_STATUS(msalex_lock_release(waiter, &error), MSALEX_OK);
    CHECK_STATUS(msalex_lock_acquire(third, 0, 0, &error), MSALEX_OK);
}

static void start_free(void) {
    start(wait_script);
}

static void start_behind(void) {
    start(wait_script);
    make_held_by_other(PATH);
    event = holder_dies;
    event_at = 1;
}

static void acquire_behind_while_something_fails(void) {
    const int status = msalex_lock_acquire(waiter, 1000, 1000, &error);

    fail_no_more();
    CHECK(status != MSALEX_TIMEOUT && status != MSALEX_INTERRUPTED);
    CHECK(is_met || status == MSALEX_OK);
    if (holder_fd >= 0)
        holder_dies();
    if (status == MSALEX_OK)
        CHECK_STATUS(msalex_lock_release(waiter, &error), MSALEX_OK);
    CHECK_STATUS(msalex_lock_acquire(third, 0, 0, &error), MSALEX_OK);
}

static void start_with_one(void) {
    start_held(wait_script);
}

/* After a release the lock is free, even if its file stays. */
static void release_while_something_fails(void) {
    const int status = msalex_lock_release(holder, &error);

    fail_no_more();
    CHECK(is_met || status == MSALEX_OK);
    CHECK(status != MSALEX_OK || !file_exists(PATH));
    CHECK_STATUS(msalex_lock_acquire(third, 0, 0, &error), MSALEX_OK);
}

static void every_call_may_fail(void) {
    const int free = with_every_failure(start_free, acquire_while_something_fails);
    const int behind = with_every_failure(start_behind, acquire_behind_while_something_fails);
    const int release = with_every_failure(start_with_one, release_while_something_fails);

    printf("    %d, %d and %d failures met\n", free, behind, release);
}

static void another_user_s_file(void) {
    start(wait_script);
    write_peer(getpid());
    fake_kernel.failing = "openat";
    fake_kernel.code = EACCES;
    fake_kernel.always = true;
    CHECK_STATUS(msalex_lock_acquire(waiter, 100, 100, &error), MSALEX_TIMEOUT);
    CHECK(waits == 1 && longest == 100); /* its directory is watched */
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
    CHECK_STATUS(msalex_lock_acquire(holder, 0, 0, &error), MSALEX_OS_ERROR);
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

    /* The name is short enough itself, but the name of its guard would be too long. */
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

/* The process that made these was killed before it could rename them. */
static void leftovers(void) {
    static const char *const old[] = {".msalex-0123456789abcdef.tmp",
                                      ".msalex-0123456789abcdee.tmp"};
    static const char young[] = ".msalex-0123456789abcded.tmp";
    msalex_lock *lock;

    start(wait_script);
    write_text(old[0], "");
    make_old(old[0], 61);
    write_text(young, "");
    CHECK_STATUS(msalex_lock_new("place that is new.lockfile", "test", &lock, &error), MSALEX_OK);
    CHECK_STATUS(msalex_lock_acquire(lock, 0, 0, &error), MSALEX_OK);
    CHECK(!file_exists(old[0]) && file_exists(young));
    CHECK_STATUS(msalex_lock_release(lock, &error), MSALEX_OK);
    write_text(old[1], "");
    make_old(old[1], 61);
    CHECK_STATUS(msalex_lock_acquire(lock, 0, 0, &error), MSALEX_OK);
    CHECK(file_exists(old[1])); /* it looks only once */
    msalex_lock_free(lock);
    end();
}

/* The directory is exchanged for another one with that name. */
static void exchange_directory(void) {
    CHECK(rename("place", "elsewhere") == 0 && mkdir("place", 0700) == 0);
}

static void exchange_directory_then_release(void) {
    if (waits == 1)
        exchange_directory();
    else if (waits == 2)
        holder_releases();
}

static void exchange_directory_then_die(void) {
    if (waits == 1)
        exchange_directory();
    else if (waits == 2)
        holder_dies();
}

static void start_in_place(void) {
    start(wait_script);
    msalex_lock_free(holder);
    msalex_lock_free(waiter);
    CHECK(mkdir("place", 0700) == 0);
    CHECK_STATUS(msalex_lock_new("place/lockfile", "holder", &holder, &error), MSALEX_OK);
    CHECK_STATUS(msalex_lock_new("place/lockfile", "waiter", &waiter, &error), MSALEX_OK);
}

static void directory_that_moves(void) {
    start_in_place();
    CHECK_STATUS(msalex_lock_acquire(holder, 0, 0, &error), MSALEX_OK);
    event = exchange_directory_then_release;
    CHECK_STATUS(msalex_lock_acquire(waiter, 5000, 5000, &error), MSALEX_OK); /* in the new one */
    CHECK(waits == 2 && file_exists("place/lockfile") && !file_exists("elsewhere/lockfile"));
    CHECK_STATUS(msalex_lock_check(waiter, &error), MSALEX_OK);
    CHECK(rename("place", "away") == 0);
    CHECK_STATUS(msalex_lock_check(waiter, &error), MSALEX_NOT_FOUND);
    CHECK_STATUS(msalex_lock_acquire(holder, 0, 0, &error), MSALEX_NOT_FOUND); /* no directory */
    CHECK_STATUS(msalex_lock_holder("place/lockfile", &(msalex_buffer){0}, &error),
                 MSALEX_NOT_FOUND);
    CHECK_STATUS(msalex_lock_release(waiter, &error), MSALEX_OK);
    CHECK(!file_exists("away/lockfile"));
    end();
}

/* The waiter is granted the lock of the directory in which it has waited. */
static void grant_in_a_directory_that_moved(void) {
    start_in_place();
    make_held_by_other("place/lockfile");
    event = exchange_directory_then_die;
    CHECK_STATUS(msalex_lock_acquire(waiter, 5000, 5000, &error), MSALEX_OK);
    CHECK(waits == 2 && file_exists("place/lockfile") && !file_exists("elsewhere/lockfile"));
    CHECK_STATUS(msalex_lock_check(waiter, &error), MSALEX_OK);
    end();
}

/* The holder's directory is exchanged: a newcomer in the other one, and the holder does no harm. */
static void holder_in_a_directory_that_moved(void) {
    start_in_place();
    CHECK_STATUS(msalex_lock_acquire(holder, 0, 0, &error), MSALEX_OK);
    exchange_directory();
    CHECK_STATUS(msalex_lock_acquire(waiter, 0, 0, &error), MSALEX_OK);
    CHECK_STATUS(msalex_lock_check(holder, &error), MSALEX_NOT_FOUND);
    CHECK_STATUS(msalex_lock_release(holder, &error), MSALEX_OK);
    CHECK(file_exists("place/lockfile") && !file_exists("elsewhere/lockfile"));
    CHECK_STATUS(msalex_lock_check(waiter, &error), MSALEX_OK);
    end();
}

/* Then the directory's owner and group can remove it when its maker has died. */
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
    fake_kernel.failing = "fchown"; /* the refusal does not fail the lock */
    fake_kernel.code = EPERM;
    CHECK_STATUS(msalex_lock_acquire(waiter, 0, 0, &error), MSALEX_OK);
    CHECK(stat(PATH, &made) == 0 && made.st_uid == 0 && (made.st_mode & 07777) == 0600);
    CHECK_STATUS(msalex_lock_release(waiter, &error), MSALEX_OK);
    CHECK(chmod(".", 01777) == 0); /* sticky: the file stays root's own */
    CHECK_STATUS(msalex_lock_acquire(waiter, 0, 0, &error), MSALEX_OK);
    CHECK(stat(PATH, &made) == 0 && made.st_uid == 0 && (made.st_mode & 07777) == 0600);
    end();
}

static bool has_list(const char *expected) {
    const char *list = fake_list_of(PATH);
    return list != NULL && strcmp(list, expected) == 0;
}

/* A reader could take the flock of the lock file, and keep it. */
static void inherited_lists(void) {
    static const char READERS[] = "group:everyone allow read";
    static const mode_t modes[] = {0700, 01777, 0770};

    for (size_t i = 0; i < 3; i++) {
        const bool is_shared = modes[i] == 0770;
        start(wait_script);
        fake_kernel.inherited = READERS;
        CHECK(chmod(".", modes[i]) == 0);
        CHECK_STATUS(msalex_lock_acquire(waiter, 0, 0, &error), MSALEX_OK);
        CHECK(has_list(is_shared ? READERS : ""));
        CHECK_STATUS(msalex_lock_release(waiter, &error), MSALEX_OK);
        fake_kernel.failing = "acl_set_fd_np"; /* the refusal does not fail the lock */
        fake_kernel.code = EPERM;
        CHECK_STATUS(msalex_lock_acquire(waiter, 0, 0, &error), MSALEX_OK);
        end();
    }
}

static void stale_file_that_stays(void) {
    start(wait_script);
    write_peer(dead_pid());
    fake_kernel.failing = "unlinkat";
    fake_kernel.code = EPERM;
    fake_kernel.always = true;
    CHECK_STATUS(msalex_lock_acquire(waiter, 1000, 1000, &error), MSALEX_TIMEOUT);
    CHECK(waits == 4); /* it does not spin */
    end();
}

/* A peer: the pid of its process, the age of its file in seconds. */
struct peer {
    pid_t pid;
    time_t age;
    int status; /* of an attempt; MSALEX_OK: the file was stale and was removed */
    bool remote, without_sysctl;
    time_t since_boot; /* 0: the real one */
};

static void meet(const struct peer *peer) {
    start(wait_script);
    if (peer->pid != 0)
        write_peer(peer->pid);
    else
        write_text(PATH, "");
    make_old(PATH, peer->age);
    fake_kernel.remote = peer->remote;
    if (peer->since_boot != 0)
        fake_kernel.booted = time(NULL) - peer->since_boot;
    if (peer->without_sysctl) {
        fake_kernel.failing = "sysctl";
        fake_kernel.code = EPERM;
        fake_kernel.always = true;
    }
    CHECK_STATUS(msalex_lock_acquire(waiter, 100, 100, &error), peer->status);
    CHECK(names("waiter") == (peer->status == MSALEX_OK));
    end();
}

static void peers(void) {
    const struct peer peers[] = {
        {getpid(), 0, MSALEX_TIMEOUT, false, false, 0},
        {dead_pid(), 0, MSALEX_OK, false, false, 0},
        {getpid(), 9999999, MSALEX_OK, false, false, 0}, /* the pid has a new process */
        {dead_pid(), 0, MSALEX_TIMEOUT, true, false, 0},
        {dead_pid(), 61, MSALEX_OK, true, false, 0},
        {dead_pid(), 0, MSALEX_OK, false, true, 0},
        {getpid(), 0, MSALEX_TIMEOUT, false, true, 0},
        {0, 0, MSALEX_TIMEOUT, false, false, 0},
        {0, 6, MSALEX_OK, false, false, 0},
    };
    for (size_t i = 0; i < sizeof peers / sizeof peers[0]; i++)
        meet(&peers[i]);
    start(wait_script);
    write_peer(dead_pid());
    fake_kernel.trying = act_at_try;
    at_try = somebody_unlinks; /* another process removes the stale file first */
    CHECK_STATUS(msalex_lock_acquire(waiter, 0, 0, &error), MSALEX_OK);
    end();
}

/* Finding 8 of the lock's review.  After the clock was set, a process may look much younger than
 * the file that it wrote. */
static void clock_that_was_set(void) {
    const time_t DAYS = 10 * 24 * 3600;
    const struct peer peers[] = {
        {getpid(), 70, MSALEX_TIMEOUT, false, false, DAYS},
        {getpid(), 3000, MSALEX_TIMEOUT, false, false, DAYS},
        {getpid(), 7200, MSALEX_OK, false, false, DAYS},
        {getpid(), 1000, MSALEX_TIMEOUT, false, false, 970}, /* nearly as old as this boot */
        {getpid(), 1000, MSALEX_OK, false, false, 900},      /* older */
    };
    for (size_t i = 0; i < sizeof peers / sizeof peers[0]; i++)
        meet(&peers[i]);
}

/* A living peer, which this process is, wrote its file `age` seconds ago. */
static void meet_living(time_t age, struct fake_kernel script) {
    start(wait_script);
    script.wait = wait_script;
    write_peer(getpid());
    make_old(PATH, age);
    fake_kernel = script;
    CHECK_STATUS(msalex_lock_acquire(waiter, 100, 100, &error), MSALEX_TIMEOUT);
    CHECK(!names("waiter"));
    end();
}

/* The clock was set back between the start of the peer and its file. */
static void clock_that_was_set_back(void) {
    const int64_t hours = 3600;

    meet_living(0, (struct fake_kernel){.set_back_s = 10 * hours});
    meet_living(50, (struct fake_kernel){.set_back_s = 10 * hours});
    /* The machine has slept since, so the peer was awake for a shorter time than it is old. */
    meet_living(10 * hours, (struct fake_kernel){.slept_ms = 10 * hours * 1000});
    /* Another user's process does not tell how long it was awake. */
    meet_living(0, (struct fake_kernel){.set_back_s = 10 * hours,
                                        .failing = "proc_pid_rusage",
                                        .code = EPERM,
                                        .always = true});
}

/* Finding 7 of the lock's review.  (SMB answers EACCES when the file is locked.) */
static void record_that_cannot_be_read(void) {
    const struct {
        int code, status, tried;
    } failing[] = {
        {EIO, MSALEX_OS_ERROR, MSALEX_OS_ERROR},
        {ETIMEDOUT, MSALEX_OS_ERROR, MSALEX_OS_ERROR},
        {EINTR, MSALEX_INTERRUPTED, MSALEX_TIMEOUT},
        {EACCES, MSALEX_TIMEOUT, MSALEX_TIMEOUT},
    };
    for (size_t i = 0; i < sizeof failing / sizeof failing[0]; i++) {
        start(wait_script);
        fake_kernel.failing = "pread";
        fake_kernel.code = failing[i].code;
        fake_kernel.always = true;
        write_peer(dead_pid());
        make_old(PATH, 100);
        CHECK_STATUS(msalex_lock_acquire(waiter, 100, 100, &error), failing[i].status);
        CHECK(error.code == failing[i].code || failing[i].status == MSALEX_TIMEOUT);
        CHECK((waits == 0) == (failing[i].code != EACCES) && file_exists(PATH));
        CHECK_STATUS(msalex_lock_acquire(waiter, 0, 0, &error), failing[i].tried);
        CHECK(msalex_lock_holder(PATH, &(msalex_buffer){0}, &error) != MSALEX_OK);
        end();
    }
    start(wait_script);
    write_peer(dead_pid());
    fake_kernel.failing = "fstat";
    fake_kernel.code = EIO;
    fake_kernel.after = 3; /* the call that asks for its age */
    CHECK_STATUS(msalex_lock_acquire(waiter, 0, 0, &error), MSALEX_TIMEOUT);
    CHECK(fake_kernel.failing == NULL && file_exists(PATH));
    end();
}

/* On a network file system a signal may end a try, or the server does not answer. */
static void try_that_fails(void) {
    static const struct {
        int code, status;
    } failing[] = {
        {EINTR, MSALEX_INTERRUPTED}, {ETIMEDOUT, MSALEX_OS_ERROR}, {EIO, MSALEX_OS_ERROR}};
    for (size_t i = 0; i < sizeof failing / sizeof failing[0]; i++) {
        start_held(wait_script);
        CHECK_STATUS(msalex_lock_acquire(waiter, 10, 100, &error), MSALEX_TIMEOUT);
        fake_kernel.failing = "flock";
        fake_kernel.code = failing[i].code;
        CHECK_STATUS(msalex_lock_acquire(waiter, 10, 100, &error), failing[i].status);
        CHECK_STATUS(msalex_lock_acquire(waiter, 10, 100, &error), MSALEX_TIMEOUT);
        event = holder_releases;
        CHECK_STATUS(msalex_lock_acquire(waiter, 10, 100, &error), MSALEX_OK);
        end();
    }
}

/* ---- the gap (lock_gap.h) ---- */

static msalex_lock *first, *second; /* they act as another process: see ALIAS */
static int64_t gap_end;             /* as the record says */

static void nobody_has_the_name(void) {
    CHECK(!file_exists(PATH));
}

/* The lock is held, `first` and `second` wait for it, and a gap is due. */
static void start_due(void) {
    start_held(wait_script);
    CHECK_STATUS(msalex_lock_new(ALIAS, "first", &first, &error), MSALEX_OK);
    CHECK_STATUS(msalex_lock_new(ALIAS, "second", &second, &error), MSALEX_OK);
    CHECK_STATUS(msalex_lock_acquire(first, 10, 60000, &error), MSALEX_TIMEOUT);
    CHECK_STATUS(msalex_lock_acquire(second, 10, 60000, &error), MSALEX_TIMEOUT);
    now = begin + GAP_DUE_MS;
}

static void end_due(void) {
    msalex_lock_free(first);
    msalex_lock_free(second);
    end();
}

/* Releases, and looks at the record in the removed file. */
static void release_into_gap(void) {
    const int fd = open(PATH, O_RDONLY | O_CLOEXEC);
    struct msalex__record record;

    holder_releases();
    CHECK(fd >= 0 && read_record(fd, &record) && record.state == MSALEX__GAP);
    CHECK(record.when == now + GAP_MS);
    gap_end = record.when;
    (void)close(fd);
}

static void gap_is_kept(void) {
    struct msalex__record record;

    start_due();
    release_into_gap();
    event = nobody_has_the_name;
    waits = 0;
    CHECK_STATUS(msalex_lock_acquire(first, 50, 60000, &error), MSALEX_TIMEOUT); /* one slice */
    CHECK(now == gap_end - GAP_MS + 50);
    CHECK_STATUS(msalex_lock_acquire(second, 50, 60000, &error), MSALEX_TIMEOUT);
    CHECK_STATUS(msalex_lock_acquire(first, 5000, 60000, &error), MSALEX_OK);
    CHECK(now >= gap_end && now < gap_end + 5);
    CHECK(read_record_at(PATH, &record) && record.when == now + GAP_DUE_MS); /* the next one */
    event = NULL;
    CHECK_STATUS(msalex_lock_acquire(second, 100, 60000, &error), MSALEX_TIMEOUT);
    end_due();
}

/* The holder, another process, has removed its file and not unlocked it yet. */
static void holder_begins_gap_slowly(void) {
    struct msalex__record record = {.pid = 1, .state = MSALEX__GAP, .nonce = 1};

    record.when = gap_end = now + GAP_MS;
    write_record(holder_fd, &record);
    somebody_unlinks();
    event = nobody_has_the_name;
}

static void gap_of_a_slow_holder(void) {
    start(wait_script);
    make_held_by_other(PATH);
    event = holder_begins_gap_slowly;
    CHECK_STATUS(msalex_lock_acquire(waiter, 5000, 5000, &error), MSALEX_OK);
    CHECK(now >= gap_end && now < gap_end + 5);
    end();
}

static void gap_is_not_due(void) {
    start_held(wait_script);
    now = begin + GAP_DUE_MS - 1;
    holder_releases();
    CHECK_STATUS(msalex_lock_acquire(holder, 1000, 1000, &error), MSALEX_OK);
    CHECK(waits == 0);
    end();
}

/* Another process may have begun a gap when no process was there to read of it. */
static void gap_is_suspected(void) {
    start_held(wait_script);
    now = begin + GAP_DUE_MS - 100;
    holder_releases();
    now = begin + GAP_DUE_MS + 50;
    event = nobody_has_the_name;
    CHECK_STATUS(msalex_lock_acquire(holder, 5000, 5000, &error), MSALEX_OK);
    CHECK(now >= begin + GAP_DUE_MS + GAP_MS && now < begin + GAP_DUE_MS + GAP_MS + 10);
    end();
}

static void process_that_began_the_gap(void) {
    start_due();
    release_into_gap();
    event = nobody_has_the_name;
    CHECK_STATUS(msalex_lock_acquire(holder, 5000, 5000, &error), MSALEX_OK);
    CHECK(now >= gap_end && now < gap_end + 10);
    end_due();
}

static void gap_and_the_impatient(void) {
    start_due();
    release_into_gap();
    waits = 0;
    CHECK_STATUS(msalex_lock_acquire(holder, 0, 0, &error), MSALEX_OK); /* a try */
    CHECK_STATUS(msalex_lock_release(holder, &error), MSALEX_OK);
    CHECK_STATUS(msalex_lock_acquire(third, GAP_MS - 1, GAP_MS - 1, &error), MSALEX_OK);
    CHECK_STATUS(msalex_lock_release(third, &error), MSALEX_OK);
    CHECK_STATUS(msalex_lock_acquire(first, 10, GAP_MS, &error), MSALEX_OK); /* its whole length */
    CHECK(waits == 0 && now == gap_end - GAP_MS);
    end_due();
}

static void peer_comes_in_the_gap(void) {
    if (!file_exists(PATH))
        write_peer(getpid());
    else if (now > gap_end + 100)
        somebody_unlinks();
}

static void gap_and_a_peer(void) {
    start_due();
    release_into_gap();
    event = peer_comes_in_the_gap;
    CHECK_STATUS(msalex_lock_acquire(first, 5000, 60000, &error), MSALEX_OK);
    CHECK(now > gap_end + 100); /* the peer's turn ends when the peer says so */
    CHECK(read_record_at(PATH, &(struct msalex__record){0}));
    end_due();
}

/* A process of this library that did not know of the gap. */
static void ours_comes_in_the_gap(void) {
    event = NULL;
    CHECK_STATUS(msalex_lock_acquire(third, 0, 0, &error), MSALEX_OK);
}

static void gap_and_one_of_ours(void) {
    start_due();
    release_into_gap();
    event = ours_comes_in_the_gap;
    CHECK_STATUS(msalex_lock_acquire(first, 100, 60000, &error), MSALEX_TIMEOUT);
    CHECK_STATUS(msalex_lock_release(third, &error), MSALEX_OK);
    CHECK_STATUS(msalex_lock_acquire(first, 100, 60000, &error), MSALEX_OK);
    CHECK(now < gap_end); /* the gap has ended early */
    end_due();
}

static void gap_and_a_signal(void) {
    start_due();
    release_into_gap();
    fake_kernel.wait = interrupted_script;
    CHECK_STATUS(msalex_lock_acquire(first, 5000, 60000, &error), MSALEX_INTERRUPTED);
    CHECK_STATUS(msalex_lock_acquire(second, 5000, 60000, &error), MSALEX_INTERRUPTED);
    fake_kernel.wait = wait_script;
    CHECK_STATUS(msalex_lock_acquire(second, 5000, 60000, &error), MSALEX_OK);
    CHECK(now >= gap_end);
    end_due();
}

/* ---- FUSE, and other mounts ---- */

/* Finding 3 of the lock's review: a FUSE file system may give another file the same number. */
static void nonce_is_remembered(void) {
    const struct msalex__record another = {.pid = 1, .state = MSALEX__HELD, .nonce = 77};
    for (int is_fuse = 0; is_fuse < 2; is_fuse++) {
        int fd;
        start(wait_script);
        fake_kernel.file_system = is_fuse ? "macfuse" : "apfs";
        CHECK_STATUS(msalex_lock_acquire(holder, 0, 0, &error), MSALEX_OK);
        CHECK_STATUS(msalex_lock_check(holder, &error), MSALEX_OK);
        CHECK((fd = open(PATH, O_RDWR | O_CLOEXEC)) >= 0);
        write_record(fd, &another); /* the same inode number with the record of another file */
        (void)close(fd);
        CHECK_STATUS(msalex_lock_check(holder, &error), is_fuse ? MSALEX_NOT_FOUND : MSALEX_OK);
        CHECK_STATUS(msalex_lock_release(holder, &error), is_fuse ? MSALEX_NOT_FOUND : MSALEX_OK);
        CHECK(file_exists(PATH) == (is_fuse == 1)); /* a holder removes only its own file */
        end();
    }
}

/* A peer of the same mount may write over our record. */
static void peer_writes_over_it_there(void) {
    start(wait_script);
    fake_kernel.file_system = "macfuse";
    CHECK_STATUS(msalex_lock_acquire(holder, 0, 0, &error), MSALEX_OK);
    write_peer(getpid());
    CHECK_STATUS(msalex_lock_check(holder, &error), MSALEX_OK);
    CHECK_STATUS(msalex_lock_release(holder, &error), MSALEX_OK);
    CHECK(!file_exists(PATH));
    end();
}

/* Finding 2 of the lock's review: the kernel of another mount, or of another machine, holds it. */
static void other_mounts_are_peers(void) {
    static const char *const systems[] = {"macfuse", "osxfuse", "virtiofs", "9p", "apfs"};
    for (size_t i = 0; i < sizeof systems / sizeof systems[0]; i++) {
        const bool is_local = strcmp(systems[i], "apfs") == 0;
        struct msalex__record record = {.state = MSALEX__HELD, .nonce = 1};
        int fd;

        start(wait_script);
        fake_kernel.file_system = systems[i];
        CHECK_STATUS(msalex_lock_acquire(holder, 0, 0, &error), MSALEX_OK);
        CHECK(read_record_at(PATH, &record) && (record.view == 0) == is_local);
        CHECK_STATUS(msalex_lock_acquire(waiter, 100, 100, &error), MSALEX_TIMEOUT);
        event = holder_releases; /* within one mount the flock counts */
        CHECK_STATUS(msalex_lock_acquire(waiter, 100, 100, &error), MSALEX_OK);
        CHECK(waits == 2);
        CHECK_STATUS(msalex_lock_release(waiter, &error), MSALEX_OK);
        event = NULL;

        CHECK((fd = open(PATH, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600)) >= 0);
        record.pid = getpid(); /* nobody has its flock, here */
        record.view ^= 1;
        write_record(fd, &record);
        CHECK_STATUS(msalex_lock_acquire(waiter, 100, 100, &error), MSALEX_TIMEOUT);
        record.view = is_local ? 2 : 0; /* of a program that does not know views */
        write_record(fd, &record);
        CHECK_STATUS(msalex_lock_acquire(waiter, 100, 100, &error), MSALEX_TIMEOUT);
        record.pid = dead_pid(); /* it may run on another machine, which shares the directory */
        write_record(fd, &record);
        CHECK_STATUS(msalex_lock_acquire(waiter, 100, 100, &error),
                     is_local ? MSALEX_OK : MSALEX_TIMEOUT);
        make_old(PATH, 61);
        CHECK_STATUS(msalex_lock_acquire(waiter, 100, 100, &error),
                     is_local ? MSALEX_INVALID : MSALEX_OK);
        (void)close(fd);
        end();
    }
}

/* The view of a process that cannot see its boot, or 0. */
static uint64_t view_without_a_boot(void) {
    struct msalex__record one = {0}, other = {0};
    uint64_t view = 0;
    pid_t child;
    int gate[2];

    CHECK(pipe2(gate, O_CLOEXEC) == 0);
    (void)fflush(stdout);
    if ((child = fork()) == 0) {
        fake_kernel.file_system = "macfuse";
        fake_kernel.failing = "sysctlbyname";
        fake_kernel.code = EPERM;
        if (msalex_lock_acquire(waiter, 0, 0, &error) == MSALEX_OK && read_record_at(PATH, &one) &&
            msalex_lock_release(waiter, &error) == MSALEX_OK &&
            msalex_lock_acquire(third, 0, 0, &error) == MSALEX_OK && read_record_at(PATH, &other) &&
            msalex_lock_release(third, &error) == MSALEX_OK &&
            one.view == other.view) /* it is one process */
            view = one.view;
        exit(write(gate[1], &view, sizeof view) == (ssize_t)sizeof view ? 0 : 1);
    }
    CHECK(wait_for_child(child) == 0);
    CHECK(read(gate[0], &view, sizeof view) == (ssize_t)sizeof view);
    (void)close(gate[0]);
    (void)close(gate[1]);
    return view;
}

/* This property must be the first one: the library remembers this boot. */
static void boot_that_is_hidden(void) {
    uint64_t one, other;

    start(wait_script);
    one = view_without_a_boot();
    other = view_without_a_boot();
    CHECK(one != 0 && other != 0 && one != other);
    end();
}

static void others_in_a_loop(void) {
    start(wait_script);
    CHECK_STATUS(msalex_lock_acquire(waiter, 100, 100, &error), MSALEX_OK);
    CHECK_STATUS(msalex_lock_release(waiter, &error), MSALEX_OK);
    fake_kernel.failing = "renameatx_np"; /* the rename always finds a file, a look never does */
    fake_kernel.code = EEXIST;
    fake_kernel.always = true;
    CHECK_STATUS(msalex_lock_acquire(waiter, 100, 100, &error), MSALEX_TIMEOUT);
    CHECK(waits >= 99 && longest == 1); /* it does not spin */
    fake_kernel.wait = interrupted_script;
    CHECK_STATUS(msalex_lock_acquire(waiter, 100, 100, &error), MSALEX_INTERRUPTED);
    CHECK_STATUS(msalex_lock_acquire(waiter, 0, 0, &error), MSALEX_TIMEOUT);
    CHECK_STATUS(msalex_lock_holder(PATH, &(msalex_buffer){0}, &error), MSALEX_NOT_FOUND);
    end();
}

/* Finding 9 of the lock's review, last part. */
static void child_keeps_nothing(void) {
    pid_t child;

    start_held(wait_script);
    CHECK_STATUS(msalex_lock_acquire(waiter, 10, 10, &error), MSALEX_TIMEOUT);
    (void)fflush(stdout);
    child = fork();
    if (child == 0) {
        memset(fake_kernel.log, 0, sizeof fake_kernel.log);
        bool lost = msalex_lock_check(holder, &error) == MSALEX_NOT_FOUND &&
                    msalex_lock_acquire(waiter, 10, 10, &error) == MSALEX_TIMEOUT &&
                    strcmp(fake_kernel.log, "LOALWL") == 0 && /* a kqueue of its own */
                    /* Its parent holds the lock, so this is no misuse by the child. */
                    msalex_lock_acquire(holder, 10, 10, &error) == MSALEX_TIMEOUT &&
                    msalex_lock_release(holder, &error) == MSALEX_OK && file_exists(PATH);
        exit(lost ? 0 : 1);
    }
    CHECK(wait_for_child(child) == 0);
    CHECK_STATUS(msalex_lock_check(holder, &error), MSALEX_OK);
    end();
}

/* As a child finds them.  (valgrind has some of its own.) */
static int count_in_child(void) {
    pid_t child;

    (void)fflush(stdout);
    if ((child = fork()) == 0)
        exit(count_descriptors());
    return wait_for_child(child);
}

/* Finding 5 of the lock's review.  (A child of Darwin inherits no kqueue, but one of our fake
 * does; so there is none here.) */
static void child_keeps_no_descriptor(void) {
    const int before = count_descriptors(), before_in_child = count_in_child();

    start_held(wait_script);
    fake_kernel.failing = "kqueue";
    fake_kernel.code = EMFILE;
    fake_kernel.always = true;
    CHECK_STATUS(msalex_lock_acquire(waiter, 10, 10, &error), MSALEX_TIMEOUT);
    CHECK(count_descriptors() == before + 4); /* two files, and the directory of each */
    CHECK(before_in_child > 0 && count_in_child() == before_in_child);
    end();
}

/* The parent has given up its wait before the child goes on with the wait that it inherited. */
static void child_goes_on_alone(void) {
    pid_t child;
    int gate[2];
    char byte = 0;

    start_held(wait_script);
    CHECK_STATUS(msalex_lock_acquire(waiter, 10, 10, &error), MSALEX_TIMEOUT);
    CHECK(pipe2(gate, O_CLOEXEC) == 0);
    (void)fflush(stdout);
    if ((child = fork()) == 0) {
        bool got = read(gate[0], &byte, 1) == 1 &&
                   msalex_lock_acquire(waiter, 10, 10, &error) == MSALEX_OK &&
                   msalex_lock_check(waiter, &error) == MSALEX_OK &&
                   msalex_lock_release(waiter, &error) == MSALEX_OK && !file_exists(PATH) &&
                   msalex_lock_acquire(holder, 0, 0, &error) == MSALEX_OK &&
                   msalex_lock_release(holder, &error) == MSALEX_OK;
        exit(got ? 0 : 1);
    }
    CHECK_STATUS(msalex_lock_release(waiter, &error), MSALEX_OK);
    holder_releases();
    CHECK(write(gate[1], &byte, 1) == 1);
    CHECK(wait_for_child(child) == 0);
    (void)close(gate[0]);
    (void)close(gate[1]);
    end();
}

static void timeouts_of_any_size(void) {
    static const int64_t timeouts[] = {INT64_MAX, INT64_MAX - 1, INT64_MIN, -1};
    for (size_t i = 0; i < sizeof timeouts / sizeof timeouts[0]; i++) {
        start_held(wait_script); /* one of ours */
        event = holder_releases;
        event_at = 3;
        CHECK_STATUS(msalex_lock_acquire(waiter, timeouts[i], timeouts[i], &error), MSALEX_OK);
        CHECK(waits == 3 && longest == 250);
        end();
        start(wait_script); /* a peer's */
        write_peer(getpid());
        event = somebody_unlinks;
        event_at = 3;
        CHECK_STATUS(msalex_lock_acquire(waiter, timeouts[i], timeouts[i], &error), MSALEX_OK);
        CHECK(waits == 3);
        end();
        start_due(); /* a gap */
        release_into_gap();
        CHECK_STATUS(msalex_lock_acquire(first, timeouts[i], timeouts[i], &error), MSALEX_OK);
        CHECK(now >= gap_end);
        end_due();
    }
}

static const struct property properties[] = {
    {"Where the boot is hidden, each process has a view of its own", boot_that_is_hidden},
    {"A waiter is granted the lock by the release that it waited for", grant},
    {"A wait ends at its deadline, in slices, and goes on where it was", time_out},
    {"A wait without a deadline has none", waits_for_ever},
    {"A wake-up for nothing grants nothing", spurious_wakes},
    {"An unlock that nobody told of is found at the next try", missed_event},
    {"A file that somebody deletes lets the waiter in, and its holder knows", deletion},
    {"A file that a peer replaces is waited for in its turn", replacement},
    {"A signal ends the wait, which may go on", interruption},
    {"Who loses the race for a free lock waits for the winner", lost_race},
    {"Where the name is taken meanwhile, no file is made for it", name_that_is_taken_meanwhile},
    {"An unlock between the first try and the watch is not lost", unlock_before_the_watch},
    {"A holder that dies is followed at once", death},
    {"A holder whose file was removed removes nothing", granted_then_unlinked},
    {"What changes between the look and the grant makes the grant void",
     change_between_look_and_grant},
    {"Without a kqueue the waiter polls", no_kqueue},
    {"Without flock the existence of the file is the lock", no_flock},
    {"Without an exclusive rename the file is linked, or made in place", no_exclusive_rename},
    {"A file made in place that a peer catches is the peer's", created_file_is_caught},
    {"A file made in place is locked before a peer can lock it", created_file_is_locked_at_once},
    {"A call that fails is an error that leaves nothing behind", failures_leave_nothing},
    {"Whatever call fails, a free lock is not said to be held, and stays free",
     every_call_may_fail},
    {"A file that we may not open is waited for", another_user_s_file},
    {"Where inode numbers change, the nonce tells whose file it is", unstable_inodes},
    {"A path that can be no lock file fails at once", paths_that_cannot_be},
    {"The first lock in a place removes what killed processes left there", leftovers},
    {"A waiter follows its path when the directory that it waited in is exchanged",
     directory_that_moves},
    {"A grant in a directory that was exchanged is given back", grant_in_a_directory_that_moved},
    {"A directory that is exchanged takes its lock along", holder_in_a_directory_that_moved},
    {"Root's lock file belongs to the owner of its directory", owner_of_the_directory},
    {"A list that the directory hands down lets nobody lock, unless a group shares it",
     inherited_lists},
    {"A stale file that cannot be removed is waited for", stale_file_that_stays},
    {"A peer's file is stale when its process is dead, or it is old", peers},
    {"A process is no other one because a clock was set", clock_that_was_set},
    {"A living peer stays one when the clock was set back", clock_that_was_set_back},
    {"A record that cannot be read is an error, and robs nobody", record_that_cannot_be_read},
    {"A try that fails is an error, and a signal is a signal", try_that_fails},
    {"In a gap the name stays free until the end that the record tells", gap_is_kept},
    {"A gap is kept although the removed file is locked still", gap_of_a_slow_holder},
    {"Before a gap is due there is none", gap_is_not_due},
    {"A process that comes back when a gap was due suspects one", gap_is_suspected},
    {"The process that began a gap stays away as well", process_that_began_the_gap},
    {"A try, and a call with less patience than the gap, do not wait for its end",
     gap_and_the_impatient},
    {"A peer that comes in a gap has its turn", gap_and_a_peer},
    {"One of ours that comes in a gap ends it", gap_and_one_of_ours},
    {"A signal ends the wait in a gap, which may go on", gap_and_a_signal},
    {"On macFUSE the number of a file proves nothing, its nonce does", nonce_is_remembered},
    {"On macFUSE a peer that writes over our record takes nothing", peer_writes_over_it_there},
    {"A lock of ours by another mount is a peer's", other_mounts_are_peers},
    {"Files that come and go in a loop do not make the waiter spin", others_in_a_loop},
    {"A child made by fork has neither the lock nor the wait", child_keeps_nothing},
    {"A child made by fork keeps no descriptor", child_keeps_no_descriptor},
    {"A child made by fork begins a wait of its own", child_goes_on_alone},
    {"Timeouts of any size are timeouts", timeouts_of_any_size},
};

int main(void) {
    run_properties(properties, COUNT(properties));
    return end_of_properties();
}
