/* The keychain where there is none.  Twin: keychain_macos.c. */
#include "internal.h"

int msalex_keychain_available(msalex_error *error) {
    return msalex__fail(error, MSALEX_UNAVAILABLE, 0, "SecItemCopyMatching",
                        "the keychain exists on macOS only");
}

int msalex_keychain_start(int operation, const msalex_keychain_item *item,
                          const unsigned char *secret, size_t size, int64_t timeout_ms,
                          msalex_keychain_call **call, msalex_error *error) {
    (void)operation, (void)item, (void)secret, (void)size, (void)timeout_ms;
    *call = NULL;
    return msalex_keychain_available(error);
}

int msalex_keychain_wait(msalex_keychain_call *call, int64_t slice_ms, msalex_buffer *secret,
                         msalex_error *error) {
    (void)call, (void)slice_ms;
    *secret = (msalex_buffer){0};
    return msalex_keychain_available(error);
}

void msalex_keychain_free(msalex_keychain_call *call) {
    (void)call;
}
