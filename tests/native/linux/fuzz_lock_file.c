/*
 * The lock, at a path where a file with any bytes is: a program of libFuzzer.  Run by
 * tests/test_lock_fuzzed.py in an empty directory.
 *
 * The first byte says how old the file is.  Nobody holds a kernel's lock on it.  So either the lock
 * is taken at once, and is then a good one; or the file counts as a living peer's, and stays as it
 * is.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "msalex.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char PATH[] = "lockfile";
/* Seconds: no peer's file counts as dead; one without a pid does; any does on a network. */
static const time_t AGES[] = {0, 30, 3600};

static void must(bool holds) {
    if (!holds)
        abort();
}

static void lay(const uint8_t *data, size_t size, time_t age) {
    const int fd = open(PATH, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    const time_t then = time(NULL) - age;
    const struct timespec times[2] = {{.tv_sec = then}, {.tv_sec = then}};

    must(fd >= 0);
    must(write(fd, data, size) == (ssize_t)size);
    must(futimens(fd, times) == 0);
    must(close(fd) == 0);
}

static bool is_there(const uint8_t *data, size_t size) {
    uint8_t bytes[4096];
    const int fd = open(PATH, O_RDONLY | O_CLOEXEC);
    ssize_t got;

    if (fd < 0)
        return false;
    got = read(fd, bytes, sizeof bytes);
    must(close(fd) == 0);
    return got == (ssize_t)size && (size == 0 || memcmp(bytes, data, size) == 0);
}

static bool is_clean(const char *text, size_t size) {
    for (size_t at = 0; at < size; at++) {
        if ((unsigned char)text[at] < ' ' || text[at] == 0x7f)
            return false;
    }
    return true;
}

/* The text that messages show of the file's owner has nothing that a terminal obeys. */
static void look_at_the_holder(void) {
    msalex_buffer text;
    msalex_error error;

    if (msalex_lock_holder(PATH, &text, &error) == MSALEX_OK)
        must(is_clean((const char *)text.data, text.size));
    must(is_clean(error.message, strlen(error.message)));
    msalex_buffer_free(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    msalex_lock *lock;
    msalex_error error;
    int status;

    if (size < 1 || size > 4096)
        return 0;
    lay(data + 1, size - 1, AGES[data[0] % (sizeof AGES / sizeof AGES[0])]);
    look_at_the_holder();
    must(msalex_lock_new(PATH, "fuzzer", &lock, &error) == MSALEX_OK);
    status = msalex_lock_acquire(lock, 0, 0, &error);
    must(is_clean(error.message, strlen(error.message)));
    if (status == MSALEX_OK) {
        must(msalex_lock_check(lock, &error) == MSALEX_OK);
        must(msalex_lock_release(lock, &error) == MSALEX_OK);
        must(access(PATH, F_OK) != 0);
    } else {
        must(status == MSALEX_TIMEOUT);
        must(is_there(data + 1, size - 1));
    }
    msalex_lock_free(lock);
    return 0;
}
