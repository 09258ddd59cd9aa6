/*
 * Temporary files beside their target: temp_posix.c, Linux and macOS.
 *
 * New content is written to a temporary file, which is then renamed over its target.  A writer that
 * dies leaves its temporary file behind; a later save or delete in the same directory removes it.
 */
#ifndef MSALEX_TEMP_POSIX_H
#define MSALEX_TEMP_POSIX_H

enum {
    MSALEX__TEMP_NAME_SIZE = sizeof ".msalex-0123456789abcdef.tmp",
    /* After so many seconds a temporary file that shows no life belongs to a dead writer.  A sweep
     * waits for longer than a delete, because the first version of this library ended the lock that
     * shows life before its rename; a delete must remove secrets soon. */
    MSALEX__TEMP_DEAD_S = 60,
    MSALEX__TEMP_DEAD_SOON_S = 2
};

/* Fills `name` with a new name, which in practice no other call makes. */
void msalex__temp_name(char name[MSALEX__TEMP_NAME_SIZE]);

/* Opens a new temporary file, with mode 0600, which nobody else could open at any moment, whatever
 * access list the directory hands down.  Fills `name`.  Returns a descriptor that shows life
 * (os_posix.h), or -1 with errno. */
int msalex__temp_open(int directory, char name[MSALEX__TEMP_NAME_SIZE]);

/* Removes the file.  A call that a signal interrupts is repeated. */
void msalex__temp_remove(int directory, const char *name);

/* Removes the temporary files that dead writers left in the directory: 0 or errno. */
int msalex__temp_sweep(int directory, int dead_after_s);

#endif
