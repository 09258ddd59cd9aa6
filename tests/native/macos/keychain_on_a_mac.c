/*
 * What does Security answer by itself, without the turns and the tries of keychain_*macos.c?
 * tests/macos/on_a_mac.py compiles and runs this program on a Mac, in a keychain that is deleted
 * afterwards; tests/macos/test_on_a_mac_over_fakes.py runs it over the fake keychain.
 *
 *     keychain_on_a_mac <service> <account> <step> ...
 *
 *     default              the default keychain; the steps after this one look only there
 *     status, unlock       of the default keychain: SecKeychainGetStatus, SecKeychainUnlock
 *     load, look, find     the secret, the attributes, a reference: SecItemCopyMatching
 *     add, update          SecItemAdd, SecItemUpdate, with a secret that nobody else writes
 *     delete, remove       SecItemDelete; SecKeychainItemDelete of the reference
 *     quiet, loud          macOS may ask nobody; it may ask again
 *     pause                waits 1.1 s
 *     500*load             five hundred times the same
 *     8x500*load           the same in each of eight threads
 *
 * Each step prints one line, its parts separated by tabs: its name, for each OSStatus how often it
 * came, the median and the longest time of a call in milliseconds, and a detail: the date of the
 * last change in seconds since 2001 (look), whether it is unlocked (status), or the size (load).
 */
#define _DARWIN_C_SOURCE
#include <Security/Security.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { THREADS_MAX = 64, TIMES_MAX = 100000, CODES_MAX = 16 };

static CFStringRef service, account;
static SecKeychainRef keychain; /* NULL: all that the search list names */

struct counted {
    OSStatus status[CODES_MAX];
    int times[CODES_MAX];
    int codes;
    double *took_ms;
    int calls;
    char detail[64];
};

static double now_ms(void) {
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return 1e3 * (double)now.tv_sec + 1e-6 * (double)now.tv_nsec;
}

static CFStringRef string(const char *text) {
    return CFStringCreateWithBytes(NULL, (const UInt8 *)text, (CFIndex)strlen(text),
                                   kCFStringEncodingUTF8, 0);
}

/*
 * A dictionary that identifies the item, in the default keychain if that is known, and has this
 * pair, too: what is to be returned, the secret of a new item, or nothing.
 */
static CFDictionaryRef identify(CFTypeRef key, CFTypeRef value, bool is_added) {
    const void *keys[8] = {kSecClass, kSecAttrService, kSecAttrAccount,
                           kSecUseDataProtectionKeychain};
    const void *values[8] = {kSecClassGenericPassword, service, account, kCFBooleanFalse};
    CFIndex count = 4;
    CFArrayRef only = NULL;
    CFDictionaryRef made;

    if (key != NULL) {
        keys[count] = key;
        values[count++] = value;
        keys[count] = is_added ? kSecAttrLabel : kSecMatchLimit;
        values[count++] = is_added ? service : kSecMatchLimitOne;
    }
    if (keychain != NULL && is_added) {
        keys[count] = kSecUseKeychain;
        values[count++] = keychain;
    } else if (keychain != NULL) {
        only = CFArrayCreate(NULL, (const void *[]){keychain}, 1, &kCFTypeArrayCallBacks);
        keys[count] = kSecMatchSearchList;
        values[count++] = only;
    }
    made = CFDictionaryCreate(NULL, keys, values, count, &kCFTypeDictionaryKeyCallBacks,
                              &kCFTypeDictionaryValueCallBacks);
    if (only != NULL)
        CFRelease(only);
    return made;
}

/* SecItemCopyMatching, which returns what `wanted` says. */
static OSStatus copy(CFTypeRef wanted, CFTypeRef *result) {
    CFDictionaryRef query = identify(wanted, kCFBooleanTrue, false);
    const OSStatus status = SecItemCopyMatching(query, result);

    CFRelease(query);
    return status;
}

static OSStatus load(char *detail, size_t size) {
    CFTypeRef found = NULL;
    const OSStatus status = copy(kSecReturnData, &found);

    if (found != NULL) {
        (void)snprintf(detail, size, "%ld bytes", (long)CFDataGetLength(found));
        CFRelease(found);
    }
    return status;
}

