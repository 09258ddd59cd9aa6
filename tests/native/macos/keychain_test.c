/*
 * The unchanged keychain_macos.c over the fake keychain: its promises, and then each operation
 * again with a failure at every place that can fail.  Run by tests/macos/test_over_fakes.py.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "fake_kernel.h"
#include "fake_keychain.h"

static const char SERVICE[] = "msal-extensions", ACCOUNT[] = "4e07408562bedb8b";
static const char SECRET[] = "a secret that must not leak", OTHER[] = "what was there before";

/* Codes of Security.h and others, and the status that we make of each. */
static const struct {
    int32_t code;
    int status;
} STATUSES[] = {
    {-25300, MSALEX_NOT_FOUND},   {-25299, MSALEX_OS_ERROR},    {-25308, MSALEX_DENIED},
    {-25315, MSALEX_DENIED},      {-25293, MSALEX_DENIED},      {-128, MSALEX_DENIED},
    {-25292, MSALEX_DENIED},      {-61, MSALEX_DENIED},         {-67030, MSALEX_DENIED},
    {-25307, MSALEX_UNAVAILABLE}, {-25294, MSALEX_UNAVAILABLE}, {-25291, MSALEX_UNAVAILABLE},
    {-34018, MSALEX_UNAVAILABLE}, {-50, MSALEX_INVALID},        {-25302, MSALEX_INVALID},
    {-4, MSALEX_OS_ERROR},        {-36, MSALEX_OS_ERROR},       {-108, MSALEX_OS_ERROR},
    {-2070, MSALEX_OS_ERROR},     {-25295, MSALEX_OS_ERROR},    {-26275, MSALEX_OS_ERROR},
    {1, MSALEX_OS_ERROR},         {INT32_MIN, MSALEX_OS_ERROR},
};
enum { STATUS_COUNT = sizeof STATUSES / sizeof STATUSES[0] };

static int injected; /* how many failures there were in all */

/* ---- the operations ---- */

static int save(void) {
    return msalex_keychain_save(SERVICE, ACCOUNT, (const unsigned char *)SECRET, strlen(SECRET),
                                &error);
}

static int load(void) {
    msalex_buffer secret;
    int status = msalex_keychain_load(SERVICE, ACCOUNT, &secret, &error);

    if (status == MSALEX_OK)
        CHECK(secret.size == strlen(SECRET) && memcmp(secret.data, SECRET, secret.size) == 0);
    else
        CHECK(secret.data == NULL && secret.size == 0);
    msalex_buffer_free(&secret);
    return status;
}

static int delete(void) {
    return msalex_keychain_delete(SERVICE, ACCOUNT, &error);
}

static const struct {
    const char *name;
    int (*run)(void);
    bool there; /* the item, before */
} OPERATIONS[] = {
    {"save a new item", save, false},
    {"save over an old one", save, true},
    {"load", load, true},
    {"load nothing", load, false},
    {"delete", delete, true},
    {"delete nothing", delete, false},
};
enum { OPERATION_COUNT = sizeof OPERATIONS / sizeof OPERATIONS[0] };

static void start(bool there) {
    fake_keychain_clear();
    fake_keychain = (struct fake_keychain){0};
    fake_kernel = (struct fake_kernel){0};
    if (there)
        fake_keychain_put(SERVICE, ACCOUNT, SECRET, strlen(SECRET));
}

/* After each call, however it ended. */
static void check_end(void) {
    CHECK(fake_keychain.objects == 0);
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
    CHECK_STATUS(msalex_keychain_save("s", "é", large, sizeof large, &error), MSALEX_OK);
    CHECK_STATUS(msalex_keychain_load("s", "é", &secret, &error), MSALEX_OK);
    CHECK(secret.size == sizeof large && memcmp(secret.data, large, sizeof large) == 0);
    msalex_buffer_free(&secret);
    CHECK_STATUS(msalex_keychain_save("s", "é", large, 0, &error), MSALEX_OK);
    CHECK_STATUS(msalex_keychain_load("s", "é", &secret, &error), MSALEX_OK);
    CHECK(secret.size == 0);
    msalex_buffer_free(&secret);
    CHECK_STATUS(msalex_keychain_load("s", "e", &secret, &error), MSALEX_NOT_FOUND);
    check_end();
}

