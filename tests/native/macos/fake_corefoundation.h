/*
 * As much of Core Foundation as keychain_*macos.c use, on Linux.
 *
 * It ends the program where the real one would crash or misbehave: when the program releases NULL
 * or an object twice, or makes an array or a dictionary without the callbacks that retain.  It also
 * ends the program when a CFMutableData that still has plaintext is freed.
 */
#ifndef MSALEX_TEST_FAKE_COREFOUNDATION_H
#define MSALEX_TEST_FAKE_COREFOUNDATION_H

#include <CoreFoundation/CoreFoundation.h>
#include <stdbool.h>

enum { PAIRS_MAX = 8, CONSTANT = -1 };
enum kind { FREED, BOOLEAN = 100, STRING, DATA, DICTIONARY, ARRAY, DATE, KEYCHAIN, ITEM };

/* Any object of Core Foundation. */
struct object {
    enum kind kind;
    int references; /* or CONSTANT */
    bool is_mutable;
    CFIndex size, capacity; /* of the bytes */
    unsigned char *bytes;
    CFIndex count; /* of the values, and of the keys of a dictionary */
    const struct object *keys[PAIRS_MAX], *values[PAIRS_MAX];
    CFAbsoluteTime time; /* of a date */
    struct object *next,
        *former; /* in a list of all, so that a forked child can still reach those of
                                     its parent's threads */
};

struct fake_corefoundation {
    int objects;     /* the number that lives now */
    int creates;     /* how many were made so far */
    int fail_create; /* which one returns NULL; 0: none */
};
extern struct fake_corefoundation fake_corefoundation;

#define FAKE_CONSTANT(type, name, kind_)                                                           \
    static const struct object name##_object = {.kind = kind_, .references = CONSTANT};           \
    const type name = (type)&name##_object

/* How many objects live now.  What threads did with objects before is visible after it. */
int fake_objects(void);

/* Ends the program if the condition does not hold. */
void fake_require(bool condition, const char *what);

/* A new object; NULL when the test says so. */
struct object *fake_create(enum kind kind, CFIndex capacity);

/* The object, which lives and is of that kind. */
const struct object *fake_checked(CFTypeRef reference);
const struct object *fake_of_kind(CFTypeRef reference, enum kind kind);
const struct object *fake_retain(CFTypeRef reference);

#endif
