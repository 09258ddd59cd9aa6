/*
 * The operations on a keychain item: what the thread of a call does (keychain_macos.c).
 *
 * Which items.  The same as msal-extensions 1.3.1 and MSAL for .NET and Java make with
 * SecKeychainAddGenericPassword: in the default keychain of the user ("login"), identified by
 * account and service.  SecItem by itself adds to the default keychain, but searches in those of the
 * search list, and the default one may not be among them.  So every dictionary names the keychain.
 * Where there is no default one, SecKeychainCopyDefault says so at once; SecItemAdd by itself would
 * ask a person to make one.  The "data protection" keychain beside them wants an entitlement that no
 * Python has, and without kSecUseDataProtectionKeychain = false an update or a delete would go to
 * both (macOS 10.15 and later; pyproject.toml asks for 11).
 *
 * A save updates the item that is there.  To delete it and add another one would be simpler, but
 * macOS would forget which programs the user has told it to "Always Allow".
 *
 * Core Foundation.  We release what a function named Create or Copy returned.  To release NULL
 * crashes, so a pointer that may be NULL goes through msalex__keychain_release().
 */
#include "keychain_macos.h"

#include <Security/Security.h>
#include <stdio.h>
#include <string.h>

enum {
    ATTRIBUTES_MAX = 7, /* of one dictionary */
    ASKED_MS = 1000     /* a call that took longer than this has probably asked a person */
};

/* Milliseconds before the second, third ... try of an operation that failed because of others. */
static const int64_t pauses[] = {10, 20, 50, 100, 200, 400};

/* The keys and values for a dictionary. */
struct attributes {
    const void *keys[ATTRIBUTES_MAX];
    const void *values[ATTRIBUTES_MAX];
    CFIndex count;
};

/* One operation, and what it needs of Core Foundation. */
struct job {
    msalex_keychain_call *call;
    msalex_error *error; /* of the call */
    CFStringRef service;
    CFStringRef account;
    CFMutableDataRef data;   /* for SAVE and ADD */
    SecKeychainRef keychain; /* the default one; this and the next two: during one try */
    bool is_locked;
    CFArrayRef searched; /* the keychain, alone */
};

static void release(CFTypeRef object) {
    msalex__keychain_release(object);
}

static int fail_memory(msalex_error *error, const char *name) {
    return msalex__fail(error, MSALEX_OS_ERROR, errSecAllocate, name, "no memory is left");
}

/* The end of a function of macOS. */
static int told(const struct job *job, OSStatus code, const char *name) {
    return code == errSecSuccess ? msalex__ok(job->error)
                                 : msalex__keychain_fail(job->error, code, name);
}

