/*
 * Where a path leads: place_posix.c, Linux and macOS.
 *
 * A path is a question that others may answer anew each time it is asked: between two system
 * calls a directory on it can be exchanged for a link.  So every function of this library that
 * opens, makes, changes or removes what a path names asks once, here.  (msalex_file_stat and
 * the watch only look.)  The answer is a directory, pinned by a descriptor, and a name in it.  All
 * further steps use these two (openat, renameat, unlinkat ...) and no path.  Use:
 *
 *     struct msalex__place place;
 *     if ((status = msalex__place_find(path, &place, error)) != MSALEX_OK)
 *         return status;                      ...nothing is open...
 *     ...openat(place.directory, place.name, ... | O_NOFOLLOW)...
 *     msalex__place_leave(&place);
 *
 * Symbolic links are followed on these conditions, of which the first that fits decides:
 *
 *     it is a link of /proc that leads elsewhere than it reads                refuse
 *     the link is ours or root's                                              follow
 *     it is in a sticky directory that others may write to, and its owner
 *         is not the directory's (the kernel's rule, fs.protected_symlinks)   refuse
 *     its owner also owns what the path finally leads to: the file, or the
 *         directory if there is no file or if the file is ours                follow
 *     its owner cannot be told from root in this user namespace, and no
 *         directory above it is writable by group or others                   follow
 *     it is any other link                                                    refuse
 *
 * "Ours" is the effective user id.  The third condition is systemd's (CHASE_SAFE, "unsafe
 * transition"): a user who owns the target as well gains nothing by the link.  (A file of ours in
 * that user's directory is what a save by the same link has made.  The user can also give a file
 * of ours a second name there; so such a file is replaced, and never written in place.)
 *
 * Not promised: that the path still leads to the place later, nor that the directory still has
 * any name.  A place does not outlive the call that found it, except in a lock that is held.
 */
#ifndef MSALEX_PLACE_POSIX_H
#define MSALEX_PLACE_POSIX_H

#include <limits.h>
#include <stdbool.h>
#include <sys/stat.h>

#include "msalex.h"

struct msalex__place {
    int directory;       /* search permission is all that is known of it */
    char name[PATH_MAX]; /* in the directory; no slash; "": see msalex__place_find */
    bool exists;         /* something had that name, and was no link: its status is... */
    struct stat file;
    bool by_others_link; /* a link of this user, who owns the file or its directory, led here */
    uid_t link_owner;
    bool keeps_owner;    /* set by msalex__place_judge: new content belongs to the file's owner */
    bool is_link;        /* the path's last part is a link, which led here */
    int link_directory;  /* where that link is, if it was asked for; else -1 */
    char link_name[PATH_MAX];
};

/* Finds it.  MSALEX_OK also when there is no such file (`exists` is false), as long as there is
 * its directory.  A link that leads nowhere is such a file too, with `is_link`; where it leads
 * into a directory that is missing, the name is empty.  MSALEX_NOT_FOUND: a directory is missing;
 * MSALEX_NOT_TRUSTED: a link was refused, and the message names the link and its owner;
 * MSALEX_INVALID: the path names no file. */
int msalex__place_find(const char *path, struct msalex__place *place, msalex_error *error);

/* The same, and finds the link too that the path ends with: for removing both. */
int msalex__place_find_both(const char *path, struct msalex__place *place, msalex_error *error);

/* The same for a file that is opened next, with O_NOFOLLOW, which tells as much in one call less:
 * at the end of a path without links `exists` is false.  ELOOP, when it is opened, means: find it
 * again, by msalex__place_find. */
int msalex__place_find_to_open(const char *path, struct msalex__place *place,
                               msalex_error *error);

/* The same for a lock file, whose last part is not looked at: `exists` is false, and no link is
 * followed there.  (Lock files come and go; they are opened with O_NOFOLLOW.) */
int msalex__place_find_name(const char *path, struct msalex__place *place, msalex_error *error);

/* May the file be written, touched or removed?  A third person's, neither ours nor the owner's of
 * the directory, where others may write to the directory: not if that is sticky
 * (MSALEX_NOT_TRUSTED); else yes, but `keeps_owner` is false. */
int msalex__place_judge(struct msalex__place *place, msalex_error *error);

/* Closes what it pins; harmless a second time. */
void msalex__place_leave(struct msalex__place *place);

#endif
