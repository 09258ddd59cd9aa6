/* What the watch does for the lock: watch_linux.c, watch_macos.c. */
#ifndef MSALEX_WATCH_H
#define MSALEX_WATCH_H

#include "msalex.h"

/* The same as msalex_watch_new, for a caller that waits until the file loses its name.  (On Linux
 * the kernel then wakes the caller for nothing else.) */
int msalex__watch_new_leaving(const char *path, msalex_watch **watch, msalex_error *error);

#endif
