/* A clock that never jumps, Windows.  Twin: clock_posix.c. */
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

/* Sleep ends at a tick of the system, and since Windows 10 2004 these come every 16 ms, whatever
 * other programs ask for.  This timer (since 1803) is exact to half a millisecond.  It is made for
 * each call: that takes microseconds, and a thread has nothing to keep and to free. */
void msalex__pause(DWORD ms) {
    const DWORD high_resolution = 2; /* CREATE_WAITABLE_TIMER_HIGH_RESOLUTION */
    const LARGE_INTEGER due = {.QuadPart = -(int64_t)ms * 10000}; /* from now, in 100 ns */
    const HANDLE timer =
        CreateWaitableTimerExW(NULL, NULL, high_resolution, TIMER_MODIFY_STATE | SYNCHRONIZE);

    /* A wait that is too long by itself ends the pause if the timer does not. */
    if (timer != NULL && SetWaitableTimer(timer, &due, 0, NULL, NULL, FALSE))
        (void)WaitForSingleObject(timer, ms);
    else
        Sleep(ms);
    if (timer != NULL)
        (void)CloseHandle(timer);
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
