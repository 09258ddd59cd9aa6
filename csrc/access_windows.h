/*
 * The owner of a file, and the readers of a new one, Windows: access_windows.c.
 *
 * "We" are the user of this thread: the system judges each open by that user, also while a service
 * acts for a client.
 */
#ifndef MSALEX_ACCESS_WINDOWS_H
#define MSALEX_ACCESS_WINDOWS_H

#include "os_windows.h"

/* Does the file belong to us, or to somebody that rules this machine anyway: SYSTEM,
 * Administrators, the installer of Windows?  Needs a handle with READ_CONTROL.  If not, or if this
 * cannot be found out, `owner` (of MSALEX__OWNER_SIZE) gets the identifier of the owner. */
enum { MSALEX__OWNER_SIZE = 200 };
bool msalex__is_trusted(HANDLE file, char *owner);

/* The list of a private file: us, SYSTEM and Administrators may read and write it.  To be freed
 * with LocalFree; NULL with GetLastError. */
PSECURITY_DESCRIPTOR msalex__private_list(void);

/* The list for a file that replaces `old`, a handle with READ_CONTROL or INVALID_HANDLE_VALUE.  To
 * be freed with LocalFree.  NULL stands for what the directory gives to each new file.  False with
 * GetLastError. */
bool msalex__list_for(HANDLE old, PSECURITY_DESCRIPTOR *list);

#endif
