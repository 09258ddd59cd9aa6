/* What the watches of all platforms share (watch.c), and what a watch does for the lock of POSIX
 * (watch_linux.c, watch_macos.c). */
#ifndef MSALEX_WATCH_H
#define MSALEX_WATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "msalex.h"

enum {
    MSALEX__LOOK_MS = 250,  /* between two looks, as a rule */
    MSALEX__BLIND_MS = 20,  /* the same while the system tells nothing... */
    MSALEX__EAGER_MS = 3000 /* ...for this time: a program may be about to make the directory */
};

/* When to look again.  `is_told`: the system tells of changes, and the look is for those that it
 * misses.  If not, there is no other way to find one; but a directory that is not there for a long
 * time must not keep a processor awake.  `blind_since` belongs to this function; 0 at first. */
int64_t msalex__watch_next_look(bool is_told, int64_t *blind_since);

/* The same as msalex_watch_new, for a caller that waits until the file loses its name.  (On Linux
 * the kernel then wakes the caller for nothing else.)  Not on Windows. */
int msalex__watch_new_leaving(const char *path, msalex_watch **watch, msalex_error *error);

#endif
