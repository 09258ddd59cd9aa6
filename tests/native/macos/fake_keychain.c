/* See fake_keychain.h. */
#include "fake_keychain.h"

#include <Security/Security.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fake_corefoundation.h"

struct item {
    struct item *next;
    char *service, *account, *label;
    unsigned char *data;
    size_t size;
    int written; /* the modification date */
};

struct fake_keychain fake_keychain;
static struct item *items;
static bool interaction = true;
static pthread_mutex_t mutex = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;

FAKE_CONSTANT(CFStringRef, kSecClass, STRING);
FAKE_CONSTANT(CFStringRef, kSecClassGenericPassword, STRING);
FAKE_CONSTANT(CFStringRef, kSecAttrService, STRING);
FAKE_CONSTANT(CFStringRef, kSecAttrAccount, STRING);
FAKE_CONSTANT(CFStringRef, kSecAttrLabel, STRING);
FAKE_CONSTANT(CFStringRef, kSecMatchLimit, STRING);
FAKE_CONSTANT(CFStringRef, kSecMatchLimitOne, STRING);
FAKE_CONSTANT(CFStringRef, kSecReturnData, STRING);
FAKE_CONSTANT(CFStringRef, kSecUseDataProtectionKeychain, STRING);
FAKE_CONSTANT(CFStringRef, kSecValueData, STRING);
FAKE_CONSTANT(CFStringRef, kSecAttrModificationDate, STRING);
FAKE_CONSTANT(CFStringRef, kSecMatchSearchList, STRING);
FAKE_CONSTANT(CFStringRef, kSecReturnAttributes, STRING);
FAKE_CONSTANT(CFStringRef, kSecReturnRef, STRING);
FAKE_CONSTANT(CFStringRef, kSecUseKeychain, STRING);

static void enter(void) {
    (void)pthread_mutex_lock(&mutex);
}

static void leave(void) {
    (void)pthread_mutex_unlock(&mutex);
}

static const struct object *get(CFDictionaryRef dictionary, CFStringRef key) {
    return CFDictionaryGetValue(dictionary, key);
}

static const char *text(CFDictionaryRef dictionary, CFStringRef key) {
    const struct object *string = get(dictionary, key);
    fake_require(string != NULL && string->size > 0, "the service, account or label is missing");
    return (const char *)fake_of_kind(string, STRING)->bytes;
}

/* The query must select one generic password of the file keychain, by no more than `pairs`. */
static void check_query(CFDictionaryRef query, CFIndex pairs) {
    fake_require(fake_of_kind(query, DICTIONARY)->count == pairs,
                 "a query says too much, or too little");
    fake_require(get(query, kSecClass) == (const struct object *)kSecClassGenericPassword,
                 "a query is not for a generic password");
    fake_require(get(query, kSecUseDataProtectionKeychain) ==
                     (const struct object *)kCFBooleanFalse,
                 "a query goes to the data protection keychain as well");
}

/* It must search in the default keychain, and in no other. */
static void check_search(CFDictionaryRef query) {
    const struct object *searched = get(query, kSecMatchSearchList);
    fake_require(searched != NULL && fake_of_kind(searched, ARRAY)->count == 1 &&
                     searched->values[0]->kind == KEYCHAIN,
                 "a query searches in other keychains");
}

static struct item **find(const char *service, const char *account) {
    struct item **link = &items;
    while (*link != NULL &&
           (strcmp((*link)->service, service) != 0 || strcmp((*link)->account, account) != 0))
        link = &(*link)->next;
    return link;
}

static struct item **select_item(CFDictionaryRef query) {
    return find(text(query, kSecAttrService), text(query, kSecAttrAccount));
}

static void set_data(struct item *item, const void *data, size_t size) {
    unsigned char *copy = malloc(size + 1);
    fake_require(copy != NULL, "out of memory");
    memcpy(copy, data, size);
    free(item->data);
    item->data = copy;
    item->size = size;
    item->written = ++fake_keychain.writes;
}

static void add(const char *service, const char *account, const char *label, const void *data,
                size_t size) {
    struct item *item = calloc(1, sizeof *item);
    fake_require(item != NULL, "out of memory");
    item->service = strdup(service);
    item->account = strdup(account);
    item->label = strdup(label);
    set_data(item, data, size);
    item->next = items;
    items = item;
}

static void removed(struct item **link) {
    struct item *item = *link;
    *link = item->next;
    free(item->service);
    free(item->account);
    free(item->label);
    free(item->data);
    free(item);
}

