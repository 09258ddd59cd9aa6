/* Two functions of Darwin's C library that the keychain's files use: see darwin.h. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "fake_corefoundation.h"

#undef clock_gettime
int clock_gettime(clockid_t clock, struct timespec *now); /* Linux's own */

/* Libc's confstr.c: the directory for caches of the effective user, with a slash at its end.  The
 * result is the size of the whole text, even when it was cut; 0 when there is no such directory. */
size_t fake_confstr(int name, char *text, size_t size) {
    const char *chosen = getenv("FAKE_CACHES"), *temporary = getenv("TMPDIR");

    fake_require(name == _CS_DARWIN_USER_CACHE_DIR, "confstr is asked for something else");
    if (chosen == NULL)
        chosen = temporary == NULL ? "/tmp" : temporary;
    if (chosen[0] == '\0')
        return 0; /* there is none */
    return (size_t)snprintf(text, size, "%s/", chosen) + 1;
}

/* Libpthread: a clock that stands still in sleep is no part of the model. */
int pthread_cond_timedwait_relative_np(pthread_cond_t *condition, pthread_mutex_t *guard,
                                       const struct timespec *timeout) {
    struct timespec end;

    (void)clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_sec += timeout->tv_sec;
    end.tv_nsec += timeout->tv_nsec;
    if (end.tv_nsec >= 1000000000) {
        end.tv_sec++;
        end.tv_nsec -= 1000000000;
    }
    return pthread_cond_clockwait(condition, guard, CLOCK_MONOTONIC, &end);
}
