/* Buffers that wipe themselves. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

/* A compiler that sees memset before free may drop it, because nothing reads that memory any more.
 * It cannot do so through a volatile pointer (libcperciva's insecure_memzero does the same).
 * Copies in registers, in swapped pages and in core dumps stay. */
static void *(*const volatile set_memory)(void *, int, size_t) = memset;

void msalex__wipe(void *memory, size_t size) {
    if (memory != NULL)
        (void)set_memory(memory, 0, size);
}

int msalex__buffer_copy(msalex_buffer *buffer, const void *data, size_t size, msalex_error *error) {
    buffer->data = NULL;
    buffer->size = 0;
    if (size > 0) {
        if ((buffer->data = malloc(size)) == NULL)
            return msalex__fail_errno(error, ENOMEM, "malloc");
        memcpy(buffer->data, data, size);
        buffer->size = size;
    }
    return msalex__ok(error);
}

void msalex_buffer_free(msalex_buffer *buffer) {
    if (buffer == NULL)
        return;
    msalex__wipe(buffer->data, buffer->size);
    free(buffer->data);
    buffer->data = NULL;
    buffer->size = 0;
}
