/* See check.h. */
#include <windows.h>

#include <stdio.h>

#include "check.h"

bool enter_new_directory(char *path, size_t size) {
    static int number;
    char parent[MAX_PATH] = "";

    (void)GetCurrentDirectoryA(sizeof parent, parent);
    (void)snprintf(path, size, "%s\\msalex-check-%d", parent, ++number);
    return CreateDirectoryA(path, NULL) && SetCurrentDirectoryA(path);
}

/* Each property here removes its files itself. */
void leave_and_remove_directory(const char *path) {
    if (!SetCurrentDirectoryA("..") || !RemoveDirectoryA(path))
        printf("    %s: error %lu\n", path, GetLastError());
}

int count_entries(const char *directory) {
    WIN32_FIND_DATAA found;
    char pattern[1200];
    HANDLE search;
    int count = -2; /* . and .. */

    (void)snprintf(pattern, sizeof pattern, "%s\\*", directory);
    search = FindFirstFileA(pattern, &found);
    for (BOOL more = search != INVALID_HANDLE_VALUE; more; more = FindNextFileA(search, &found))
        count++;
    if (search != INVALID_HANDLE_VALUE)
        (void)FindClose(search);
    return count;
}

void make_old(const char *path, int64_t seconds) {
    HANDLE file = CreateFileA(path, FILE_WRITE_ATTRIBUTES, FILE_SHARE_READ | FILE_SHARE_WRITE, NULL,
                              OPEN_EXISTING, 0, NULL);
    ULARGE_INTEGER ticks;
    FILETIME time;

    GetSystemTimeAsFileTime(&time);
    ticks.LowPart = time.dwLowDateTime;
    ticks.HighPart = time.dwHighDateTime;
    ticks.QuadPart -= (ULONGLONG)seconds * 10000000;
    time.dwLowDateTime = ticks.LowPart;
    time.dwHighDateTime = ticks.HighPart;
    CHECK(SetFileTime(file, NULL, NULL, &time));
    (void)CloseHandle(file);
}

/* Wine, where this runs, does not count handles: GetProcessHandleCount says 0. */
int count_descriptors(void) {
    return 0;
}

void sleep_ms(int64_t ms) {
    Sleep((DWORD)ms);
}
