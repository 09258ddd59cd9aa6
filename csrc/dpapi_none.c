/* The Data Protection API on systems that have none.  Twin: dpapi_windows.c. */
#include "internal.h"

int msalex_dpapi_available(msalex_error *error) {
    return msalex__fail(error, MSALEX_UNAVAILABLE, 0, "CryptProtectData",
                        "the Data Protection API exists on Windows only");
}

int msalex_dpapi_protect(const unsigned char *data, size_t size, const unsigned char *entropy,
                         size_t entropy_size, int scope, msalex_buffer *blob, msalex_error *error) {
    (void)data, (void)size, (void)entropy, (void)entropy_size, (void)scope;
    *blob = (msalex_buffer){0};
    return msalex_dpapi_available(error);
}

int msalex_dpapi_unprotect(const unsigned char *blob, size_t size, const unsigned char *entropy,
                           size_t entropy_size, msalex_buffer *data, msalex_error *error) {
    (void)blob, (void)size, (void)entropy, (void)entropy_size;
    *data = (msalex_buffer){0};
    return msalex_dpapi_available(error);
}
