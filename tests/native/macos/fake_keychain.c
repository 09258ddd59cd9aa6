/* The functions of Security.framework over the records of fake_keychain_store.c: see
 * fake_keychain.h. */
#include "fake_keychain.h"

#include <Security/Security.h>
#include <stdio.h>
#include <string.h>

#include "fake_corefoundation.h"
#include "fake_keychain_parts.h"

FAKE_CONSTANT(CFStringRef, kSecClass, STRING);
FAKE_CONSTANT(CFStringRef, kSecClassGenericPassword, STRING);
FAKE_CONSTANT(CFStringRef, kSecAttrService, STRING);
FAKE_CONSTANT(CFStringRef, kSecAttrAccount, STRING);
FAKE_CONSTANT(CFStringRef, kSecAttrLabel, STRING);
FAKE_CONSTANT(CFStringRef, kSecAttrModificationDate, STRING);
FAKE_CONSTANT(CFStringRef, kSecMatchLimit, STRING);
FAKE_CONSTANT(CFStringRef, kSecMatchLimitOne, STRING);
FAKE_CONSTANT(CFStringRef, kSecMatchSearchList, STRING);
FAKE_CONSTANT(CFStringRef, kSecReturnAttributes, STRING);
FAKE_CONSTANT(CFStringRef, kSecReturnData, STRING);
FAKE_CONSTANT(CFStringRef, kSecReturnRef, STRING);
FAKE_CONSTANT(CFStringRef, kSecUseDataProtectionKeychain, STRING);
FAKE_CONSTANT(CFStringRef, kSecUseKeychain, STRING);
FAKE_CONSTANT(CFStringRef, kSecValueData, STRING);

/* Which keychains this process opened while dialogs were allowed; a bit for each.
 * cl/dlclient.cpp:124 and kcdatabase.cpp:620: the permission to ask for the password belongs to the
 * opened keychain. */
static unsigned opened_with_dialogs;

/* The item that a query means, as it was found. */
struct found {
    OSStatus status;
    int keychain;
    bool is_locked;
    struct facts facts;
};

/* ---- queries ---- */

static const struct object *get(CFDictionaryRef dictionary, CFStringRef key) {
    return CFDictionaryGetValue(dictionary, key);
}

static bool wants(CFDictionaryRef query, CFStringRef key) {
    return get(query, key) == (const struct object *)kCFBooleanTrue;
}

static const char *text(CFDictionaryRef dictionary, CFStringRef key) {
    const struct object *string = get(dictionary, key);
    fake_require(string != NULL && string->size > 0, "the service, account or label is missing");
    return (const char *)fake_of_kind(string, STRING)->bytes;
}

static const struct object *data_of(CFDictionaryRef dictionary) {
    const struct object *data = get(dictionary, kSecValueData);
    fake_require(data != NULL, "there is no data");
    return fake_of_kind(data, DATA);
}

/* The query must mean one generic password of the keychain files, say in which keychain in one way
 * at most, and have so many pairs besides. */
static void check_query(CFDictionaryRef query, CFIndex besides) {
    const CFIndex keychains =
        (get(query, kSecMatchSearchList) != NULL) + (get(query, kSecUseKeychain) != NULL);

    fake_require(keychains <= 1 &&
                     fake_of_kind(query, DICTIONARY)->count == 4 + keychains + besides,
                 "a query says too much, or too little");
    fake_require(get(query, kSecClass) == (const struct object *)kSecClassGenericPassword,
                 "a query is not for a generic password");
    fake_require(get(query, kSecUseDataProtectionKeychain) ==
                     (const struct object *)kCFBooleanFalse,
                 "a query goes to the data protection keychain as well");
    (void)text(query, kSecAttrService);
    (void)text(query, kSecAttrAccount);
}

static int keychain_of(const struct store *store, const struct object *keychain) {
    return fake_store_keychain(store, (const char *)fake_of_kind(keychain, KEYCHAIN)->bytes);
}

