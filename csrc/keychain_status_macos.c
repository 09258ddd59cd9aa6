/*
 * What the OSStatus values of the keychain mean: the status that each becomes, and whether the call
 * that failed with it is tried again.  Names are those of SecBase.h, Authorization.h and
 * CSCommon.h.  "Source": Apple's libsecurity_keychain and securityd, Security-61901.
 */
#include "keychain_macos.h"

#include <stdio.h>
#include <string.h>

/* The one place where OSStatus values get their meaning; all others are MSALEX_OS_ERROR. */
static const struct {
    OSStatus code;
    int status;
} osstatus_table[] = {
    {errSecItemNotFound, MSALEX_NOT_FOUND},
    /* A dialog is needed.  There is no screen (ssh, launchd), a smart card is needed, too, or the
     * Mac wakes with a dark screen (Power Nap). */
    {errSecInteractionNotAllowed, MSALEX_DENIED},
    {errSecInteractionRequired, MSALEX_DENIED},
    {errSecInDarkWake, MSALEX_DENIED},
    {errSecAuthFailed, MSALEX_DENIED},       /* a wrong password, or an item not for us */
    {errSecUserCanceled, MSALEX_DENIED},     /* the user said no */
    {errSecReadOnly, MSALEX_DENIED},         /* the keychain's file cannot be written */
    {errSecWrPerm, MSALEX_DENIED},           /* the same */
    {errSecInvalidOwnerEdit, MSALEX_DENIED}, /* the item is another program's */
    /* The program's signature is broken, or its file is gone. */
    {errSecCSInfoPlistFailed, MSALEX_DENIED},
    {errSecCSSignatureFailed, MSALEX_DENIED},
    {errSecCSStaticCodeNotFound, MSALEX_DENIED},
    /* From an authorization, which macOS needs to make a default keychain. */
    {errAuthorizationDenied, MSALEX_DENIED},
    {errAuthorizationCanceled, MSALEX_DENIED},
    {errAuthorizationInteractionNotAllowed, MSALEX_DENIED},
    {errSecNoDefaultKeychain, MSALEX_UNAVAILABLE},
    {errSecNoSuchKeychain, MSALEX_UNAVAILABLE},     /* the default one was deleted */
    {errSecInvalidKeychain, MSALEX_UNAVAILABLE},    /* its file is no keychain, or is damaged */
    {errSecNotAvailable, MSALEX_UNAVAILABLE},       /* before the first login, some daemons */
    {errSecMissingEntitlement, MSALEX_UNAVAILABLE}, /* there is only the other kind of keychain */
    {errSecParam, MSALEX_INVALID},
    {errSecDataTooLarge, MSALEX_INVALID},
};

enum {
    SERVER_DIED = -308, /* MIG_SERVER_DIED of mach/mig_errors.h */
    ALWAYS = 100        /* retried as often as the operation is tried at all */
};

/* Failures that pass.  An update deletes the record of the item and inserts another one (source:
 * Item.cpp, ItemImpl::updateSSGroup), so a reader that found the record before does not find its
 * data after. */
static const struct {
    OSStatus code;
    const char *name; /* the function that failed; NULL: any */
    int retries;
    int quiet_retries; /* the same, while dialogs are forbidden */
} races[] = {
    /* The record is gone by now (source: AppleDatabase.cpp, Table::getRecord). */
    {errSecInvalidRecord, NULL, ALWAYS, ALWAYS},
    /* The record and its key are of two versions (source: Item.cpp, ItemImpl::getContent). */
    {errSecInvalidItemRef, NULL, ALWAYS, ALWAYS},
    /* It may have replaced the item all the same (source: SecItem.cpp, _ReplaceKeychainItem).  To
     * write the same data again does no harm then. */
    {errSecDuplicateItem, "SecItemUpdate", ALWAYS, ALWAYS},
    /* Another process has made the item after the update found none.  (For ADD that is the answer:
     * see msalex__keychain_is_race.) */
    {errSecDuplicateItem, "SecItemAdd", ALWAYS, ALWAYS},
    /* Perhaps an update had just removed the record.  A sign-out must not leave the new one. */
    {errSecItemNotFound, "SecItemDelete", 2, 2},
    /* Several processes at once make securityd say this to some of them (measured by others: to 3
     * of 5, to 18 of 30).  While dialogs are forbidden, it is also the answer in place of one. */
    {errSecAuthFailed, NULL, ALWAYS, 2},
    /* The dialog could not be shown just now. */
    {errSecInDarkWake, NULL, ALWAYS, ALWAYS},
    /* securityd died in the middle, and launchd starts it anew.  The first of these also says that
     * there is no keychain at all here. */
    {errSecNotAvailable, NULL, 2, 2},
    {errSecInternalComponent, NULL, ALWAYS, ALWAYS},
    {SERVER_DIED, NULL, ALWAYS, ALWAYS},
};

static int status_of(OSStatus code) {
    for (size_t i = 0; i < sizeof osstatus_table / sizeof osstatus_table[0]; i++) {
        if (osstatus_table[i].code == code)
            return osstatus_table[i].status;
    }
    return MSALEX_OS_ERROR;
}

void msalex__keychain_release(CFTypeRef object) {
    if (object != NULL)
        CFRelease(object);
}

int msalex__keychain_fail(msalex_error *error, OSStatus code, const char *name) {
    CFStringRef words = SecCopyErrorMessageString(code, NULL);
    char message[sizeof error->message];

    if (words == NULL || !CFStringGetCString(words, message, sizeof message, kCFStringEncodingUTF8))
        (void)snprintf(message, sizeof message, "OSStatus %d", (int)code);
    msalex__keychain_release(words);
    return msalex__fail(error, status_of(code), code, name, message);
}

int msalex__keychain_told(const struct msalex__keychain_job *job, OSStatus code, const char *name) {
    return code == errSecSuccess ? msalex__ok(job->error)
                                 : msalex__keychain_fail(job->error, code, name);
}

int msalex__keychain_fail_memory(const struct msalex__keychain_job *job, const char *name) {
    return msalex__fail(job->error, MSALEX_OS_ERROR, errSecAllocate, name, "no memory is left");
}

bool msalex__keychain_is_race(const msalex_keychain_call *call, int tries, bool was_long) {
    const msalex_error *error = &call->error;

    if (was_long && error->code == errSecAuthFailed)
        return false; /* a person gave wrong passwords, and is not asked again */
    if (call->operation == MSALEX_KEYCHAIN_ADD && error->code == errSecDuplicateItem)
        return false;
    for (size_t i = 0; i < sizeof races / sizeof races[0]; i++) {
        if (races[i].code == error->code &&
            (races[i].name == NULL || strcmp(races[i].name, error->call) == 0))
            return tries <= (call->interactive ? races[i].retries : races[i].quiet_retries);
    }
    return false;
}
