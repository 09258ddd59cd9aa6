/* The bytes of an open file.  The promise is in content_posix.h. */
#define _XOPEN_SOURCE 700 /* pwrite */
#define _DARWIN_C_SOURCE
#include "content_posix.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "internal.h"
#include "os_posix.h"

/* ---- reading ---- */

/* Reads to the end: 0 or errno.  Another process may be writing the file in place, so it may be
 * longer or shorter than fstat said.  Exactly the size that fstat said counts as the end. */
static int read_all(int fd, size_t expected, msalex_buffer *content) {
    size_t room = expected + 1; /* one byte more, so that one read shows a longer file */
    ssize_t count;

    if ((content->data = malloc(room)) == NULL)
        return ENOMEM;
    while (content->size <= MSALEX_FILE_SIZE_MAX) {
        if (content->size == room) {
            msalex_buffer larger = {.data = malloc(room * 2), .size = content->size};
            if (larger.data == NULL)
                return ENOMEM;
            memcpy(larger.data, content->data, content->size);
            msalex_buffer_free(content);
            *content = larger;
            room *= 2;
        }
        count = read(fd, content->data + content->size, room - content->size);
        if (count < 0 && errno != EINTR)
            return errno;
        if (count > 0)
            content->size += (size_t)count;
        if (count == 0 || content->size == expected)
            return 0;
    }
    return EFBIG;
}

int msalex__content_read(int fd, const struct stat *file, msalex_buffer *content) {
    int code =
        file->st_size > MSALEX_FILE_SIZE_MAX ? EFBIG : read_all(fd, (size_t)file->st_size, content);

    if (code != 0)
        msalex_buffer_free(content);
    return code;
}

/* ---- writing ---- */

int msalex__content_write(int fd, const unsigned char *data, size_t size, off_t offset) {
    while (size > 0) {
        ssize_t written = pwrite(fd, data, size, offset);
        if (written < 0 && errno != EINTR)
            return errno;
        if (written > 0) {
            data += written;
            size -= (size_t)written;
            offset += written;
        }
    }
    return 0;
}

/* Makes sure that the disk has room, before the old content changes: 0 or errno. */
static int make_room(int fd, const unsigned char *data, size_t size, size_t old_size) {
    int code = msalex__reserve(fd, (off_t)size);

    if (code != EOPNOTSUPP)
        return code;
    /* No reservation here: write the part that is longer than the old content first. */
    return size <= old_size
               ? 0
               : msalex__content_write(fd, data + old_size, size - old_size, (off_t)old_size);
}

/* 0 or errno. */
static int replace_all(int fd, const unsigned char *data, size_t size) {
    int code = msalex__content_write(fd, data, size, 0);
    const char *call;

    if (code == 0 && ftruncate(fd, (off_t)size) != 0)
        code = errno;
    return code != 0 ? code : msalex__sync(fd, &call);
}

/* Cuts off what make_room() may have added.  True when the file is as long as before. */
static bool cut_off(int fd, off_t size) {
    struct stat file;
    return ftruncate(fd, size) == 0 || (fstat(fd, &file) == 0 && file.st_size == size);
}

int msalex__content_overwrite(int fd, const unsigned char *data, size_t size, msalex_error *error) {
    const char *call = "write in place";
    msalex_buffer content = {0};
    bool is_whole = true, has_content;
    struct stat old;
    int code, status;

    if (fstat(fd, &old) != 0)
        return msalex__fail_errno(error, errno, call);
    has_content = msalex__content_read(fd, &old, &content) == 0;
    if ((code = make_room(fd, data, size, (size_t)old.st_size)) != 0)
        is_whole = cut_off(fd, old.st_size);
    else if ((code = replace_all(fd, data, size)) != 0)
        is_whole = has_content && replace_all(fd, content.data, content.size) == 0;
    msalex_buffer_free(&content);
    if (code == 0)
        return msalex__ok(error);
    status = msalex__fail_errno(error, code, call);
    return is_whole ? status : MSALEX_TORN;
}
