/*
 * The baseline for the performance of the Secret Service (issue 2): a plain program on libsecret's
 * synchronous password API.  Needs libsecret-1-dev.
 *
 *     cc -O2 FILE $(pkg-config --cflags --libs libsecret-1) -o baseline
 *     ./baseline [ROUNDS [BYTES]]     # default: 200 rounds of 20,000 bytes
 *
 * Prints one line: "connect N store N lookup N" in microseconds; connect is the first
 * secret_service_get_sync with a session, the others are medians.
 */
#include <libsecret/secret.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int ascending(const void *left, const void *right) {
    gint64 a = *(const gint64 *)left, b = *(const gint64 *)right;
    return (a > b) - (a < b);
}

static gint64 median(gint64 *times, size_t count) {
    qsort(times, count, sizeof *times, ascending);
    return times[count / 2];
}

static void check(int good, GError *error, const char *what) {
    if (good)
        return;
    fprintf(stderr, "%s: %s\n", what, error == NULL ? "no error told" : error->message);
    exit(1);
}

int main(int argc, char **argv) {
    size_t rounds = argc > 1 ? strtoul(argv[1], NULL, 10) : 200;
    size_t bytes = argc > 2 ? strtoul(argv[2], NULL, 10) : 20000;
    GHashTable *none = g_hash_table_new(g_str_hash, g_str_equal);
    SecretSchema *schema = secret_schema_newv("msalex baseline", SECRET_SCHEMA_NONE, none);
    gint64 *stores = calloc(rounds, sizeof *stores), *lookups = calloc(rounds, sizeof *lookups);
    char *secret = calloc(bytes + 1, 1);
    GError *error = NULL;
    gint64 begin = g_get_monotonic_time(), connect;

    if (rounds == 0 || stores == NULL || lookups == NULL || secret == NULL)
        return 2;
    check(secret_service_get_sync(SECRET_SERVICE_OPEN_SESSION, NULL, &error) != NULL, error,
          "connect");
    connect = g_get_monotonic_time() - begin;
    memset(secret, 'x', bytes);
    for (size_t i = 0; i < rounds; i++) {
        char *found;

        secret[0] = (char)('a' + i % 26);
        begin = g_get_monotonic_time();
        check(secret_password_storev_sync(schema, none, NULL, "", secret, NULL, &error), error,
              "store");
        stores[i] = g_get_monotonic_time() - begin;
        begin = g_get_monotonic_time();
        found = secret_password_lookupv_sync(schema, none, NULL, &error);
        lookups[i] = g_get_monotonic_time() - begin;
        check(found != NULL && strcmp(found, secret) == 0, error, "look-up");
        secret_password_free(found);
    }
    check(secret_password_clearv_sync(schema, none, NULL, &error), error, "clear");
    printf("connect %lld store %lld lookup %lld\n", (long long)connect,
           (long long)median(stores, rounds), (long long)median(lookups, rounds));
    return 0;
}