void fake_keychain_put(const char *service, const char *account, const void *data, size_t size) {
    struct item **found = find(service, account);
    if (*found != NULL)
        set_data(*found, data, size);
    else
        add(service, account, service, data, size);
}

bool fake_keychain_has(const char *service, const char *account, const char *label,
                       const void *data, size_t size) {
    const struct item *item = *find(service, account);
    return item != NULL && strcmp(item->label, label) == 0 && item->size == size &&
           memcmp(item->data, data, size) == 0;
}

void fake_keychain_clear(void) {
    while (items != NULL)
        removed(&items);
}

/* The first step of every call: the OSStatus with which it fails, or 0. */
static OSStatus begin(const char *call) {
    const char *rule = getenv("FAKE_KEYCHAIN");
    size_t length = strlen(call);

    enter();
    fake_keychain.last = call;
    fake_keychain.calls++;
    if (fake_keychain.before != NULL)
        fake_keychain.before(call);
    if (fake_keychain.calls == fake_keychain.fail_call) {
        fake_keychain.failed = call;
        return fake_keychain.status;
    }
    if (rule != NULL && strncmp(rule, call, length) == 0 && rule[length] == '=')
        return (OSStatus)atoi(rule + length + 1);
    return errSecSuccess;
}

static OSStatus end(OSStatus status) {
    leave();
    return status;
}

OSStatus SecItemAdd(CFDictionaryRef attributes, CFTypeRef *result) {
    const struct object *data = get(attributes, kSecValueData);
    OSStatus status = begin("SecItemAdd");

    check_query(attributes, 7);
    fake_require(fake_of_kind(get(attributes, kSecUseKeychain), KEYCHAIN) != NULL,
                 "an item is added to another keychain");
    fake_require(result == NULL && data != NULL, "an item is added in an unexpected way");
    if (status != errSecSuccess)
        return end(status);
    if (*select_item(attributes) != NULL)
        return end(errSecDuplicateItem);
    (void)fake_of_kind(data, DATA);
    add(text(attributes, kSecAttrService), text(attributes, kSecAttrAccount),
        text(attributes, kSecAttrLabel), data->bytes, (size_t)data->size);
    return end(errSecSuccess);
}

/* The attributes of an item, as far as they are asked for. */
static struct object *attributes_of(const struct item *item) {
    struct object *attributes = fake_create(DICTIONARY, 0), *date;

    if (attributes == NULL)
        return NULL;
    if ((date = fake_create(DATE, 0)) == NULL) {
        CFRelease(attributes);
        return NULL;
    }
    date->time = item->written;
    attributes->keys[0] = (const struct object *)kSecAttrModificationDate;
    attributes->values[0] = date;
    attributes->count = 1;
    return attributes;
}

static bool wants(CFDictionaryRef query, CFStringRef key) {
    return get(query, key) == (const struct object *)kCFBooleanTrue;
}

OSStatus SecItemCopyMatching(CFDictionaryRef query, CFTypeRef *result) {
    OSStatus status = begin("SecItemCopyMatching");
    const struct item *item;
    struct object *copy;

    check_query(query, 7);
    check_search(query);
    fake_require(get(query, kSecMatchLimit) == (const struct object *)kSecMatchLimitOne,
                 "an item is read in an unexpected way");
    *result = NULL;
    if (status != errSecSuccess)
        return end(status);
    if ((item = *select_item(query)) == NULL)
        return end(errSecItemNotFound);
    if (fake_keychain.returning == RETURN_NULL)
        return end(errSecSuccess);
    if (fake_keychain.returning == RETURN_STRING)
        copy = fake_create(STRING, 0);
    else if (wants(query, kSecReturnAttributes))
        copy = attributes_of(item);
    else if (wants(query, kSecReturnRef))
        copy = fake_create(ITEM, 0);
    else
        copy = fake_create(DATA, (CFIndex)item->size);
    if (copy == NULL)
        return end(errSecAllocate);
    if (copy->kind == DATA) {
        memcpy(copy->bytes, item->data, item->size);
        copy->size = (CFIndex)item->size;
    }
    if (copy->kind == ITEM)
        fake_keychain.referred = item;
    *result = copy;
    return end(errSecSuccess);
}

