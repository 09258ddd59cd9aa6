/*
 * What the pieces of the Windows lock share: lock_windows.c (the protocol), lock_wait_windows.c
 * (waiting for a byte with a deadline) and lock_peer_windows.c (other libraries' files).
 */
#ifndef MSALEX_LOCK_WINDOWS_H
#define MSALEX_LOCK_WINDOWS_H

#include "lock_record.h"
#include "os_windows.h"

/* ---- lock_wait_windows.c ---- */

/* The locked byte of one handle: wanted, asked for, or ours.  The system writes to it while a
 * request is out, so it may not move, nor be freed before msalex__byte_leave. */
struct msalex__byte {
    OVERLAPPED overlapped;
    HANDLE file;  /* opened for overlapped use */
    bool pending; /* a request is out */
    bool queues;  /* requests were seen to wait: this system has a queue */
};

/* False with GetLastError. */
bool msalex__byte_init(struct msalex__byte *byte, HANDLE file);

/* Asks once: 0 when it is ours now, ERROR_LOCK_VIOLATION, or why not. */
DWORD msalex__byte_try(struct msalex__byte *byte);

/* Waits: as above; after ERROR_LOCK_VIOLATION it has kept its place in the queue. */
DWORD msalex__byte_wait(struct msalex__byte *byte, int64_t timeout_ms);

/* Takes a request back that is out.  True when the byte is ours all the same. */
bool msalex__byte_leave(struct msalex__byte *byte);

/* Unlocks it if it is ours, and forgets it. */
void msalex__byte_free(struct msalex__byte *byte, bool locked);

/* ---- lock_peer_windows.c ---- */

/* Has the peer that made this file died without removing it?  `content` is its start. */
bool msalex__peer_is_gone(HANDLE file, const char *content, size_t size);

/* A watch for names that come and go in the directory of `path`, or INVALID_HANDLE_VALUE. */
HANDLE msalex__names_watch(const wchar_t *path);

/* Waits until one may have gone, for 250 ms at most: what else could free the lock is seen by
 * looking again.  Then waits for the next. */
void msalex__names_wait(HANDLE watch, int64_t timeout_ms);

#endif
