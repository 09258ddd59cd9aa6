/* See lock_script.h. */
#define _GNU_SOURCE
#include "lock_script.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "fake_kernel.h"
#include "internal.h"

const char PATH[] = "cache.lockfile";
int64_t now, begin;
int waits;
int64_t longest;
msalex_lock *holder, *waiter, *third;
int holder_fd;
void (*event)(void);
int event_at;

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

/* Time passes to the end of the wait, unless there is an event.  A timeout of 0 is no wait. */
int wait_script(int queue, int64_t timeout_ms) {
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

int interrupted_script(int queue, int64_t timeout_ms) {
    (void)queue, (void)timeout_ms;
    waits++;
    errno = EINTR;
    return -1;
}

void start(int (*script)(int queue, int64_t timeout_ms)) {
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
void start_held(int (*script)(int queue, int64_t timeout_ms)) {
    start(script);
    CHECK_STATUS(msalex_lock_acquire(holder, 0, 0, &error), MSALEX_OK);
    memset(fake_kernel.log, 0, sizeof fake_kernel.log);
}

void end(void) {
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
void write_record(int fd, const struct msalex__record *record) {
    char bytes[MSALEX__RECORD_SIZE];

    msalex__record_format(record, "other", bytes);
    CHECK(pwrite(fd, bytes, sizeof bytes, 0) == (ssize_t)sizeof bytes);
}

/* A lock file of this library whose holder looks like another process. */
void make_held_by_other(const char *path) {
    const struct msalex__record record = {.pid = 1, .state = MSALEX__HELD, .nonce = 1};

    holder_fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    write_record(holder_fd, &record);
    CHECK(flock(holder_fd, LOCK_EX) == 0);
}

bool read_record(int fd, struct msalex__record *record) {
    char bytes[MSALEX__RECORD_SIZE];
    const ssize_t size = pread(fd, bytes, sizeof bytes, 0);
    return size > 0 && msalex__record_parse(bytes, (size_t)size, record);
}

/* The record of the file that has the name. */
bool read_record_at(const char *path, struct msalex__record *record) {
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    const bool found = fd >= 0 && read_record(fd, record);
    if (fd >= 0)
        (void)close(fd);
    return found;
}

void write_peer(long pid) {
    char text[64];
    (void)snprintf(text, sizeof text, "%ld peer", pid);
    write_text(PATH, text);
}

bool names(const char *program) {
    msalex_buffer text;
    bool found;

    if (msalex_lock_holder(PATH, &text, &error) != MSALEX_OK)
        return false;
    found = text.size > strlen(program) &&
            memcmp(text.data + text.size - strlen(program), program, strlen(program)) == 0;
    msalex_buffer_free(&text);
    return found;
}

void nothing(void) {
}

void holder_releases(void) {
    CHECK_STATUS(msalex_lock_release(holder, &error), MSALEX_OK);
}

void holder_dies(void) {
    (void)close(holder_fd);
    holder_fd = -1;
}

void somebody_unlinks(void) {
    CHECK(unlink(PATH) == 0);
}

void peer_replaces(void) {
    write_text("other", "");
    CHECK(rename("other", PATH) == 0);
    write_peer(getpid());
}

void (*at_try)(void);
void act_at_try(int fd) {
    void (*act)(void) = at_try;
    (void)fd;
    at_try = NULL;
    if (act != NULL)
        act();
}
