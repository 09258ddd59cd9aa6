/* Temporary files, Windows: see temp_windows.h. */
#include "temp_windows.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const wchar_t PREFIX[] = L".msalex-", SUFFIX[] = L".tmp";

enum { DIGITS = 16, TRIES = 10 };

HANDLE msalex__temp_open(const struct msalex__place *place, DWORD attributes,
                         PSECURITY_DESCRIPTOR list, wchar_t name[MSALEX__TEMP_NAME_SIZE]) {
    const struct msalex__nt_open request = {.name = name,
                                            .length = MSALEX__TEMP_NAME_SIZE - 1,
                                            .access = GENERIC_WRITE | DELETE,
                                            .sharing = FILE_SHARE_READ,
                                            .attributes = attributes,
                                            .how = MSALEX__NT_CREATE,
                                            .options = MSALEX__NT_FILE,
                                            .security = list};
    HANDLE file;

    for (int tries = 1;; tries++) {
        (void)swprintf(name, MSALEX__TEMP_NAME_SIZE, L"%ls%016llx%ls", PREFIX,
                       (unsigned long long)msalex__nonce(), SUFFIX);
        file = msalex__nt_open(place->directory, &request);
        if (file != INVALID_HANDLE_VALUE)
            return file;
        if ((GetLastError() != ERROR_ALREADY_EXISTS && GetLastError() != ERROR_FILE_EXISTS) ||
            tries == TRIES)
            break;
    }
    name[0] = L'\0';
    return INVALID_HANDLE_VALUE;
}

static bool is_temp_name(const wchar_t *name) {
    const size_t prefix = sizeof PREFIX / sizeof PREFIX[0] - 1;
    return wcsncmp(name, PREFIX, prefix) == 0 &&
           wcsspn(name + prefix, L"0123456789abcdef") == DIGITS &&
           wcscmp(name + prefix + DIGITS, SUFFIX) == 0;
}

static int64_t ticks_of(FILETIME time) {
    return (int64_t)time.dwHighDateTime << 32 | time.dwLowDateTime; /* 100 ns since 1601 */
}

static bool is_old(FILETIME written, int dead_after_s) {
    FILETIME now;
    GetSystemTimeAsFileTime(&now);
    return (ticks_of(now) - ticks_of(written)) / 10000000 >= dead_after_s;
}

/* Fails while a living writer has the file open. */
static void remove_dead(const struct msalex__place *place, const wchar_t *name) {
    const struct msalex__nt_open request = {.name = name,
                                            .length = wcslen(name),
                                            .access = DELETE,
                                            .sharing = MSALEX__SHARE_ALL,
                                            .how = MSALEX__NT_OPEN,
                                            .options = MSALEX__NT_FILE | MSALEX__NT_LINK_ITSELF};
    HANDLE file = msalex__nt_open(place->directory, &request);

    if (file != INVALID_HANDLE_VALUE)
        (void)msalex__delete_open_file(file);
    msalex__close(file);
}

int msalex__temp_sweep(const struct msalex__place *place, int dead_after_s) {
    const size_t length = (size_t)(place->name - place->path);
    wchar_t *pattern = malloc((length + MSALEX__TEMP_NAME_SIZE) * sizeof *pattern);
    WIN32_FIND_DATAW found;
    HANDLE entries;

    if (pattern == NULL)
        return ENOMEM;
    memcpy(pattern, place->path, length * sizeof *pattern);
    (void)swprintf(pattern + length, MSALEX__TEMP_NAME_SIZE, L"%ls*%ls", PREFIX, SUFFIX);
    /* The search goes by a path.  If that leads elsewhere by now, it gives names and times of other
     * files.  All that it can do then is to remove a dead writer's file early. */
    entries = FindFirstFileW(pattern, &found);
    free(pattern);
    if (entries == INVALID_HANDLE_VALUE)
        return 0;
    do {
        if (is_temp_name(found.cFileName) && is_old(found.ftLastWriteTime, dead_after_s))
            remove_dead(place, found.cFileName);
    } while (FindNextFileW(entries, &found));
    (void)FindClose(entries);
    return 0;
}
