/*
 * The operations on a keychain item, each done once: see keychain_tries_macos.c.
 *
 * Which items.  The same as msal-extensions 1.3.1 and MSAL for .NET and Java make with
 * SecKeychainAddGenericPassword: in the default keychain of the user ("login"), identified by
 * account and service.  SecItem by itself adds to the default keychain, but searches in those of
 * the search list, and the default one may not be among them.  So every dictionary names the
 * keychain.  Where there is no default one, SecKeychainCopyDefault says so at once; SecItemAdd by
 * itself would ask a person to make one.  The "data protection" keychain beside them wants an
 * entitlement that no Python has, and without kSecUseDataProtectionKeychain = false an update or a
 * delete would go to both (macOS 10.15 and later; pyproject.toml asks for 11).
 *
 * A save updates the item that is there.  To delete it and add another one would be simpler, but
 * macOS would forget which programs the user has told it to "Always Allow".
 *
 * Core Foundation.  We release what a function named Create or Copy returned.  To release NULL
 * crashes, so a pointer that may be NULL goes through msalex__keychain_release().
 */
#include "keychain_macos.h"

#include <stdio.h>
#include <string.h>

enum { ATTRIBUTES_MAX = 7 }; /* of one dictionary */

/* The keys and values for a dictionary. */
struct attributes {
    const void *keys[ATTRIBUTES_MAX];
    const void *values[ATTRIBUTES_MAX];
    CFIndex count;
};

static void release(CFTypeRef object) {
    msalex__keychain_release(object);
}

/* ---- dictionaries ---- */

static void set(struct attributes *attributes, CFStringRef key, CFTypeRef value) {
    attributes->keys[attributes->count] = key;
    attributes->values[attributes->count] = value;
    attributes->count++;
}

/* NULL: out of memory.  The callbacks make it retain its keys and values. */
static CFDictionaryRef dictionary(const struct attributes *attributes) {
    return CFDictionaryCreate(NULL, (const void **)attributes->keys,
                              (const void **)attributes->values, attributes->count,
                              &kCFTypeDictionaryKeyCallBacks, &kCFTypeDictionaryValueCallBacks);
}

/* Every dictionary that means the item begins with these. */
static struct attributes identifying(const struct msalex__keychain_job *job) {
    struct attributes attributes = {.count = 0};
    set(&attributes, kSecClass, kSecClassGenericPassword);
    set(&attributes, kSecUseDataProtectionKeychain, kCFBooleanFalse);
    set(&attributes, kSecAttrService, job->service);
    set(&attributes, kSecAttrAccount, job->account);
    return attributes;
}

static struct attributes selecting(const struct msalex__keychain_job *job) {
    struct attributes attributes = identifying(job);
    set(&attributes, kSecMatchSearchList, job->searched);
    return attributes;
}

/* ---- calls of SecItem; each asks first whether the caller is still there ---- */

/* Finds the item, and copies what `wanted` says: its data, its attributes or a reference. */
static int copy_matching(const struct msalex__keychain_job *job, CFStringRef wanted,
                         CFTypeRef *found) {
    struct attributes attributes = selecting(job);
    CFDictionaryRef query;
    OSStatus code;

    *found = NULL;
    if (!msalex__keychain_begin(job->call, "SecItemCopyMatching"))
        return msalex__keychain_fail_left(job, "SecItemCopyMatching");
    set(&attributes, kSecMatchLimit, kSecMatchLimitOne);
    set(&attributes, wanted, kCFBooleanTrue);
    if ((query = dictionary(&attributes)) == NULL)
        return msalex__keychain_fail_memory(job, "CFDictionaryCreate");
    code = SecItemCopyMatching(query, found);
    CFRelease(query);
    return msalex__keychain_told(job, code, "SecItemCopyMatching");
}

static int update(const struct msalex__keychain_job *job) {
    struct attributes attributes = selecting(job), change = {.count = 0};
    CFDictionaryRef query = NULL, changes = NULL;
    int status;

    if (!msalex__keychain_begin(job->call, "SecItemUpdate"))
        return msalex__keychain_fail_left(job, "SecItemUpdate");
    set(&change, kSecValueData, job->data);
    if ((query = dictionary(&attributes)) == NULL || (changes = dictionary(&change)) == NULL)
        status = msalex__keychain_fail_memory(job, "CFDictionaryCreate");
    else
        status = msalex__keychain_told(job, SecItemUpdate(query, changes), "SecItemUpdate");
    release(changes);
    release(query);
    return status;
}

static int add(const struct msalex__keychain_job *job) {
    struct attributes attributes = identifying(job);
    CFDictionaryRef item;
    int status;

    if (!msalex__keychain_begin(job->call, "SecItemAdd"))
        return msalex__keychain_fail_left(job, "SecItemAdd");
    set(&attributes, kSecUseKeychain, job->keychain);
    set(&attributes, kSecAttrLabel, job->service); /* the name that people see */
    set(&attributes, kSecValueData, job->data);
    if ((item = dictionary(&attributes)) == NULL)
        return msalex__keychain_fail_memory(job, "CFDictionaryCreate");
    status = msalex__keychain_told(job, SecItemAdd(item, NULL), "SecItemAdd");
    CFRelease(item);
    /* The caller stored something, and did not ask whether something is there. */
    return status == MSALEX_NOT_FOUND ? MSALEX_OS_ERROR : status;
}

