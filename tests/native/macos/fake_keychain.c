/* See fake_keychain.h. */
#include "fake_keychain.h"

#include <CoreFoundation/CoreFoundation.h>
#include <Security/Security.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PAIRS_MAX = 8, CONSTANT = -1 };
enum kind { FREED, BOOLEAN = 100, STRING, DATA, DICTIONARY };

/* Any object of Core Foundation. */
struct object {
    enum kind kind;
    int references; /* or CONSTANT */
    bool is_mutable;
    CFIndex size, capacity; /* of the bytes, or the number of pairs */
    unsigned char *bytes;
    const struct object *keys[PAIRS_MAX], *values[PAIRS_MAX];
};

struct item {
    struct item *next;
    char *service, *account, *label;
    unsigned char *data;
    size_t size;
};

struct __CFDictionaryKeyCallBacks {
    int retains;
};
struct __CFDictionaryValueCallBacks {
    int retains;
};

struct fake_keychain fake_keychain;
static struct item *items;
static pthread_mutex_t mutex = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;

#define CONSTANT_OBJECT(type, name, kind_)                                                         \
    static const struct object name##_object = {.kind = kind_, .references = CONSTANT};           \
    const type name = (type)&name##_object

CONSTANT_OBJECT(CFBooleanRef, kCFBooleanTrue, BOOLEAN);
CONSTANT_OBJECT(CFBooleanRef, kCFBooleanFalse, BOOLEAN);
CONSTANT_OBJECT(CFStringRef, kSecClass, STRING);
CONSTANT_OBJECT(CFStringRef, kSecClassGenericPassword, STRING);
CONSTANT_OBJECT(CFStringRef, kSecAttrService, STRING);
CONSTANT_OBJECT(CFStringRef, kSecAttrAccount, STRING);
CONSTANT_OBJECT(CFStringRef, kSecAttrLabel, STRING);
CONSTANT_OBJECT(CFStringRef, kSecMatchLimit, STRING);
CONSTANT_OBJECT(CFStringRef, kSecMatchLimitOne, STRING);
CONSTANT_OBJECT(CFStringRef, kSecReturnData, STRING);
CONSTANT_OBJECT(CFStringRef, kSecUseDataProtectionKeychain, STRING);
CONSTANT_OBJECT(CFStringRef, kSecValueData, STRING);
const CFDictionaryKeyCallBacks kCFTypeDictionaryKeyCallBacks = {1};
const CFDictionaryValueCallBacks kCFTypeDictionaryValueCallBacks = {1};

static void require(bool condition, const char *what) {
    if (!condition) {
        (void)fprintf(stderr, "fake keychain: %s\n", what);
        abort();
    }
}

static void enter(void) {
    (void)pthread_mutex_lock(&mutex);
}

static void leave(void) {
    (void)pthread_mutex_unlock(&mutex);
}

/* ---- Core Foundation ---- */

static struct object *create(enum kind kind, CFIndex capacity) {
    struct object *object = NULL;

    enter();
    if (++fake_keychain.creates != fake_keychain.fail_create) {
        fake_keychain.objects++;
        object = calloc(1, sizeof *object);
        require(object != NULL, "out of memory");
        object->kind = kind;
        object->references = 1;
        object->capacity = capacity;
        object->bytes = calloc(1, (size_t)capacity + 1);
        require(object->bytes != NULL, "out of memory");
    }
    leave();
    return object;
}

static const struct object *checked(CFTypeRef reference) {
    const struct object *object = reference;
    require(object != NULL, "NULL is used as an object");
    require(object->kind != FREED && object->references != 0, "a released object is used");
    return object;
}

static const struct object *of_kind(CFTypeRef reference, enum kind kind) {
    const struct object *object = checked(reference);
    require(object->kind == kind, "an object is used as one of another type");
    return object;
}

static const struct object *retain(CFTypeRef reference) {
    struct object *object = (struct object *)(uintptr_t)checked(reference);
    if (object->references != CONSTANT)
        object->references++;
    return object;
}

void CFRelease(CFTypeRef reference) {
    struct object *object = (struct object *)(uintptr_t)checked(reference);

    require(object->references != CONSTANT, "a constant is released");
    enter();
    if (--object->references == 0) {
        for (CFIndex i = 0; object->kind == DICTIONARY && i < object->size; i++) {
            if (object->keys[i]->references != CONSTANT)
                CFRelease(object->keys[i]);
            if (object->values[i]->references != CONSTANT)
                CFRelease(object->values[i]);
        }
        for (CFIndex i = 0; object->is_mutable && i < object->capacity; i++)
            require(object->bytes[i] == 0, "plaintext is released without being wiped");
        fake_keychain.objects--;
        object->kind = FREED;
        free(object->bytes);
        free(object);
    }
    leave();
}

