/*
 * The one line in a lock file, the same on all platforms.
 *
 *     1234 /usr/bin/az  ...  SEEN WHEN VIEW msalex1       1234 HELD     000 89abcdef01234567
 *
 * "<pid> <program>" comes first, as msal-extensions 1.3.1 writes it, for people.  Behind it, at a
 * fixed place, stands what makes the file ours.  The length is fixed, so that a new record replaces
 * the whole of an old one in a single write.  (The first release of this library had no SEEN, WHEN
 * and VIEW, and a longer text.  Each of the two reads the other's records.)
 *
 * Nobody may rely on a record: a peer may truncate or overwrite it while we hold the lock.  It
 * decides only whether a file is ours or a peer's, and, among ours, how long the name stays free
 * for peers (lock_gap.h).
 */
#ifndef MSALEX_LOCK_RECORD_H
#define MSALEX_LOCK_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    MSALEX__RECORD_SIZE = 256, /* bytes; of them 161 for people */
    MSALEX__RECORD_TURNS = 999 /* the most that fits into three digits */
};

enum msalex__record_state {
    MSALEX__HELD,   /* if the kernel says so: by the process named, or the next in the queue */
    MSALEX__EXISTS, /* made where flock does not work: the file's existence is the lock */
    MSALEX__GAP     /* given back; its name, which is gone, shall stay free until `when` */
};

struct msalex__record {
    int64_t pid;
    enum msalex__record_state state;
    unsigned turn;  /* hand-overs since the file was made; GAP: waiters that were sent away */
    uint64_t nonce; /* of the file: tells two files of the same inode number apart */
    int64_t seen;   /* see lock_gap.h; 0: never */
    int64_t when;   /* the same; 0: not known */
    uint64_t view;  /* how far a kernel lock reaches: msalex__lock_view (POSIX); 0: everywhere */
};

/* Writes exactly MSALEX__RECORD_SIZE bytes, without a NUL. */
void msalex__record_format(const struct msalex__record *record, const char *program,
                           char bytes[MSALEX__RECORD_SIZE]);

/* True when `bytes` are a record of ours that nobody wrote over. */
bool msalex__record_parse(const char *bytes, size_t size, struct msalex__record *record);

/* The pid that any library's lock file starts with, or 0: `123`, `123 x`, {123} {x}, and all of
 * them behind a byte order mark (.NET). */
int64_t msalex__record_pid(const char *bytes, size_t size);

/* Cuts `bytes`, which anybody may have written, to the part for people, "<pid> <program>": one line
 * of UTF-8, with '?' for each byte that a terminal would obey instead of print.  Returns its
 * length. */
size_t msalex__record_text(char *bytes, size_t size);

#endif
