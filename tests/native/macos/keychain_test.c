/*
 * The unchanged keychain_*macos.c over the fake keychain: their promises, and then each operation
 * again with a failure at every place that can fail.  Run by tests/macos/test_over_fakes.py.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <Security/Security.h>

#include "check.h"
#include "fake_corefoundation.h"
#include "fake_kernel.h"
#include "fake_keychain.h"

static const char SERVICE[] = "msal-extensions", ACCOUNT[] = "4e07408562bedb8b";
static const char SECRET[] = "a secret that must not leak", OTHER[] = "what was there before";

/* Codes of Security.h and others, the status that we make of each, and whether it passes. */
static const struct {
    int32_t code;
    int status;
    bool passes;
} STATUSES[] = {
    {-25300, MSALEX_NOT_FOUND, false},   {-25299, MSALEX_OS_ERROR, false},
    {-25308, MSALEX_DENIED, false},      {-25315, MSALEX_DENIED, false},
    {-128, MSALEX_DENIED, false},        {-25292, MSALEX_DENIED, false},
    {-61, MSALEX_DENIED, false},         {-67061, MSALEX_DENIED, false},
    {-67068, MSALEX_DENIED, false},      {-67030, MSALEX_DENIED, false},
    {-25244, MSALEX_DENIED, false},      {-60005, MSALEX_DENIED, false},
    {-60006, MSALEX_DENIED, false},      {-60007, MSALEX_DENIED, false},
    {-25307, MSALEX_UNAVAILABLE, false}, {-25294, MSALEX_UNAVAILABLE, false},
    {-25291, MSALEX_UNAVAILABLE, true},  {-25295, MSALEX_UNAVAILABLE, false},
    {-34018, MSALEX_UNAVAILABLE, false}, {-50, MSALEX_INVALID, false},
    {-25302, MSALEX_INVALID, false},     {-4, MSALEX_OS_ERROR, false},
    {-36, MSALEX_OS_ERROR, false},       {-108, MSALEX_OS_ERROR, false},
    {-26275, MSALEX_OS_ERROR, false},    {1, MSALEX_OS_ERROR, false},
    {INT32_MIN, MSALEX_OS_ERROR, false}, {-25293, MSALEX_DENIED, true},
    {-25320, MSALEX_DENIED, true},       {-67701, MSALEX_OS_ERROR, true},
    {-25304, MSALEX_OS_ERROR, true},     {-2070, MSALEX_OS_ERROR, true},
    {-308, MSALEX_OS_ERROR, true},
};
enum { STATUS_COUNT = sizeof STATUSES / sizeof STATUSES[0], LONG_MS = 60000, SLICE_MS = 50 };

static int injected; /* how many failures there were in all */

/* ---- the operations ---- */

static msalex_keychain_item item = {SERVICE, ACCOUNT, 1};

/* Carries out an operation as Python does: in slices. */
static int perform(int operation, const void *data, size_t size, int64_t timeout_ms,
                   msalex_buffer *secret) {
    msalex_keychain_call *call;
    int status = msalex_keychain_start(operation, &item, data, size, timeout_ms, &call, &error);

    *secret = (msalex_buffer){0};
    if (status != MSALEX_OK) {
        CHECK(call == NULL);
        return status;
    }
    do
        status = msalex_keychain_wait(call, SLICE_MS, secret, &error);
    while (status == MSALEX_TIMEOUT && error.code == 0);
    msalex_keychain_free(call);
    return status;
}

/* The same for an operation that returns no secret. */
static int act(int operation, const char *data) {
    msalex_buffer secret;
    const int status = perform(operation, data, strlen(data), LONG_MS, &secret);
    CHECK(secret.data == NULL && secret.size == 0);
    return status;
}

static int save(void) {
    return act(MSALEX_KEYCHAIN_SAVE, SECRET);
}

static int add(void) {
    return act(MSALEX_KEYCHAIN_ADD, SECRET);
}

static int delete(void) {
    return act(MSALEX_KEYCHAIN_DELETE, "");
}

static int unlock(void) {
    return act(MSALEX_KEYCHAIN_UNLOCK, "");
}

