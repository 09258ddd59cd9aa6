/*
 * Does a block of memory that the library frees still hold a secret?  Run by tests/test_wiped.py.
 *
 * Freed memory is used again at once, so a search comes too late.  The linker's --wrap gives the
 * library, and this program, the functions below in the place of those of the C library:
 *
 *     free      first searches the block for the secret
 *     realloc   always moves, and frees the old block in that way
 *     malloc    clears the block, which may have held the secret of GLib or libsecret before
 *     read, pwrite, openat, malloc     fail when a property says so
 *
 * Not shown: the stack, registers, and what GLib, libsecret and the kernel keep.  (For a key of the
 * kernel kernel_key.c searches the whole memory.)
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "check.h"
#include "internal.h"
#include "libsecret_linux.h"

enum { PIECE = 8, PIECES = 4000, SIZE = PIECE * PIECES, PATIENCE_MS = 30000 };

static const char PATH[] = "cache.bin";
/* The secret of all properties is this piece, many times: so each part of it is found. */
static const char SECRET[PIECE + 1] = "k3y&c4n!";

/* ---- in the place of the C library ---- */

enum call { MALLOC, READ, PWRITE, OPENAT_TO_MAKE, CALLS };

static struct {
    atomic_int skip, times; /* so many are real, and so many fail then */
} plans[CALLS];
static atomic_int unwiped; /* blocks that had the secret when they were freed */
static atomic_int most;    /* bytes that one read gives; 0: as many as there are */
static void (*before_read)(void);

void __real_free(void *block);
void *__real_malloc(size_t size);
ssize_t __real_read(int fd, void *bytes, size_t size);
ssize_t __real_pwrite(int fd, const void *bytes, size_t size, off_t offset);
int __real_openat(int directory, const char *name, int flags, ...);
void __wrap_free(void *block);
void *__wrap_malloc(size_t size);
void *__wrap_realloc(void *block, size_t size);
ssize_t __wrap_read(int fd, void *bytes, size_t size);
ssize_t __wrap_pwrite(int fd, const void *bytes, size_t size, off_t offset);
int __wrap_openat(int directory, const char *name, int flags, ...);

static void fail(enum call call, int skip, int times) {
    plans[call].skip = skip;
    plans[call].times = times;
}

static bool is_planned(enum call call) {
    if (plans[call].times == 0)
        return false;
    if (plans[call].skip > 0) {
        plans[call].skip--;
        return false;
    }
    plans[call].times--;
    return true;
}

void __wrap_free(void *block) {
    if (block != NULL && memmem(block, malloc_usable_size(block), SECRET, PIECE) != NULL)
        unwiped++;
    __real_free(block);
}

void *__wrap_malloc(size_t size) {
    void *const block = is_planned(MALLOC) ? NULL : __real_malloc(size);

    if (block != NULL)
        memset(block, 0, malloc_usable_size(block));
    return block;
}

void *__wrap_realloc(void *block, size_t size) {
    void *const moved = __wrap_malloc(size);
    const size_t old = block == NULL ? 0 : malloc_usable_size(block);

    if (moved == NULL)
        return NULL;
    if (old > 0)
        memcpy(moved, block, old < size ? old : size);
    __wrap_free(block);
    return moved;
}

ssize_t __wrap_read(int fd, void *bytes, size_t size) {
    void (*const look)(void) = before_read;

    before_read = NULL;
    if (look != NULL)
        look();
    if (is_planned(READ)) {
        errno = EIO;
        return -1;
    }
    return __real_read(fd, bytes, most > 0 && size > (size_t)most ? (size_t)most : size);
}

ssize_t __wrap_pwrite(int fd, const void *bytes, size_t size, off_t offset) {
    if (!is_planned(PWRITE))
        return __real_pwrite(fd, bytes, size, offset);
    errno = ENOSPC;
    return -1;
}

int __wrap_openat(int directory, const char *name, int flags, ...) {
    mode_t mode = 0;
    va_list more;

    if ((flags & O_CREAT) == 0)
        return __real_openat(directory, name, flags);
    va_start(more, flags);
    mode = va_arg(more, mode_t);
    va_end(more);
    if (!is_planned(OPENAT_TO_MAKE))
        return __real_openat(directory, name, flags, mode);
    errno = EACCES;
    return -1;
}

/* ---- for the properties ---- */

/* The secret of `size` bytes.  It is no block that anybody frees. */
static const unsigned char *secret(size_t size) {
    static unsigned char bytes[SIZE + PIECE];

    for (size_t i = 0; i < size; i++)
        bytes[i] = (unsigned char)SECRET[i % PIECE];
    return bytes;
}

static int save(size_t size) {
    msalex_stamp stamp;
    return msalex_file_replace(PATH, secret(size), size, NULL, &stamp, &error);
}

