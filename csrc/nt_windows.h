/*
 * Files by a directory and a name in it, Windows: nt_windows.c.
 *
 * Win32 takes only paths, and each call looks a path up anew: another user may exchange a directory
 * on it for a link in between.  NT itself takes the handle of a directory and a name in it, as
 * openat and renameat of POSIX do.  These functions are documented (winternl.h, wdm.h), and Go's
 * os.Root and Microsoft's hcsshim use them in the same way.
 *
 * All report as Win32 does: GetLastError has the code that Win32 gives for the status of NT, with
 * two exceptions.  A file that is being deleted is ERROR_DELETE_PENDING, not "access denied", and
 * so is ERROR_DIRECTORY_NOT_SUPPORTED a directory where a file belongs.
 */
#ifndef MSALEX_NT_WINDOWS_H
#define MSALEX_NT_WINDOWS_H

#include "os_windows.h"

/* How to open; the values are NT's. */
enum {
    MSALEX__NT_OPEN = 1,
    MSALEX__NT_CREATE = 2, /* it must not exist */
    MSALEX__NT_OPEN_OR_CREATE = 3,
    MSALEX__NT_DIRECTORY = 0x1, /* options */
    MSALEX__NT_FILE = 0x40,
    MSALEX__NT_LINK_ITSELF = 0x200000
};

/* Codes that old headers lack. */
enum {
    MSALEX__IS_DIRECTORY = 336, /* ERROR_DIRECTORY_NOT_SUPPORTED */
    MSALEX__MET_LINK = 4395     /* ERROR_REPARSE_POINT_ENCOUNTERED */
};

struct msalex__nt_open {
    const wchar_t *name; /* relative to the directory */
    size_t length;       /* characters of it */
    DWORD access;
    DWORD sharing;
    DWORD attributes;              /* of a new file */
    DWORD how;                     /* MSALEX__NT_OPEN ... */
    DWORD options;                 /* MSALEX__NT_FILE ... */
    bool no_links;                 /* fail with MSALEX__MET_LINK instead of following one */
    PSECURITY_DESCRIPTOR security; /* of a new file; NULL: it inherits */
};

/* INVALID_HANDLE_VALUE with GetLastError. */
HANDLE msalex__nt_open(HANDLE directory, const struct msalex__nt_open *request);

/* Gives an open file (it needs DELETE access) a name in the directory.  `posix`: the file that has
 * the name may be open, if all that have it open share deletion; not every file system knows this,
 * and its refusal is ERROR_INVALID_PARAMETER, NOT_SUPPORTED or INVALID_FUNCTION.  0 or the code. */
DWORD msalex__nt_rename(HANDLE file, HANDLE directory, const wchar_t *name, bool replace,
                        bool posix);

#endif
