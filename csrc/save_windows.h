/* What save_windows.c and file_windows.c share. */
#ifndef MSALEX_SAVE_WINDOWS_H
#define MSALEX_SAVE_WINDOWS_H

#include "place_windows.h"

int msalex__fail_too_large(msalex_error *error, const char *call);

/* Sets the time of writing, because a peer may look at nothing else, and fills the stamp, which is
 * complete then.  False with GetLastError. */
bool msalex__finish(HANDLE file, msalex_stamp *stamp);

#endif
