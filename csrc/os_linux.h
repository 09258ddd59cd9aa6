/* Linux' open file description (OFD) locks, for the lock and for data files: os_linux.c. */
#ifndef MSALEX_OS_LINUX_H
#define MSALEX_OS_LINUX_H

#include <stdbool.h>
#include <sys/types.h>

/* Sets (F_RDLCK, F_WRLCK) or withdraws (F_UNLCK) an OFD lock: 0 or errno. */
int msalex__ofd_lock(int fd, short type, off_t start, off_t length);

/* Does another open file hold an OFD or fcntl lock that excludes this one? */
bool msalex__ofd_conflict(int fd, short type, off_t start, off_t length);

#endif
