/* The keychain where there is none.  Twin: keychain_macos.c. */
#include "internal.h"

int msalex_keychain_available(msalex_error *error) {
    return msalex__fail(error, MSALEX_UNAVAILABLE, 0, "SecItemCopyMatching",
                        "the keychain exists on macOS only");
}

int msalex_keychain_save(const char *service, const char *account, const unsigned char *secret,
                         size_t size, msalex_error *error) {
    (void)service, (void)account, (void)secret, (void)size;
    return msalex_keychain_available(error);
}

int msalex_keychain_load(const char *service, const char *account, msalex_buffer *secret,
                         msalex_error *error) {
    (void)service, (void)account;
    *secret = (msalex_buffer){0};
    return msalex_keychain_available(error);
}

int msalex_keychain_delete(const char *service, const char *account, msalex_error *error) {
    (void)service, (void)account;
    return msalex_keychain_available(error);
}
