/* Sending a file's content to the disk, Linux. Twin: sync_macos.c. */
#define _POSIX_C_SOURCE 200809L /* fdatasync */
#include <unistd.h>

#include "internal.h"

/* fdatasync writes the data and the size, which is all that a rename needs behind it; the
 * times it leaves out are not worth a second journal commit. */
int msalex__sync(int fd) {
    return fdatasync(fd);
}
