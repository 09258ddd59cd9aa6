/*
 * Generic passwords of the macOS keychain, through SecItem.  Twin: keychain_none.c.
 *
 * Which items.  The same as msal-extensions 1.3.1 and MSAL for .NET and Java make with
 * SecKeychainAddGenericPassword: in the keychain files of the user ("login"), identified by account
 * and service.  The "data protection" keychain beside them wants an entitlement that no Python has,
 * and without kSecUseDataProtectionKeychain = false an update or a delete goes to both (macOS 10.15
 * and later; pyproject.toml asks for 11).
 *
 * A save updates the item that is there.  To delete it and add another one would be simpler, but
 * macOS would forget which programs the user has told it to "Always Allow".
 *
 * A call may wait for a person: macOS asks before a program reads an item that another program
 * wrote.  Nothing here can prevent that, or end it; docs/keychain.md says who is asked when.
 *
 * Core Foundation.  We release what a function named Create or Copy returned.  To release NULL
 * crashes, so a pointer that may be NULL goes through release().
 */
#include <CoreFoundation/CoreFoundation.h>
#include <Security/Security.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "internal.h"

enum {
    SAVE_TRIES = 3,    /* to update or to add, while others add and delete */
    ATTRIBUTES_MAX = 6 /* of one dictionary */
};

/* The keys and values for a dictionary. */
struct attributes {
    const void *keys[ATTRIBUTES_MAX];
    const void *values[ATTRIBUTES_MAX];
    CFIndex count;
};

/* The two strings that identify an item, as Core Foundation wants them. */
struct identity {
    CFStringRef service;
    CFStringRef account;
};

/* ---- errors ---- */

/* The one place where OSStatus values get their meaning; all others are MSALEX_OS_ERROR. */
static const struct {
    OSStatus code;
    int status;
} osstatus_table[] = {
    {errSecItemNotFound, MSALEX_NOT_FOUND},
    {errSecInteractionNotAllowed, MSALEX_DENIED}, /* locked, and nobody to ask: ssh, launchd */
    {errSecInteractionRequired, MSALEX_DENIED},   /* the same, of a smart card */
    {errSecAuthFailed, MSALEX_DENIED},            /* a wrong password, or an item not for us */
    {errSecUserCanceled, MSALEX_DENIED},          /* the user said no */
    {errSecReadOnly, MSALEX_DENIED},              /* the keychain's file cannot be written */
    {errSecWrPerm, MSALEX_DENIED},                /* the same */
    {errSecCSInfoPlistFailed, MSALEX_DENIED},     /* the program's signature is broken */
    {errSecNoDefaultKeychain, MSALEX_UNAVAILABLE},
    {errSecNoSuchKeychain, MSALEX_UNAVAILABLE},     /* the default one was deleted */
    {errSecNotAvailable, MSALEX_UNAVAILABLE},       /* before the first login, some daemons */
    {errSecMissingEntitlement, MSALEX_UNAVAILABLE}, /* there is only the other kind of keychain */
    {errSecParam, MSALEX_INVALID},
    {errSecDataTooLarge, MSALEX_INVALID},
};

static int status_of(OSStatus code) {
    for (size_t i = 0; i < sizeof osstatus_table / sizeof osstatus_table[0]; i++) {
        if (osstatus_table[i].code == code)
            return osstatus_table[i].status;
    }
    return MSALEX_OS_ERROR;
}

static void release(CFTypeRef object) {
    if (object != NULL)
        CFRelease(object);
}