/* StorageManager.cpp: the search list, unless the query has one of its own.  The default keychain
 * counts only if it is in the list (StorageManager.cpp:119). */
static unsigned searched(const struct store *store, CFDictionaryRef query) {
    const struct object *list = get(query, kSecMatchSearchList);
    unsigned keychains = 0;

    for (int i = 0; list == NULL && i < KEYCHAINS_MAX; i++) {
        if (store->keychains[i].name[0] != '\0' && store->keychains[i].is_searched)
            keychains |= 1u << i;
    }
    for (CFIndex i = 0; list != NULL && i < fake_of_kind(list, ARRAY)->count; i++)
        keychains |= 1u << keychain_of(store, list->values[i]);
    if (fake_keychain_allows_dialogs())
        opened_with_dialogs |= keychains;
    for (int i = 0; i < KEYCHAINS_MAX;
         i++) { /* KCCursor.cpp:216 swallows the error of opening it */
        if (store->keychains[i].is_gone)
            keychains &= ~(1u << i);
    }
    return keychains;
}

/* SecItem.cpp, SecItemCopyMatching_osx: whatever a search fails with is "not found". */
static struct found find(CFDictionaryRef query) {
    struct found found = {.status = errSecItemNotFound};
    struct store *store = fake_store_open();
    const struct record *record = fake_store_find(
        store, searched(store, query), text(query, kSecAttrService), text(query, kSecAttrAccount));

    if (record != NULL) {
        found.status = errSecSuccess;
        found.facts = record->facts;
        found.keychain = record->facts.keychain;
        found.is_locked = store->keychains[found.keychain].is_locked;
    }
    fake_store_close();
    return found;
}

/* ---- permission ---- */

/* kcdatabase.cpp, makeUnlocked(): what needs a key of the keychain asks for its password. */
static OSStatus unlock(struct visit *visit, int keychain) {
    const bool may_ask =
        fake_keychain_allows_dialogs() || (opened_with_dialogs >> keychain & 1) != 0;
    bool always;
    const OSStatus status = fake_visit_ask(visit, may_ask, &always);

    if (status == errSecSuccess) {
        fake_store_open()->keychains[keychain].is_locked = false;
        fake_store_close();
    }
    return status;
}

/* acl_keychain.cpp and acl_partition.cpp: the program has to be in the access list of the item and
 * in its partition list.  "Always Allow" adds it to both. */
static OSStatus permit(struct visit *visit, const struct found *found) {
    OSStatus status = found->is_locked ? unlock(visit, found->keychain) : errSecSuccess;
    struct record *record;
    bool always;

    if (status != errSecSuccess || (fake_programs_have(&found->facts.access, fake_program()) &&
                                    fake_programs_have(&found->facts.partitions, fake_program())))
        return status;
    status = fake_visit_ask(visit, fake_keychain_allows_dialogs(), &always);
    if (status != errSecSuccess || !always)
        return status;
    if ((record = fake_store_at(fake_store_open(), found->facts.place)) != NULL) {
        fake_programs_add(&record->facts.access, fake_program());
        fake_programs_add(&record->facts.partitions, fake_program());
    }
    fake_store_close();
    return errSecSuccess;
}

/* ---- SecItem ---- */

static struct object *data_object(const struct record *record) {
    struct object *data = fake_create(DATA, (CFIndex)record->facts.size);

    if (data != NULL) {
        memcpy(data->bytes, record->data, record->facts.size);
        data->size = (CFIndex)record->facts.size;
    }
    return data;
}

/* As far as they are asked for. */
static struct object *attributes_object(const struct record *record) {
    struct object *attributes = fake_create(DICTIONARY, 0), *date;

    if (attributes == NULL || fake_keychain.returning == RETURN_LESS)
        return attributes;
    if ((date = fake_create(DATE, 0)) == NULL) {
        CFRelease(attributes);
        return NULL;
    }
    date->time = (CFAbsoluteTime)record->facts.written;
    attributes->keys[0] = (const struct object *)kSecAttrModificationDate;
    attributes->values[0] = date;
    attributes->count = 1;
    return attributes;
}

