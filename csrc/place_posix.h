/*
 * Where a path leads: place_posix.c, Linux and macOS.
 *
 * The same path can lead to different files in two system calls: another user may exchange a
 * directory on it for a link in between.  So every function of this library that opens, makes,
 * changes or removes a file resolves its path once, here.  (msalex_file_stat and the watch only
 * look, and follow all links.)  The result is a directory, which a descriptor keeps open, and a
 * name in it.  All further steps use these two (openat, renameat, unlinkat ...) and no path.  Use:
 *
 *     struct msalex__place place;
 *     if ((status = msalex__place_find(path, &place, error)) != MSALEX_OK)
 *         return status;                      ...nothing is open...
 *     ...openat(place.directory, place.name, ... | O_NOFOLLOW)...
 *     msalex__place_leave(&place);
 *
 * These rules decide whether a symbolic link is followed.  The first one that fits counts:
 *
 *     it is a link of /proc whose text is not where it leads                  refuse
 *     it belongs to us or to root                                             follow
 *     it is in a sticky directory that others may write to, and its owner
 *         does not own the directory (the kernel's fs.protected_symlinks)     refuse
 *     its owner looks like root in this user namespace, and neither group
 *         nor others may write to any directory above it                      follow
 *     its owner also owns the target of the whole path: the file, or its
 *         directory if there is no file yet, or if the file is ours           follow
 *     any other link                                                          refuse
 *
 * "We" are the effective user id.  The rule about the target is systemd's (CHASE_SAFE, "unsafe
 * transition"): a user that owns the target as well gains nothing by the link.  (A file of ours in
 * that user's directory comes from an earlier save by the same link.  But that user can also give
 * any file of ours a second name there, so such a file is replaced and never written in place.)
 *
 * Not promised: that the path leads to the same place later, or that the directory still has a
 * name.  A place ends with the call that found it; only a held lock keeps its place.
 */
#ifndef MSALEX_PLACE_POSIX_H
#define MSALEX_PLACE_POSIX_H

#include <limits.h>
#include <stdbool.h>
#include <sys/stat.h>

#include "msalex.h"

struct msalex__place {
    int directory;       /* open for search only */
    char name[PATH_MAX]; /* in the directory, without a slash; "": see msalex__place_find */
    bool exists;         /* something with that name, but no link, was there... */
    struct stat file;    /* ...and this was its status */
    bool by_others_link; /* a link of another user led here; that user owns the file or directory */
    uid_t link_owner;    /* that user */
    bool keeps_owner;    /* from msalex__place_judge: a save may keep the file's owner */
    bool is_link;        /* the path ends with a link, which led here */
    int link_directory;  /* the directory of that link, if the caller asked for it; else -1 */
    char link_name[PATH_MAX];
};

/* Finds the place.  MSALEX_OK also when there is no such file (`exists` is false), as long as its
 * directory is there.  It is the same for a link whose target is missing, with `is_link`; if the
 * directory of that target is missing too, `name` is empty.  MSALEX_NOT_FOUND: a directory of the
 * path is missing.  MSALEX_NOT_TRUSTED: a link was refused; the message names the link and its
 * owner.  MSALEX_INVALID: the path names no file. */
int msalex__place_find(const char *path, struct msalex__place *place, msalex_error *error);

/* The same, and also finds the link that the path ends with, so that the caller can remove both. */
int msalex__place_find_both(const char *path, struct msalex__place *place, msalex_error *error);

/* The same for a file that the caller opens next, with O_NOFOLLOW.  It saves a system call: when no
 * link was on the path, it does not look at the last part, and `exists` is false.  If the open then
 * fails with ELOOP, that part is a link: call msalex__place_find. */
int msalex__place_find_to_open(const char *path, struct msalex__place *place, msalex_error *error);

/* The same for a lock file.  It does not look at the last part: `exists` is false, and a link there
 * is not followed.  (Lock files come and go; they are opened with O_NOFOLLOW.) */
int msalex__place_find_name(const char *path, struct msalex__place *place, msalex_error *error);

/* May the caller write, touch or remove the file?  MSALEX_OK: yes.  The exception is a file of a
 * third person (neither us nor the owner of the directory) in a directory that others may write to:
 * MSALEX_NOT_TRUSTED if the directory is sticky; if not, MSALEX_OK with `keeps_owner` false. */
int msalex__place_judge(struct msalex__place *place, msalex_error *error);

/* Closes the descriptors of the place.  A second call is harmless. */
void msalex__place_leave(struct msalex__place *place);

#endif
