/*
 * The keychain of macOS on Linux, as far as keychain_*macos.c use it.  It models the rules that
 * Apple's source shows (libsecurity_keychain and securityd of Security-61901, named where each is
 * modelled), and what others measured:
 *
 *   - several keychains, a search list, and a default keychain that need not be in the list;
 *   - an item is a record.  An update removes the record and inserts another one.  A reader finds
 *     the record first and fetches it later.  So a reader beside a writer meets failures;
 *   - an access list of programs, and a partition list that each save sets to the program that
 *     saved.  A program that is not in both needs the permission of a person;
 *   - a locked keychain, whose password a person has to give;
 *   - a switch that forbids dialogs to this process.
 *
 * It ends the program when two threads are inside it at once, or when a query would select other
 * items than one generic password of the file keychains.  Objects are those of
 * fake_corefoundation.h.
 *
 * The environment says how it behaves.  It is read at each call.
 *
 *   FAKE_KEYCHAIN            failures: rules with commas between them.  "SecItemUpdate=-25308":
 *                            each call of that name fails so.  "SecItemUpdate=-25308*2": the
 *                            first two calls in this process since the variable got this value.
 *                            "SecItemUpdate=-25299!": it fails so after it has done its work
 *   FAKE_KEYCHAIN_DIRECTORY  where the keychains are, for all processes with the same directory.
 *                            Without it they are in the memory of each process
 *   FAKE_KEYCHAIN_LOG        a file that gets a line for each call, at its end, or when a person
 *                            that is away is asked:
 *                            <pid> <call> allowed|forbidden asked|quiet <OSStatus, or "away">
 *   FAKE_PERSON              what the person at the screen answers: "allow" (also if this is not
 *                            set), "always", "deny", "mistaken" (gives wrong passwords for more
 *                            than three seconds), "away" (never answers), "none" (there is no screen)
 *   FAKE_PROGRAM             which program this is, for access lists; else its name
 *   FAKE_CACHES              the directory of confstr; else TMPDIR.  Empty: there is none
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
    const char *failed; /* the name of that one */
    /* Called before each call: acts as another process. */
    void (*before)(const char *call);
    enum { RETURN_ALL, RETURN_NULL, RETURN_STRING, RETURN_LESS } returning; /* when it copies */
    enum { WORDS, NO_WORDS, LONG_WORDS } words;                             /* about an OSStatus */
    const char *last; /* the name of the last call */
    int asked;        /* how often a person was asked */
    int64_t later;    /* seconds by which the clock of the keychains is ahead */
};
extern struct fake_keychain fake_keychain;

/* The acts of another process: in the default keychain, as the program that FAKE_PROGRAM names. */
void fake_keychain_put(const char *service, const char *account, const void *data, size_t size);
bool fake_keychain_has(const char *service, const char *account, const char *label,
                       const void *data, size_t size);

/* The item can be read, but the hash over it is wrong. */
void fake_keychain_break(const char *service, const char *account);

/* Only the keychain "login" is left, empty, unlocked, the default one and in the search list. */
void fake_keychain_clear(void);

/* Makes this keychain if need be, and makes it the default one; NULL: there is no default one. */
void fake_keychain_set_default(const char *name, bool in_search_list);
void fake_keychain_lock(const char *name);
void fake_keychain_lose(const char *name); /* somebody removes its file */
bool fake_keychain_is_locked(const char *name);

/* How often a process came in while another one was inside, since the directory is there. */
int fake_keychain_overlaps(void);

/* Are dialogs allowed to this process? */
bool fake_keychain_allows_dialogs(void);

/* The person that is away comes back, and answers what FAKE_PERSON says by now. */
void fake_keychain_person_returns(void);

#endif
