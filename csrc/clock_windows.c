/* A clock that never jumps, Windows.  Twins: clock_linux.c, clock_macos.c. */
#include "os_windows.h"

int64_t msalex__now_ms(void) {
    return msalex__now_us() / 1000;
}

/* Not GetTickCount64, whose ticks are 16 ms long. */
int64_t msalex__now_us(void) {
    LARGE_INTEGER now, second;

    (void)QueryPerformanceCounter(&now);
    (void)QueryPerformanceFrequency(&second);
    /* In two parts, so that nothing overflows when the machine runs for a long time. */
    return now.QuadPart / second.QuadPart * 1000000 +
           now.QuadPart % second.QuadPart * 1000000 / second.QuadPart;
}

uint64_t msalex__moment(void) {
    static volatile LONG calls; /* between two calls the clock may not tick */
    LARGE_INTEGER now;
    FILETIME time;
    uint64_t moment;

    (void)QueryPerformanceCounter(&now);
    GetSystemTimeAsFileTime(&time);
    moment = (uint64_t)time.dwHighDateTime << 32 | time.dwLowDateTime;
    moment = (uint64_t)now.QuadPart ^ moment << 20;
    return moment ^ (uint64_t)GetCurrentProcessId() << 40 ^
           (uint64_t)InterlockedIncrement(&calls) << 56;
}
