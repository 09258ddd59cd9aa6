/* Sending a file's content to the disk, macOS. Twin: sync_linux.c. */
#define _DARWIN_C_SOURCE /* F_BARRIERFSYNC */
#include <fcntl.h>
#include <unistd.h>

#include "internal.h"

/* fsync does not make the drive empty its cache, which may then write the rename before the
 * content.  A barrier keeps the order; emptying the cache (F_FULLFSYNC) would cost tens of
 * milliseconds for nothing that a save promises.  Not every file system has barriers. */
int msalex__sync(int fd) {
    return fcntl(fd, F_BARRIERFSYNC) == 0 ? 0 : fsync(fd);
}
