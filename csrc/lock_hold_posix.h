/*
 * How a lock file comes to be ours, and how it goes, Linux and macOS: lock_hold_posix.c.
 *
 * Functions that return an int return 0, an errno value, or one of lock_file_posix.h's values.
 */
#ifndef MSALEX_LOCK_HOLD_POSIX_H
#define MSALEX_LOCK_HOLD_POSIX_H

#include "lock_file_posix.h"

/* ---- how it comes to be ours ---- */

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
