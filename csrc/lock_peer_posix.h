/* Lock files of other libraries, Linux and macOS: has their holder died?  lock_peer_posix.c.  What
 * those libraries write and lock: docs/internals.md, "Who else uses the lock file". */
#ifndef MSALEX_LOCK_PEER_POSIX_H
#define MSALEX_LOCK_PEER_POSIX_H

#include <stdbool.h>
#include <stddef.h>

#include "lock_file_posix.h"

/* Has the peer that made this file died without removing it?  `bytes` are the start of the file's
 * content.  If we cannot find it out, the peer counts as alive. */
bool msalex__lock_peer_is_gone(struct msalex__lock_file *file, const char *bytes, size_t size);

/* Removes the file of a peer that is gone, unless another process was faster.  0; or the errno
 * value of the call that failed; or MSALEX__PEERS: the peer is not gone after all. */
int msalex__lock_peer_remove(struct msalex__lock_file *file);

#endif
