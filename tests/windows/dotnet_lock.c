/*
 * Takes the lock file as MSAL.NET does on Windows (CrossPlatLock.cs: FileMode.OpenOrCreate,
 * FileAccess.ReadWrite, FileShare.Read, FileOptions.DeleteOnClose; every 100 ms, 600 times).
 *
 *     dotnet_lock once LOCKFILE              tries once: prints "held", or the error's number
 *     dotnet_lock hold LOCKFILE              prints "held", waits for a line, lets go
 *     dotnet_lock count LOCKFILE FILE N      N times: takes it and adds 1 to the number in FILE
 */
#include <windows.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static HANDLE try_lock(const wchar_t *path) {
    return CreateFileW(path, GENERIC_READ | GENERIC_WRITE, FILE_SHARE_READ, NULL, OPEN_ALWAYS,
                       FILE_ATTRIBUTE_NORMAL | FILE_FLAG_DELETE_ON_CLOSE, NULL);
}

static HANDLE take_lock(const wchar_t *path) {
    HANDLE lock = INVALID_HANDLE_VALUE;
    for (int tries = 0; lock == INVALID_HANDLE_VALUE && tries < 600; tries++) {
        if (tries > 0)
            Sleep(100);
        lock = try_lock(path);
    }
    if (lock == INVALID_HANDLE_VALUE) {
        printf("gave up\n");
        exit(1);
    }
    return lock;
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
    const wchar_t *mode = count > 2 ? arguments[1] : L"";
    HANDLE lock;

    if (wcscmp(mode, L"once") == 0) {
        lock = try_lock(arguments[2]);
        if (lock == INVALID_HANDLE_VALUE)
            printf("%lu\n", GetLastError());
        else
            printf("held\n");
        return 0;
    }
    if (wcscmp(mode, L"hold") == 0) {
        lock = take_lock(arguments[2]);
        printf("held\n");
        fflush(stdout);
        (void)getchar();
        CloseHandle(lock);
        return 0;
    }
    if (wcscmp(mode, L"count") == 0 && count == 5) {
        for (int left = _wtoi(arguments[4]); left > 0; left--) {
            lock = take_lock(arguments[2]);
            add_one(arguments[3]);
            CloseHandle(lock);
            Sleep(20);
        }
        return 0;
    }
    return 3;
}
