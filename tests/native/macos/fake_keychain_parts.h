/*
 * What the files of the fake keychain share, from the top:
 *
 *   fake_keychain.c         the functions of Security.framework
 *   fake_keychain_person.c  the program, the person, injected failures, the log, words
 *   fake_keychain_store.c   the keychains and their records
 */
#ifndef MSALEX_TEST_FAKE_KEYCHAIN_PARTS_H
#define MSALEX_TEST_FAKE_KEYCHAIN_PARTS_H

#include <Security/Security.h>
#include <stdbool.h>
#include <stdint.h>

enum { KEYCHAINS_MAX = 4, PROGRAMS_MAX = 4, PROCESSES_MAX = 64, TEXT_MAX = 256 };

/* A place in a table, which is used again for other records, and a number that is not. */
struct place {
    uint32_t number;
    uint32_t version;
};

struct programs {
    char names[PROGRAMS_MAX][TEXT_MAX]; /* an empty one ends them */
};

struct record {
    struct record *next;
    unsigned char *data;
    struct facts {
        struct place place;
        int keychain;
        bool is_broken;
        int64_t written; /* seconds since 2001 */
        char service[TEXT_MAX], account[TEXT_MAX], label[TEXT_MAX];
        struct programs access, partitions;
        size_t size;
    } facts;
};

struct store {
    struct {
        char name[TEXT_MAX]; /* empty: there is none */
        bool is_searched, is_locked, is_gone;
    } keychains[KEYCHAINS_MAX];
    int default_keychain; /* -1: none */
    uint32_t versions;    /* so far */
    int overlaps;
    int processes[PROCESSES_MAX]; /* that are inside */
    struct record *records;
};

/* One call of a function of Security. */
struct visit {
    const char *call;
    OSStatus injected;
    bool works_first; /* before it fails */
    bool has_asked;
};

/* ---- fake_keychain_store.c ---- */

/* All keychains, which no other thread or process changes until fake_store_close(). */
struct store *fake_store_open(void);
void fake_store_close(void);

/* Do other processes have these keychains, too? */
bool fake_store_is_shared(void);

struct record *fake_store_find(const struct store *store, unsigned keychains, const char *service,
                               const char *account);
struct record *fake_store_at(const struct store *store, struct place place);

/* The failure of a call that found the record there a moment ago. */
OSStatus fake_store_gone(const struct store *store, struct place place);

struct record *fake_store_insert(struct store *store, const struct facts *facts, const void *data,
                                 size_t size);
void fake_store_remove(struct store *store, struct record *record);
int fake_store_keychain(const struct store *store, const char *name);

/* The time in the keychains: whole seconds since 2001 (a CSSM date has no fractions). */
int64_t fake_keychain_now(void);

/* A random number below `limit`. */
unsigned fake_random(unsigned limit);

/* ---- fake_keychain_person.c ---- */

/* The beginning and the end of each call; a call that has an injected status fails with it. */
struct visit fake_visit_begin(const char *call);
OSStatus fake_visit_end(struct visit *visit, OSStatus status);

/* Other processes come in between two steps of a call.  The result is a failure or 0. */
OSStatus fake_visit_pause(void);

/* Asks the person, if the call may ask; the OSStatus if the answer is no.  `*always`: allow it
 * always. */
OSStatus fake_visit_ask(struct visit *visit, bool may_ask, bool *always);

void fake_visit_allow_dialogs(bool allowed);

const char *fake_program(void);
bool fake_programs_have(const struct programs *programs, const char *program);
bool fake_programs_have_base_name(const struct programs *programs, const char *program);
void fake_programs_add(struct programs *programs, const char *program);

#endif
