/*
 * What the Windows files share: path_windows.c and os_windows.c.
 *
 * Paths come as UTF-8.  They go to Windows as UTF-16, absolute, and in the form without the limit
 * of 260 characters.  Failures of the file calls are told as errno values, as on
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

/* ---- path_windows.c ---- */

/* The path for Windows, to be freed; NULL with the error filled.  Unless it is a device, it is
 * absolute and has a prefix. */
wchar_t *msalex__wide_path(const char *path, msalex_error *error);

/* The same for a path that is UTF-16 already. */
wchar_t *msalex__prefixed_path(const wchar_t *given, msalex_error *error);

/* The path for people.  It belongs to the path that is given. */
const wchar_t *msalex__without_prefix(const wchar_t *path);

/* The directory of an absolute path, to be freed; NULL when memory runs out.  It keeps its backslash,
 * because "C:" alone is the current directory of that drive. */
wchar_t *msalex__directory_of(const wchar_t *path);

/* How long is the start of the path that names its drive or share, with the backslash?  0: this is
 * no path of a file system. */
size_t msalex__root_length(const wchar_t *path);

/* ---- os_windows.c ---- */

/* The errno that a GetLastError code means; EIO when the table does not know it. */
int msalex__errno_of_windows(DWORD code);

/* Fills the error from a GetLastError code: the status, the errno, and Windows' own words. */
int msalex__fail_windows(msalex_error *error, DWORD code, const char *call);

/* UTF-8 of that many characters, cut between two of them if the room is too small. */
void msalex__narrow(const wchar_t *wide, size_t length, char *text, size_t size);

/* The words alone, in UTF-8, without the line break that Windows puts at their end. */
void msalex__words_of_windows(DWORD code, char *words, size_t size);

/* Opens a file; no other function of this library calls CreateFileW.  It does two things more:
 *  - A path may lead to a named pipe.  The server of that pipe may see the name of our user, but
 *    may not act as our user (SECURITY_IDENTIFICATION).
 *  - CreateFileW says "access denied" of a file that is being deleted, too.  This says
 *    ERROR_DELETE_PENDING then.
 * INVALID_HANDLE_VALUE with GetLastError. */
HANDLE msalex__open(const wchar_t *path, DWORD access, DWORD sharing, SECURITY_ATTRIBUTES *security,
                    DWORD how, DWORD flags);

/* Can this failure to open, rename or delete a file pass by itself?  An open file of another
 * program will be closed, and a file that is being deleted will be gone: the caller bounds the time
 * for which it tries again.  A denial is believed after DENIED_MS, because a race with a deletion
 * can say "denied" for a moment.  `tried_ms`: since the first failure. */
enum { MSALEX__DENIED_MS = 500 };
bool msalex__may_pass(DWORD code, int64_t tried_ms);

/* Which file an open handle is.  Where the file system has no numbers for its files, or only for
 * some, nothing is known. */
struct msalex__identity {
    bool known;
    uint64_t device; /* the serial number of the volume */
    uint64_t index[2];
};

/* False with GetLastError, and then nothing is known. */
bool msalex__identify(HANDLE file, struct msalex__identity *identity);

/* True when both are known and equal.  If one is not known, this is false: the caller then has to
 * look at something else. */
bool msalex__is_same_file(const struct msalex__identity *one, const struct msalex__identity *other);

/* Is an open file on a file server?  Other clients of the server change its files, and have pids of
 * their own. */
bool msalex__is_remote(HANDLE file);

/* The stamp of an open file.  The 128 bits of the identity are folded into 64.  False with
 * GetLastError. */
bool msalex__fill_stamp(HANDLE file, msalex_stamp *stamp);

/* The same stamp of the file to which the path leads: 0, or the code and an empty stamp. */
DWORD msalex__stamp_of_path(const wchar_t *path, msalex_stamp *stamp);

/* Opens the file at the path for its attributes only: no share mode of others keeps us from that,
 * and we are in nobody's way.  INVALID_HANDLE_VALUE with GetLastError. */
HANDLE msalex__open_attributes(const wchar_t *path, DWORD access);

/* Removes the name at once, though others have the file open.  False with GetLastError where the
 * file system cannot do that (FAT, file servers, Wine 8).  Needs a handle with DELETE access. */
bool msalex__delete_at_once(HANDLE file);

/* The same, or else the name goes when the last handle is closed. */
bool msalex__delete_open_file(HANDLE file);

/* A function that only newer systems have, or NULL.  `module` is loaded in every process. */
typedef void (*msalex__function)(void);
msalex__function msalex__find_function(const wchar_t *module, const char *name);

/* Sleeps for that time.  Sleep would take 16 ms for one. */
void msalex__pause(DWORD ms);

/* Closes a handle that may be INVALID_HANDLE_VALUE, and leaves GetLastError as it was. */
void msalex__close(HANDLE handle);

#endif
