/*
 * Waiting for a lock file of ours, the same on Linux and macOS: lock_wait_linux.c,
 * lock_wait_macos.c.
 */
#ifndef MSALEX_LOCK_WAIT_POSIX_H
#define MSALEX_LOCK_WAIT_POSIX_H

#include <stdbool.h>
#include <stdint.h>

#include "lock_file_posix.h"

/* Begins to wait for the file, which is OPEN: WAITING or POLLING.  May exchange *file for one that
 * waits for the same file already; that one goes on in the place of *file.  False: the file has
 * lost its name, or is another by now; *file is closed, and NULL. */
bool msalex__lock_wait_join(struct msalex__lock_file **file);

/* Waits: 0 when the lock is ours; MSALEX__NOT_YET or MSALEX__SIGNAL while we still wait; else what
 * msalex__lock_file_take_over says, or why flock failed. */
int msalex__lock_wait_for(struct msalex__lock_file *file, int64_t timeout_ms);

/* Stops waiting; a lock that comes, or came, is given back.  Frees the file; NULL is fine. */
void msalex__lock_wait_leave(struct msalex__lock_file *file);

/* Keeps a file that we have held and that has lost its name locked for a moment longer, and closes
 * it then.  False: nothing is there to do so. */
bool msalex__lock_wait_linger(struct msalex__lock_file *file);

#endif