static int load(void) {
    msalex_buffer secret;
    const int status = perform(MSALEX_KEYCHAIN_LOAD, NULL, 0, LONG_MS, &secret);

    if (status == MSALEX_OK)
        CHECK(secret.size == strlen(SECRET) && memcmp(secret.data, SECRET, secret.size) == 0);
    else
        CHECK(secret.data == NULL && secret.size == 0);
    msalex_buffer_free(&secret);
    return status;
}

static int load_quietly(void) {
    item.interactive = 0;
    return load();
}

static int save_quietly(void) {
    item.interactive = 0;
    return save();
}

static char version[64]; /* which the last look told */

static int look(void) {
    msalex_buffer secret;
    const int status = perform(MSALEX_KEYCHAIN_LOOK, NULL, 0, LONG_MS, &secret);

    CHECK((status == MSALEX_OK) == (secret.size > 0) && secret.size < sizeof version);
    memset(version, 0, sizeof version);
    if (secret.size > 0)
        memcpy(version, secret.data, secret.size);
    msalex_buffer_free(&secret);
    return status;
}

static const struct {
    const char *name;
    int (*run)(void);
    bool there; /* the item, before */
} OPERATIONS[] = {
    {"save a new item", save, false},
    {"save over an old one", save, true},
    {"add", add, false},
    {"unlock", unlock, true},
    {"look", look, true},
    {"look at nothing", look, false},
    {"load", load, true},
    {"load quietly", load_quietly, true},
    {"save quietly", save_quietly, false},
    {"load nothing", load, false},
    {"delete", delete, true},
    {"delete nothing", delete, false},
};
enum { OPERATION_COUNT = sizeof OPERATIONS / sizeof OPERATIONS[0] };

static void start(bool there) {
    static const char *const variables[] = {"FAKE_KEYCHAIN", "FAKE_PERSON", "FAKE_PROGRAM",
                                            "FAKE_CACHES"};
    for (size_t i = 0; i < COUNT(variables); i++)
        (void)unsetenv(variables[i]);
    item = (msalex_keychain_item){SERVICE, ACCOUNT, 1};
    fake_keychain_clear();
    fake_keychain = (struct fake_keychain){0};
    fake_corefoundation = (struct fake_corefoundation){0};
    fake_kernel = (struct fake_kernel){0};
    if (there)
        fake_keychain_put(SERVICE, ACCOUNT, SECRET, strlen(SECRET));
}

/* After each call, however it ended. */
static void check_end(void) {
    CHECK(fake_objects() == 0);
    CHECK(strstr(error.message, SECRET) == NULL && strstr(error.call, SECRET) == NULL);
}

/* ---- properties ---- */

static bool has(const char *data) {
    return fake_keychain_has(SERVICE, ACCOUNT, SERVICE, data, strlen(data));
}

static void keeps_secrets(void) {
    msalex_buffer secret;
    static unsigned char large[300000];

    start(false);
    CHECK_STATUS(msalex_keychain_available(&error), MSALEX_OK);
    CHECK_STATUS(load(), MSALEX_NOT_FOUND);
    CHECK(error.code == -25300 && strcmp(error.call, "SecItemCopyMatching") == 0);
    CHECK_STATUS(delete(), MSALEX_NOT_FOUND);
    CHECK_STATUS(save(), MSALEX_OK);
    CHECK(has(SECRET)); /* under the service's name, for people */
    CHECK_STATUS(load(), MSALEX_OK);
    fake_keychain_put(SERVICE, ACCOUNT, OTHER, strlen(OTHER));
    CHECK_STATUS(save(), MSALEX_OK);
    CHECK(has(SECRET));
    CHECK_STATUS(delete(), MSALEX_OK);
    CHECK_STATUS(load(), MSALEX_NOT_FOUND);

    memset(large, 0xe9, sizeof large);
    item = (msalex_keychain_item){"s", "é", 1};
    CHECK_STATUS(perform(MSALEX_KEYCHAIN_SAVE, large, sizeof large, LONG_MS, &secret), MSALEX_OK);
    CHECK_STATUS(perform(MSALEX_KEYCHAIN_LOAD, NULL, 0, LONG_MS, &secret), MSALEX_OK);
    CHECK(secret.size == sizeof large && memcmp(secret.data, large, sizeof large) == 0);
    msalex_buffer_free(&secret);
    CHECK_STATUS(perform(MSALEX_KEYCHAIN_SAVE, large, 0, LONG_MS, &secret), MSALEX_OK);
    CHECK_STATUS(perform(MSALEX_KEYCHAIN_LOAD, NULL, 0, LONG_MS, &secret), MSALEX_OK);
    CHECK(secret.size == 0);
    msalex_buffer_free(&secret);
    item.account = "e";
    CHECK_STATUS(perform(MSALEX_KEYCHAIN_LOAD, NULL, 0, LONG_MS, &secret), MSALEX_NOT_FOUND);
    item = (msalex_keychain_item){SERVICE, ACCOUNT, 1};
    check_end();
}

