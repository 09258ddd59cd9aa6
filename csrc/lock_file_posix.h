/*
 * One open lock file and its name, Linux and macOS: lock_file_posix.c.  How such a file becomes a
 * lock is in lock_hold_posix.h, the life of a lock file in lock_registry_posix.h, the protocol at
 * the top of lock_posix.c.
 */
#ifndef MSALEX_LOCK_FILE_POSIX_H
#define MSALEX_LOCK_FILE_POSIX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "lock_gap.h"
#include "lock_record.h"
#include "lock_registry_posix.h"
#include "msalex.h"

/* What functions that return an errno value can return as well. */
enum {
    MSALEX__NAMELESS = -1, /* the file has lost its name */
    MSALEX__PEERS = -2,    /* it has become a peer's */
    MSALEX__NOT_YET = -3,  /* another has it; the wait goes on with the next call... */
    MSALEX__SIGNAL = -4,   /* ...and so it does after a signal */
    MSALEX__ELECTED = -5   /* it has lost its name, and no other waiter of ours makes the next one
                            * before this one closes the file (macOS) */
};

/* ---- its place ---- */

/* Resolves the path, once for all steps of a look.  The new lock file in that place is OPEN, but
 * its file is not opened yet.  `program` is copied. */
int msalex__lock_file_arrive(const char *path, const char *program, uint64_t key,
                             struct msalex__lock_file **file, msalex_error *error);

/* ---- what is in it, and which name it has ----
 *
 * Functions that return an int return 0 or an errno value. */

/* How far does a flock on the open file, on that device, reach?  0: it excludes all processes that
 * can open the file.  Any other number: it excludes only processes of this machine that come by the
 * same mount, and only they have that number. */
uint64_t msalex__lock_view(int fd, dev_t device);

/* Finds out which file the open one is: fills `device`, `inode`, `remote`, `view`.  EINVAL: not a
 * regular file; ESTALE: it has gone.  `opened`: its status. */
int msalex__lock_file_identify(struct msalex__lock_file *file, struct stat *opened);

/* Closes the descriptor of the file, so that another file can be opened in that place. */
void msalex__lock_file_close_fd(struct msalex__lock_file *file);

/* Opens the file that has the name.  EINVAL: not a regular file. */
int msalex__lock_file_open(struct msalex__lock_file *file);

/* Reads the start of the content; `size`: how many bytes there are. */
int msalex__lock_file_read(const struct msalex__lock_file *file, char bytes[MSALEX__RECORD_SIZE],
                           size_t *size);

/* Does any file have the name? */
bool msalex__lock_file_is_name_taken(const struct msalex__lock_file *file);

/* The same of the file that has the name now. */
int msalex__lock_file_read_named(const struct msalex__lock_file *file,
                                 char bytes[MSALEX__RECORD_SIZE], size_t *size);

/* Is this the content of a file whose flock decides?  A peer's is not, nor one of ours whose flock
 * does not reach us.  Remembers the nonce of any file of ours. */
bool msalex__lock_file_is_ours(struct msalex__lock_file *file, const char *bytes, size_t size);

/* Does the open file hold a record of ours, which nobody wrote over?  Fills `record`. */
bool msalex__lock_file_has_record(const struct msalex__lock_file *file,
                                  struct msalex__record *record);

/* Is the open file still the one that has the name?  MSALEX__NAMELESS: it is not. */
int msalex__lock_file_check(const struct msalex__lock_file *file);

/* Does the path still lead to the directory of the lock file?  If not, other processes exclude each
 * other elsewhere. */
bool msalex__lock_file_is_at(const struct msalex__lock_file *file, const char *path);

/* Removes the name.  The caller has checked that it is this file's. */
int msalex__lock_file_unlink(const struct msalex__lock_file *file);

/* Tries the flock.  EWOULDBLOCK: another has it. */
int msalex__lock_file_try(struct msalex__lock_file *file);

/* Withdraws all locks of the open file, but unlocks only what it has locked: on macOS an unlock
 * wakes all waiters, even if nothing was locked. */
void msalex__lock_file_unlock(struct msalex__lock_file *file);

#endif
