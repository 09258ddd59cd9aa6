/* Saving a file, and reading an open one: save_windows.c.  file_windows.c has the functions of
 * msalex.h. */
#ifndef MSALEX_SAVE_WINDOWS_H
#define MSALEX_SAVE_WINDOWS_H

#include "place_windows.h"

struct msalex__new_content {
    const unsigned char *data;
    size_t size;
    msalex_lock *guard; /* or NULL: see msalex_file_replace */
    bool replaces;      /* or it fails if the file exists */
};

/* Reads from where the handle is to the end.  Another process may be writing the file in place, so
 * it may be longer or shorter than `expected`.  0 or GetLastError; what was read until then is in
 * `content`, which the caller frees. */
DWORD msalex__read_all(HANDLE file, size_t expected, msalex_buffer *content);

int msalex__fail_too_large(msalex_error *error, const char *call);

/* Sets the time of writing to now, because a peer may look at nothing else.  False with
 * GetLastError. */
bool msalex__set_time(HANDLE file);

/* Replaces or makes the file.  The stamp is empty after a failure. */
int msalex__save(const char *path, struct msalex__new_content content, msalex_stamp *stamp,
                 msalex_error *error);

#endif