static int load(size_t size) {
    msalex_buffer content;
    msalex_stamp stamp;
    const int status = msalex_file_read(PATH, &content, &stamp, &error);

    CHECK(status == MSALEX_OK
              ? content.size == size && memcmp(content.data, secret(size), size) == 0
              : content.data == NULL);
    msalex_buffer_free(&content);
    return status;
}

/* ---- files ---- */

static void the_search_finds_a_block_that_was_not_wiped(void) {
    unsigned char *larger;
    msalex_buffer buffer;

    CHECK_STATUS(msalex__buffer_copy(&buffer, secret(SIZE), SIZE, &error), MSALEX_OK);
    CHECK((larger = realloc(buffer.data, 2 * SIZE)) != NULL && unwiped == 1);
    free(larger);
    CHECK(unwiped == 2);
    CHECK_STATUS(msalex__buffer_copy(&buffer, secret(PIECE), PIECE, &error), MSALEX_OK);
    free(buffer.data);
    CHECK(unwiped == 3);
    CHECK_STATUS(msalex__buffer_copy(&buffer, secret(PIECE), PIECE, &error), MSALEX_OK);
    msalex_buffer_free(&buffer);
    CHECK(unwiped == 3);
    unwiped = 0;
}

static void what_was_loaded_is_wiped(void) {
    for (size_t size = PIECE; size <= SIZE; size *= 2) {
        CHECK_STATUS(save(size), MSALEX_OK);
        CHECK_STATUS(load(size), MSALEX_OK);
    }
}

/* A quarantine. */
static void a_copy_that_is_made_or_not_leaves_nothing(void) {
    CHECK_STATUS(msalex_file_create(PATH, secret(SIZE), SIZE, &error), MSALEX_OK);
    CHECK_STATUS(load(SIZE), MSALEX_OK);
    CHECK_STATUS(msalex_file_create(PATH, secret(SIZE), SIZE, &error), MSALEX_OS_ERROR);
    fail(PWRITE, 0, 1);
    CHECK_STATUS(msalex_file_create("other", secret(SIZE), SIZE, &error), MSALEX_OS_ERROR);
    CHECK(!file_exists("other"));
}

static void a_load_that_fails_half_way_wipes_what_it_has(void) {
    CHECK_STATUS(save(SIZE), MSALEX_OK);
    most = 1000;
    CHECK_STATUS(load(SIZE), MSALEX_OK);
    fail(READ, 3, 1);
    CHECK_STATUS(load(SIZE), MSALEX_OS_ERROR);
    CHECK(error.code == EIO && plans[READ].times == 0);
}

static size_t grown;

/* A peer writes more, in place. */
static void grow(void) {
    FILE *const file = fopen(PATH, "ae");

    CHECK(file != NULL && fwrite(secret(grown), 1, grown, file) == grown && fclose(file) == 0);
}

/* It begins a larger block when the first one is full, and frees that. */
static void a_load_of_a_file_that_grows_wipes_its_smaller_blocks(void) {
    grown = 10 * PIECE;
    CHECK_STATUS(save(PIECE), MSALEX_OK);
    before_read = grow;
    CHECK_STATUS(load(11 * PIECE), MSALEX_OK);
    CHECK(before_read == NULL);
    before_read = grow;
    grown = SIZE - 11 * PIECE;
    CHECK_STATUS(load(SIZE), MSALEX_OK);
}

static void a_load_that_gets_no_larger_block_wipes_the_small_one(void) {
    grown = SIZE - PIECE;
    CHECK_STATUS(save(PIECE), MSALEX_OK);
    before_read = grow;
    fail(MALLOC, 1, 1);
    CHECK_STATUS(load(SIZE), MSALEX_OS_ERROR);
    CHECK(error.code == ENOMEM && before_read == NULL && plans[MALLOC].times == 0);
}

/* The old content is in memory meanwhile. */
static void a_write_in_place_wipes_the_old_content(void) {
    CHECK_STATUS(save(SIZE), MSALEX_OK);
    for (int failures = 0; failures <= 2; failures++) {
        fail(OPENAT_TO_MAKE, 0, 1);
        fail(PWRITE, 0, failures);
        CHECK_STATUS(save(SIZE), failures == 0   ? MSALEX_OK
                                 : failures == 1 ? MSALEX_OS_ERROR
                                                 : MSALEX_TORN);
        CHECK(plans[OPENAT_TO_MAKE].times == 0 && plans[PWRITE].times == 0);
        CHECK_STATUS(load(SIZE), MSALEX_OK); /* nothing was written, so the old content is there */
    }
    fail(OPENAT_TO_MAKE, 0, 1);
    fail(READ, 0, 1);
    CHECK_STATUS(save(PIECE), MSALEX_OK);
}

/* ---- keys of the kernel ---- */

static const char *description(void) {
    static char text[64];
    (void)snprintf(text, sizeof text, "msal-extensions:wiped:%d", (int)getpid());
    return text;
}

