/* What the protocols of all platforms (lock_posix.c, lock_windows.c) and their looks at peers
 * (lock_peer_posix.c, lock_peer_windows.c) share. */
#ifndef MSALEX_LOCK_H
#define MSALEX_LOCK_H

/* What a look at the lock file's path, or a wait, led to. */
enum outcome {
    HELD,    /* by us now */
    QUEUED,  /* behind one of ours */
    PEER,    /* a peer's file is in the way */
    GAP,     /* the name stays free for peers, for a moment (Windows; lock_gap.h) */
    BUSY,    /* one of ours is in the way, and we were to try once */
    CHANGED, /* the file came or went meanwhile: look again */
    PASSING, /* something is in the way, and nothing wakes us when it goes: look soon (Windows) */
    NOT_YET, /* the wait ended first, and goes on with the next call */
    FAILED   /* the error says why */
};

enum {
    TRIES_MAX = 100,         /* times that one call starts over because files come and go */
    STALE_WITHOUT_PID_S = 5, /* a peer's file that names nobody: as long as 1.3.1 waits */
    STALE_ELSEWHERE_S = 60   /* one whose pid tells nothing: longer than any peer waits */
};

#endif
