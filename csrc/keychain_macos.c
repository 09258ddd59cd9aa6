/*
 * One item of the macOS keychain.  Twin: keychain_none.c.
 *
 * How a call runs.  The functions of macOS know no deadline: they wait for securityd, and for a
 * person when it asks one.  So each call gets a thread.  The caller waits for it in slices, and
 * leaves at the deadline.  The thread then begins nothing more: above all, no save an hour later,
 * when the person comes back.  If macOS never answers, the thread stays; that is all that stays.
 * Caller and thread share the call, and the last of them wipes and frees it.
 *
 * A child made by fork has no such thread: there a call of the parent fails.
 */
#define _DARWIN_C_SOURCE /* strdup */
#include "keychain_macos.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "thread_posix.h"

enum {
    GRACE_MS = 100,          /* how much later than the thread the caller looks at the deadline */
    STACK_BYTES = 512 * 1024 /* what macOS gives to threads by itself */
};

int msalex_keychain_available(msalex_error *error) {
    return msalex__ok(error);
}

/* ---- between caller and thread ---- */

static void discard(msalex_keychain_call *call) {
    msalex_buffer_free(&call->data);
    msalex_buffer_free(&call->secret);
    free(call->service);
    free(call->account);
    free(call);
}

/* Gives up one reference; the last one frees. */
static void drop(msalex_keychain_call *call) {
    if (atomic_fetch_sub(&call->references, 1) == 1)
        discard(call);
}

static void leave(msalex_keychain_call *call) {
    (void)pthread_mutex_lock(&call->mutex);
    atomic_store(&call->left, true);
    (void)pthread_cond_broadcast(&call->changed);
    (void)pthread_mutex_unlock(&call->mutex);
    msalex__keychain_wake();
}

/* ---- the thread ---- */

static void *run(void *argument) {
    msalex_keychain_call *call = argument;
    const int status = msalex__keychain_perform(call);

    (void)pthread_mutex_lock(&call->mutex);
    call->status = status;
    call->done = true;
    (void)pthread_cond_broadcast(&call->changed);
    (void)pthread_mutex_unlock(&call->mutex);
    drop(call);
    return NULL;
}

/* ---- the interface ---- */

static const char *complaint_about(int operation, const msalex_keychain_item *item) {
    if (operation < MSALEX_KEYCHAIN_UNLOCK || operation > MSALEX_KEYCHAIN_DELETE)
        return "there is no such operation";
    if (item->service[0] == '\0' || item->account[0] == '\0')
        return "an empty service or account stands for any";
    return NULL;
}

int msalex_keychain_start(int operation, const msalex_keychain_item *item,
                          const unsigned char *secret, size_t size, int64_t timeout_ms,
                          msalex_keychain_call **call, msalex_error *error) {
    const bool stores = operation == MSALEX_KEYCHAIN_SAVE || operation == MSALEX_KEYCHAIN_ADD;
    const char *complaint = complaint_about(operation, item);
    msalex_keychain_call *made;
    int code;

    *call = NULL;
    if (complaint != NULL)
        return msalex__fail(error, MSALEX_INVALID, errSecParam, "SecItem", complaint);
    if ((made = calloc(1, sizeof *made)) == NULL)
        return msalex__fail_errno(error, ENOMEM, "calloc");
    atomic_init(&made->references, 2);
    atomic_init(&made->left, false);
    made->mutex = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
    made->changed = (pthread_cond_t)PTHREAD_COND_INITIALIZER;
    made->waits_for = "pthread_create";
    made->process = getpid();
    made->operation = operation;
    made->interactive = item->interactive != 0;
    made->deadline = msalex__deadline(timeout_ms);
    if ((made->service = strdup(item->service)) == NULL ||
        (made->account = strdup(item->account)) == NULL ||
        msalex__buffer_copy(&made->data, secret, stores ? size : 0, error) != MSALEX_OK) {
        discard(made);
        return msalex__fail_errno(error, ENOMEM, "malloc");
    }
    if ((code = msalex__start_thread(run, made, STACK_BYTES)) != 0) {
        discard(made);
        return msalex__fail_errno(error, code, "pthread_create");
    }
    *call = made;
    return msalex__ok(error);
}

static int fail_forked(msalex_error *error) {
    return msalex__fail(error, MSALEX_UNAVAILABLE, 0, "fork",
                        "this call was started before this process was forked off; start another");
}

/* When the caller gives up.  The thread gives up a moment before, and may have more to say. */
static int64_t end_of(const msalex_keychain_call *call) {
    return call->deadline >= INT64_MAX - GRACE_MS ? INT64_MAX : call->deadline + GRACE_MS;
}

/* Waits until the thread is done, or the slice or the call is over; inside the mutex. */
static void wait_until_done(msalex_keychain_call *call, int64_t slice_ms) {
    const int64_t deadlines[] = {msalex__deadline(slice_ms), end_of(call)};
    const int64_t first = deadlines[0] < deadlines[1] ? deadlines[0] : deadlines[1];
    int64_t left;

    while (!call->done && (left = msalex__time_left(first)) != 0)
        msalex__keychain_sleep(&call->changed, &call->mutex, left);
}

int msalex_keychain_wait(msalex_keychain_call *call, int64_t slice_ms, msalex_buffer *secret,
                         msalex_error *error) {
    bool done, over;

    *secret = (msalex_buffer){0};
    if (getpid() != call->process)
        return fail_forked(error);
    (void)pthread_mutex_lock(&call->mutex);
    wait_until_done(call, slice_ms);
    done = call->done && !atomic_load(&call->left);
    over = msalex__time_left(end_of(call)) == 0;
    if (!done && over)
        (void)msalex__keychain_fail_late(error, call->waits_for);
    (void)pthread_mutex_unlock(&call->mutex);
    if (done) {
        *secret = call->secret;
        call->secret = (msalex_buffer){0};
        *error = call->error;
        return call->status;
    }
    if (!over)
        return msalex__fail(error, MSALEX_TIMEOUT, 0, "SecItem", "still running");
    leave(call);
    return MSALEX_TIMEOUT;
}

void msalex_keychain_free(msalex_keychain_call *call) {
    if (call == NULL)
        return;
    if (getpid() != call->process) { /* in this process there is no thread that has the other one */
        discard(call);
        return;
    }
    leave(call);
    drop(call);
}