/* ---- the operations, once ---- */

static int unlock(const struct msalex__keychain_job *job) {
    if (!job->is_locked)
        return msalex__ok(job->error);
    if (!msalex__keychain_begin(job->call, "SecKeychainUnlock"))
        return msalex__keychain_fail_left(job, "SecKeychainUnlock");
    return msalex__keychain_told(job, SecKeychainUnlock(job->keychain, 0, NULL, false),
                                 "SecKeychainUnlock");
}

static int fail_damaged(const struct msalex__keychain_job *job, const char *words) {
    return msalex__fail(job->error, MSALEX_CORRUPT, errSecDecode, "SecItemCopyMatching", words);
}

/* The attributes of an item are not encrypted: neither the keychain nor the item has to be unlocked
 * for them (source: SecItem.cpp, AddItemResults, which fetches the data only for queries that want
 * it). */
static int look(const struct msalex__keychain_job *job) {
    CFTypeRef found, date = NULL;
    char text[32];
    int status = copy_matching(job, kSecReturnAttributes, &found);

    if (status != MSALEX_OK)
        return status;
    if (found != NULL && CFGetTypeID(found) == CFDictionaryGetTypeID())
        date = CFDictionaryGetValue(found, kSecAttrModificationDate);
    if (date == NULL || CFGetTypeID(date) != CFDateGetTypeID()) {
        status = fail_damaged(job, "the item has no modification date");
    } else {
        (void)snprintf(text, sizeof text, "%.0f", 1000 * CFDateGetAbsoluteTime(date));
        status = msalex__buffer_copy(&job->call->secret, text, strlen(text), job->error);
    }
    release(found);
    return status;
}

/* We cannot wipe the copy of the system. */
static int load(const struct msalex__keychain_job *job) {
    CFTypeRef found;
    int status = copy_matching(job, kSecReturnData, &found);

    if (status != MSALEX_OK)
        return status;
    if (found == NULL || CFGetTypeID(found) != CFDataGetTypeID())
        status = fail_damaged(job, "the item holds no data");
    else if (msalex__buffer_copy(&job->call->secret, CFDataGetBytePtr(found),
                                 (size_t)CFDataGetLength(found), job->error) != MSALEX_OK)
        status = msalex__keychain_fail_memory(job, "malloc");
    release(found);
    return status;
}

static int save(const struct msalex__keychain_job *job) {
    const int status = update(job);
    return status == MSALEX_NOT_FOUND ? add(job) : status;
}

/* Deletes the item of another program.  SecItemDelete looks whether the base name of this program
 * stands in the access list of the item, and refuses otherwise, so python3.13 could not delete what
 * python3.12 made.  With a reference there is no such rule (SecItem.cpp,
 * _SafeSecKeychainItemDelete; MSAL for .NET deletes in this way). */
static int delete_of_another(const struct msalex__keychain_job *job) {
    CFTypeRef found;
    int status = copy_matching(job, kSecReturnRef, &found);

    if (status != MSALEX_OK)
        return status;
    if (found == NULL)
        return fail_damaged(job, "the item has no reference");
    if (msalex__keychain_begin(job->call, "SecKeychainItemDelete"))
        status =
            msalex__keychain_told(job, SecKeychainItemDelete((SecKeychainItemRef)(uintptr_t)found),
                                  "SecKeychainItemDelete");
    else
        status = msalex__keychain_fail_left(job, "SecKeychainItemDelete");
    CFRelease(found);
    return status;
}

static int delete(const struct msalex__keychain_job *job) {
    struct attributes attributes = selecting(job);
    CFDictionaryRef query;
    int status;

    if (!msalex__keychain_begin(job->call, "SecItemDelete"))
        return msalex__keychain_fail_left(job, "SecItemDelete");
    if ((query = dictionary(&attributes)) == NULL)
        return msalex__keychain_fail_memory(job, "CFDictionaryCreate");
    status = msalex__keychain_told(job, SecItemDelete(query), "SecItemDelete");
    CFRelease(query);
    return job->error->code == errSecInvalidOwnerEdit ? delete_of_another(job) : status;
}

int msalex__keychain_operate(const struct msalex__keychain_job *job) {
    static int (*const operations[])(const struct msalex__keychain_job *) = {
        [MSALEX_KEYCHAIN_UNLOCK] = unlock, [MSALEX_KEYCHAIN_LOOK] = look,
        [MSALEX_KEYCHAIN_LOAD] = load,     [MSALEX_KEYCHAIN_SAVE] = save,
        [MSALEX_KEYCHAIN_ADD] = add,       [MSALEX_KEYCHAIN_DELETE] = delete,
    };
    return operations[job->call->operation](job);
}