static OSStatus look(char *detail, size_t size) {
    CFTypeRef found = NULL;
    const OSStatus status = copy(kSecReturnAttributes, &found);
    const void *date;

    if (found != NULL) {
        date = CFDictionaryGetValue(found, kSecAttrModificationDate);
        if (date != NULL)
            (void)snprintf(detail, size, "%.6f", CFDateGetAbsoluteTime(date));
        CFRelease(found);
    }
    return status;
}

static OSStatus find(char *detail, size_t size) {
    CFTypeRef found = NULL;
    const OSStatus status = copy(kSecReturnRef, &found);

    (void)detail;
    (void)size;
    if (found != NULL)
        CFRelease(found);
    return status;
}

/* SecItemAdd or SecItemUpdate, with a secret that names its writer and the time. */
static OSStatus write_item(bool is_added) {
    char secret[64];
    CFMutableDataRef data = CFDataCreateMutable(NULL, sizeof secret);
    CFDictionaryRef query, changed;
    OSStatus status;

    (void)snprintf(secret, sizeof secret, "%ld at %.3f", (long)getpid(), now_ms());
    CFDataAppendBytes(data, (const UInt8 *)secret, (CFIndex)strlen(secret));
    if (is_added) {
        query = identify(kSecValueData, data, true);
        status = SecItemAdd(query, NULL);
    } else {
        query = identify(NULL, NULL, false);
        changed =
            CFDictionaryCreate(NULL, (const void *[]){kSecValueData}, (const void *[]){data}, 1,
                               &kCFTypeDictionaryKeyCallBacks, &kCFTypeDictionaryValueCallBacks);
        status = SecItemUpdate(query, changed);
        CFRelease(changed);
    }
    CFRelease(query);
    /* No secret, but the fake keychain wants every plaintext to be wiped. */
    memset(CFDataGetMutableBytePtr(data), 0, (size_t)CFDataGetLength(data));
    CFRelease(data);
    return status;
}

static OSStatus add(char *detail, size_t size) {
    (void)detail;
    (void)size;
    return write_item(true);
}

static OSStatus update(char *detail, size_t size) {
    (void)detail;
    (void)size;
    return write_item(false);
}

static OSStatus delete_item(char *detail, size_t size) {
    CFDictionaryRef query = identify(NULL, NULL, false);
    const OSStatus status = SecItemDelete(query);

    (void)detail;
    (void)size;
    CFRelease(query);
    return status;
}

static OSStatus remove_item(char *detail, size_t size) {
    CFTypeRef found = NULL;
    OSStatus status = copy(kSecReturnRef, &found);

    (void)detail;
    (void)size;
    if (status == errSecSuccess)
        status = SecKeychainItemDelete((SecKeychainItemRef)found);
    if (found != NULL)
        CFRelease(found);
    return status;
}

static OSStatus use_default(char *detail, size_t size) {
    (void)detail;
    (void)size;
    if (keychain != NULL)
        CFRelease(keychain);
    keychain = NULL;
    return SecKeychainCopyDefault(&keychain);
}

static OSStatus status_of(char *detail, size_t size) {
    SecKeychainStatus flags = 0;
    const OSStatus status = SecKeychainGetStatus(keychain, &flags);

    if (status == errSecSuccess)
        (void)snprintf(detail, size, "%s",
                       (flags & kSecUnlockStateStatus) != 0 ? "unlocked" : "locked");
    return status;
}

static OSStatus unlock(char *detail, size_t size) {
    (void)detail;
    (void)size;
    return SecKeychainUnlock(keychain, 0, NULL, 0);
}

static OSStatus quiet(char *detail, size_t size) {
    (void)detail;
    (void)size;
    return SecKeychainSetUserInteractionAllowed(0);
}

static OSStatus loud(char *detail, size_t size) {
    (void)detail;
    (void)size;
    return SecKeychainSetUserInteractionAllowed(1);
}

static OSStatus wait_a_second(char *detail, size_t size) {
    (void)detail;
    (void)size;
    (void)nanosleep(&(struct timespec){1, 100000000}, NULL);
    return errSecSuccess;
}

static const struct step {
    const char *name;
    OSStatus (*take)(char *detail, size_t size);
} steps[] = {
    {"default", use_default}, {"status", status_of},   {"unlock", unlock}, {"load", load},
    {"look", look},           {"find", find},          {"add", add},       {"update", update},
    {"delete", delete_item},  {"remove", remove_item}, {"quiet", quiet},   {"loud", loud},
    {"pause", wait_a_second},
};

