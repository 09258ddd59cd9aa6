/*
 * Keys in the kernel's persistent keyring, over msalex.h; run by tests/test_kernel_key.py.
 *
 *     kernel_key           all properties but the next, so that sanitizers and valgrind see them
 *     kernel_key memory    where the bytes of a key are afterwards (without sanitizers, whose own
 *                          memory is too large to search)
 *     kernel_key none      over kernelkey_none.c
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/keyctl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "check.h"
#include "internal.h"

enum { PATIENCE_MS = 60000, THREADS = 8, TURNS = 100 };

static const unsigned char ONE[32] = "0123456789abcdef0123456789abcde", OTHER[4] = "othe";

/* A description that no other process uses. */
static const char *description(int number) {
    static _Thread_local char text[64];
    (void)snprintf(text, sizeof text, "msal-extensions:test:%d:%d", (int)getpid(), number);
    return text;
}

static int add(int number, const unsigned char *key, size_t size) {
    return msalex_kernelkey_add(description(number), key, size, &error);
}

static int take_out(int number) {
    return msalex_kernelkey_remove(description(number), &error);
}

/* What find() returns, or -1 when it returns other bytes than these. */
static int find(int number, const unsigned char *key, size_t size) {
    msalex_buffer found = {(unsigned char *)&found, 7};
    int status = msalex_kernelkey_find(description(number), &found, &error);
    const size_t expected = status == MSALEX_OK ? size : 0;

    if (found.size != expected || (found.data == NULL) != (expected == 0) ||
        (expected > 0 && memcmp(found.data, key, size) != 0))
        status = -1;
    msalex_buffer_free(&found);
    return status;
}

/* ---- the kernel's own calls, in the place of other programs ---- */

static long keyctl(int operation, long a, long b, long c, long d) {
    return syscall(SYS_keyctl, operation, a, b, c, d);
}

static long persistent_keyring(void) {
    return keyctl(KEYCTL_GET_PERSISTENT, -1, KEY_SPEC_THREAD_KEYRING, 0, 0);
}

static long serial(int number) {
    return keyctl(KEYCTL_SEARCH, persistent_keyring(), (long)"user", (long)description(number), 0);
}

static void expire_key(int number) {
    const int64_t end = now_ms() + PATIENCE_MS;

    CHECK(keyctl(KEYCTL_SET_TIMEOUT, serial(number), 1, 0, 0) == 0);
    while (serial(number) >= 0 && now_ms() < end)
        sleep_ms(20);
}

static void revoke_key(int number) {
    CHECK(keyctl(KEYCTL_REVOKE, serial(number), 0, 0, 0) == 0);
}

/* ---- properties ---- */

static void keys_are_found(void) {
    unsigned char longest[MSALEX_KERNELKEY_SIZE_MAX];

    memset(longest, 0xa5, sizeof longest);
    CHECK_STATUS(find(1, NULL, 0), MSALEX_NOT_FOUND);
    CHECK(error.code == ENOKEY);
    CHECK_STATUS(add(1, ONE, sizeof ONE), MSALEX_OK);
    CHECK_STATUS(add(2, ONE, 1), MSALEX_OK);
    CHECK_STATUS(add(3, longest, sizeof longest), MSALEX_OK);
    CHECK_STATUS(find(1, ONE, sizeof ONE), MSALEX_OK);
    CHECK_STATUS(find(2, ONE, 1), MSALEX_OK);
    CHECK_STATUS(find(3, longest, sizeof longest), MSALEX_OK);
    for (int number = 1; number <= 3; number++) {
        CHECK_STATUS(take_out(number), MSALEX_OK);
        CHECK_STATUS(take_out(number), MSALEX_NOT_FOUND);
        CHECK_STATUS(find(number, NULL, 0), MSALEX_NOT_FOUND);
    }
}

static void keys_of_other_sizes_are_refused(void) {
    unsigned char large[MSALEX_KERNELKEY_SIZE_MAX + 1] = {0};

    CHECK_STATUS(add(1, large, 0), MSALEX_INVALID);
    CHECK_STATUS(add(1, large, sizeof large), MSALEX_INVALID);
    CHECK(syscall(SYS_add_key, "user", description(1), large, sizeof large, persistent_keyring()) >
          0);
    CHECK_STATUS(find(1, NULL, 0), MSALEX_CORRUPT);
    CHECK_STATUS(take_out(1), MSALEX_OK);
}

