/* A clock that never jumps, Windows. Twin: clock_posix.c. */
#include "os_windows.h"

/* Not GetTickCount64, whose ticks are 16 ms long. */
int64_t msalex__now_ms(void) {
    LARGE_INTEGER now, second;

    (void)QueryPerformanceCounter(&now);
    (void)QueryPerformanceFrequency(&second);
    /* In two parts, so that nothing overflows after a long time without a restart. */
    return now.QuadPart / second.QuadPart * 1000 +
           now.QuadPart % second.QuadPart * 1000 / second.QuadPart;
}