static void refuses_what_selects_too_much(void) {
    static const char *const bad[][2] = {{"", "a"}, {"s", ""}, {"\xff", "a"}, {"s", "a\xc3"}};

    start(true);
    for (size_t i = 0; i < 4; i++) {
        item = (msalex_keychain_item){bad[i][0], bad[i][1], 1};
        for (int operation = 0; operation <= MSALEX_KEYCHAIN_DELETE; operation++) {
            CHECK_STATUS(act(operation, SECRET), MSALEX_INVALID);
            CHECK(error.code == -50);
            check_end();
        }
    }
    item = (msalex_keychain_item){SERVICE, ACCOUNT, 1};
    CHECK_STATUS(act(-1, SECRET), MSALEX_INVALID);
    CHECK_STATUS(act(MSALEX_KEYCHAIN_DELETE + 1, SECRET), MSALEX_INVALID);
    CHECK(fake_keychain.calls == 0);
}

static void adds_only_where_there_is_none(void) {
    start(false);
    CHECK_STATUS(add(), MSALEX_OK);
    CHECK(has(SECRET));
    fake_keychain_put(SERVICE, ACCOUNT, OTHER, strlen(OTHER));
    CHECK_STATUS(add(), MSALEX_OS_ERROR);
    CHECK(error.code == -25299 && has(OTHER) && fake_keychain.calls == 2 * 3); /* at once */
    check_end();
}

static void looks_without_the_secret(void) {
    char before[sizeof version];

    start(true);
    item.interactive = 0;
    CHECK_STATUS(look(), MSALEX_OK);
    memcpy(before, version, sizeof before);
    CHECK_STATUS(look(), MSALEX_OK);
    CHECK(strcmp(before, version) == 0);
    CHECK(fake_keychain.calls == 2 * 3); /* no switch is touched */
    fake_keychain.later = 1;
    fake_keychain_put(SERVICE, ACCOUNT, OTHER, strlen(OTHER));
    CHECK_STATUS(look(), MSALEX_OK);
    CHECK(strcmp(before, version) != 0);

    fake_keychain_lock("login");
    (void)setenv("FAKE_PROGRAM", "another", 1);
    CHECK_STATUS(look(), MSALEX_OK);
    CHECK(fake_keychain.asked == 0 && fake_keychain_is_locked("login"));
    fake_keychain.returning = RETURN_LESS;
    CHECK_STATUS(look(), MSALEX_CORRUPT);
    check_end();
}

static void asks_for_the_password_only_if_it_may(void) {
    start(true);
    CHECK_STATUS(unlock(), MSALEX_OK);
    fake_keychain_lock("login");
    item.interactive = 0;
    CHECK_STATUS(unlock(), MSALEX_DENIED);
    CHECK(error.code == -25308 && fake_keychain_is_locked("login"));
    CHECK(fake_keychain.calls == 4 && fake_keychain.asked == 0);
    item.interactive = 1;
    (void)setenv("FAKE_PERSON", "none", 1);
    CHECK_STATUS(unlock(), MSALEX_DENIED);
    CHECK(error.code == -25308 && fake_keychain_is_locked("login"));
    (void)setenv("FAKE_PERSON", "allow", 1);
    CHECK_STATUS(unlock(), MSALEX_OK);
    CHECK(!fake_keychain_is_locked("login") && fake_keychain.asked == 1);
    CHECK_STATUS(load(), MSALEX_OK);
    CHECK(fake_keychain.asked == 1);
    check_end();
}

/* Which of the two keychains has the item with that secret? */
static bool is_in(const char *keychain, bool in_search_list, const char *data) {
    fake_keychain_set_default(keychain, in_search_list);
    return has(data);
}