static void keys_are_not_changed(void) {
    CHECK_STATUS(add(1, ONE, sizeof ONE), MSALEX_OK);
    CHECK_STATUS(add(1, OTHER, sizeof OTHER), MSALEX_OS_ERROR);
    CHECK(error.code == EEXIST);
    CHECK_STATUS(find(1, ONE, sizeof ONE), MSALEX_OK);
    CHECK_STATUS(take_out(1), MSALEX_OK);
}

static void are_replaced_and_removed(void (*spoil)(int number), int code) {
    CHECK_STATUS(add(1, ONE, sizeof ONE), MSALEX_OK);
    CHECK_STATUS(add(2, ONE, sizeof ONE), MSALEX_OK);
    spoil(1);
    CHECK_STATUS(find(1, NULL, 0), MSALEX_NOT_FOUND);
    CHECK(error.code == code);
    CHECK_STATUS(find(2, ONE, sizeof ONE), MSALEX_OK);
    CHECK_STATUS(add(1, OTHER, sizeof OTHER), MSALEX_OK);
    CHECK_STATUS(find(1, OTHER, sizeof OTHER), MSALEX_OK);
    CHECK_STATUS(find(2, ONE, sizeof ONE), MSALEX_OK);
    spoil(1);
    CHECK_STATUS(find(1, NULL, 0), MSALEX_NOT_FOUND);
    CHECK_STATUS(take_out(1), MSALEX_OK);
    CHECK_STATUS(take_out(1), MSALEX_NOT_FOUND);
    CHECK_STATUS(take_out(2), MSALEX_OK);
}

static void expired_keys_are_replaced_and_removed(void) {
    are_replaced_and_removed(expire_key, EKEYEXPIRED);
}

static void revoked_keys_are_replaced_and_removed(void) {
    are_replaced_and_removed(revoke_key, EKEYREVOKED);
}

static void caller_s_own_thread_gets_no_keyring(void) {
    const long before = keyctl(KEYCTL_GET_KEYRING_ID, KEY_SPEC_THREAD_KEYRING, 0, 0, 0);
    int tasks;

    CHECK(before < 0 && errno == ENOKEY);
    CHECK_STATUS(find(1, NULL, 0), MSALEX_NOT_FOUND);
    tasks = count_entries("/proc/self/task"); /* ThreadSanitizer has started one of its own */
    CHECK_STATUS(add(1, ONE, sizeof ONE), MSALEX_OK);
    CHECK_STATUS(take_out(1), MSALEX_OK);
    for (int ring = KEY_SPEC_THREAD_KEYRING; ring >= KEY_SPEC_PROCESS_KEYRING; ring--)
        CHECK(keyctl(KEYCTL_GET_KEYRING_ID, ring, 0, 0, 0) < 0 && errno == ENOKEY);
    CHECK(count_entries("/proc/self/task") == tasks);
}

static void *work(void *argument) {
    const int number = 10 + *(int *)argument;

    for (int turn = 0; turn < TURNS; turn++) {
        CHECK_STATUS(find(number, NULL, 0), MSALEX_NOT_FOUND);
        CHECK_STATUS(add(number, ONE, sizeof ONE), MSALEX_OK);
        CHECK_STATUS(add(number, OTHER, sizeof OTHER), MSALEX_OS_ERROR);
        CHECK_STATUS(find(number, ONE, sizeof ONE), MSALEX_OK);
        CHECK_STATUS(take_out(number), MSALEX_OK);
    }
    return NULL;
}

static void threads_work_at_once_while_the_process_forks(void) {
    pthread_t threads[THREADS];
    int numbers[THREADS];

    for (int i = 0; i < THREADS; i++) {
        numbers[i] = i;
        CHECK(pthread_create(&threads[i], NULL, work, &numbers[i]) == 0);
    }
    for (int i = 0; i < 20; i++) {
        const pid_t child = fork();
        if (child == 0) {
            /* Valgrind would call a loss what the threads have, which are not in the child. */
            (void)execl("/bin/true", "true", NULL);
            _exit(1);
        }
        CHECK(wait_for_child(child) == 0);
    }
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
}

/* ---- what stays in memory ---- */

