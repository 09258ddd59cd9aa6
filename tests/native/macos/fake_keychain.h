/*
 * A keychain in memory, as much as keychain_*macos.c use, on Linux.  It ends the program when a
 * query would select other items than one generic password of the default keychain.
 *
 * For Python: as long as FAKE_KEYCHAIN="SecItemUpdate=-25308" is in the environment, all calls of
 * that name fail with that OSStatus.  FAKE_CACHES is the directory of confstr (TMPDIR if it is not
 * set; none if it is empty).
 */
#ifndef MSALEX_TEST_FAKE_KEYCHAIN_H
#define MSALEX_TEST_FAKE_KEYCHAIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fake_keychain {
    int calls;     /* of the functions of Security, so far */
    int fail_call; /* which one returns `status`; 0: none */
    int32_t status;
    /* Called before each call: acts as another process. */
    void (*before)(const char *call);
    enum { RETURN_DATA, RETURN_NULL, RETURN_STRING } returning; /* by SecItemCopyMatching */
    enum { WORDS, NO_WORDS, LONG_WORDS } words;                 /* about an OSStatus */
    const char *last;                                           /* the name of the last call */
    const char *failed; /* the name of the call that `fail_call` means */
    bool locked;
    int writes;           /* so far */
    const void *referred; /* the item of the last reference */
};
extern struct fake_keychain fake_keychain;

/* The acts of another process. */
void fake_keychain_put(const char *service, const char *account, const void *data, size_t size);
bool fake_keychain_has(const char *service, const char *account, const char *label,
                       const void *data, size_t size);
void fake_keychain_clear(void);

#endif