/* Nobody sees this error: the caller has left. */
static int fail_left(const struct job *job, const char *name) {
    return msalex__keychain_fail_late(job->error, name);
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
static struct attributes identifying(const struct job *job) {
    struct attributes attributes = {.count = 0};
    set(&attributes, kSecClass, kSecClassGenericPassword);
    set(&attributes, kSecUseDataProtectionKeychain, kCFBooleanFalse);
    set(&attributes, kSecAttrService, job->service);
    set(&attributes, kSecAttrAccount, job->account);
    return attributes;
}

static struct attributes selecting(const struct job *job) {
    struct attributes attributes = identifying(job);
    set(&attributes, kSecMatchSearchList, job->searched);
    return attributes;
}

/* ---- calls of SecItem; each asks first whether the caller is still there ---- */

/* Finds the item, and copies what `wanted` says: its data, its attributes or a reference. */
static int copy_matching(const struct job *job, CFStringRef wanted, CFTypeRef *found) {
    struct attributes attributes = selecting(job);
    CFDictionaryRef query;
    OSStatus code;

    *found = NULL;
    if (!msalex__keychain_begin(job->call, "SecItemCopyMatching"))
        return fail_left(job, "SecItemCopyMatching");
    set(&attributes, kSecMatchLimit, kSecMatchLimitOne);
    set(&attributes, wanted, kCFBooleanTrue);
    if ((query = dictionary(&attributes)) == NULL)
        return fail_memory(job->error, "CFDictionaryCreate");
    code = SecItemCopyMatching(query, found);
    CFRelease(query);
    return told(job, code, "SecItemCopyMatching");
}

static int update(const struct job *job) {
    struct attributes attributes = selecting(job), change = {.count = 0};
    CFDictionaryRef query = NULL, changes = NULL;
    int status;

    if (!msalex__keychain_begin(job->call, "SecItemUpdate"))
        return fail_left(job, "SecItemUpdate");
    set(&change, kSecValueData, job->data);
    if ((query = dictionary(&attributes)) == NULL || (changes = dictionary(&change)) == NULL)
        status = fail_memory(job->error, "CFDictionaryCreate");
    else
        status = told(job, SecItemUpdate(query, changes), "SecItemUpdate");
    release(changes);
    release(query);
    return status;
}

static int add(const struct job *job) {
    struct attributes attributes = identifying(job);
    CFDictionaryRef item;
    int status;

    if (!msalex__keychain_begin(job->call, "SecItemAdd"))
        return fail_left(job, "SecItemAdd");
    set(&attributes, kSecUseKeychain, job->keychain);
    set(&attributes, kSecAttrLabel, job->service); /* the name that people see */
    set(&attributes, kSecValueData, job->data);
    if ((item = dictionary(&attributes)) == NULL)
        return fail_memory(job->error, "CFDictionaryCreate");
    status = told(job, SecItemAdd(item, NULL), "SecItemAdd");
    CFRelease(item);
    /* The caller stored something, and did not ask whether something is there. */
    return status == MSALEX_NOT_FOUND ? MSALEX_OS_ERROR : status;
}

/* ---- the operations, once ---- */

static int unlock(const struct job *job) {
    if (!job->is_locked)
        return msalex__ok(job->error);
    if (!msalex__keychain_begin(job->call, "SecKeychainUnlock"))
        return fail_left(job, "SecKeychainUnlock");
    return told(job, SecKeychainUnlock(job->keychain, 0, NULL, false), "SecKeychainUnlock");
}

static int fail_damaged(const struct job *job, const char *words) {
    return msalex__fail(job->error, MSALEX_CORRUPT, errSecDecode, "SecItemCopyMatching", words);
}

/* The attributes of an item are not encrypted: neither the keychain nor the item has to be unlocked
 * for them (source: SecItem.cpp, AddItemResults; it fetches the data only if the query wants it). */
static int look(const struct job *job) {
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
static int load(const struct job *job) {
    CFTypeRef found;
    int status = copy_matching(job, kSecReturnData, &found);

    if (status != MSALEX_OK)
        return status;
    if (found == NULL || CFGetTypeID(found) != CFDataGetTypeID())
        status = fail_damaged(job, "the item holds no data");
    else if (msalex__buffer_copy(&job->call->secret, CFDataGetBytePtr(found),
                                 (size_t)CFDataGetLength(found), job->error) != MSALEX_OK)
        status = fail_memory(job->error, "malloc");
    release(found);
    return status;
}

static int save(const struct job *job) {
    const int status = update(job);
    return status == MSALEX_NOT_FOUND ? add(job) : status;
}

/* Deletes the item of another program.  SecItemDelete looks whether the base name of this program
 * stands in the access list of the item, and refuses otherwise, so python3.13 could not delete what
 * python3.12 made.  With a reference there is no such rule (SecItem.cpp, _SafeSecKeychainItemDelete;
 * MSAL for .NET deletes in this way). */
static int delete_of_another(const struct job *job) {
    CFTypeRef found;
    int status = copy_matching(job, kSecReturnRef, &found);

    if (status != MSALEX_OK)
        return status;
    if (found == NULL)
        return fail_damaged(job, "the item has no reference");
    if (msalex__keychain_begin(job->call, "SecKeychainItemDelete"))
        status = told(job, SecKeychainItemDelete((SecKeychainItemRef)(uintptr_t)found),
                      "SecKeychainItemDelete");
    else
        status = fail_left(job, "SecKeychainItemDelete");
    CFRelease(found);
    return status;
}

static int delete(const struct job *job) {
    struct attributes attributes = selecting(job);
    CFDictionaryRef query;
    int status;

    if (!msalex__keychain_begin(job->call, "SecItemDelete"))
        return fail_left(job, "SecItemDelete");
    if ((query = dictionary(&attributes)) == NULL)
        return fail_memory(job->error, "CFDictionaryCreate");
    status = told(job, SecItemDelete(query), "SecItemDelete");
    CFRelease(query);
    return job->error->code == errSecInvalidOwnerEdit ? delete_of_another(job) : status;
}

static const struct {
    int (*run)(const struct job *job);
    bool needs_keys; /* of the keychain, so that it has to be unlocked */
} operations[] = {
    [MSALEX_KEYCHAIN_UNLOCK] = {unlock, true}, [MSALEX_KEYCHAIN_LOOK] = {look, false},
    [MSALEX_KEYCHAIN_LOAD] = {load, true},     [MSALEX_KEYCHAIN_SAVE] = {save, true},
    [MSALEX_KEYCHAIN_ADD] = {add, true},       [MSALEX_KEYCHAIN_DELETE] = {delete, true},
};

/* ---- tries ---- */

/* Dialogs about the item are forbidden meanwhile. */
static int run_quietly(const struct job *job) {
    static const char name[] = "SecKeychainSetUserInteractionAllowed";
    int status;

    if (!msalex__keychain_begin(job->call, name))
        return fail_left(job, name);
    if ((status = msalex__keychain_forbid_dialogs(job->call)) == MSALEX_OK)
        status = operations[job->call->operation].run(job);
    msalex__keychain_allow_dialogs();
    return status;
}

/* In the default keychain.  A locked one is not left to the switch for dialogs: a keychain that this
 * process opened while they were allowed goes on asking for its password (source: dlclient.cpp,
 * kcdatabase.cpp). */
static int run(struct job *job) {
    const msalex_keychain_call *call = job->call;
    const bool quietly = !call->interactive && operations[call->operation].needs_keys;
    const void *keychains[] = {job->keychain};
    int status;

    if (quietly && job->is_locked)
        return told(job, errSecInteractionNotAllowed, "SecKeychainGetStatus");
    if ((job->searched = CFArrayCreate(NULL, keychains, 1, &kCFTypeArrayCallBacks)) == NULL)
        return fail_memory(job->error, "CFArrayCreate");
    if (quietly && call->operation != MSALEX_KEYCHAIN_UNLOCK)
        status = run_quietly(job);
    else
        status = operations[call->operation].run(job);
    CFRelease(job->searched);
    return status;
}

/* Finds the default keychain, and whether it is locked.  If its file is gone, this is where macOS
 * says so; a search would find nothing there, and to add an item would ask a person to make a
 * keychain (source: KCCursor.cpp, SecKeychainItem.cpp). */
static int run_in_default_keychain(struct job *job) {
    SecKeychainStatus state = 0;
    OSStatus code;
    int status;

    if (!msalex__keychain_begin(job->call, "SecKeychainCopyDefault"))
        return fail_left(job, "SecKeychainCopyDefault");
    if ((code = SecKeychainCopyDefault(&job->keychain)) != errSecSuccess)
        return told(job, code, "SecKeychainCopyDefault");
    if (!msalex__keychain_begin(job->call, "SecKeychainGetStatus")) {
        status = fail_left(job, "SecKeychainGetStatus");
    } else if ((code = SecKeychainGetStatus(job->keychain, &state)) != errSecSuccess) {
        status = told(job, code, "SecKeychainGetStatus");
    } else {
        job->is_locked = (state & kSecUnlockStateStatus) == 0;
        status = run(job);
    }
    CFRelease(job->keychain);
    return status;
}

/* One try has the turn from its beginning to its end.  Between two tries others have it. */
static int try_once(struct job *job, bool *has_asked) {
    int64_t begin;
    int status = msalex__keychain_take_turn(job->call);

    if (status != MSALEX_OK)
        return status;
    begin = msalex__now_ms();
    status = run_in_default_keychain(job);
    *has_asked = msalex__now_ms() - begin > ASKED_MS;
    msalex__keychain_give_turn();
    return status;
}

static int try_until_done(struct job *job) {
    bool has_asked = false;
    int status = try_once(job, &has_asked);

    /* An answer of a person counts, and is not asked for again. */
    for (size_t i = 0; i < sizeof pauses / sizeof pauses[0] && status != MSALEX_OK && !has_asked &&
                       msalex__keychain_is_race(job->call, (int)i + 1) &&
                       msalex__keychain_pause(job->call, pauses[i]);
         i++)
        status = try_once(job, &has_asked);
    return status;
}

/* ---- the job ---- */

static CFStringRef string(const char *text) {
    return CFStringCreateWithBytes(NULL, (const UInt8 *)text, (CFIndex)strlen(text),
                                   kCFStringEncodingUTF8, false);
}

/* The copy is mutable, so that we can wipe it; its capacity is fixed, so that it never moves and
 * leaves another copy behind.  NULL: out of memory. */
static CFMutableDataRef copy_data(const msalex_buffer *buffer) {
    CFMutableDataRef data = CFDataCreateMutable(NULL, (CFIndex)buffer->size);
    if (data != NULL)
        CFDataAppendBytes(data, buffer->data, (CFIndex)buffer->size);
    return data;
}

static void wipe_and_release(CFMutableDataRef data) {
    msalex__wipe(CFDataGetMutableBytePtr(data), (size_t)CFDataGetLength(data));
    CFRelease(data);
}

int msalex__keychain_perform(msalex_keychain_call *call) {
    struct job job = {.call = call, .error = &call->error};
    int status;

    job.service = string(call->service);
    job.account = string(call->account);
    job.data = copy_data(&call->data);
    if (job.service == NULL || job.account == NULL)
        status = msalex__fail(job.error, MSALEX_INVALID, errSecParam, "CFStringCreateWithBytes",
                              "the service or the account is not UTF-8, or no memory is left");
    else if (job.data == NULL)
        status = fail_memory(job.error, "CFDataCreateMutable");
    else
        status = try_until_done(&job);
    if (job.data != NULL)
        wipe_and_release(job.data);
    release(job.account);
    release(job.service);
    return status;
}
