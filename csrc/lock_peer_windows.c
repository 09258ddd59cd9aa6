/*
 * Lock files of other libraries, Windows: has their holder died, and when do they go away?  What
 * those libraries write and lock: docs/internals.md, "Who else uses the lock file".
 */
#include "lock_windows.h"

#include <stdlib.h>

#include "lock.h"

enum {
    POLL_BLIND_MS = 20,    /* without a watch */
    POLL_WATCHING_MS = 250 /* with one: a holder may unlock the file and leave it there */
};

static int64_t seconds_of(FILETIME time) {
    return ((int64_t)time.dwHighDateTime << 32 | time.dwLowDateTime) / 10000000;
}

static int64_t seconds_now(void) {
    FILETIME now;
    GetSystemTimeAsFileTime(&now);
    return seconds_of(now);
}

/* Was the pid given to another process after the file was written?  Clocks step, file servers have
 * their own, and FAT's times are two seconds coarse: a process that seems a little younger than its
 * file may have made it.  A start that seems to lie in the future proves nothing. */
static bool is_reused(FILETIME start, int64_t written) {
    return seconds_of(start) > written + STALE_ELSEWHERE_S && seconds_of(start) <= seconds_now();
}

/* A process that we may not look at is alive. */
static bool is_alive(int64_t pid, int64_t written) {
    HANDLE process =
        OpenProcess(PROCESS_QUERY_LIMITED_INFORMATION | SYNCHRONIZE, FALSE, (DWORD)pid);
    FILETIME start, ignored;
    bool alive;

    if (process == NULL)
        return GetLastError() != ERROR_INVALID_PARAMETER; /* "there is no such process" */
    /* A process that has ended is still there while somebody has a handle of it. */
    alive = WaitForSingleObject(process, 0) == WAIT_TIMEOUT;
    if (alive && GetProcessTimes(process, &start, &ignored, &ignored, &ignored))
        alive = !is_reused(start, written);
    (void)CloseHandle(process);
    return alive;
}

bool msalex__lock_peer_is_gone(const struct msalex__lock_file *file, const char *content,
                               size_t size) {
    const int64_t pid = msalex__record_pid(content, size);
    BY_HANDLE_FILE_INFORMATION found;
    struct msalex__record record;
    int64_t written, age;
    bool elsewhere;

    if (!GetFileInformationByHandle(file->waiting, &found))
        return false;
    written = seconds_of(found.ftLastWriteTime);
    age = seconds_now() - written; /* negative when a clock stepped: young */
    if (pid <= 0)
        return age >= STALE_WITHOUT_PID_S;
    /* A record of ours in a file that counts as a peer's is of another system (WSL). */
    elsewhere = file->remote || msalex__record_parse(content, size, &record);
    return !is_alive(pid, written) && (age >= STALE_ELSEWHERE_S || !elsewhere);
}

/* ---- waiting for the name to go away ---- */

HANDLE msalex__lock_peer_watch(const wchar_t *path) {
    wchar_t *directory = msalex__directory_of(path);
    HANDLE watch = INVALID_HANDLE_VALUE;

    if (directory != NULL)
        watch = FindFirstChangeNotificationW(directory, FALSE, FILE_NOTIFY_CHANGE_FILE_NAME);
    free(directory);
    return watch;
}

void msalex__lock_peer_wait(HANDLE watch, int64_t timeout_ms) {
    const DWORD poll_ms = watch != INVALID_HANDLE_VALUE ? POLL_WATCHING_MS : POLL_BLIND_MS;
    const DWORD wait_ms = timeout_ms >= 0 && timeout_ms < poll_ms ? (DWORD)timeout_ms : poll_ms;

    if (watch == INVALID_HANDLE_VALUE)
        msalex__pause(wait_ms);
    else if (WaitForSingleObject(watch, wait_ms) == WAIT_OBJECT_0)
        (void)FindNextChangeNotification(watch);
}
