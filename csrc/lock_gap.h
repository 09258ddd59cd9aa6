/*
 * When the lock leaves its name free for a moment, the same on all platforms.
 *
 * Most other libraries do not queue: they look every 50 to 250 ms whether the file is gone, and
 * give up after some seconds.  While programs of ours hand the lock to each other without a pause,
 * none of those looks would ever find it gone.  Such a peer leaves no trace before it gets in, so
 * we cannot know whether one waits, and make a gap in any case: the record of a lock file says when
 * the next gap is due, `when`, and when a peer was last seen, `seen`.  As long as ours keep the
 * lock busy, a gap is due
 *
 *     FIRST_MS after the file was made, or after the last gap, if no peer was seen lately;
 *     EAGER_MS after the first gap in which a peer was seen: several may have been waiting, and a
 *         single gap lets in one or two of them;
 *     AGAIN_MS after each further gap.
 *
 * A release after that time writes GAP and the end of the gap into the record before the name goes.
 * Our waiters get the kernel's lock of the nameless file, read that, and stay away until then.  No
 * process has to run for a gap to end.
 *
 * Times are those of msalex__now_ms(), which all processes since the start of the system share.
 * (Other hosts, and containers with a clock of their own, do not share it: a time that cannot be
 * right counts as none.)
 *
 * A process remembers its locks in a table, which a mutex, "the registry", guards.
 */
#ifndef MSALEX_LOCK_GAP_H
#define MSALEX_LOCK_GAP_H

#include <stdbool.h>
#include <stdint.h>

/* Keeps other threads out of that table and, on POSIX, out of the list of open lock files; a fork
 * waits, too (lock_registry_posix.c, lock_registry_windows.c).  The functions below enter it
 * themselves, so their callers must be outside. */
void msalex__registry_enter(void);
void msalex__registry_leave(void);

/* What a record says about gaps; 0: nothing. */
struct msalex__gap {
    int64_t when;
    int64_t seen;
};

/* The number by which the table knows the lock with this path. */
uint64_t msalex__gap_key(const char *path);

/* A lock file has been made: what shall be written into it?  `said`: by the file before it, if this
 * process waited for that. */
struct msalex__gap msalex__gap_of_new_file(uint64_t key, struct msalex__gap said, int64_t now);

/* The lock was taken over, in a file that says `said`: what shall be written instead? */
struct msalex__gap msalex__gap_of_taken_file(uint64_t key, struct msalex__gap said, int64_t now);

/* The lock is given back now.  It was held since `since`, in a file that says `said`.  Returns
 * until when the name has to stay free, or 0. */
int64_t msalex__gap_begin(uint64_t key, struct msalex__gap said, int64_t since, int64_t now);

/* Returns `until`, as a GAP record says it, or 0 when that is no gap that lasts now. */
int64_t msalex__gap_check(int64_t until, int64_t now);

/* Until when does a gap last that this process has begun?  0: there is none. */
int64_t msalex__gap_of_own(uint64_t key, int64_t now);

/* The name seems to be free.  Until when may that be because of a gap?  0: there is no reason to
 * think so.  Else this process held the lock a moment ago and has not waited in the queue since,
 * and a gap was due. */
int64_t msalex__gap_suspected(uint64_t key, int64_t now);

/* Remembers that a peer's file was in the way.  Was one in the way lately? */
void msalex__gap_peer_seen(uint64_t key, int64_t now);
bool msalex__gap_was_peer_seen(uint64_t key, int64_t now);

#endif
