/*
 * A keychain in memory, and as much of Core Foundation as keychain_macos.c uses, on Linux.
 *
 * It ends the program where the real ones would crash or misbehave: a release of NULL or of
 * what was released before, a dictionary without the callbacks that retain, a query that would
 * select other items than one generic password of the file keychain.  And it ends it when a
 * CFMutableData dies with plaintext in it.
 *
 * From outside, for Python: FAKE_KEYCHAIN="SecItemUpdate=-25308" makes all calls of that name
 * fail with that OSStatus, as long as it stands in the environment.
 */
#ifndef MSALEX_TEST_FAKE_KEYCHAIN_H
#define MSALEX_TEST_FAKE_KEYCHAIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fake_keychain {
    int objects;  /* that live now */
    int creates;  /* so far */
    int calls;    /* of SecItem functions, so far */
    int fail_create; /* which one returns NULL; 0: none */
    int fail_call;   /* which one returns `status`; 0: none */
    int32_t status;
    /* Before each call: what another process does meanwhile. */
    void (*before)(const char *call);
    enum { RETURN_DATA, RETURN_NULL, RETURN_STRING } returning; /* by SecItemCopyMatching */
    enum { WORDS, NO_WORDS, LONG_WORDS } words;                 /* about an OSStatus */
    const char *last; /* the name of the last call */
};
extern struct fake_keychain fake_keychain;

/* What another process does with the items. */
void fake_keychain_put(const char *service, const char *account, const void *data, size_t size);
bool fake_keychain_has(const char *service, const char *account, const char *label,
                       const void *data, size_t size);
void fake_keychain_clear(void);

#endif
