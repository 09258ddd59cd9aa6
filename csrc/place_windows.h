/*
 * Where a path leads: place_windows.c.  Twin: place_posix.h.
 *
 * The same path can lead to different files in two calls: another user may exchange a directory on
 * it for a junction in between.  So every function of this library that opens, makes, changes or
 * removes a file resolves its path once, here.  (msalex_file_stat and the watch only look, and
 * msalex_directory_make leaves the links to the system.)  The result is an open directory and a
 * name in it.  All further steps use these two (nt_windows.h) and no path.  Use:
 *
 *     struct msalex__place place;
 *     if ((status = msalex__place_find(path, MSALEX__FOLLOW, &place, error)) != MSALEX_OK)
 *         return status;                      ...nothing is open...
 *     ...msalex__nt_open(place.directory, ...)...
 *     msalex__place_leave(&place);
 *
 * A link here is a reparse point that stands for another name: a symbolic link, a junction, a mount
 * point.  (What OneDrive, deduplication and compression leave in a directory are no links.)  It is
 * followed if it belongs to us, to SYSTEM, to Administrators, or to the installer of Windows; any
 * other one is refused.
 *
 * Not promised: on a file server the server follows links, and we see none of them.  A process that
 * may not even look at the root of the drive (an AppContainer, for example) leaves them to the
 * system.  Lock files have no place: of the way to them nothing is asked.
 */
#ifndef MSALEX_PLACE_WINDOWS_H
#define MSALEX_PLACE_WINDOWS_H

#include "nt_windows.h"

struct msalex__place {
    HANDLE directory;    /* open for its attributes only: in nobody's way */
    wchar_t *path;       /* absolute, without links, for the search of names and for people */
    const wchar_t *name; /* in the directory: the end of `path` */
    bool exists;         /* something has the name (not after MSALEX__BLINDLY)... */
    DWORD attributes;    /* ...and these are its attributes */
    bool is_link;        /* MSALEX__ONLY_LOOK: it is a link; MSALEX__FOLLOW: a link led here */
};

enum msalex__look {
    MSALEX__BLINDLY,   /* do not look at the last part; an open without links will tell */
    MSALEX__ONLY_LOOK, /* look at it, but follow no link there */
    MSALEX__FOLLOW     /* look at it, and follow the link */
};

/* MSALEX_OK also when there is no such file, as long as its directory is there.  MSALEX_NOT_FOUND:
 * a directory is missing.  MSALEX_NOT_TRUSTED: a link was refused; the message names it and its
 * owner.  MSALEX_INVALID: the path names no file. */
int msalex__place_find(const char *path, enum msalex__look look, struct msalex__place *place,
                       msalex_error *error);

/* Opens the file, and follows no link.  (A file that is a reparse point of another kind, such as a
 * placeholder of OneDrive, is opened in the usual way, because its content comes only so.)
 * INVALID_HANDLE_VALUE with GetLastError. */
HANDLE msalex__place_open(const struct msalex__place *place, DWORD access, DWORD sharing, DWORD how,
                          PSECURITY_DESCRIPTOR security);

/* The attributes now, or INVALID_FILE_ATTRIBUTES. */
DWORD msalex__place_attributes(const struct msalex__place *place);

/* The same, repeated while its error may pass: at most 2 s, and MSALEX__DENIED_MS for a denial. */
HANDLE msalex__place_open_patiently(const struct msalex__place *place, DWORD access, DWORD sharing,
                                    DWORD how, PSECURITY_DESCRIPTOR security);

/* Can this error of a call on the file pass by itself?  If so, sleeps a little.  `since`: when the
 * first one came. */
bool msalex__place_may_pass(DWORD code, const struct msalex__place *place, int64_t since);

/* Fills the error of a file that could not be made in the directory. */
int msalex__fail_to_make(msalex_error *error, DWORD code, const char *call);

/* Closes and frees.  A second call is harmless. */
void msalex__place_leave(struct msalex__place *place);

#endif
