/*
 * When the lock leaves its name free for a moment, the same on all platforms.
 *
 * Most other libraries do not queue: they look every 50 to 250 ms whether the file is gone, and give
 * up after some seconds.  While programs of ours hand the lock to each other without a pause, none
 * of those looks would ever find it gone.  Such a peer leaves no trace before it gets in, so the
 * gap is blind: a lock file knows when the next gap is due (`when` in its record).  It is due
 * FIRST_MS after the file came to be, or AGAIN_MS if a peer was seen lately, as long as ours have
 * kept the lock busy meanwhile.  A release after that writes GAP and the end of the gap into
 * the record before the name goes.  Our waiters get the kernel's lock of the nameless file, read
 * that, and stay away until then.  Nothing has to be running for a gap to end.
 *
 * A peer that looks every 250 ms and waits for 5 s meets a gap of 270 ms at least once, and twice
 * when there was a peer before.
 *
 * Times are those of msalex__now_ms(), which all processes since the start of the system share.
 * (Other hosts, and containers with a clock of their own, do not: a time that cannot be right
 * counts as none.)
 *
 * What a process remembers of its locks is in a table of its own.  No function here takes a mutex:
 * the caller keeps other threads out.
 */
#ifndef MSALEX_LOCK_GAP_H
#define MSALEX_LOCK_GAP_H

#include <stdbool.h>
#include <stdint.h>

/* The number by which the table knows the lock with this path. */
uint64_t msalex__gap_key(const char *path);

/* A lock file has been made: when its first gap is due.  `carried` is what the file before it said
 * (0: nothing), if its holders and this one followed each other without a pause. */
int64_t msalex__gap_when(uint64_t key, int64_t carried, int64_t now);

/* The lock was taken over, in a file that says `when`: when the next gap is due. */
int64_t msalex__gap_next(uint64_t key, int64_t when, int64_t now);

/* The lock is given back now, after it was held since `since`.  0, or until when the name has to
 * stay free. */
int64_t msalex__gap_begin(uint64_t key, int64_t when, int64_t since, int64_t now);

/* `until`, as a GAP record says it, or 0 when there is no such gap now. */
int64_t msalex__gap_check(int64_t until, int64_t now);

/* Until when a gap lasts that this process has begun, or 0. */
int64_t msalex__gap_of_own(uint64_t key, int64_t now);

/* The name is free, as it seems.  Until when it may be so for a gap, or 0: this process held the
 * lock a moment ago, has not waited in the queue since, and a gap was due. */
int64_t msalex__gap_suspected(uint64_t key, int64_t now);

/* A peer's file was in the way, and was one lately. */
void msalex__gap_peer_seen(uint64_t key, int64_t now);
bool msalex__gap_was_peer_seen(uint64_t key, int64_t now);

#endif