OSStatus SecItemUpdate(CFDictionaryRef query, CFDictionaryRef attributes_to_update) {
    const struct object *data = get(attributes_to_update, kSecValueData);
    OSStatus status = begin("SecItemUpdate");
    struct item *item;

    check_query(query, 5);
    check_search(query);
    fake_require(fake_of_kind(attributes_to_update, DICTIONARY)->count == 1 && data != NULL,
                 "more than the data is updated");
    if (status != errSecSuccess)
        return end(status);
    if ((item = *select_item(query)) == NULL)
        return end(errSecItemNotFound);
    set_data(item, fake_of_kind(data, DATA)->bytes, (size_t)data->size);
    return end(errSecSuccess);
}

OSStatus SecItemDelete(CFDictionaryRef query) {
    OSStatus status = begin("SecItemDelete");
    struct item **found;

    check_query(query, 5);
    check_search(query);
    if (status != errSecSuccess)
        return end(status);
    found = select_item(query);
    if (*found == NULL)
        return end(errSecItemNotFound);
    removed(found);
    return end(errSecSuccess);
}

/* ---- SecKeychain ---- */

OSStatus SecKeychainCopyDefault(SecKeychainRef *keychain) {
    const OSStatus status = begin("SecKeychainCopyDefault");
    struct object *copy;

    if (status != errSecSuccess)
        return end(status);
    if ((copy = fake_create(KEYCHAIN, 0)) == NULL)
        return end(errSecAllocate);
    *keychain = (SecKeychainRef)copy;
    return end(errSecSuccess);
}

OSStatus SecKeychainGetStatus(SecKeychainRef keychain, SecKeychainStatus *state) {
    const OSStatus status = begin("SecKeychainGetStatus");
    (void)fake_of_kind(keychain, KEYCHAIN);
    *state = fake_keychain.locked ? 0 : kSecUnlockStateStatus;
    return end(status);
}

OSStatus SecKeychainUnlock(SecKeychainRef keychain, UInt32 password_length, const void *password,
                           Boolean use_password) {
    const OSStatus status = begin("SecKeychainUnlock");
    (void)fake_of_kind(keychain, KEYCHAIN);
    fake_require(password_length == 0 && password == NULL && !use_password,
                 "a password is given to the keychain");
    if (status == errSecSuccess)
        fake_keychain.locked = false;
    return end(status);
}

OSStatus SecKeychainSetUserInteractionAllowed(Boolean state) {
    const OSStatus status = begin("SecKeychainSetUserInteractionAllowed");
    if (status == errSecSuccess)
        interaction = state;
    return end(status);
}

OSStatus SecKeychainGetUserInteractionAllowed(Boolean *state) {
    *state = interaction;
    return errSecSuccess;
}

OSStatus SecKeychainItemDelete(SecKeychainItemRef reference) {
    const OSStatus status = begin("SecKeychainItemDelete");

    (void)fake_of_kind(reference, ITEM);
    if (status != errSecSuccess)
        return end(status);
    for (struct item **link = &items; *link != NULL; link = &(*link)->next) {
        if (*link == fake_keychain.referred) {
            removed(link);
            return end(errSecSuccess);
        }
    }
    return end(errSecItemNotFound);
}

CFStringRef SecCopyErrorMessageString(OSStatus status, void *reserved) {
    char words[1024];

    fake_require(reserved == NULL, "an error is asked for in an unexpected way");
    if (fake_keychain.words == NO_WORDS)
        return NULL;
    (void)snprintf(words, sizeof words, "The words for %d.%*s", (int)status,
                   fake_keychain.words == LONG_WORDS ? 600 : 0, "");
    return CFStringCreateWithBytes(NULL, (const UInt8 *)words, (CFIndex)strlen(words),
                                   kCFStringEncodingUTF8, false);
}

/* ---- the C library of macOS ---- */

size_t fake_confstr(int name, char *text, size_t size) {
    const char *chosen = getenv("FAKE_CACHES"), *temporary = getenv("TMPDIR");

    fake_require(name == _CS_DARWIN_USER_CACHE_DIR, "confstr is asked for something else");
    if (chosen == NULL)
        chosen = temporary == NULL ? "/tmp" : temporary;
    if (chosen[0] == '\0')
        return 0; /* there is none */
    return (size_t)snprintf(text, size, "%s/", chosen) + 1;
}

int pthread_cond_timedwait_relative_np(pthread_cond_t *condition, pthread_mutex_t *guard,
                                       const struct timespec *timeout) {
    struct timespec end;

    (void)clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_sec += timeout->tv_sec;
    end.tv_nsec += timeout->tv_nsec;
    if (end.tv_nsec >= 1000000000) {
        end.tv_sec++;
        end.tv_nsec -= 1000000000;
    }
    return pthread_cond_clockwait(condition, guard, CLOCK_MONOTONIC, &end);
}
