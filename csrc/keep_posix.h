/*
 * What a save keeps of the file that it replaces, Linux and macOS: keep_posix.c.
 *
 * The new file is a temporary file of mode 0600.  Its attributes come before its content, because a
 * file that is kept out of backups has to be that from its first byte.  Its rights come after it,
 * because nobody shall read an unfinished file.
 */
#ifndef MSALEX_KEEP_POSIX_H
#define MSALEX_KEEP_POSIX_H

#include <sys/stat.h>

/* Gives the new file those extended attributes of the old one that belong to the user and outlive a
 * change of the content: on Linux "user.*"; on macOS those that the system itself keeps in a save,
 * such as tags and the mark that keeps a file out of backups.  What cannot be copied is left out:
 * the file system may have no attributes, or the system may keep one for itself.  Not kept: more
 * than 8 KB of names, a value of more than 64 KB, a label of SELinux, a flag of chattr(1). */
void msalex__keep_attributes(int old, int new);

/* Gives the new file the owner, group, access list and mode of the old one, but nobody more rights
 * than before: 0 or errno. */
int msalex__keep_rights(int old, const struct stat *status, int new);

#endif
