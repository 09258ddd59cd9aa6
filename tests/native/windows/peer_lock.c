/*
 * Takes the lock file as other libraries do on Windows.
 *
 * dotnet: MSAL.NET (CrossPlatLock.cs: FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.Read,
 *         FileOptions.DeleteOnClose; every 100 ms, 600 times).
 * go:     MSAL Go (flock_windows.go, lock.go: opens or creates, locks byte 0 with LockFileEx,
 *         writes "{pid} {program}"; unlocks, closes, then removes; every 10 ms).
 *
 *     peer_lock LIBRARY once LOCKFILE           tries once: prints "held", or the error's number
 *     peer_lock LIBRARY hold LOCKFILE           prints "held", waits for a line, lets go
 *     peer_lock LIBRARY count LOCKFILE FILE N   N times: takes it and adds 1 to the number in FILE
 */
#include <windows.h>

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool is_go;

static HANDLE try_dotnet(const wchar_t *path) {
    return CreateFileW(path, GENERIC_READ | GENERIC_WRITE, FILE_SHARE_READ, NULL, OPEN_ALWAYS,
                       FILE_ATTRIBUTE_NORMAL | FILE_FLAG_DELETE_ON_CLOSE, NULL);
}

static HANDLE try_go(const wchar_t *path) {
    const DWORD flags = LOCKFILE_EXCLUSIVE_LOCK | LOCKFILE_FAIL_IMMEDIATELY;
    OVERLAPPED where = {0};
    char text[64];
    DWORD code, size;
    const DWORD access = GENERIC_READ | GENERIC_WRITE, sharing = FILE_SHARE_READ | FILE_SHARE_WRITE;
    HANDLE file = CreateFileW(path, access, sharing, NULL, OPEN_ALWAYS, 0, NULL);

    if (file == INVALID_HANDLE_VALUE)
        return file;
    if (!LockFileEx(file, flags, 0, 1, 0, &where)) {
        code = GetLastError();
        (void)CloseHandle(file);
        SetLastError(code);
        return INVALID_HANDLE_VALUE;
    }
    (void)snprintf(text, sizeof text, "{%lu} {peer_lock}", GetCurrentProcessId());
    (void)WriteFile(file, text, (DWORD)strlen(text), &size, NULL);
    return file;
}

static HANDLE try_lock(const wchar_t *path) {
    return is_go ? try_go(path) : try_dotnet(path);
}

static HANDLE take_lock(const wchar_t *path) {
    HANDLE lock = INVALID_HANDLE_VALUE;
    for (int tries = 0; lock == INVALID_HANDLE_VALUE && tries < 6000; tries++) {
        if (tries > 0)
            Sleep(is_go ? 10 : 100);
        lock = try_lock(path);
    }
    if (lock == INVALID_HANDLE_VALUE) {
        printf("gave up\n");
        exit(1);
    }
    return lock;
}

static void let_go(HANDLE lock, const wchar_t *path) {
    OVERLAPPED where = {0};
    if (is_go)
        (void)UnlockFileEx(lock, 0, 1, 0, &where);
    (void)CloseHandle(lock);
    if (is_go)
        (void)DeleteFileW(path);
}

static void add_one(const wchar_t *path) {
    FILE *file = _wfopen(path, L"r+b");
    char text[32] = "";
    if (file == NULL || fread(text, 1, sizeof text - 1, file) == 0)
        exit(2);
    rewind(file);
    fprintf(file, "%d", atoi(text) + 1);
    fclose(file);
}

int wmain(int count, wchar_t **arguments) {
    const wchar_t *mode = count > 3 ? arguments[2] : L"";
    HANDLE lock;

    is_go = count > 1 && wcscmp(arguments[1], L"go") == 0;
    if (wcscmp(mode, L"once") == 0) {
        lock = try_lock(arguments[3]);
        if (lock == INVALID_HANDLE_VALUE)
            printf("%lu\n", GetLastError());
        else
            printf("held\n");
        return 0;
    }
    if (wcscmp(mode, L"hold") == 0) {
        lock = take_lock(arguments[3]);
        printf("held\n");
        fflush(stdout);
        (void)getchar();
        let_go(lock, arguments[3]);
        return 0;
    }
    if (wcscmp(mode, L"count") == 0 && count == 6) {
        for (int left = _wtoi(arguments[5]); left > 0; left--) {
            lock = take_lock(arguments[3]);
            add_one(arguments[4]);
            let_go(lock, arguments[3]);
            Sleep(20);
        }
        return 0;
    }
    return 3;
}
