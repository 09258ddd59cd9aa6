/*
 * Keys in the persistent keyring of this user.  The promises are in msalex.h.  Twin:
 * kernelkey_none.c.
 *
 * Sources: keyctl(2), add_key(2), persistent-keyring(7), and the kernel's own
 * Documentation/security/keys/core.rst and security/keys/.  No library has to be there: these are
 * system calls.
 *
 * Possession.  The kernel lets a user list the persistent keyring, but only a thread that
 * "possesses" it may read the keys in it or change it: the keyring must be linked, perhaps by
 * others, to a keyring of the thread, its process or its session.  The session may be root's (su),
 * an empty one (systemd), or revoked (after a logout), and all programs of the session share it.
 * So a new thread links the persistent keyring to its own thread keyring.
 *
 * Measured on Linux 6.18, and so in tests/test_kernel_key.py as far as no sysctl is needed:
 *   - KEYCTL_MOVE with KEYCTL_MOVE_EXCL says EEXIST where the keyring has a key of that
 *     description, also an expired or revoked one.  (keyctl(2) says ENOKEY; the kernel's
 *     documentation says EEXIST.)
 *   - KEYCTL_SEARCH, KEYCTL_DESCRIBE and KEYCTL_READ of an expired key say EKEYEXPIRED, of a
 *     revoked one EKEYREVOKED.  Both stay in the keyring until the kernel collects them,
 *     /proc/sys/kernel/keys/gc_delay (300) seconds later; then KEYCTL_SEARCH says ENOKEY.
 *     KEYCTL_UNLINK removes them at any time.
 *   - The time of the whole keyring: KEYCTL_GET_PERSISTENT begins it anew, also when it is over and
 *     the keyring is not yet collected; the keys are then as before.  After the collection
 *     KEYCTL_GET_PERSISTENT makes an empty keyring, and KEYCTL_SEARCH says ENOKEY.
 */
#define _GNU_SOURCE /* syscall */
#include <errno.h>
#include <linux/keyctl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "internal.h"
#include "thread_posix.h"

enum {
    STACK = 128 * 1024, /* bytes; the thread only makes a few system calls */
    LISTED = 1000,      /* keys; a user has 200 at most, root may have more */
    TRIES = 100,        /* at reading a key that others remove and make anew */
    /* The kernel counts the keyring of a thread that has ended for some 50 ms more, so many calls
     * of this user at once can use up the quota for a moment.  Six pauses, each twice as long as
     * the one before, are 1.3 s. */
    FIRST_PAUSE_NS = 20 * 1000 * 1000,
    LAST_PAUSE_NS = 32 * FIRST_PAUSE_NS
};

/* linux/keyctl.h of Linux 3.13 and 5.3, for the headers of older systems. */
enum { GET_PERSISTENT = 22, MOVE = 30, MOVE_EXCL = 1 };

static const char TYPE[] = "user";

/* One call, for its thread. */
typedef struct {
    int (*work)(const void *request, int32_t keyring, msalex_error *error);
    const void *request;
    msalex_error *error;
    int status;
} call;

typedef struct {
    const char *description;
    msalex_buffer *key;
} find_request;

typedef struct {
    const char *description;
    const unsigned char *key;
    size_t size;
} add_request;

/* Returns a number, mostly that of a key, or a negative errno value. */
static long keyctl(int operation, long a, long b, long c, long d) {
    const long result = syscall(SYS_keyctl, operation, a, b, c, d);
    return result < 0 ? -errno : result;
}

/* The only place that gives the errno values of keys a status. */
static int fail_key(msalex_error *error, long result, const char *name) {
    const int code = (int)-result;
    int status;

    switch (code) {
    case ENOKEY:
    case EKEYEXPIRED:
    case EKEYREVOKED:
        status = MSALEX_NOT_FOUND;
        break;
    case ENOSYS:     /* the kernel, or gVisor, has no keyrings */
    case EOPNOTSUPP: /* it has no persistent keyrings, or no KEYCTL_MOVE */
    case EPERM:      /* seccomp filters of containers */
    case EACCES:     /* security modules */
        status = MSALEX_UNAVAILABLE;
        break;
    default:
        return msalex__fail_errno(error, code, name);
    }
    return msalex__fail(error, status, code, name, strerror(code));
}

static long search(int32_t keyring, const char *description) {
    return keyctl(KEYCTL_SEARCH, keyring, (long)TYPE, (long)description, 0);
}

static bool is_dead(long result) {
    return result == -EKEYEXPIRED || result == -EKEYREVOKED;
}

/* Removes all keys that nobody can use any more.  The kernel does not tell the description of such
 * a key.  It removes each by itself some minutes later, so a longer list can wait for that. */
static void drop_dead_keys(int32_t keyring) {
    int32_t keys[LISTED];
    const long size = keyctl(KEYCTL_READ, keyring, (long)keys, sizeof keys, 0);

    if (size < 0 || (size_t)size > sizeof keys)
        return;
    for (size_t i = 0; i < (size_t)size / sizeof keys[0]; i++) {
        if (is_dead(keyctl(KEYCTL_DESCRIBE, keys[i], 0, 0, 0)))
            (void)keyctl(KEYCTL_UNLINK, keys[i], keyring, 0, 0);
    }
}

