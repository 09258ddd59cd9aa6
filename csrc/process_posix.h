/*
 * This boot of the machine, and its processes: process_linux.c, process_macos.c.
 */
#ifndef MSALEX_PROCESS_POSIX_H
#define MSALEX_PROCESS_POSIX_H

#include <stddef.h>
#include <stdint.h>
#include <time.h>

/* Reads a text that names this boot of this machine, and no other.  Returns its length; 0: it is
 * hidden. */
size_t msalex__read_boot_id(char *id, size_t room);

/* What can we find out about the process that wrote its pid into a file at that time?  Pids are
 * given to other processes later, and other namespaces have other pids.  UNSEEN: the process may be
 * one that is not visible from here. */
enum msalex__life { MSALEX__DEAD, MSALEX__ALIVE, MSALEX__UNSEEN };
enum msalex__life msalex__life_of(int64_t pid, time_t written);

enum {
    /* A process that started later than this after the file was written, by the clock of today, is
     * not its writer.  The margin is large because somebody may have set the clock since. */
    MSALEX__REUSE_S = 3600,
    MSALEX__BOOT_S = 60 /* the same for a file that is older than this boot */
};

#endif