static void a_key_of_the_kernel_is_wiped(void) {
    const size_t size = MSALEX_KERNELKEY_SIZE_MAX / PIECE * PIECE;
    msalex_buffer key;

    if (msalex_kernelkey_add(description(), secret(size), size, &error) == MSALEX_UNAVAILABLE) {
        skip("the kernel has no keyrings for us; it said so");
        return;
    }
    CHECK_STATUS(msalex_kernelkey_add(description(), secret(size), size, &error), MSALEX_OS_ERROR);
    CHECK_STATUS(msalex_kernelkey_find(description(), &key, &error), MSALEX_OK);
    CHECK(key.size == size && memcmp(key.data, secret(size), size) == 0);
    msalex_buffer_free(&key);
    CHECK_STATUS(msalex_kernelkey_remove(description(), &error), MSALEX_OK);
    CHECK_STATUS(msalex_kernelkey_find(description(), &key, &error), MSALEX_NOT_FOUND);
}

/* ---- the Secret Service, on the bus of this session, if there is one ---- */

static const char *const NAMES[] = {"msalex-wiped"}, *const VALUES[] = {"1"};
static const int TYPES[] = {0};
static const msalex_libsecret_item ITEM = {.schema = "msalex-wiped",
                                           .label = "msalex-wiped",
                                           .names = NAMES,
                                           .values = VALUES,
                                           .types = TYPES,
                                           .count = 1};

/* Starts the operation and waits until it is done; its caller has not asked for the result. */
static msalex_libsecret_call *run_until_done(int operation, size_t size) {
    const int64_t deadline = now_ms() + PATIENCE_MS;
    msalex_libsecret_call *call;

    if (msalex_libsecret_start(operation, &ITEM, size == 0 ? NULL : secret(size), size, PATIENCE_MS,
                               &call, &error) != MSALEX_OK)
        return NULL;
    while (!atomic_load(&call->done) && now_ms() < deadline)
        sleep_ms(5);
    return call;
}

static int finish(int operation, size_t size, msalex_buffer *found) {
    msalex_libsecret_call *const call = run_until_done(operation, size);
    int status = MSALEX_UNAVAILABLE;

    *found = (msalex_buffer){0};
    if (call != NULL)
        status = msalex_libsecret_wait(call, PATIENCE_MS, found, &error);
    msalex_libsecret_free(call);
    return status;
}

static void a_secret_of_the_secret_service_is_wiped(void) {
    msalex_libsecret_call *call;
    msalex_buffer found;
    pid_t child;

    may_keep_descriptors(); /* GLib's worker thread */
    if (finish(MSALEX_LIBSECRET_SAVE, SIZE, &found) != MSALEX_OK) {
        skip("there is no Secret Service; it said so");
        return;
    }
    CHECK_STATUS(finish(MSALEX_LIBSECRET_LOAD, 0, &found), MSALEX_OK);
    CHECK(found.size == SIZE && memcmp(found.data, secret(SIZE), SIZE) == 0);
    msalex_buffer_free(&found);
    /* The caller does not ask any more; and neither does a child made by fork, which has a copy. */
    call = run_until_done(MSALEX_LIBSECRET_LOAD, 0);
    CHECK(call != NULL && call->secret.size == SIZE);
    if ((child = fork()) == 0) {
        msalex_libsecret_free(call);
        _exit(unwiped == 0 ? 0 : 1);
    }
    CHECK(wait_for_child(child) == 0);
    msalex_libsecret_free(call);
    CHECK_STATUS(finish(MSALEX_LIBSECRET_DELETE, 0, &found), MSALEX_OK);
    sleep_ms(200); /* the threads drop their calls */
}

/* ---- all ---- */

static void begin(void) {
    for (int call = 0; call < CALLS; call++)
        fail((enum call)call, 0, 0);
    most = 0;
    before_read = NULL;
    unwiped = 0;
}

static void end(void) {
    CHECK(unwiped == 0);
}

static const struct property properties[] = {
    {"The search finds a block that was not wiped", the_search_finds_a_block_that_was_not_wiped},
    {"What was loaded is wiped", what_was_loaded_is_wiped},
    {"A copy that is made or not leaves nothing", a_copy_that_is_made_or_not_leaves_nothing},
    {"A load that fails half-way wipes what it has", a_load_that_fails_half_way_wipes_what_it_has},
    {"A load of a file that grows wipes its smaller blocks",
     a_load_of_a_file_that_grows_wipes_its_smaller_blocks},
    {"A load that gets no larger block wipes the small one",
     a_load_that_gets_no_larger_block_wipes_the_small_one},
    {"A write in place wipes the old content", a_write_in_place_wipes_the_old_content},
    {"A key of the kernel is wiped", a_key_of_the_kernel_is_wiped},
    {"A secret of the Secret Service is wiped", a_secret_of_the_secret_service_is_wiped},
};

int main(void) {
    around_each_property(begin, end);
    run_properties(properties, COUNT(properties));
    return end_of_properties();
}
