/*
 * Temporary files beside the file that a save replaces: temp_windows.c.  Twin: temp_posix.h.
 *
 * The name is ".msalex-", 16 hexadecimal digits and ".tmp".  The target's name is no part of it,
 * because that may have 255 characters, which is all that a name can have.  A living writer has its
 * file open without sharing deletion; the file of a dead one is old, and nobody has it open.
 */
#ifndef MSALEX_TEMP_WINDOWS_H
#define MSALEX_TEMP_WINDOWS_H

#include "place_windows.h"

enum {
    MSALEX__TEMP_NAME_SIZE = 29, /* with the NUL */
    MSALEX__TEMP_DEAD_S = 60,    /* age at which a file may be a dead writer's */
    MSALEX__TEMP_DEAD_SOON_S = 2 /* the same for a delete, which must remove secrets soon */
};

/* Makes a temporary file in the directory of the place; fills its name.  It can be written, renamed
 * and deleted by this handle, whatever its list says.  INVALID_HANDLE_VALUE with GetLastError. */
HANDLE msalex__temp_open(const struct msalex__place *place, DWORD attributes,
                         PSECURITY_DESCRIPTOR list, wchar_t name[MSALEX__TEMP_NAME_SIZE]);

/* Removes the temporary files that dead writers left in the directory of the place: 0 or errno. */
int msalex__temp_sweep(const struct msalex__place *place, int dead_after_s);

#endif