CFTypeID CFGetTypeID(CFTypeRef reference) {
    return (CFTypeID)checked(reference)->kind;
}

static bool is_utf8(const unsigned char *bytes, CFIndex size) {
    for (CFIndex i = 0; i < size;) {
        CFIndex more = bytes[i] < 0x80   ? 0
                       : bytes[i] < 0xc2 ? -1
                       : bytes[i] < 0xe0 ? 1
                       : bytes[i] < 0xf0 ? 2
                       : bytes[i] < 0xf5 ? 3
                                         : -1;
        if (more < 0 || i + more >= size)
            return false;
        for (CFIndex end = i++ + more; i <= end; i++) {
            if ((bytes[i] & 0xc0) != 0x80)
                return false;
        }
    }
    return true;
}

CFStringRef CFStringCreateWithBytes(CFAllocatorRef allocator, const UInt8 *bytes, CFIndex size,
                                    CFStringEncoding encoding, Boolean has_byte_order_mark) {
    struct object *string;

    require(allocator == NULL && encoding == kCFStringEncodingUTF8 && !has_byte_order_mark,
            "a string is made in an unexpected way");
    if (!is_utf8(bytes, size) || (string = create(STRING, size)) == NULL)
        return NULL;
    memcpy(string->bytes, bytes, (size_t)size);
    string->size = size;
    return (CFStringRef)string;
}

Boolean CFStringGetCString(CFStringRef reference, char *buffer, CFIndex size,
                           CFStringEncoding encoding) {
    const struct object *string = of_kind(reference, STRING);
    require(encoding == kCFStringEncodingUTF8, "a string is read in an unexpected way");
    if (string->size >= size)
        return false;
    memcpy(buffer, string->bytes, (size_t)string->size + 1);
    return true;
}

CFTypeID CFDataGetTypeID(void) {
    return DATA;
}

CFMutableDataRef CFDataCreateMutable(CFAllocatorRef allocator, CFIndex capacity) {
    struct object *data;

    require(allocator == NULL && capacity >= 0, "data is made in an unexpected way");
    if ((data = create(DATA, capacity)) != NULL)
        data->is_mutable = true;
    return (CFMutableDataRef)data;
}

void CFDataAppendBytes(CFMutableDataRef reference, const UInt8 *bytes, CFIndex size) {
    struct object *data = (struct object *)(uintptr_t)of_kind(reference, DATA);
    require(data->is_mutable && data->size + size <= data->capacity, "data grows and moves");
    if (size > 0)
        memcpy(data->bytes + data->size, bytes, (size_t)size);
    data->size += size;
}

const UInt8 *CFDataGetBytePtr(CFDataRef data) {
    return of_kind(data, DATA)->bytes;
}

UInt8 *CFDataGetMutableBytePtr(CFMutableDataRef data) {
    require(of_kind(data, DATA)->is_mutable, "data that is not ours is changed");
    return of_kind(data, DATA)->bytes;
}

CFIndex CFDataGetLength(CFDataRef data) {
    return of_kind(data, DATA)->size;
}

CFDictionaryRef CFDictionaryCreate(CFAllocatorRef allocator, const void **keys, const void **values,
                                   CFIndex count, const CFDictionaryKeyCallBacks *key_callbacks,
                                   const CFDictionaryValueCallBacks *value_callbacks) {
    struct object *dictionary;

    require(allocator == NULL && key_callbacks == &kCFTypeDictionaryKeyCallBacks &&
                value_callbacks == &kCFTypeDictionaryValueCallBacks,
            "a dictionary retains nothing");
    require(count <= PAIRS_MAX, "a dictionary is too large");
    if ((dictionary = create(DICTIONARY, 0)) == NULL)
        return NULL;
    enter();
    for (CFIndex i = 0; i < count; i++) {
        dictionary->keys[i] = retain(of_kind(keys[i], STRING));
        dictionary->values[i] = retain(values[i]);
    }
    leave();
    dictionary->size = count;
    return (CFDictionaryRef)dictionary;
}

/* ---- the keychain ---- */

