/* Between a keychain call's thread and its caller (keychain_macos.h). */
#define _DARWIN_C_SOURCE /* pthread_cond_timedwait_relative_np */
#include "keychain_macos.h"

#include <errno.h>
#include <string.h>
#include <time.h>

enum { LONG_MS = 60000 }; /* the longest wait for a condition in one piece */

/* A relative wait, because a step of the clock must not shorten or lengthen it, and macOS has no
 * pthread_condattr_setclock. */
void msalex__keychain_sleep(pthread_cond_t *condition, pthread_mutex_t *mutex, int64_t ms) {
    const int64_t length = ms < 0 || ms > LONG_MS ? LONG_MS : ms;
    const struct timespec timeout = {.tv_sec = (time_t)(length / 1000),
                                     .tv_nsec = (long)(length % 1000) * 1000000};
    (void)pthread_cond_timedwait_relative_np(condition, mutex, &timeout);
}

bool msalex__keychain_begin(msalex_keychain_call *call, const char *what) {
    bool stays;

    (void)pthread_mutex_lock(&call->mutex);
    call->waits_for = what;
    stays = !atomic_load(&call->left);
    (void)pthread_mutex_unlock(&call->mutex);
    return stays;
}

bool msalex__keychain_pause(msalex_keychain_call *call, int64_t ms) {
    const int64_t end = msalex__deadline(ms);
    int64_t left;

    (void)pthread_mutex_lock(&call->mutex);
    while (!atomic_load(&call->left) && msalex__time_left(call->deadline) != 0 &&
           (left = msalex__time_left(end)) != 0)
        msalex__keychain_sleep(&call->changed, &call->mutex, left);
    (void)pthread_mutex_unlock(&call->mutex);
    return !atomic_load(&call->left) && msalex__time_left(call->deadline) != 0;
}

int msalex__keychain_fail_late(msalex_error *error, const char *what) {
    const char *words = "macOS did not answer in time; perhaps it asks a person";

    if (strcmp(what, "turn") == 0)
        words = "another call of this program uses the keychain, and did not end in time";
    else if (strcmp(what, "flock") == 0)
        words = "another process uses the keychain, and did not end in time";
    return msalex__fail(error, MSALEX_TIMEOUT, ETIMEDOUT, what, words);
}

int msalex__keychain_fail_left(const struct msalex__keychain_job *job, const char *name) {
    return msalex__keychain_fail_late(job->error, name);
}
