/*
 * One open lock file, Linux and macOS: lock_file_posix.c.  The protocol that this serves stands at
 * the top of lock_posix.c; the life of a lock file is in lock_registry_posix.h.
 */
#ifndef MSALEX_LOCK_FILE_POSIX_H
#define MSALEX_LOCK_FILE_POSIX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

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

/* Is the open file still the one that has the name?  MSALEX__NAMELESS: it is not. */
int msalex__lock_file_check(const struct msalex__lock_file *file);

/* Does the path still lead to the directory of the lock file?  Else others exclude each other
 * elsewhere. */
bool msalex__lock_file_is_at(const struct msalex__lock_file *file, const char *path);

/* Removes the name, which is this file's. */
int msalex__lock_file_unlink(const struct msalex__lock_file *file);

/* ---- how it comes to be ours ---- */

/* Tries the flock.  EWOULDBLOCK: another has it. */
int msalex__lock_file_try(const struct msalex__lock_file *file);

/* Makes the file with its name, already locked and filled: HOLDING.  EEXIST: there is one.  Where
 * that cannot be done in one step, or locks do not exist, it does what it can.  `said`: see
 * msalex__gap_of_new_file. */
int msalex__lock_file_publish(struct msalex__lock_file *file, struct msalex__gap said);

/* It is this process's now: HOLDING. */
void msalex__lock_file_hold(struct msalex__lock_file *file);

/* A file of ours that has lost its name: what does it say to those that waited for it?  Fills
 * `gap`, `until` and `order`. */
void msalex__lock_file_read_farewell(struct msalex__lock_file *file);

/* Makes the file, whose flock this process has, its lock.  MSALEX__PEERS; MSALEX__NAMELESS: `gap`,
 * `until` and `order` are what it said. */
int msalex__lock_file_take_over(struct msalex__lock_file *file);

/* ---- how it goes ---- */

/* Gives the name of a lock that we hold back: leaves the file to a waiter, or removes it.
 * MSALEX__NAMELESS: it was not ours any more.  The locks stay until the file is closed. */
int msalex__lock_file_give_back(struct msalex__lock_file *file);

/* The same for a flock that nobody took over, because its wait was given up, and closes.  The
 * flock alone does not make the file ours: the questions of a take-over come first, and where the
 * answer is not 0 the file is only closed. */
void msalex__lock_file_turn_down(struct msalex__lock_file *file);

/* Withdraws all locks, closes, takes it out of the registry and frees it; NULL is fine. */
void msalex__lock_file_close(struct msalex__lock_file *file);

#endif
