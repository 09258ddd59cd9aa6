/*
 * Waiting for a lock file of ours, Linux and macOS: lock_wait_linux.c, lock_wait_macos.c.
 */
#ifndef MSALEX_LOCK_WAIT_POSIX_H
#define MSALEX_LOCK_WAIT_POSIX_H

#include <stdbool.h>
#include <stdint.h>

#include "lock_file_posix.h"

/* Begins to wait for the file, which is OPEN: then it is WAITING or POLLING.  May exchange *file
 * for another one, which this process has queued for the same lock file already.  False: the file
 * has lost its name, or the name belongs to another file by now; *file is closed, and NULL. */
bool msalex__lock_wait_join(struct msalex__lock_file **file);

/* Waits.  0: the lock is ours; MSALEX__NOT_YET or MSALEX__SIGNAL: we still wait; else the result of
 * msalex__lock_file_take_over, or why flock failed. */
int msalex__lock_wait_for(struct msalex__lock_file *file, int64_t timeout_ms);

/* Stops waiting; if the lock comes later, or has just come, it is given back.  Frees the file; NULL
 * is fine. */
void msalex__lock_wait_leave(struct msalex__lock_file *file);

/* Keeps the flock of a file that we have held, and that has lost its name, for a moment longer, and
 * closes it then.  False: there is no thread for this. */
bool msalex__lock_wait_linger(struct msalex__lock_file *file);

#endif