static struct object *reference_object(const struct record *record) {
    struct object *reference = fake_create(ITEM, sizeof record->facts.place);
    if (reference != NULL)
        memcpy(reference->bytes, &record->facts.place, sizeof record->facts.place);
    return reference;
}

/* The second step: the record may have gone since the first one. */
static OSStatus copy(CFDictionaryRef query, struct place place, CFTypeRef *result) {
    struct store *store = fake_store_open();
    const struct record *record = fake_store_at(store, place);
    OSStatus status = errSecSuccess;

    if (record == NULL)
        status = fake_store_gone(store, place);
    else if (fake_keychain.returning == RETURN_STRING)
        *result = fake_create(STRING, 0);
    else if (fake_keychain.returning != RETURN_NULL)
        *result = wants(query, kSecReturnAttributes) ? attributes_object(record)
                  : wants(query, kSecReturnRef)      ? reference_object(record)
                                                     : data_object(record);
    if (status == errSecSuccess && *result == NULL && fake_keychain.returning != RETURN_NULL)
        status = errSecAllocate;
    fake_store_close();
    return status;
}

/* SecItem.cpp, AddItemResults(): only data needs permission; attributes and references are read
 * without any key. */
OSStatus SecItemCopyMatching(CFDictionaryRef query, CFTypeRef *result) {
    struct visit visit = fake_visit_begin("SecItemCopyMatching");
    struct found found;

    check_query(query, 2);
    fake_require(get(query, kSecMatchLimit) == (const struct object *)kSecMatchLimitOne &&
                     wants(query, kSecReturnData) + wants(query, kSecReturnAttributes) +
                             wants(query, kSecReturnRef) ==
                         1,
                 "an item is read in an unexpected way");
    *result = NULL;
    if (visit.injected != errSecSuccess)
        return fake_visit_end(&visit, visit.injected);
    found = find(query);
    if (found.status == errSecSuccess && wants(query, kSecReturnData))
        found.status = permit(&visit, &found);
    if (found.status == errSecSuccess)
        found.status = fake_visit_pause();
    if (found.status == errSecSuccess)
        found.status = copy(query, found.facts.place, result);
    return fake_visit_end(&visit, found.status);
}

/* Item.cpp:904 and 930-975, ItemImpl::updateSSGroup(): the record and its key are deleted, and new
 * ones inserted; the access list is kept, the partition list begins anew.  SecItem.cpp:2397 and
 * 2529: an item whose hash is wrong is replaced, with a new access list, and the answer is
 * "duplicate". */
static OSStatus replace(struct store *store, struct record *record, const struct object *data) {
    struct facts facts = record->facts;
    const bool was_broken = facts.is_broken;

    fake_store_remove(store, record);
    facts.is_broken = false;
    facts.written = fake_keychain_now();
    facts.partitions = (struct programs){0};
    fake_programs_add(&facts.partitions, fake_program());
    if (was_broken)
        facts.access = facts.partitions;
    (void)fake_store_insert(store, &facts, data->bytes, (size_t)data->size);
    return was_broken ? errSecDuplicateItem : errSecSuccess;
}

OSStatus SecItemUpdate(CFDictionaryRef query, CFDictionaryRef attributes_to_update) {
    struct visit visit = fake_visit_begin("SecItemUpdate");
    const struct object *data = data_of(attributes_to_update);
    struct found found;

    check_query(query, 0);
    fake_require(fake_of_kind(attributes_to_update, DICTIONARY)->count == 1,
                 "more than the data is updated");
    if (visit.injected != errSecSuccess && !visit.works_first)
        return fake_visit_end(&visit, visit.injected);
    found = find(query);
    if (found.status == errSecSuccess && found.is_locked)
        found.status = unlock(&visit, found.keychain);
    if (found.status == errSecSuccess)
        found.status = fake_visit_pause();
    if (found.status == errSecSuccess) {
        struct store *store = fake_store_open();
        struct record *record = fake_store_at(store, found.facts.place);
        found.status = record == NULL ? fake_store_gone(store, found.facts.place)
                                      : replace(store, record, data);
        fake_store_close();
    }
    return fake_visit_end(&visit, found.status);
}

