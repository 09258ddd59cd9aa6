/* A clock that never jumps, Linux: it stands still while the machine sleeps.  Twins: clock_macos.c,
 * clock_windows.c. */
#define _POSIX_C_SOURCE 200809L /* clock_gettime */
#include <time.h>
#include <unistd.h>

#include "internal.h"

int64_t msalex__now_ms(void) {
    return msalex__now_us() / 1000;
}

int64_t msalex__now_us(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

uint64_t msalex__moment(void) {
    struct timespec now;
    uint64_t moment;

    (void)clock_gettime(CLOCK_REALTIME, &now);
    moment = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
    moment ^= (uint64_t)getpid() << 40;
    return moment ^ (uint64_t)(uintptr_t)&now; /* an address on the stack: which thread */
}