static void refuses_what_selects_too_much(void) {
    static const char *const bad[][2] = {{"", "a"}, {"s", ""}, {"\xff", "a"}, {"s", "a\xc3"}};
    msalex_buffer secret;

    start(true);
    for (size_t i = 0; i < 4; i++) {
        const unsigned char *data = (const unsigned char *)SECRET;
        CHECK_STATUS(msalex_keychain_save(bad[i][0], bad[i][1], data, 3, &error), MSALEX_INVALID);
        CHECK_STATUS(msalex_keychain_load(bad[i][0], bad[i][1], &secret, &error), MSALEX_INVALID);
        CHECK_STATUS(msalex_keychain_delete(bad[i][0], bad[i][1], &error), MSALEX_INVALID);
        CHECK(error.code == -50);
        check_end();
    }
    CHECK(fake_keychain.calls == 0);
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
    CHECK(has(SECRET) && fake_keychain.calls == 3);

    start(false);
    adds_left = 2;
    fake_keychain.before = add_and_delete;
    CHECK_STATUS(save(), MSALEX_OK);
    CHECK(has(SECRET) && fake_keychain.calls == 6);

    start(false);
    adds_left = 1000; /* always; but the save does not try for ever */
    fake_keychain.before = add_and_delete;
    CHECK_STATUS(save(), MSALEX_OS_ERROR);
    CHECK(error.code == -25299 && fake_keychain.calls == 6);
    check_end();
}

static void tells_damage(void) {
    start(true);
    fake_keychain.returning = RETURN_STRING;
    CHECK_STATUS(load(), MSALEX_CORRUPT);
    check_end();
    fake_keychain.returning = RETURN_NULL;
    CHECK_STATUS(load(), MSALEX_CORRUPT);
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
        creates = fake_keychain.creates;
        for (int number = 1; number <= creates; number++, injected++) {
            int status;
            start(OPERATIONS[i].there);
            fake_keychain.fail_create = number;
            status = OPERATIONS[i].run();
            /* When no message can be made, the status is still the same. */
            CHECK(status == MSALEX_OS_ERROR || status == MSALEX_INVALID ||
                  (status == usual && usual != MSALEX_OK));
            CHECK(error.code != 0 && error.message[0] != '\0');
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

static void tells_every_failed_call(void) {
    for (size_t i = 0; i < OPERATION_COUNT; i++) {
        int calls;

        start(OPERATIONS[i].there);
        (void)OPERATIONS[i].run();
        calls = fake_keychain.calls;
        for (int number = 1; number <= calls; number++) {
            for (size_t j = 0; j < STATUS_COUNT; j++, injected++) {
                int status;
                bool goes_on;

                start(OPERATIONS[i].there);
                fake_keychain.fail_call = number;
                fake_keychain.status = STATUSES[j].code;
                status = OPERATIONS[i].run();
                check_end();
                /* Saving goes on when the item came or went. */
                goes_on = OPERATIONS[i].run == save && fake_keychain.calls > number;
                if (goes_on) {
                    CHECK(STATUSES[j].code == -25300 || STATUSES[j].code == -25299);
                    CHECK(status == (has(SECRET) ? MSALEX_OK : MSALEX_OS_ERROR));
                    continue;
                }
                CHECK(status == STATUSES[j].status && error.code == STATUSES[j].code);
                CHECK(strcmp(error.call, fake_keychain.last) == 0);
                CHECK(!OPERATIONS[i].there || has(SECRET));
            }
        }
    }
}

static const struct property properties[] = {
    {"A secret of any size is kept, replaced and deleted", keeps_secrets},
    {"What would select other items is refused", refuses_what_selects_too_much},
    {"A save succeeds beside others that add and delete the item", saves_beside_others},
    {"What is no data is damage", tells_damage},
    {"An error has the system's words, or at least its number", tells_the_systems_words},
    {"Every allocation that fails is an error without a leak", survives_every_failed_allocation},
    {"Every OSStatus of every call is told, without a leak", tells_every_failed_call},
};

int main(void) {
    run_properties(properties, COUNT(properties));
    start(false);
    printf("    %d failures injected\n", injected);
    return end_of_properties();
}
