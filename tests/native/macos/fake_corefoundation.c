/* Core Foundation on Linux: see fake_corefoundation.h. */
#include "fake_corefoundation.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct __CFArrayCallBacks {
    int retains;
};
struct __CFDictionaryKeyCallBacks {
    int retains;
};
struct __CFDictionaryValueCallBacks {
    int retains;
};

struct fake_corefoundation fake_corefoundation;
static struct object *objects;
static pthread_mutex_t mutex = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;

FAKE_CONSTANT(CFBooleanRef, kCFBooleanTrue, BOOLEAN);
FAKE_CONSTANT(CFBooleanRef, kCFBooleanFalse, BOOLEAN);
const CFArrayCallBacks kCFTypeArrayCallBacks = {1};
const CFDictionaryKeyCallBacks kCFTypeDictionaryKeyCallBacks = {1};
const CFDictionaryValueCallBacks kCFTypeDictionaryValueCallBacks = {1};

void fake_require(bool condition, const char *what) {
    if (!condition) {
        (void)fprintf(stderr, "fake of macOS: %s\n", what);
        abort();
    }
}

static void enter(void) {
    (void)pthread_mutex_lock(&mutex);
}

static void leave(void) {
    (void)pthread_mutex_unlock(&mutex);
}

int fake_objects(void) {
    int count;

    enter();
    count = fake_corefoundation.objects;
    leave();
    return count;
}

struct object *fake_create(enum kind kind, CFIndex capacity) {
    struct object *object = NULL;

    enter();
    if (++fake_corefoundation.creates != fake_corefoundation.fail_create) {
        fake_corefoundation.objects++;
        object = calloc(1, sizeof *object);
        fake_require(object != NULL, "out of memory");
        object->kind = kind;
        object->references = 1;
        object->capacity = capacity;
        object->bytes = calloc(1, (size_t)capacity + 1);
        fake_require(object->bytes != NULL, "out of memory");
        object->next = objects;
        if (objects != NULL)
            objects->former = object;
        objects = object;
    }
    leave();
    return object;
}

const struct object *fake_checked(CFTypeRef reference) {
    const struct object *object = reference;
    fake_require(object != NULL, "NULL is used as an object");
    fake_require(object->kind != FREED && object->references != 0, "a released object is used");
    return object;
}

const struct object *fake_of_kind(CFTypeRef reference, enum kind kind) {
    const struct object *object = fake_checked(reference);
    fake_require(object->kind == kind, "an object is used as one of another type");
    return object;
}

const struct object *fake_retain(CFTypeRef reference) {
    struct object *object = (struct object *)(uintptr_t)fake_checked(reference);
    if (object->references != CONSTANT)
        object->references++;
    return object;
}

void CFRelease(CFTypeRef reference) {
    struct object *object = (struct object *)(uintptr_t)fake_checked(reference);

    fake_require(object->references != CONSTANT, "a constant is released");
    enter();
    if (--object->references == 0) {
        for (CFIndex i = 0; i < object->count; i++) {
            if (object->kind == DICTIONARY && object->keys[i]->references != CONSTANT)
                CFRelease(object->keys[i]);
            if (object->values[i]->references != CONSTANT)
                CFRelease(object->values[i]);
        }
        for (CFIndex i = 0; object->is_mutable && i < object->capacity; i++)
            fake_require(object->bytes[i] == 0, "plaintext is released without being wiped");
        fake_corefoundation.objects--;
        if (object->next != NULL)
            object->next->former = object->former;
        *(object->former == NULL ? &objects : &object->former->next) = object->next;
        object->kind = FREED;
        free(object->bytes);
        free(object);
    }
    leave();
}

CFTypeID CFGetTypeID(CFTypeRef reference) {
    return (CFTypeID)fake_checked(reference)->kind;
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

    fake_require(allocator == NULL && encoding == kCFStringEncodingUTF8 && !has_byte_order_mark,
                 "a string is made in an unexpected way");
    if (!is_utf8(bytes, size) || (string = fake_create(STRING, size)) == NULL)
        return NULL;
    memcpy(string->bytes, bytes, (size_t)size);
    string->size = size;
    return (CFStringRef)string;
}

