/*
 * Temporary files beside their target: temp_posix.c, Linux and macOS.
 *
 * New content is written to one, which is then renamed over its target.  A writer that dies
 * leaves one behind; a later save, or delete, of anybody in that directory removes it.
 */
#ifndef MSALEX_TEMP_POSIX_H
#define MSALEX_TEMP_POSIX_H

enum {
    MSALEX__TEMP_NAME_SIZE = sizeof ".msalex-0123456789abcdef.tmp",
    /* Seconds after which a file that shows no life belongs to a dead writer.  Longer where
     * nobody waits for it: the first version of this library ended its lock before the rename. */
    MSALEX__TEMP_DEAD_S = 60,
    MSALEX__TEMP_DEAD_SOON_S = 2
};

/* Fills `name` with one that no other call makes. */
void msalex__temp_name(char name[MSALEX__TEMP_NAME_SIZE]);

/* Opens a new one, mode 0600 and without an inherited access list, and fills `name`.  A
 * descriptor that shows life, or -1 with errno. */
int msalex__temp_open(int directory, char name[MSALEX__TEMP_NAME_SIZE]);

/* Removes it; an interrupted call is made again. */
void msalex__temp_remove(int directory, const char *name);

/* Removes those that dead writers left in the directory: 0 or errno. */
int msalex__temp_sweep(int directory, int dead_after_s);

#endif