/* Fills the error with the words of macOS. */
static int fail_osstatus(msalex_error *error, OSStatus code, const char *call) {
    CFStringRef words = SecCopyErrorMessageString(code, NULL);
    char message[sizeof error->message];

    if (words == NULL || !CFStringGetCString(words, message, sizeof message, kCFStringEncodingUTF8))
        (void)snprintf(message, sizeof message, "OSStatus %d", (int)code);
    release(words);
    return msalex__fail(error, status_of(code), code, call, message);
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

/* Every dictionary that selects an item begins with these. */
static struct attributes selecting(const struct identity *identity) {
    struct attributes attributes = {.count = 0};
    set(&attributes, kSecClass, kSecClassGenericPassword);
    set(&attributes, kSecUseDataProtectionKeychain, kCFBooleanFalse);
    set(&attributes, kSecAttrService, identity->service);
    set(&attributes, kSecAttrAccount, identity->account);
    return attributes;
}

static CFStringRef string(const char *text) {
    return CFStringCreateWithBytes(NULL, (const UInt8 *)text, (CFIndex)strlen(text),
                                   kCFStringEncodingUTF8, false);
}

static void forget(struct identity *identity) {
    release(identity->service);
    release(identity->account);
}

/* Refuses empty strings, because they would select every item. */
static int identify(const char *service, const char *account, struct identity *identity,
                    msalex_error *error) {
    *identity = (struct identity){0};
    if (service[0] == '\0' || account[0] == '\0')
        return msalex__fail(error, MSALEX_INVALID, errSecParam, "SecItem",
                            "an empty service or account stands for any");
    identity->service = string(service);
    identity->account = string(account);
    if (identity->service != NULL && identity->account != NULL)
        return msalex__ok(error);
    forget(identity);
    return msalex__fail(error, MSALEX_INVALID, errSecParam, "CFStringCreateWithBytes",
                        "the service or the account is not UTF-8, or no memory is left");
}

static int fail_memory(msalex_error *error, const char *call) {
    return msalex__fail(error, MSALEX_OS_ERROR, errSecAllocate, call, "no memory is left");
}

/* ---- our copy of the secret ---- */

/* The copy is mutable, so that we can wipe it; its capacity is fixed, so that it never moves and
 * leaves another copy behind.  NULL: out of memory. */
static CFMutableDataRef copy_secret(const unsigned char *secret, size_t size) {
    CFMutableDataRef data = CFDataCreateMutable(NULL, (CFIndex)size);
    if (data != NULL)
        CFDataAppendBytes(data, secret, (CFIndex)size);
    return data;
}

static void wipe_and_release(CFMutableDataRef data) {
    msalex__wipe(CFDataGetMutableBytePtr(data), (size_t)CFDataGetLength(data));
    CFRelease(data);
}

/* ---- the interface ---- */

int msalex_keychain_available(msalex_error *error) {
    return msalex__ok(error);
}

/* Updates the item, or adds one where there is none.  Others may add or delete it between the two
 * calls, so we try that several times. */
static int save(CFDictionaryRef query, CFDictionaryRef changes, CFDictionaryRef item,
                msalex_error *error) {
    const char *call = NULL;
    OSStatus code = errSecItemNotFound;

    for (int tries = 0; tries < SAVE_TRIES; tries++) {
        call = "SecItemUpdate";
        if ((code = SecItemUpdate(query, changes)) != errSecItemNotFound)
            break;
        call = "SecItemAdd";
        if ((code = SecItemAdd(item, NULL)) != errSecDuplicateItem)
            break;
    }
    return code == errSecSuccess ? msalex__ok(error) : fail_osstatus(error, code, call);
}

int msalex_keychain_save(const char *service, const char *account, const unsigned char *secret,
                         size_t size, msalex_error *error) {
    CFDictionaryRef query = NULL, changes = NULL, item = NULL;
    struct attributes attributes, change = {.count = 0};
    struct identity identity;
    CFMutableDataRef data;
    int status;

    if ((status = identify(service, account, &identity, error)) != MSALEX_OK)
        return status;
    if ((data = copy_secret(secret, size)) == NULL) {
        status = fail_memory(error, "CFDataCreateMutable");
        goto done;
    }
    set(&change, kSecValueData, data);
    changes = dictionary(&change);
    attributes = selecting(&identity);
    query = dictionary(&attributes);
    set(&attributes, kSecAttrLabel, identity.service); /* the name that people see */
    set(&attributes, kSecValueData, data);
    item = dictionary(&attributes);
    if (changes == NULL || query == NULL || item == NULL)
        status = fail_memory(error, "CFDictionaryCreate");
    else
        status = save(query, changes, item, error);
    release(item);
    release(query);
    release(changes);
    wipe_and_release(data);
done:
    forget(&identity);
    return status;
}

/* Copies the secret that SecItemCopyMatching returned.  We cannot wipe the system's own copy. */
static int take(CFTypeRef found, msalex_buffer *secret, msalex_error *error) {
    CFDataRef data = found;

    if (found == NULL || CFGetTypeID(found) != CFDataGetTypeID())
        return msalex__fail(error, MSALEX_CORRUPT, errSecDecode, "SecItemCopyMatching",
                            "the item holds no data");
    if (msalex__buffer_copy(secret, CFDataGetBytePtr(data), (size_t)CFDataGetLength(data), error) !=
        MSALEX_OK)
        return fail_memory(error, "malloc");
    return MSALEX_OK;
}

int msalex_keychain_load(const char *service, const char *account, msalex_buffer *secret,
                         msalex_error *error) {
    struct attributes attributes;
    struct identity identity;
    CFDictionaryRef query;
    CFTypeRef found = NULL;
    OSStatus code;
    int status;

    *secret = (msalex_buffer){0};
    if ((status = identify(service, account, &identity, error)) != MSALEX_OK)
        return status;
    attributes = selecting(&identity);
    set(&attributes, kSecMatchLimit, kSecMatchLimitOne);
    set(&attributes, kSecReturnData, kCFBooleanTrue);
    if ((query = dictionary(&attributes)) == NULL) {
        status = fail_memory(error, "CFDictionaryCreate");
        goto done;
    }
    code = SecItemCopyMatching(query, &found);
    status = code == errSecSuccess ? take(found, secret, error)
                                   : fail_osstatus(error, code, "SecItemCopyMatching");
    release(found);
    CFRelease(query);
done:
    forget(&identity);
    return status;
}

int msalex_keychain_delete(const char *service, const char *account, msalex_error *error) {
    struct attributes attributes;
    struct identity identity;
    CFDictionaryRef query;
    OSStatus code;
    int status;

    if ((status = identify(service, account, &identity, error)) != MSALEX_OK)
        return status;
    attributes = selecting(&identity);
    if ((query = dictionary(&attributes)) == NULL) {
        status = fail_memory(error, "CFDictionaryCreate");
        goto done;
    }
    code = SecItemDelete(query);
    status =
        code == errSecSuccess ? msalex__ok(error) : fail_osstatus(error, code, "SecItemDelete");
    CFRelease(query);
done:
    forget(&identity);
    return status;
}