static const struct object *get(CFDictionaryRef reference, CFStringRef key) {
    const struct object *dictionary = of_kind(reference, DICTIONARY);
    for (CFIndex i = 0; i < dictionary->size; i++) {
        if (dictionary->keys[i] == (const struct object *)key)
            return checked(dictionary->values[i]);
    }
    return NULL;
}

static const char *text(CFDictionaryRef dictionary, CFStringRef key) {
    const struct object *string = get(dictionary, key);
    require(string != NULL && string->size > 0, "the service, account or label is missing");
    return (const char *)of_kind(string, STRING)->bytes;
}

/* The query must select one generic password of the file keychain, by no more than `pairs`. */
static void check_query(CFDictionaryRef query, CFIndex pairs) {
    require(of_kind(query, DICTIONARY)->size == pairs, "a query says too much, or too little");
    require(get(query, kSecClass) == (const struct object *)kSecClassGenericPassword,
            "a query is not for a generic password");
    require(get(query, kSecUseDataProtectionKeychain) == (const struct object *)kCFBooleanFalse,
            "a query goes to the data protection keychain as well");
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
    require(copy != NULL, "out of memory");
    memcpy(copy, data, size);
    free(item->data);
    item->data = copy;
    item->size = size;
}

static void add(const char *service, const char *account, const char *label, const void *data,
                size_t size) {
    struct item *item = calloc(1, sizeof *item);
    require(item != NULL, "out of memory");
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
    if (fake_keychain.calls == fake_keychain.fail_call)
        return fake_keychain.status;
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

    check_query(attributes, 6);
    require(result == NULL && data != NULL, "an item is added in an unexpected way");
    if (status != errSecSuccess)
        return end(status);
    if (*select_item(attributes) != NULL)
        return end(errSecDuplicateItem);
    (void)of_kind(data, DATA);
    add(text(attributes, kSecAttrService), text(attributes, kSecAttrAccount),
        text(attributes, kSecAttrLabel), data->bytes, (size_t)data->size);
    return end(errSecSuccess);
}

OSStatus SecItemCopyMatching(CFDictionaryRef query, CFTypeRef *result) {
    OSStatus status = begin("SecItemCopyMatching");
    const struct item *item;
    struct object *copy;

    check_query(query, 6);
    require(get(query, kSecReturnData) == (const struct object *)kCFBooleanTrue &&
                get(query, kSecMatchLimit) == (const struct object *)kSecMatchLimitOne,
            "an item is read in an unexpected way");
    *result = NULL;
    if (status != errSecSuccess)
        return end(status);
    if ((item = *select_item(query)) == NULL)
        return end(errSecItemNotFound);
    if (fake_keychain.returning == RETURN_NULL)
        return end(errSecSuccess);
    copy = create(fake_keychain.returning == RETURN_STRING ? STRING : DATA, (CFIndex)item->size);
    if (copy == NULL)
        return end(errSecAllocate);
    memcpy(copy->bytes, item->data, item->size);
    copy->size = (CFIndex)item->size;
    *result = copy;
    return end(errSecSuccess);
}

OSStatus SecItemUpdate(CFDictionaryRef query, CFDictionaryRef attributes_to_update) {
    const struct object *data = get(attributes_to_update, kSecValueData);
    OSStatus status = begin("SecItemUpdate");
    struct item *item;

    check_query(query, 4);
    require(of_kind(attributes_to_update, DICTIONARY)->size == 1 && data != NULL,
            "more than the data is updated");
    if (status != errSecSuccess)
        return end(status);
    if ((item = *select_item(query)) == NULL)
        return end(errSecItemNotFound);
    set_data(item, of_kind(data, DATA)->bytes, (size_t)data->size);
    return end(errSecSuccess);
}

OSStatus SecItemDelete(CFDictionaryRef query) {
    OSStatus status = begin("SecItemDelete");
    struct item **found;

    check_query(query, 4);
    if (status != errSecSuccess)
        return end(status);
    found = select_item(query);
    if (*found == NULL)
        return end(errSecItemNotFound);
    removed(found);
    return end(errSecSuccess);
}

CFStringRef SecCopyErrorMessageString(OSStatus status, void *reserved) {
    char words[1024];

    require(reserved == NULL, "an error is asked for in an unexpected way");
    if (fake_keychain.words == NO_WORDS)
        return NULL;
    (void)snprintf(words, sizeof words, "The words for %d.%*s", (int)status,
                   fake_keychain.words == LONG_WORDS ? 600 : 0, "");
    return CFStringCreateWithBytes(NULL, (const UInt8 *)words, (CFIndex)strlen(words),
                                   kCFStringEncodingUTF8, false);
}
