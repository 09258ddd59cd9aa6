/*
 * One open lock file, Linux and macOS: lock_file_posix.c.  The protocol that this serves stands at
 * the top of lock_posix.c; the life of a lock file is in lock_registry_posix.h.
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

/* What functions that return an errno value say besides. */
enum {
    MSALEX__NAMELESS = -1, /* the file has lost its name */
    MSALEX__PEERS = -2,    /* it has become a peer's */
    MSALEX__NOT_YET = -3,  /* another has it; the wait goes on with the next call ... */
    MSALEX__SIGNAL = -4    /* ... and so it does when a signal came */
};

/* ---- its place ---- */

/* Resolves the path, once for all that a look does: a new lock file in that place, OPEN, whose
 * file is not open yet.  `program` is copied. */
int msalex__lock_file_arrive(const char *path, const char *program, uint64_t key,
                             struct msalex__lock_file **file, msalex_error *error);

/* ---- what is in it, and which name it has ----
 *
 * Functions that return an int return 0 or an errno value. */

/* How far does a flock on the open file, on that device, reach?  0: it excludes all who can open
 * the file.  Else only those of this machine who come by the same mount: a number that only they
 * share. */
uint64_t msalex__lock_view(int fd, dev_t device);

/* Looks which file the open one is: `device`, `inode`, `remote`, `view`.  EINVAL: no regular file;
 * ESTALE: it has gone. */
int msalex__lock_file_identify(struct msalex__lock_file *file, struct stat *opened);

/* Closes the descriptor of the file, so that another file can be opened in that place. */
void msalex__lock_file_close_fd(struct msalex__lock_file *file);

/* Opens what has the name.  EINVAL: not a regular file. */
int msalex__lock_file_open(struct msalex__lock_file *file);

/* The start of the content, and how many bytes there are of it. */
int msalex__lock_file_read(const struct msalex__lock_file *file, char bytes[MSALEX__RECORD_SIZE],
                           size_t *size);

/* Has anything the name? */
bool msalex__lock_file_is_name_taken(const struct msalex__lock_file *file);

/* The same as msalex__lock_file_read of whatever has the name now. */
int msalex__lock_file_read_named(const struct msalex__lock_file *file,
                                 char bytes[MSALEX__RECORD_SIZE], size_t *size);

/* Is this content of a file whose flock decides?  Not of a peer's, and not of one of ours whose
 * flock does not reach us.  Remembers the nonce of any of ours. */
bool msalex__lock_file_is_ours(struct msalex__lock_file *file, const char *bytes, size_t size);

/* Has it a record of ours, which nobody wrote over?  Which one? */
bool msalex__lock_file_has_record(const struct msalex__lock_file *file,
                                  struct msalex__record *record);

/* Is the open file still the one that has the name?  MSALEX__NAMELESS: it is not. */
int msalex__lock_file_check(const struct msalex__lock_file *file);

/* Does the path still lead to the directory of the lock file?  Else others exclude each other
 * elsewhere. */
bool msalex__lock_file_is_at(const struct msalex__lock_file *file, const char *path);

/* Removes the name, which is this file's. */
int msalex__lock_file_unlink(const struct msalex__lock_file *file);

/* Tries the flock.  EWOULDBLOCK: another has it. */
int msalex__lock_file_try(const struct msalex__lock_file *file);

#endif