static void uses_the_default_keychain(void) {
    start(false);
    fake_keychain_put(SERVICE, ACCOUNT, OTHER, strlen(OTHER)); /* in "login" */
    fake_keychain_set_default("temporary", false);
    CHECK_STATUS(load(), MSALEX_NOT_FOUND);
    CHECK_STATUS(save(), MSALEX_OK);
    CHECK_STATUS(load(), MSALEX_OK);
    CHECK_STATUS(save(), MSALEX_OK);
    CHECK_STATUS(look(), MSALEX_OK);
    CHECK(is_in("login", true, OTHER) && is_in("temporary", false, SECRET));
    fake_keychain_lock("login");
    CHECK_STATUS(load(), MSALEX_OK);
    CHECK(fake_keychain.asked == 0);
    CHECK_STATUS(delete(), MSALEX_OK);
    CHECK_STATUS(delete(), MSALEX_NOT_FOUND);
    CHECK(is_in("login", true, OTHER));
    check_end();
}

/* Somebody makes another keychain the default one after a save has begun. */
static void change_default(const char *call) {
    if (strcmp(call, "SecItemAdd") == 0)
        fake_keychain_set_default("temporary", true);
}

static void adds_to_the_keychain_in_which_it_has_looked(void) {
    start(false);
    fake_keychain.before = change_default;
    CHECK_STATUS(save(), MSALEX_OK);
    CHECK(!has(SECRET) && is_in("login", true, SECRET));
    check_end();
}

static void asks_nobody_for_a_default_keychain(void) {
    for (size_t i = 0; i < OPERATION_COUNT; i++) {
        start(true);
        fake_keychain_set_default(NULL, false);
        CHECK(OPERATIONS[i].run() == MSALEX_UNAVAILABLE && error.code == -25307);
        CHECK(fake_keychain.asked == 0 && fake_keychain.calls == 1);
        check_end();
    }
}

static void tells_that_the_default_keychain_is_gone(void) {
    for (size_t i = 0; i < OPERATION_COUNT; i++) {
        start(true);
        fake_keychain_lose("login");
        CHECK(OPERATIONS[i].run() == MSALEX_UNAVAILABLE && error.code == -25294);
        CHECK(fake_keychain.asked == 0 && fake_keychain.calls == 2);
        check_end();
    }
}

static void asks_nobody_about_an_item_if_it_must_not(void) {
    start(true);
    (void)setenv("FAKE_PROGRAM", "another", 1);
    item.interactive = 0;
    CHECK_STATUS(load(), MSALEX_DENIED);
    CHECK(error.code == -25293 && fake_keychain.asked == 0);
    CHECK(fake_keychain.calls == 3 * 6); /* it was tried three times */
    CHECK(fake_keychain_allows_dialogs());
    CHECK_STATUS(save(), MSALEX_OK);
    item.interactive = 1;
    CHECK_STATUS(load(), MSALEX_OK);
    CHECK(fake_keychain.asked == 1);
    check_end();
}

/* Also when this process had opened the keychain while dialogs were allowed. */
static void asks_nobody_for_the_password_if_it_must_not(void) {
    static int (*const operations[])(void) = {load, save, add, delete, unlock};

    for (size_t i = 0; i < COUNT(operations); i++) {
        start(true);
        CHECK_STATUS(load(), MSALEX_OK);
        fake_keychain_lock("login");
        fake_keychain.calls = 0;
        item.interactive = 0;
        CHECK_STATUS(operations[i](), MSALEX_DENIED);
        CHECK(error.code == -25308 && fake_keychain.asked == 0 && fake_keychain.calls == 2);
        CHECK(fake_keychain_is_locked("login") && has(SECRET));
        item.interactive = 1;
        CHECK(operations[i]() == (i == 2 ? MSALEX_OS_ERROR : MSALEX_OK));
        CHECK(fake_keychain.asked == 1);
        check_end();
    }
}

/* A program that forbids dialogs to itself. */
static void keeps_the_switch_of_the_program(void) {
    unsigned char allowed = 2;

    start(true);
    CHECK(SecKeychainSetUserInteractionAllowed(false) == 0);
    item.interactive = 0;
    CHECK_STATUS(load(), MSALEX_OK);
    CHECK(SecKeychainGetUserInteractionAllowed(&allowed) == 0 && allowed == 0);
    CHECK(SecKeychainSetUserInteractionAllowed(true) == 0);
    CHECK_STATUS(load(), MSALEX_OK);
    CHECK(SecKeychainGetUserInteractionAllowed(&allowed) == 0 && allowed == 1);
    check_end();
}

