/*
 * The bytes of an open file: content_posix.c, Linux and macOS.
 */
#ifndef MSALEX_CONTENT_POSIX_H
#define MSALEX_CONTENT_POSIX_H

#include <sys/stat.h>
#include <sys/types.h>

#include "msalex.h"

/* Reads the file from the position of the descriptor to its end: 0 or errno.  EFBIG: it has more
 * than MSALEX_FILE_SIZE_MAX bytes.  On failure `content` is empty. */
int msalex__content_read(int fd, const struct stat *file, msalex_buffer *content);

/* Writes all bytes at that offset: 0 or errno. */
int msalex__content_write(int fd, const unsigned char *data, size_t size, off_t offset);

/* Writes new content over the old content, and sends it to the disk.  A reader can find a mixture
 * meanwhile.  On failure the old content is there again, or the status is MSALEX_TORN.  (The old
 * content can only be restored when the descriptor is open for reading as well.) */
int msalex__content_overwrite(int fd, const unsigned char *data, size_t size, msalex_error *error);

#endif
