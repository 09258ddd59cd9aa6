/*
 * Paths, Windows: from the UTF-8 of msalex.h to what the system takes.  The promises are in
 * os_windows.h.
 *
 * Each path becomes absolute and gets the prefix "\\?\" (of a share: "\\?\UNC\").  With it the
 * system has no limit of 260 characters, and takes the text as it is.  So GetFullPathNameW, which
 * does what the system does with a path without prefix, comes first: it drops dots and spaces at
 * the end, turns "/" into "\", and finds the devices ("NUL" becomes "\\.\NUL").
 */
#include "os_windows.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
    LONGEST_NAME = 255, /* of one part, on every file system of Windows */
    PREFIX_ROOM = 8     /* for the longer prefix */
};

/* ---- text ---- */

/* Reads one character.  The surrogates are characters here: NTFS allows them one by one in a name,
 * and Python hands them over this way ('surrogatepass'; the form has the name WTF-8).  0: these
 * bytes are no text. */
static size_t read_character(const unsigned char *bytes, uint32_t *code) {
    const unsigned char lead = bytes[0];
    const size_t length = lead < 0x80                   ? 1
                          : lead >= 0xc2 && lead < 0xe0 ? 2
                          : lead >= 0xe0 && lead < 0xf0 ? 3
                          : lead >= 0xf0 && lead < 0xf5 ? 4
                                                        : 0;
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};

    *code = length < 2 ? lead : lead & (0x7fU >> length);
    for (size_t i = 1; i < length; i++) {
        if ((bytes[i] & 0xc0) != 0x80) /* the NUL at the end, too */
            return 0;
        *code = *code << 6 | (bytes[i] & 0x3fU);
    }
    return *code < least[length] || *code > 0x10ffff ? 0 : length;
}

/* UTF-16, to be freed.  Sets errno: EINVAL, or ENOMEM. */
static wchar_t *utf16_of(const char *text) {
    const unsigned char *at = (const unsigned char *)text;
    wchar_t *wide = malloc((strlen(text) + 1) * sizeof *wide), *to = wide;
    uint32_t code;
    size_t length;

    errno = ENOMEM;
    if (wide == NULL)
        return NULL;
    for (; *at != '\0'; at += length) {
        if ((length = read_character(at, &code)) == 0) {
            errno = EINVAL;
            free(wide);
            return NULL;
        }
        if (code >= 0x10000) {
            *to++ = (wchar_t)(0xd800 + ((code - 0x10000) >> 10));
            code = 0xdc00 + (code & 0x3ff);
        }
        *to++ = (wchar_t)code;
    }
    *to = L'\0';
    return wide;
}

/* ---- paths ---- */

static bool starts(const wchar_t *text, const wchar_t *with) {
    return wcsncmp(text, with, wcslen(with)) == 0;
}

/* We look ourselves, because file systems have many codes for this, even "not found". */
static bool has_long_name(const wchar_t *path) {
    size_t length = 0;
    while (*path != L'\0' && length <= LONGEST_NAME) {
        length = *path == L'\\' ? 0 : length + 1;
        path++;
    }
    return length > LONGEST_NAME;
}

/* The absolute path, behind room for a prefix.  Another thread may change the current directory
 * between two calls, and then the room that the first one asked for is too small. */
static wchar_t *full_path(const wchar_t *given) {
    DWORD room = MAX_PATH, length;
    wchar_t *full;

    for (;;) {
        if ((full = malloc(((size_t)room + PREFIX_ROOM) * sizeof *full)) == NULL) {
            SetLastError(ERROR_NOT_ENOUGH_MEMORY);
            return NULL;
        }
        length = GetFullPathNameW(given, room, full + PREFIX_ROOM, NULL);
        if (length > 0 && length < room)
            return full;
        free(full);
        if (length == 0)
            return NULL;
        room = length;
    }
}

wchar_t *msalex__prefixed_path(const wchar_t *given, msalex_error *error) {
    wchar_t *full = full_path(given), *start;
    const wchar_t *prefix = L"";

    if (full == NULL) {
        (void)msalex__fail_windows(error, GetLastError(), "GetFullPathNameW");
        return NULL;
    }
    start = full + PREFIX_ROOM;
    if (!starts(start, L"\\\\")) {
        prefix = L"\\\\?\\";
    } else if (!starts(start, L"\\\\?\\") && !starts(start, L"\\\\.\\")) {
        prefix = L"\\\\?\\UNC\\";
        start += 2;
    }
    memcpy(full, prefix, wcslen(prefix) * sizeof *full);
    memmove(full + wcslen(prefix), start, (wcslen(start) + 1) * sizeof *full);
    if (!has_long_name(full))
        return full;
    (void)msalex__fail_windows(error, ERROR_FILENAME_EXCED_RANGE, "GetFullPathNameW");
    free(full);
    return NULL;
}

wchar_t *msalex__wide_path(const char *path, msalex_error *error) {
    wchar_t *given = utf16_of(path), *full;

    if (given == NULL) {
        const int code = errno;
        (void)msalex__fail(error, msalex__status_of_errno(code), code, "WTF-8",
                           code == EINVAL ? "the path is not Unicode text" : strerror(code));
        return NULL;
    }
    full = msalex__prefixed_path(given, error);
    free(given);
    return full;
}

const wchar_t *msalex__without_prefix(const wchar_t *path) {
    if (starts(path, L"\\\\?\\UNC\\"))
        return path + 7; /* with one backslash, which is enough to read it */
    return starts(path, L"\\\\?\\") ? path + 4 : path;
}

wchar_t *msalex__directory_of(const wchar_t *path) {
    const size_t length = (size_t)(wcsrchr(path, L'\\') + 1 - path); /* the path is absolute */
    wchar_t *directory = malloc((length + 1) * sizeof *directory);

    if (directory != NULL) {
        memcpy(directory, path, length * sizeof *directory);
        directory[length] = L'\0';
    }
    return directory;
}

/* A part of a path, with the backslash behind it. */
static size_t part_length(const wchar_t *path) {
    const wchar_t *end = wcschr(path, L'\\');
    return end == NULL ? wcslen(path) : (size_t)(end + 1 - path);
}

size_t msalex__root_length(const wchar_t *path) {
    size_t length;

    if (starts(path, L"\\\\.\\") && path[4] != L'\0' && wcsncmp(path + 5, L":\\", 2) == 0)
        return 7; /* some write the name of a drive as that of a device */
    if (!starts(path, L"\\\\?\\"))
        return 0;
    if (!starts(path, L"\\\\?\\UNC\\")) {
        length = 4 + part_length(path + 4);
    } else {
        length = 8 + part_length(path + 8); /* the server, and then the share */
        length += part_length(path + length);
    }
    return path[length - 1] == L'\\' ? length : 0;
}