Boolean CFStringGetCString(CFStringRef reference, char *buffer, CFIndex size,
                           CFStringEncoding encoding) {
    const struct object *string = fake_of_kind(reference, STRING);
    fake_require(encoding == kCFStringEncodingUTF8, "a string is read in an unexpected way");
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

    fake_require(allocator == NULL && capacity >= 0, "data is made in an unexpected way");
    if ((data = fake_create(DATA, capacity)) != NULL)
        data->is_mutable = true;
    return (CFMutableDataRef)data;
}

void CFDataAppendBytes(CFMutableDataRef reference, const UInt8 *bytes, CFIndex size) {
    struct object *data = (struct object *)(uintptr_t)fake_of_kind(reference, DATA);
    fake_require(data->is_mutable && data->size + size <= data->capacity, "data grows and moves");
    if (size > 0)
        memcpy(data->bytes + data->size, bytes, (size_t)size);
    data->size += size;
}

const UInt8 *CFDataGetBytePtr(CFDataRef data) {
    return fake_of_kind(data, DATA)->bytes;
}

UInt8 *CFDataGetMutableBytePtr(CFMutableDataRef data) {
    fake_require(fake_of_kind(data, DATA)->is_mutable, "data that is not ours is changed");
    return fake_of_kind(data, DATA)->bytes;
}

CFIndex CFDataGetLength(CFDataRef data) {
    return fake_of_kind(data, DATA)->size;
}

CFDictionaryRef CFDictionaryCreate(CFAllocatorRef allocator, const void **keys, const void **values,
                                   CFIndex count, const CFDictionaryKeyCallBacks *key_callbacks,
                                   const CFDictionaryValueCallBacks *value_callbacks) {
    struct object *dictionary;

    fake_require(allocator == NULL && key_callbacks == &kCFTypeDictionaryKeyCallBacks &&
                     value_callbacks == &kCFTypeDictionaryValueCallBacks,
                 "a dictionary retains nothing");
    fake_require(count <= PAIRS_MAX, "a dictionary is too large");
    if ((dictionary = fake_create(DICTIONARY, 0)) == NULL)
        return NULL;
    enter();
    for (CFIndex i = 0; i < count; i++) {
        dictionary->keys[i] = fake_retain(fake_of_kind(keys[i], STRING));
        dictionary->values[i] = fake_retain(values[i]);
    }
    leave();
    dictionary->count = count;
    return (CFDictionaryRef)dictionary;
}

CFTypeID CFDictionaryGetTypeID(void) {
    return DICTIONARY;
}

const void *CFDictionaryGetValue(CFDictionaryRef reference, const void *key) {
    const struct object *dictionary = fake_of_kind(reference, DICTIONARY);
    for (CFIndex i = 0; i < dictionary->count; i++) {
        if (dictionary->keys[i] == (const struct object *)key)
            return fake_checked(dictionary->values[i]);
    }
    return NULL;
}

CFArrayRef CFArrayCreate(CFAllocatorRef allocator, const void **values, CFIndex count,
                         const CFArrayCallBacks *callbacks) {
    struct object *array;

    fake_require(allocator == NULL && callbacks == &kCFTypeArrayCallBacks && count <= PAIRS_MAX,
                 "an array retains nothing, or is too large");
    if ((array = fake_create(ARRAY, 0)) == NULL)
        return NULL;
    enter();
    for (CFIndex i = 0; i < count; i++)
        array->values[i] = fake_retain(values[i]);
    leave();
    array->count = count;
    return (CFArrayRef)array;
}

CFTypeID CFDateGetTypeID(void) {
    return DATE;
}

CFAbsoluteTime CFDateGetAbsoluteTime(CFDateRef date) {
    return fake_of_kind(date, DATE)->time;
}