enum { SECRET = 64, TAIL = 32 }; /* free() itself overwrites the first bytes of what it gets */

/* The compiler must not work the bytes out and keep them in the program. */
static volatile unsigned char seed = 0x5a;

static unsigned char secret_byte(size_t i) {
    return (unsigned char)(seed ^ (unsigned char)(i * 37 + 11));
}

static void make_secret(unsigned char *secret) {
    for (size_t i = 0; i < SECRET; i++)
        secret[i] = secret_byte(i);
}

static int count_secrets_in(const unsigned char *bytes, size_t size) {
    int count = 0;

    for (size_t at = 0; at + TAIL <= size; at++) {
        size_t same = 0;
        while (same < TAIL && bytes[at + same] == secret_byte(SECRET - TAIL + same))
            same++;
        count += same == TAIL;
    }
    return count;
}

/* How often the last bytes of the secret are in the memory of this process. */
static int count_secrets(void) {
    static unsigned char bytes[1 << 16];
    FILE *const maps = fopen("/proc/self/maps", "re");
    const int memory = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
    unsigned long long from, to;
    char rights[8], rest[512];
    int count = 0;

    if (!CHECK(maps != NULL && memory >= 0))
        return -1;
    while (fscanf(maps, "%llx-%llx %7s%511[^\n]", &from, &to, rights, rest) == 4) {
        if (rights[0] != 'r' || strstr(rest, "[v") != NULL) /* pages of the kernel */
            continue;
        /* The parts overlap, but by less than what is searched for. */
        for (; from + TAIL <= to; from += sizeof bytes - TAIL + 1) {
            const size_t left = to - from < sizeof bytes ? (size_t)(to - from) : sizeof bytes;
            const ssize_t got = pread(memory, bytes, left, (off_t)from);
            count += got > 0 ? count_secrets_in(bytes, (size_t)got) : 0;
            msalex__wipe(bytes, sizeof bytes);
        }
    }
    (void)fclose(maps);
    (void)close(memory);
    return count;
}

static void no_copy_stays(void) {
    unsigned char secret[SECRET];
    msalex_buffer found;

    CHECK(count_secrets() == 0);
    make_secret(secret);
    CHECK(count_secrets() == 1); /* so the search finds one */
    CHECK_STATUS(add(1, secret, SECRET), MSALEX_OK);
    CHECK_STATUS(add(1, secret, SECRET), MSALEX_OS_ERROR);
    CHECK_STATUS(find(1, secret, SECRET), MSALEX_OK);
    CHECK(count_secrets() == 1);
    msalex__wipe(secret, sizeof secret);
    CHECK_STATUS(msalex_kernelkey_find(description(1), &found, &error), MSALEX_OK);
    CHECK(count_secrets() == 1);
    msalex_buffer_free(&found);
    CHECK(count_secrets() == 0);
    CHECK_STATUS(take_out(1), MSALEX_OK);
}

static void there_are_none_here(void) {
    CHECK_STATUS(find(1, NULL, 0), MSALEX_UNAVAILABLE);
    CHECK_STATUS(add(1, ONE, sizeof ONE), MSALEX_UNAVAILABLE);
    CHECK_STATUS(take_out(1), MSALEX_UNAVAILABLE);
}

static const struct property all[] = {
    {"The caller's own thread and process get no keyring", caller_s_own_thread_gets_no_keyring},
    {"A key is found as it was added, until it is removed", keys_are_found},
    {"A key of another size is neither added nor found", keys_of_other_sizes_are_refused},
    {"A key that is there is not changed", keys_are_not_changed},
    {"A key that has expired is replaced and removed", expired_keys_are_replaced_and_removed},
    {"A key that was revoked is replaced and removed", revoked_keys_are_replaced_and_removed},
    {"Threads add, find and remove at once while the process forks",
     threads_work_at_once_while_the_process_forks},
};
static const struct property in_memory[] = {
    {"No copy of a key stays in memory, except what the caller has", no_copy_stays},
};
static const struct property none[] = {
    {"A system without these keys says so", there_are_none_here},
};

int main(int count, char **arguments) {
    if (count == 1)
        run_properties(all, COUNT(all));
    else if (strcmp(arguments[1], "memory") == 0)
        run_properties(in_memory, COUNT(in_memory));
    else
        run_properties(none, COUNT(none));
    return end_of_properties();
}