/* Where an item is added.  StorageManager.cpp:2292, defaultKeychainUI(): where there is no default
 * keychain, or its file is gone, a person is asked to make one. */
static OSStatus choose_keychain(struct visit *visit, CFDictionaryRef attributes, int *keychain) {
    const struct object *chosen = get(attributes, kSecUseKeychain);
    struct store *store = fake_store_open();
    bool is_locked, is_gone, always;
    OSStatus status;

    *keychain = chosen == NULL ? store->default_keychain : keychain_of(store, chosen);
    is_locked = *keychain >= 0 && store->keychains[*keychain].is_locked;
    is_gone = *keychain < 0 || store->keychains[*keychain].is_gone;
    fake_store_close();
    if (is_gone) {
        status = fake_visit_ask(visit, fake_keychain_allows_dialogs(), &always);
        return status == errSecSuccess ? errSecNoDefaultKeychain : status;
    }
    return is_locked ? unlock(visit, *keychain) : errSecSuccess;
}

static OSStatus insert(CFDictionaryRef attributes, int keychain) {
    struct facts facts = {.keychain = keychain, .written = fake_keychain_now()};
    const struct object *data = data_of(attributes);
    OSStatus status = errSecDuplicateItem;
    struct store *store;

    (void)snprintf(facts.service, TEXT_MAX, "%s", text(attributes, kSecAttrService));
    (void)snprintf(facts.account, TEXT_MAX, "%s", text(attributes, kSecAttrAccount));
    (void)snprintf(facts.label, TEXT_MAX, "%s", text(attributes, kSecAttrLabel));
    fake_programs_add(&facts.access, fake_program());
    fake_programs_add(&facts.partitions, fake_program());
    store = fake_store_open();
    if (fake_store_find(store, 1u << keychain, facts.service, facts.account) == NULL) {
        (void)fake_store_insert(store, &facts, data->bytes, (size_t)data->size);
        status = errSecSuccess;
    }
    fake_store_close();
    return status;
}

OSStatus SecItemAdd(CFDictionaryRef attributes, CFTypeRef *result) {
    struct visit visit = fake_visit_begin("SecItemAdd");
    OSStatus status;
    int keychain;

    check_query(attributes, 2);
    fake_require(result == NULL, "an item is added in an unexpected way");
    if (visit.injected != errSecSuccess && !visit.works_first)
        return fake_visit_end(&visit, visit.injected);
    status = choose_keychain(&visit, attributes, &keychain);
    if (status == errSecSuccess)
        status = fake_visit_pause();
    if (status == errSecSuccess)
        status = insert(attributes, keychain);
    return fake_visit_end(&visit, status);
}

static OSStatus remove_at(struct place place) {
    struct store *store = fake_store_open();
    struct record *record = fake_store_at(store, place);
    OSStatus status = errSecSuccess;

    if (record == NULL)
        status = fake_store_gone(store, place);
    else
        fake_store_remove(store, record);
    fake_store_close();
    return status;
}

/* SecItem.cpp:2177, _SafeSecKeychainItemDelete(): the base name of the program has to be in the
 * access list.  To read that list takes a key of the keychain. */