/* An item that python3.12 made, and this is python3.13. */
static void deletes_what_another_program_made(void) {
    start(false);
    (void)setenv("FAKE_PROGRAM", "/opt/a/python3.12", 1);
    CHECK_STATUS(save(), MSALEX_OK);
    (void)setenv("FAKE_PROGRAM", "/opt/b/python3.13", 1);
    CHECK_STATUS(delete(), MSALEX_OK);
    CHECK(!has(SECRET) && strcmp(fake_keychain.last, "SecKeychainItemDelete") == 0);
    CHECK(fake_keychain.asked == 0);
    CHECK_STATUS(delete(), MSALEX_NOT_FOUND);
    check_end();
}

static void takes_the_answer_of_a_person(void) {
    start(true);
    (void)setenv("FAKE_PROGRAM", "another", 1);
    (void)setenv("FAKE_PERSON", "deny", 1);
    CHECK_STATUS(load(), MSALEX_DENIED);
    CHECK(error.code == -128 && fake_keychain.asked == 1);
    (void)setenv("FAKE_PERSON", "mistaken", 1);
    CHECK_STATUS(load(), MSALEX_DENIED);
    CHECK(error.code == -25293 && fake_keychain.asked == 2);
    (void)setenv("FAKE_PERSON", "always", 1);
    CHECK_STATUS(load(), MSALEX_OK);
    CHECK_STATUS(load(), MSALEX_OK);
    CHECK(fake_keychain.asked == 3);
    check_end();
}

/* The hash over the item is wrong: the update replaces it and says "duplicate". */
static void saves_over_a_broken_item(void) {
    start(true);
    fake_keychain_put(SERVICE, ACCOUNT, OTHER, strlen(OTHER));
    fake_keychain_break(SERVICE, ACCOUNT);
    CHECK_STATUS(save(), MSALEX_OK);
    CHECK(has(SECRET));
    check_end();
}

static void tries_races_again_but_not_for_ever(void) {
    static const char *const codes[] = {"-67701", "-25304", "-25293", "-25320", "-2070", "-308"};

    for (size_t i = 0; i < COUNT(codes); i++) {
        char rule[64];
        start(true);
        (void)snprintf(rule, sizeof rule, "SecItemCopyMatching=%s*3", codes[i]);
        (void)setenv("FAKE_KEYCHAIN", rule, 1);
        CHECK_STATUS(load(), MSALEX_OK);
        CHECK(fake_keychain.calls == 4 * 3);
    }
    start(true);
    (void)setenv("FAKE_KEYCHAIN", "SecItemUpdate=-25299!*2,SecItemCopyMatching=-67701", 1);
    CHECK_STATUS(save(), MSALEX_OK);
    CHECK_STATUS(load(), MSALEX_OS_ERROR);
    CHECK(error.code == -67701 && fake_keychain.calls == 3 * 3 + 7 * 3);
    check_end();
}

static void stops_trying_when_its_time_is_over(void) {
    msalex_buffer secret;

    start(true);
    (void)setenv("FAKE_KEYCHAIN", "SecItemCopyMatching=-67701", 1);
    CHECK_STATUS(perform(MSALEX_KEYCHAIN_LOAD, NULL, 0, 40, &secret), MSALEX_OS_ERROR);
    CHECK(error.code == -67701 && fake_keychain.calls < 7 * 3);
    (void)unsetenv("FAKE_KEYCHAIN");
    CHECK_STATUS(perform(MSALEX_KEYCHAIN_LOAD, NULL, 0, 0, &secret), MSALEX_OK);
    msalex_buffer_free(&secret);
    check_end();
}

static void tells_that_nothing_can_be_started(void) {
    static const char *const calls[] = {"calloc", "malloc", "pthread_create"};

    for (size_t i = 0; i < COUNT(calls); i++, injected++) {
        start(false);
        fake_kernel.failing = calls[i];
        fake_kernel.code = EAGAIN;
        CHECK_STATUS(save(), MSALEX_OS_ERROR);
        CHECK(error.code == (i == 2 ? EAGAIN : ENOMEM) && fake_keychain.calls == 0);
    }
    check_end();
}

