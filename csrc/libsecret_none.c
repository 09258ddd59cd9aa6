/* The Secret Service where there is none.  Twin: libsecret_linux.c. */
#include "internal.h"

static int fail_unavailable(msalex_error *error) {
    return msalex__fail(error, MSALEX_UNAVAILABLE, 0, "libsecret",
                        "the Secret Service exists on Linux only");
}

int msalex_libsecret_start(int operation, const msalex_libsecret_item *item,
                           const unsigned char *secret, size_t size, int64_t timeout_ms,
                           msalex_libsecret_call **call, msalex_error *error) {
    (void)operation, (void)item, (void)secret, (void)size, (void)timeout_ms;
    *call = NULL;
    return fail_unavailable(error);
}

int msalex_libsecret_wait(msalex_libsecret_call *call, int64_t slice_ms, msalex_buffer *secret,
                          msalex_error *error) {
    (void)call, (void)slice_ms;
    *secret = (msalex_buffer){0};
    return fail_unavailable(error);
}

void msalex_libsecret_free(msalex_libsecret_call *call) {
    (void)call;
}
