/*
 * What the pieces of the macOS lock share: lock_macos.c (the protocol), lock_file_macos.c (one
 * lock file, and fork) and lock_peer_macos.c (other libraries' files).
 */
#ifndef MSALEX_LOCK_MACOS_H
#define MSALEX_LOCK_MACOS_H

#include <limits.h>
#include <stdbool.h>
#include <sys/types.h>

#include "lock_record.h"
#include "place_posix.h"

/* ---- lock_file_macos.c ---- */

/* The lock file that one msalex_lock has open, and its place: the directory in which it has its
 * name.  All of them are in a registry, because a child made by fork must close them: it would
 * otherwise keep the lock of a parent that was killed. */
struct msalex__lock_file {
    struct msalex__lock_file *next;
    int fd;        /* -1: not open, or inherited by fork */
    int queue;     /* the kqueue that tells of changes of it, or -1 */
    int directory; /* every step uses this and the name, and no path; -1: no place yet */
    dev_t device;
    ino_t inode;
    bool exists; /* flock does not work there: its existence is the lock */
    char name[PATH_MAX];
};

void msalex__lock_file_register(struct msalex__lock_file *file);
void msalex__lock_file_forget(struct msalex__lock_file *file);

/* Takes the directory of `place` over, whose `directory` is -1 then. */
void msalex__lock_file_place(struct msalex__lock_file *file, struct msalex__place *place);

/* Opens what has the name.  False with errno; EINVAL: not a regular file. */
bool msalex__lock_file_open(struct msalex__lock_file *file);

/* Makes the file with its name, already locked and filled.  False with errno; EEXIST: there is
 * one.  Where that cannot be done in one step, or locks do not exist, it does what it can. */
bool msalex__lock_file_publish(struct msalex__lock_file *file, const char *program);

/* Has a kqueue tell of an unlock, and of the file's leaving its name.  Where that cannot be,
 * `queue` stays -1. */
void msalex__lock_file_watch(struct msalex__lock_file *file);

/* Unlocks, closes and leaves the place; fine when nothing is open. */
void msalex__lock_file_close(struct msalex__lock_file *file);

/* Does the open file still have its name in its directory? */
bool msalex__lock_file_is_named(const struct msalex__lock_file *file);

/* Does its path, which led to this place just now, still lead to its directory? */
bool msalex__lock_file_is_in(const struct msalex__lock_file *file,
                             const struct msalex__place *place);

/* Removes the name, which is this file's: 0 or errno. */
int msalex__lock_file_unlink(const struct msalex__lock_file *file);

/* The start of the content; how many bytes there are of it. */
size_t msalex__lock_file_read(int fd, char bytes[MSALEX__RECORD_SIZE]);

/* Writes the record that says who holds the lock.  False with errno. */
bool msalex__lock_file_write_held(const struct msalex__lock_file *file, const char *program);

/* Tries flock: 0, EWOULDBLOCK, or why there is none; and is that a file system without it? */
int msalex__lock_file_try(const struct msalex__lock_file *file);
bool msalex__is_unsupported(int code);

/* ---- lock_peer_macos.c ---- */

/* Has the peer that made this file died without removing it?  `content` is its start.  If so,
 * its flock is ours now, where there is one. */
bool msalex__peer_is_gone(const struct msalex__lock_file *file, const char *content,
                          size_t size);

#endif