/* Another process adds the item after our update found none, and deletes it after our add. */
static int adds_left;
static void add_before_add(const char *call) {
    if (strcmp(call, "SecItemAdd") == 0 && adds_left-- > 0)
        fake_keychain_put(SERVICE, ACCOUNT, OTHER, strlen(OTHER));
}

static void add_and_delete(const char *call) {
    fake_keychain_clear();
    add_before_add(call);
}

static void saves_beside_others(void) {
    start(false);
    adds_left = 1;
    fake_keychain.before = add_before_add;
    CHECK_STATUS(save(), MSALEX_OK);
    CHECK(has(SECRET) && fake_keychain.calls == 7);

    start(false);
    adds_left = 2;
    fake_keychain.before = add_and_delete;
    CHECK_STATUS(save(), MSALEX_OK);
    CHECK(has(SECRET) && fake_keychain.calls == 12);

    start(false);
    adds_left = 1000; /* always; but the save does not try for ever */
    fake_keychain.before = add_and_delete;
    CHECK_STATUS(save(), MSALEX_OS_ERROR);
    CHECK(error.code == -25299 && fake_keychain.calls == 28);
    check_end();
}

static void tells_damage(void) {
    start(true);
    fake_keychain.returning = RETURN_STRING;
    CHECK_STATUS(load(), MSALEX_CORRUPT);
    CHECK_STATUS(look(), MSALEX_CORRUPT);
    check_end();
    fake_keychain.returning = RETURN_NULL;
    CHECK_STATUS(load(), MSALEX_CORRUPT);
    CHECK_STATUS(look(), MSALEX_CORRUPT);
    (void)setenv("FAKE_PROGRAM", "another", 1);
    CHECK_STATUS(delete(), MSALEX_CORRUPT);
    check_end();
}

static void tells_the_systems_words(void) {
    start(false);
    CHECK_STATUS(load(), MSALEX_NOT_FOUND);
    CHECK(strcmp(error.message, "The words for -25300.") == 0);
    fake_keychain.words = NO_WORDS;
    CHECK_STATUS(load(), MSALEX_NOT_FOUND);
    CHECK(strcmp(error.message, "OSStatus -25300") == 0);
    fake_keychain.words = LONG_WORDS;
    CHECK_STATUS(load(), MSALEX_NOT_FOUND);
    CHECK(strcmp(error.message, "OSStatus -25300") == 0);
    check_end();
}

static void survives_every_failed_allocation(void) {
    for (size_t i = 0; i < OPERATION_COUNT; i++) {
        int usual, creates;

        start(OPERATIONS[i].there);
        usual = OPERATIONS[i].run();
        creates = fake_corefoundation.creates;
        for (int number = 1; number <= creates; number++, injected++) {
            int status;
            start(OPERATIONS[i].there);
            fake_corefoundation.fail_create = number;
            status = OPERATIONS[i].run();
            /* When no message can be made, the status is still the same. */
            CHECK(status == MSALEX_OS_ERROR || status == MSALEX_INVALID || status == usual);
            CHECK(status == MSALEX_OK || (error.code != 0 && error.message[0] != '\0'));
            CHECK(status != MSALEX_OK || OPERATIONS[i].run != save || has(SECRET));
            CHECK(!OPERATIONS[i].there || has(SECRET));
            check_end();
        }
    }
    start(true);
    fake_kernel.failing = "malloc";
    CHECK_STATUS(load(), MSALEX_OS_ERROR);
    CHECK(error.code == -108);
    check_end();
    injected++;
}

static const char SWITCH[] = "SecKeychainSetUserInteractionAllowed";

/* Does the operation go on after this failure, to its usual end? */
static bool goes_on(int (*run)(void), const char *failed, size_t number) {
    const int32_t code = STATUSES[number].code;

    if (STATUSES[number].passes)
        return true;
    if (strcmp(failed, "SecItemUpdate") == 0)
        return code == -25300 || code == -25299;
    if (strcmp(failed, "SecItemAdd") == 0)
        return code == -25299 && run != add;
    return strcmp(failed, "SecItemDelete") == 0 && (code == -25244 || code == -25300);
}

