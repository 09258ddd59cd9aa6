/*
 * A clock that never jumps, macOS.  Twins: clock_linux.c, clock_windows.c.
 *
 * It is mach_absolute_time in nanoseconds (gen/clock_gettime.c of Libc).  Python's time.monotonic()
 * and the timeouts of kevent and nanosleep use that clock, too, so a deadline means the same moment
 * to all of them.  It stands still while the machine sleeps, as on Linux.  So a wait of 5 s does
 * not end because the lid was closed for an hour, in which the holder of the lock slept as well.
 *
 * Darwin's CLOCK_MONOTONIC will not do.  It is the time of day without the time of the boot: it
 * runs on while the machine sleeps, and has steps of a microsecond.
 */
#define _DARWIN_C_SOURCE /* clock_gettime_nsec_np */
#include <stdatomic.h>
#include <time.h>
#include <unistd.h>

#include "internal.h"

int64_t msalex__now_ms(void) {
    return msalex__now_us() / 1000;
}

int64_t msalex__now_us(void) {
    return (int64_t)(clock_gettime_nsec_np(CLOCK_UPTIME_RAW) / 1000);
}

uint64_t msalex__moment(void) {
    static _Atomic uint64_t calls; /* between two calls the clock may not tick */
    uint64_t moment;

    moment = clock_gettime_nsec_np(CLOCK_REALTIME) ^ clock_gettime_nsec_np(CLOCK_UPTIME_RAW) << 20;
    moment ^= (uint64_t)getpid() << 40;
    return moment ^ atomic_fetch_add(&calls, 1) << 56;
}
