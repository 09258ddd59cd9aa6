/*
 * What anybody may write into a lock file, read by lock_record.c: a program of libFuzzer.  Run by
 * tests/test_lock_fuzzed.py, which builds it with sanitizers, so that no read is out of bounds.
 */
#include "lock_record.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds) {
    if (!holds)
        abort();
}

static bool equal(const struct msalex__record *one, const struct msalex__record *other) {
    return one->pid == other->pid && one->state == other->state && one->turn == other->turn &&
           one->nonce == other->nonce && one->seen == other->seen && one->when == other->when &&
           one->view == other->view;
}

/* A record that was read, and is written again, is read as the same. */
static void read_again(const struct msalex__record *record, const char *program) {
    struct msalex__record again;
    char bytes[MSALEX__RECORD_SIZE];

    msalex__record_format(record, program, bytes);
    must(msalex__record_parse(bytes, sizeof bytes, &again));
    must(equal(record, &again));
    must(memchr(bytes, '\n', sizeof bytes) == bytes + sizeof bytes - 1);
    must(memchr(bytes, '\0', sizeof bytes) == NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char *bytes = malloc(size > 0 ? size : 1); /* so a read beyond its end is noticed */
    struct msalex__record record;
    size_t length;
    int64_t pid;

    if (bytes == NULL)
        abort();
    memcpy(bytes, data, size);
    pid = msalex__record_pid(bytes, size);
    must(pid >= 0 && pid <= INT32_MAX);
    if (msalex__record_parse(bytes, size, &record)) {
        must(record.pid == pid && record.turn <= MSALEX__RECORD_TURNS);
        must(record.seen >= 0 && record.when >= 0);
        read_again(&record, "program");
    }
    length = msalex__record_text(bytes, size);
    must(length <= size);
    for (size_t at = 0; at < length; at++)
        must((unsigned char)bytes[at] >= ' ' && bytes[at] != 0x7f);
    must(msalex__record_text(bytes, length) == length); /* what is clean stays as it is */
    free(bytes);
    return 0;
}
