/*
 * Lock files of other libraries, Windows: has their holder died, and when do they go away?
 * Who they are and what they write: docs of the peers, collected in CONTRIBUTING.md.
 */
#include "lock_windows.h"

#include <stdlib.h>
#include <string.h>

enum {
    STALE_WITHOUT_PID_S = 5, /* as long as 1.3.1 waits before it gives up */
    STALE_ELSEWHERE_S = 60,  /* where a pid tells nothing: longer than any peer waits */
    START_SLACK_S = 2,       /* FAT's file times are that coarse */
    POLL_BLIND_MS = 20,      /* without a watch */
    POLL_WATCHING_MS = 250,  /* behind one: a holder may unlock without removing */
    FILE_REMOTE_PROTOCOL = 13 /* FileRemoteProtocolInfo, which old headers lack */
};

static int64_t seconds_of(FILETIME time) {
    return ((int64_t)time.dwHighDateTime << 32 | time.dwLowDateTime) / 10000000;
}

/* A pid that was given away again after the file was written is dead.  A process that may not be
 * looked at is alive. */
static bool is_alive(int64_t pid, int64_t written) {
    HANDLE process = OpenProcess(PROCESS_QUERY_LIMITED_INFORMATION | SYNCHRONIZE, FALSE,
                                 (DWORD)pid);
    FILETIME start, ignored;
    bool alive;

    if (process == NULL)
        return GetLastError() != ERROR_INVALID_PARAMETER; /* "there is no such process" */
    /* One that has ended is there as long as somebody has a handle of it. */
    alive = WaitForSingleObject(process, 0) == WAIT_TIMEOUT;
    if (alive && GetProcessTimes(process, &start, &ignored, &ignored, &ignored))
        alive = seconds_of(start) <= written + START_SLACK_S;
    (void)CloseHandle(process);
    return alive;
}

/* On a file server, whose other clients have pids of their own? */
static bool is_remote(HANDLE file) {
    union {
        BYTE bytes[512]; /* FILE_REMOTE_PROTOCOL_INFO */
        int64_t aligned;
    } unused;
    return GetFileInformationByHandleEx(file, (FILE_INFO_BY_HANDLE_CLASS)FILE_REMOTE_PROTOCOL,
                                        &unused, sizeof unused) != 0;
}

bool msalex__peer_is_gone(HANDLE file, const char *content, size_t size) {
    const int64_t pid = msalex__record_pid(content, size);
    BY_HANDLE_FILE_INFORMATION found;
    int64_t written, age;
    FILETIME now;

    if (!GetFileInformationByHandle(file, &found))
        return false;
    GetSystemTimeAsFileTime(&now);
    written = seconds_of(found.ftLastWriteTime);
    age = seconds_of(now) - written;
    if (pid <= 0)
        return age >= STALE_WITHOUT_PID_S;
    return !is_alive(pid, written) && (age >= STALE_ELSEWHERE_S || !is_remote(file));
}

/* ---- waiting for the name to go away ---- */

HANDLE msalex__names_watch(const wchar_t *path) {
    const size_t length = (size_t)(wcsrchr(path, L'\\') + 1 - path); /* the path is absolute */
    wchar_t *directory = malloc((length + 1) * sizeof *directory);
    HANDLE watch = INVALID_HANDLE_VALUE;

    if (directory != NULL) {
        memcpy(directory, path, length * sizeof *directory);
        directory[length] = L'\0';
        watch = FindFirstChangeNotificationW(directory, FALSE, FILE_NOTIFY_CHANGE_FILE_NAME);
    }
    free(directory);
    return watch;
}

void msalex__names_wait(HANDLE watch, int64_t timeout_ms) {
    const DWORD poll_ms = watch != INVALID_HANDLE_VALUE ? POLL_WATCHING_MS : POLL_BLIND_MS;
    const DWORD wait_ms = timeout_ms >= 0 && timeout_ms < poll_ms ? (DWORD)timeout_ms : poll_ms;

    if (watch == INVALID_HANDLE_VALUE)
        Sleep(wait_ms);
    else if (WaitForSingleObject(watch, wait_ms) == WAIT_OBJECT_0)
        (void)FindNextChangeNotification(watch);
}