static void tells_every_failed_call(void) {
    for (size_t i = 0; i < OPERATION_COUNT; i++) {
        int calls, usual;

        start(OPERATIONS[i].there);
        usual = OPERATIONS[i].run();
        calls = fake_keychain.calls;
        for (int number = 1; number <= calls; number++) {
            for (size_t j = 0; j < STATUS_COUNT; j++, injected++) {
                int status, expected = STATUSES[j].status;

                start(OPERATIONS[i].there);
                fake_keychain.fail_call = number;
                fake_keychain.status = STATUSES[j].code;
                status = OPERATIONS[i].run();
                check_end();
                if (number == calls && strcmp(fake_keychain.failed, SWITCH) == 0) {
                    CHECK(status == usual && !fake_keychain_allows_dialogs());
                    CHECK_STATUS(load_quietly(), has(SECRET) ? MSALEX_OK : MSALEX_NOT_FOUND);
                    CHECK(fake_keychain_allows_dialogs()); /* the next call put them back */
                    continue;
                }
                if (goes_on(OPERATIONS[i].run, fake_keychain.failed, j)) {
                    /* To find nothing to delete, all tries are needed: in the last one a failure is
                     * told. */
                    CHECK(status == usual || (usual != MSALEX_OK && number > calls - 3));
                    CHECK(usual != MSALEX_OK || fake_keychain.calls > number);
                    continue;
                }
                if (expected == MSALEX_NOT_FOUND && strcmp(fake_keychain.failed, "SecItemAdd") == 0)
                    expected = MSALEX_OS_ERROR; /* for a save that is no answer */
                CHECK(status == expected && error.code == STATUSES[j].code);
                CHECK(strcmp(error.call, fake_keychain.failed) == 0);
                CHECK(fake_keychain.calls <= number + 1); /* dialogs are allowed again */
                CHECK(fake_keychain_allows_dialogs());
                CHECK(!OPERATIONS[i].there || has(SECRET));
            }
        }
    }
}

static const struct property properties[] = {
    {"A secret of any size is kept, replaced and deleted", keeps_secrets},
    {"What would select other items is refused", refuses_what_selects_too_much},
    {"A save succeeds beside others that add and delete the item", saves_beside_others},
    {"An item is added only where there is none", adds_only_where_there_is_none},
    {"Each version of an item looks different", looks_without_the_secret},
    {"The password of the keychain is asked for only if that is allowed",
     asks_for_the_password_only_if_it_may},
    {"Each operation is about the default keychain, whatever the search list says",
     uses_the_default_keychain},
    {"A save adds the item to the keychain in which it has looked for it",
     adds_to_the_keychain_in_which_it_has_looked},
    {"Where there is no default keychain, nobody is asked to make one",
     asks_nobody_for_a_default_keychain},
    {"Nobody is asked about an item if that is forbidden, and later it is allowed again",
     asks_nobody_about_an_item_if_it_must_not},
    {"Nobody is asked for the password of the keychain if that is forbidden",
     asks_nobody_for_the_password_if_it_must_not},
    {"A default keychain whose file is gone is no empty one, and nobody is asked to make one",
     tells_that_the_default_keychain_is_gone},
    {"A program that has forbidden dialogs keeps them forbidden", keeps_the_switch_of_the_program},
    {"An item of another program can be deleted", deletes_what_another_program_made},
    {"A person is asked once, and the answer counts", takes_the_answer_of_a_person},
    {"A save replaces an item whose hash is wrong", saves_over_a_broken_item},
    {"What passes is tried again, but not for ever", tries_races_again_but_not_for_ever},
    {"Nothing is tried again when the time is over", stops_trying_when_its_time_is_over},
    {"A call that cannot be started says so", tells_that_nothing_can_be_started},
    {"What is no data is damage", tells_damage},
    {"An error has the system's words, or at least its number", tells_the_systems_words},
    {"Every allocation that fails is an error without a leak", survives_every_failed_allocation},
    {"Every OSStatus of every call is told, or passes, without a leak", tells_every_failed_call},
};

int main(void) {
    run_properties(properties, COUNT(properties));
    start(false);
    printf("    %d failures injected\n", injected);
    return end_of_properties();
}
