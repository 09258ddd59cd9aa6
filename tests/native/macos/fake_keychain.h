/*
 * A keychain in memory, and as much of Core Foundation as keychain_macos.c uses, on Linux.
 *
 * It ends the program where the real ones would crash or misbehave: when it releases NULL or an
 * object twice, makes a dictionary without the callbacks that retain, or makes a query that would
 * select other items than one generic password of the file keychain.  It also ends the program when
 * a CFMutableData that still has plaintext is freed.
 *
 * For Python: as long as FAKE_KEYCHAIN="SecItemUpdate=-25308" is in the environment, all calls of
 * that name fail with that OSStatus.
 */
#ifndef MSALEX_TEST_FAKE_KEYCHAIN_H
#define MSALEX_TEST_FAKE_KEYCHAIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fake_keychain {
    int objects;     /* the number that lives now */
    int creates;     /* how many were made so far */
    int calls;       /* of SecItem functions, so far */
    int fail_create; /* which one returns NULL; 0: none */
    int fail_call;   /* which one returns `status`; 0: none */
    int32_t status;
    /* Called before each call: acts as another process. */
    void (*before)(const char *call);
    enum { RETURN_DATA, RETURN_NULL, RETURN_STRING } returning; /* by SecItemCopyMatching */
    enum { WORDS, NO_WORDS, LONG_WORDS } words;                 /* about an OSStatus */
    const char *last;                                           /* the name of the last call */
};
extern struct fake_keychain fake_keychain;

/* The acts of another process. */
void fake_keychain_put(const char *service, const char *account, const void *data, size_t size);
bool fake_keychain_has(const char *service, const char *account, const char *label,
                       const void *data, size_t size);
void fake_keychain_clear(void);

#endif