OSStatus SecItemDelete(CFDictionaryRef query) {
    struct visit visit = fake_visit_begin("SecItemDelete");
    struct found found;

    check_query(query, 0);
    if (visit.injected != errSecSuccess && !visit.works_first)
        return fake_visit_end(&visit, visit.injected);
    found = find(query);
    if (found.status == errSecSuccess && found.is_locked)
        found.status = unlock(&visit, found.keychain);
    if (found.status == errSecSuccess &&
        !fake_programs_have_base_name(&found.facts.access, fake_program()))
        found.status = errSecInvalidOwnerEdit;
    if (found.status == errSecSuccess)
        found.status = fake_visit_pause();
    if (found.status == errSecSuccess)
        found.status = remove_at(found.facts.place);
    return fake_visit_end(&visit, found.status);
}

/* ---- SecKeychain ---- */

/* SecKeychainItem.cpp, SecKeychainItemDelete(): a program with the reference may delete. */
OSStatus SecKeychainItemDelete(SecKeychainItemRef reference) {
    struct visit visit = fake_visit_begin("SecKeychainItemDelete");
    struct place place;

    memcpy(&place, fake_of_kind(reference, ITEM)->bytes, sizeof place);
    if (visit.injected != errSecSuccess)
        return fake_visit_end(&visit, visit.injected);
    return fake_visit_end(&visit, remove_at(place));
}

/* SecKeychain.cpp:303, StorageManager.cpp, defaultKeychain(): no dialog. */
OSStatus SecKeychainCopyDefault(SecKeychainRef *keychain) {
    struct visit visit = fake_visit_begin("SecKeychainCopyDefault");
    const struct store *store = fake_store_open();
    const char *name =
        store->default_keychain < 0 ? NULL : store->keychains[store->default_keychain].name;
    struct object *made = NULL;
    OSStatus status = visit.injected;

    if (status == errSecSuccess && name == NULL)
        status = errSecNoDefaultKeychain;
    if (status == errSecSuccess && (made = fake_create(KEYCHAIN, TEXT_MAX)) == NULL)
        status = errSecAllocate;
    if (made != NULL)
        (void)snprintf((char *)made->bytes, TEXT_MAX, "%s", name);
    fake_store_close();
    *keychain = (SecKeychainRef)made;
    return fake_visit_end(&visit, status);
}

/* SecKeychain.cpp:449: no dialog.  StorageManager.cpp:588: the default keychain is the default one
 * even if its file is gone; this call is the first one to say so. */
OSStatus SecKeychainGetStatus(SecKeychainRef keychain, SecKeychainStatus *state) {
    struct visit visit = fake_visit_begin("SecKeychainGetStatus");
    const struct store *store = fake_store_open();
    const int number = keychain_of(store, (const struct object *)keychain);
    OSStatus status = visit.injected;

    *state = store->keychains[number].is_locked ? 0 : kSecUnlockStateStatus;
    if (status == errSecSuccess && store->keychains[number].is_gone)
        status = errSecNoSuchKeychain;
    fake_store_close();
    return fake_visit_end(&visit, status);
}

OSStatus SecKeychainUnlock(SecKeychainRef keychain, UInt32 password_length, const void *password,
                           Boolean use_password) {
    struct visit visit = fake_visit_begin("SecKeychainUnlock");
    const int number = keychain_of(fake_store_open(), (const struct object *)keychain);

    fake_store_close();
    fake_require(password_length == 0 && password == NULL && !use_password,
                 "a password is given to the keychain");
    if (visit.injected != errSecSuccess)
        return fake_visit_end(&visit, visit.injected);
    return fake_visit_end(&visit, unlock(&visit, number));
}

/* SecKeychain.cpp:867: a switch for the whole process. */
OSStatus SecKeychainSetUserInteractionAllowed(Boolean state) {
    struct visit visit = fake_visit_begin("SecKeychainSetUserInteractionAllowed");
    if (visit.injected == errSecSuccess)
        fake_visit_allow_dialogs(state);
    return fake_visit_end(&visit, visit.injected);
}

OSStatus SecKeychainGetUserInteractionAllowed(Boolean *state) {
    struct visit visit = fake_visit_begin("SecKeychainGetUserInteractionAllowed");
    *state = fake_keychain_allows_dialogs();
    return fake_visit_end(&visit, visit.injected);
}
