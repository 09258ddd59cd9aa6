/* Errors, buffers, and the stores of operating systems, which may be missing. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "exercise.h"
#include "internal.h"

static void errors_are_cut_to_fit(void) {
    char text[2000];

    memset(text, 'e', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    CHECK(msalex__fail(&error, MSALEX_CORRUPT, -7, text, text) == MSALEX_CORRUPT);
    CHECK(error.code == -7 && strlen(error.call) == sizeof error.call - 1);
    CHECK(strlen(error.message) == sizeof error.message - 1);
    CHECK_STATUS(msalex__ok(&error), MSALEX_OK);
    CHECK_STATUS(msalex__fail_errno(&error, EACCES, "open"), MSALEX_DENIED);
}

static void buffers_are_emptied(void) {
    msalex_buffer buffer;
    unsigned char secret[16] = "0123456789abcdef";

    CHECK_STATUS(msalex__buffer_copy(&buffer, secret, sizeof secret, &error), MSALEX_OK);
    CHECK(buffer.size == sizeof secret && memcmp(buffer.data, secret, sizeof secret) == 0);
    msalex_buffer_free(&buffer);
    CHECK(buffer.data == NULL && buffer.size == 0);
    msalex_buffer_free(&buffer);
    msalex_buffer_free(NULL);
    CHECK_STATUS(msalex__buffer_copy(&buffer, secret, 0, &error), MSALEX_OK);
    CHECK(buffer.data == NULL && buffer.size == 0);
    msalex__wipe(secret, sizeof secret);
    for (size_t i = 0; i < sizeof secret; i++)
        CHECK(secret[i] == 0);
    msalex__wipe(NULL, 0);
}

static void stores_of_other_systems_say_so(void) {
    const unsigned char data[] = "data";
    msalex_buffer out = {.data = NULL, .size = 1};

    CHECK_STATUS(msalex_dpapi_protect(data, 4, data, 4, MSALEX_DPAPI_CURRENT_USER, &out, &error),
                 MSALEX_UNAVAILABLE);
    CHECK(out.size == 0);
    out.size = 1;
    CHECK_STATUS(msalex_dpapi_unprotect(data, 4, NULL, 0, &out, &error), MSALEX_UNAVAILABLE);
    CHECK(out.size == 0);
    {
        const msalex_keychain_item item = {"s", "a", 1};
        msalex_keychain_call *call = (msalex_keychain_call *)&out;
        CHECK_STATUS(msalex_keychain_available(&error), MSALEX_UNAVAILABLE);
        CHECK_STATUS(msalex_keychain_start(MSALEX_KEYCHAIN_SAVE, &item, data, 4, 0, &call, &error),
                     MSALEX_UNAVAILABLE);
        CHECK(call == NULL);
        out.size = 1;
        CHECK_STATUS(msalex_keychain_wait(NULL, 0, &out, &error), MSALEX_UNAVAILABLE);
        CHECK(out.size == 0);
        msalex_keychain_free(NULL);
    }
}

/* ---- the Secret Service, on the bus of this session, if there is one ---- */

static const char *const NAMES[] = {"msalex-exercise"}, *const VALUES[] = {"1"};
static const int TYPES[] = {0};
static const msalex_libsecret_item ITEM = {.schema = "msalex-exercise",
                                           .label = "msalex-exercise",
                                           .names = NAMES,
                                           .values = VALUES,
                                           .types = TYPES,
                                           .count = 1};

static int start(int operation, const char *secret, msalex_libsecret_call **call) {
    return msalex_libsecret_start(operation, &ITEM, (const unsigned char *)secret,
                                  secret == NULL ? 0 : strlen(secret), 10000, call, &error);
}

/* Runs it to its end, within 20 s. */
static int finish(int operation, const char *secret, msalex_buffer *found) {
    const int64_t deadline = now_ms() + 20000;
    msalex_libsecret_call *call;
    int status = start(operation, secret, &call);

    *found = (msalex_buffer){0};
    if (status != MSALEX_OK)
        return status;
    do
        status = msalex_libsecret_wait(call, 20, found, &error);
    while (((status == MSALEX_TIMEOUT && error.code == 0) || status == MSALEX_INTERRUPTED) &&
           now_ms() < deadline);
    CHECK(now_ms() < deadline);
    msalex_libsecret_free(call);
    return status;
}

static void secret_service_keeps_a_secret_or_says_why_not(void) {
    msalex_buffer found;
    int status = finish(MSALEX_LIBSECRET_CONNECT, NULL, &found);

    may_keep_descriptors(); /* GLib's worker thread */
    msalex_libsecret_free(NULL);
    if (status != MSALEX_OK) {
        CHECK(error.message[0] != '\0');
        CHECK(finish(MSALEX_LIBSECRET_SAVE, "secret", &found) != MSALEX_OK);
        CHECK(finish(MSALEX_LIBSECRET_LOAD, NULL, &found) != MSALEX_OK && found.data == NULL);
        CHECK(finish(MSALEX_LIBSECRET_DELETE, NULL, &found) != MSALEX_OK);
        skip("there is no Secret Service; it said so");
        return;
    }
    for (int i = 0; i < 3; i++) {
        CHECK_STATUS(finish(MSALEX_LIBSECRET_SAVE, "secret", &found), MSALEX_OK);
        CHECK_STATUS(finish(MSALEX_LIBSECRET_LOAD, NULL, &found), MSALEX_OK);
        CHECK(found.size == 6 && memcmp(found.data, "secret", 6) == 0);
        msalex_buffer_free(&found);
        CHECK_STATUS(finish(MSALEX_LIBSECRET_DELETE, NULL, &found), MSALEX_OK);
        CHECK_STATUS(finish(MSALEX_LIBSECRET_DELETE, NULL, &found), MSALEX_NOT_FOUND);
        CHECK_STATUS(finish(MSALEX_LIBSECRET_LOAD, NULL, &found), MSALEX_NOT_FOUND);
    }
}

static void secret_service_call_can_be_left_alone(void) {
    msalex_libsecret_call *call;

    for (int i = 0; i < 5; i++) {
        if (start(MSALEX_LIBSECRET_LOAD, NULL, &call) != MSALEX_OK) {
            CHECK(call == NULL);
            return;
        }
        msalex_libsecret_free(call);
    }
    sleep_ms(500); /* their threads end */
}

const struct property store_properties[] = {
    {"A text too long for an error is cut", errors_are_cut_to_fit},
    {"A buffer that is freed is empty, and may be freed again", buffers_are_emptied},
    {"The stores of other systems say that they are not here", stores_of_other_systems_say_so},
    {"The Secret Service keeps a secret, or says why not",
     secret_service_keeps_a_secret_or_says_why_not},
    {"A call to the Secret Service may be freed while it runs",
     secret_service_call_can_be_left_alone},
};
const size_t store_property_count = COUNT(store_properties);