/* ---- what runs in the thread ---- */

/* Reads a key straight into the buffer of the caller, so there is no other copy: its size, or a
 * negative errno value. */
static long read_key(int32_t keyring, const char *description, unsigned char *bytes) {
    long key = 0, size = -EACCES;

    /* EACCES can also mean that the key was removed since the search.  Then there is none now, or
     * another one. */
    for (int tries = 0; size == -EACCES && tries < TRIES; tries++) {
        const long before = key;
        if ((key = search(keyring, description)) < 0)
            return key;
        if (key == before)
            break;
        size = keyctl(KEYCTL_READ, key, (long)bytes, MSALEX_KERNELKEY_SIZE_MAX, 0);
    }
    return size;
}

static int find(const void *argument, int32_t keyring, msalex_error *error) {
    const find_request *request = argument;
    msalex_buffer *const key = request->key;
    long size;

    if ((key->data = malloc(MSALEX_KERNELKEY_SIZE_MAX)) == NULL)
        return msalex__fail_errno(error, ENOMEM, "malloc");
    key->size = MSALEX_KERNELKEY_SIZE_MAX;
    size = read_key(keyring, request->description, key->data);
    if (size >= 0 && size <= MSALEX_KERNELKEY_SIZE_MAX) {
        key->size = (size_t)size;
        return msalex__ok(error);
    }
    msalex_buffer_free(key);
    return size < 0 ? fail_key(error, size, "keyctl_read")
                    : msalex__fail(error, MSALEX_CORRUPT, EFBIG, "keyctl_read",
                                   "what is there is too large for a key");
}

static int add(const void *argument, int32_t keyring, msalex_error *error) {
    const add_request *request = argument;
    long key, result;

    key = syscall(SYS_add_key, TYPE, request->description, request->key, request->size,
                  KEY_SPEC_THREAD_KEYRING);
    if (key < 0)
        return fail_key(error, -errno, "add_key");
    /* add_key would change a key that is there, KEYCTL_LINK would displace it, and between a search
     * and either of them another process can add one. */
    result = keyctl(MOVE, key, KEY_SPEC_THREAD_KEYRING, keyring, MOVE_EXCL);
    if (result == -EEXIST && is_dead(search(keyring, request->description))) {
        drop_dead_keys(keyring);
        result = keyctl(MOVE, key, KEY_SPEC_THREAD_KEYRING, keyring, MOVE_EXCL);
    }
    return result < 0 ? fail_key(error, result, "keyctl_move") : msalex__ok(error);
}

static int take_out(const void *description, int32_t keyring, msalex_error *error) {
    long key = search(keyring, description), result;

    if (is_dead(key)) {
        drop_dead_keys(keyring);
        if ((key = search(keyring, description)) == -ENOKEY)
            return msalex__ok(error);
    }
    if (key < 0)
        return fail_key(error, key, "keyctl_search");
    result = keyctl(KEYCTL_UNLINK, key, keyring, 0, 0);
    return result < 0 ? fail_key(error, result, "keyctl_unlink") : msalex__ok(error);
}

static void *run(void *argument) {
    call *here = argument;
    /* It makes the keyring when there is none, and begins its time anew.  -1: of this user. */
    const long keyring = keyctl(GET_PERSISTENT, -1, KEY_SPEC_THREAD_KEYRING, 0, 0);

    here->status = keyring < 0 ? fail_key(here->error, keyring, "keyctl_get_persistent")
                               : here->work(here->request, (int32_t)keyring, here->error);
    return NULL;
}

static int run_call(int (*work)(const void *, int32_t, msalex_error *), const void *request,
                    msalex_error *error) {
    struct timespec pause = {.tv_nsec = FIRST_PAUSE_NS};
    call here = {work, request, error, MSALEX_OK};
    int code;

    while ((code = msalex__run_in_thread(run, &here, STACK)) == 0 &&
           here.status == MSALEX_OS_ERROR && error->code == EDQUOT &&
           pause.tv_nsec <= LAST_PAUSE_NS) {
        (void)nanosleep(&pause, NULL);
        pause.tv_nsec *= 2;
    }
    return code != 0 ? msalex__fail_errno(error, code, "pthread_create") : here.status;
}

/* ---- the calls of msalex.h ---- */

int msalex_kernelkey_find(const char *description, msalex_buffer *key, msalex_error *error) {
    const find_request request = {description, key};
    *key = (msalex_buffer){0};
    return run_call(find, &request, error);
}

int msalex_kernelkey_add(const char *description, const unsigned char *key, size_t size,
                         msalex_error *error) {
    const add_request request = {description, key, size};
    if (size == 0 || size > MSALEX_KERNELKEY_SIZE_MAX)
        return msalex__fail_errno(error, EINVAL, "add_key");
    return run_call(add, &request, error);
}

int msalex_kernelkey_remove(const char *description, msalex_error *error) {
    return run_call(take_out, description, error);
}
