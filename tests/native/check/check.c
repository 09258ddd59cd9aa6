/* See check.h. */
#include "check.h"

#include <stdio.h>

enum { TRIES = 3000, TRY_MS = 10 }; /* together 30 s, for a busy machine */

_Thread_local msalex_error error;
static int failures; /* of the running property; properties check in their main thread only */
static int failed, ran;
static const char *skipped;
static bool descriptors_kept;
static void (*before_each)(void), (*after_each)(void);

bool check(bool condition, const char *text, const char *file, int line) {
    if (!condition) {
        failures++;
        printf("    %s:%d: not so: %s\n", file, line, text);
    }
    return condition;
}

bool check_status(int status, int expected, const char *text, const char *file, int line) {
    bool empty = error.code == 0 && error.call[0] == '\0' && error.message[0] == '\0';
    bool told = error.call[0] != '\0' && error.message[0] != '\0';

    if (status != expected || (status == MSALEX_OK ? !empty : !told)) {
        failures++;
        printf("    %s:%d: status %d, expected %d, error %ld \"%s\" \"%s\": %s\n", file, line,
               status, expected, (long)error.code, error.call, error.message, text);
        return false;
    }
    return true;
}

void skip(const char *reason) {
    skipped = reason;
}

void may_keep_descriptors(void) {
    descriptors_kept = true;
}

void around_each_property(void (*before)(void), void (*after)(void)) {
    before_each = before;
    after_each = after;
}

static void check_descriptors(int before) {
    static bool may_close; /* a library may close now what it kept in an earlier property */

    /* An abandoned wait leaves a thread blocked in flock, which needs a moment to end. */
    for (int tries = 0; tries < TRIES && !descriptors_kept && count_descriptors() > before; tries++)
        sleep_ms(TRY_MS);
    may_close = may_close || descriptors_kept;
    if (may_close)
        CHECK(descriptors_kept || count_descriptors() <= before);
    else
        CHECK(count_descriptors() == before);
}

static void run_property(const struct property *property) {
    char directory[512];
    const int before = count_descriptors();

    failures = 0;
    skipped = NULL;
    descriptors_kept = false;
    if (CHECK(enter_new_directory(directory, sizeof directory))) {
        if (before_each != NULL)
            before_each();
        property->run();
        if (after_each != NULL)
            after_each();
        check_descriptors(before);
        leave_and_remove_directory(directory);
    }
    if (skipped != NULL && failures == 0)
        printf("skipped: %s: %s\n", property->sentence, skipped);
    else
        printf("%s: %s\n", failures > 0 ? "FAILED" : "ok", property->sentence);
    (void)fflush(stdout);
    failed += failures;
    ran++;
}

void run_properties(const struct property *properties, size_t count) {
    for (size_t i = 0; i < count; i++)
        run_property(&properties[i]);
}

int end_of_properties(void) {
    printf("%d properties, %d checks failed\n", ran, failed);
    return failed == 0 ? 0 : 1;
}
