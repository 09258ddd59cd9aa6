/*
 * How a lock file becomes the lock of this process, and how it stops being that, Linux and macOS:
 * lock_hold_posix.c.
 *
 * Functions that return an int return 0, an errno value, or one of the negative values of
 * lock_file_posix.h.
 */
#ifndef MSALEX_LOCK_HOLD_POSIX_H
#define MSALEX_LOCK_HOLD_POSIX_H

#include "lock_file_posix.h"

/* ---- how it comes to be ours ---- */

/* Makes the file with its name, already locked and filled: HOLDING.  EEXIST: there is one.  Where
 * one step cannot do that, or the file system has no locks, it does what is possible.  `said`: see
 * msalex__gap_of_new_file. */
int msalex__lock_file_publish(struct msalex__lock_file *file, struct msalex__gap said);

/* This process has the lock now: HOLDING. */
void msalex__lock_file_hold(struct msalex__lock_file *file);

/* Reads what a file of ours that has lost its name says to the processes that waited for it: fills
 * `gap`, `until` and `order`. */
void msalex__lock_file_read_farewell(struct msalex__lock_file *file);

/* Makes the file, of which this process has the flock, the lock of this process.  MSALEX__PEERS: it
 * is a peer's.  MSALEX__NAMELESS: `gap`, `until` and `order` are what it said. */
int msalex__lock_file_take_over(struct msalex__lock_file *file);

/* ---- how it goes ---- */

/* Gives a lock back that we hold: leaves the file to a waiter, or removes its name.
 * MSALEX__NAMELESS: the name was not ours any more.  The locks stay until the file is closed. */
int msalex__lock_file_give_back(struct msalex__lock_file *file);

/* The same for a flock that nobody took over, because its wait was given up; then closes.  The
 * flock alone does not make the file ours, so it asks the questions of a take-over first; if the
 * answer is not 0, it only closes the file. */
void msalex__lock_file_turn_down(struct msalex__lock_file *file);

/* Withdraws all locks, closes, takes it out of the registry and frees it; NULL is fine. */
void msalex__lock_file_close(struct msalex__lock_file *file);

#endif