struct work {
    const struct step *step;
    int times;
    struct counted counted;
    pthread_t thread;
};

static void count(struct counted *counted, OSStatus status) {
    int i = 0;

    while (i < counted->codes && counted->status[i] != status)
        i++;
    if (i == CODES_MAX)
        return;
    if (i == counted->codes)
        counted->status[counted->codes++] = status;
    counted->times[i]++;
}

static void *take(void *argument) {
    struct work *work = argument;
    int i;

    for (i = 0; i < work->times; i++) {
        const double begun = now_ms();

        count(&work->counted, work->step->take(work->counted.detail, sizeof work->counted.detail));
        work->counted.took_ms[i] = now_ms() - begun;
    }
    return NULL;
}

static int compare(const void *left, const void *right) {
    const double difference = *(const double *)left - *(const double *)right;

    return (difference > 0) - (difference < 0);
}

/* One line; the work of all threads together. */
static void print(const char *name, struct work *all, int threads) {
    struct work *first = &all[0];
    double *times = calloc((size_t)(threads * first->times), sizeof *times);
    struct counted sum = {.codes = 0};
    int i, j, k, calls = 0;

    for (i = 0; i < threads; i++) {
        for (j = 0; j < all[i].counted.codes; j++)
            for (k = 0; k < all[i].counted.times[j]; k++)
                count(&sum, all[i].counted.status[j]);
        for (j = 0; j < all[i].times && times != NULL; j++)
            times[calls++] = all[i].counted.took_ms[j];
    }
    if (times != NULL)
        qsort(times, (size_t)calls, sizeof *times, compare);
    printf("%s\t", name);
    for (i = 0; i < sum.codes; i++)
        printf("%s%d x %d", i > 0 ? ", " : "", (int)sum.status[i], sum.times[i]);
    printf("\t%.3f\t%.3f\t%s\n", calls > 0 ? times[calls / 2] : 0, calls > 0 ? times[calls - 1] : 0,
           first->counted.detail);
    (void)fflush(stdout);
    free(times);
}

/* Does what the text says; false if there is no such step. */
static bool perform(const char *text) {
    static struct work all[THREADS_MAX];
    const char *name = text;
    long threads = 1, times = 1;
    size_t i;
    char *end;

    if (strchr(text, 'x') != NULL && strchr(text, '*') != NULL) {
        threads = strtol(name, &end, 10);
        name = end + 1;
    }
    if (strchr(text, '*') != NULL) {
        times = strtol(name, &end, 10);
        name = end + 1;
    }
    for (i = 0; i < sizeof steps / sizeof steps[0] && strcmp(steps[i].name, name) != 0; i++)
        ;
    if (i == sizeof steps / sizeof steps[0] || threads < 1 || threads > THREADS_MAX || times < 1 ||
        times > TIMES_MAX)
        return false;
    for (long t = 0; t < threads; t++) {
        all[t] = (struct work){.step = &steps[i], .times = (int)times};
        all[t].counted.took_ms = calloc((size_t)times, sizeof(double));
        if (all[t].counted.took_ms == NULL)
            return false;
    }
    if (threads == 1) {
        (void)take(&all[0]);
    } else {
        for (long t = 0; t < threads; t++)
            if (pthread_create(&all[t].thread, NULL, take, &all[t]) != 0)
                return false;
        for (long t = 0; t < threads; t++)
            (void)pthread_join(all[t].thread, NULL);
    }
    print(text, all, (int)threads);
    for (long t = 0; t < threads; t++)
        free(all[t].counted.took_ms);
    return true;
}

int main(int count_of_arguments, char *const *arguments) {
    int i, failed = 0;

    if (count_of_arguments < 4) {
        (void)fprintf(stderr, "usage: %s <service> <account> <step> ...\n", arguments[0]);
        return 2;
    }
    service = string(arguments[1]);
    account = string(arguments[2]);
    for (i = 3; i < count_of_arguments && !failed; i++)
        if (!perform(arguments[i])) {
            (void)fprintf(stderr, "no such step: %s\n", arguments[i]);
            failed = 2;
        }
    if (keychain != NULL)
        CFRelease(keychain);
    CFRelease(account);
    CFRelease(service);
    return failed;
}
