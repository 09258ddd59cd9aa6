/* The kernel's keyring where there is none.  Twin: kernelkey_linux.c. */
#include "internal.h"

static int fail_without(msalex_error *error) {
    return msalex__fail(error, MSALEX_UNAVAILABLE, 0, "keyctl",
                        "the kernel keeps keys on Linux only");
}

int msalex_kernelkey_find(const char *description, msalex_buffer *key, msalex_error *error) {
    (void)description;
    *key = (msalex_buffer){0};
    return fail_without(error);
}

int msalex_kernelkey_add(const char *description, const unsigned char *key, size_t size,
                         msalex_error *error) {
    (void)description, (void)key, (void)size;
    return fail_without(error);
}

int msalex_kernelkey_remove(const char *description, msalex_error *error) {
    (void)description;
    return fail_without(error);
}
