/*
 * What the Windows files share: os_windows.c.
 *
 * Paths come as UTF-8.  They go to Windows as UTF-16, absolute, and in the form without the limit
 * of 260 characters where they need it.  Failures of the file calls are told as errno values, as on
 * POSIX, because Python's exceptions and remedies use these; the words of Windows and its own
 * number are in the message.
 */
#ifndef MSALEX_OS_WINDOWS_H
#define MSALEX_OS_WINDOWS_H

#define WIN32_LEAN_AND_MEAN
#include <windows.h>

#include <stdbool.h>
#include <wchar.h>

#include "internal.h"

/* While we have the file open, others may read, write and delete it. */
enum { MSALEX__SHARE_ALL = FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE };

/* The path for Windows, to be freed; NULL with the error filled. */
wchar_t *msalex__wide_path(const char *path, msalex_error *error);

/* The errno that a GetLastError code means; EIO when the table does not know it. */
int msalex__errno_of_windows(DWORD code);

/* Fills the error from a GetLastError code: the status, the errno, and Windows' own words. */
int msalex__fail_windows(msalex_error *error, DWORD code, const char *call);

/* The words alone, in UTF-8, without the line break that Windows puts at their end. */
void msalex__words_of_windows(DWORD code, char *words, size_t size);

/* Which file an open handle is: for two handles of one file these are equal. */
struct msalex__identity {
    uint64_t device;
    uint64_t index;
};
bool msalex__identify(HANDLE file, struct msalex__identity *identity);

/* Is an open file on a file server?  Other clients of the server change its files, and have pids of
 * their own. */
bool msalex__is_remote(HANDLE file);

/* The stamp of an open file.  False with GetLastError. */
bool msalex__fill_stamp(HANDLE file, msalex_stamp *stamp);

/* Opens the file at the path for its attributes only: no share mode of others keeps us from that,
 * and we are in nobody's way.  INVALID_HANDLE_VALUE with GetLastError. */
HANDLE msalex__open_attributes(const wchar_t *path, DWORD access);

/* Removes the name at once if the file system can do that, else when the last handle is closed.
 * Needs a handle with DELETE access.  False with GetLastError. */
bool msalex__delete_open_file(HANDLE file);

/* Closes a handle that may be INVALID_HANDLE_VALUE, and leaves GetLastError as it was. */
void msalex__close(HANDLE handle);

#endif
