/* The part of the Security framework that keychain_*macos.c use: see CoreFoundation.h. */
#ifndef MSALEX_TEST_SECURITY_H
#define MSALEX_TEST_SECURITY_H

#include <CoreFoundation/CoreFoundation.h>

typedef struct __SecKeychain *SecKeychainRef;
typedef struct __SecKeychainItem *SecKeychainItemRef;
typedef UInt32 SecKeychainStatus;

enum {
    errSecSuccess = 0,
    errSecParam = -50,
    errSecWrPerm = -61,
    errSecAllocate = -108,
    errSecUserCanceled = -128,
    errSecInternalComponent = -2070,
    errSecInvalidOwnerEdit = -25244,
    errSecNotAvailable = -25291,
    errSecReadOnly = -25292,
    errSecAuthFailed = -25293,
    errSecNoSuchKeychain = -25294,
    errSecInvalidKeychain = -25295,
    errSecDuplicateItem = -25299,
    errSecItemNotFound = -25300,
    errSecDataTooLarge = -25302,
    errSecInvalidItemRef = -25304,
    errSecNoDefaultKeychain = -25307,
    errSecInteractionNotAllowed = -25308,
    errSecInteractionRequired = -25315,
    errSecInDarkWake = -25320,
    errSecDecode = -26275,
    errSecMissingEntitlement = -34018,
    errSecInvalidRecord = -67701,
    /* CSCommon.h */
    errSecCSInfoPlistFailed = -67030,
    errSecCSSignatureFailed = -67061,
    errSecCSStaticCodeNotFound = -67068,
    /* Authorization.h */
    errAuthorizationDenied = -60005,
    errAuthorizationCanceled = -60006,
    errAuthorizationInteractionNotAllowed = -60007
};

enum { kSecUnlockStateStatus = 1 }; /* SecKeychain.h */

extern const CFStringRef kSecClass;
extern const CFStringRef kSecClassGenericPassword;
extern const CFStringRef kSecAttrService;
extern const CFStringRef kSecAttrAccount;
extern const CFStringRef kSecAttrLabel;
extern const CFStringRef kSecAttrModificationDate;
extern const CFStringRef kSecMatchLimit;
extern const CFStringRef kSecMatchLimitOne;
extern const CFStringRef kSecMatchSearchList;
extern const CFStringRef kSecReturnAttributes;
extern const CFStringRef kSecReturnData;
extern const CFStringRef kSecReturnRef;
extern const CFStringRef kSecUseDataProtectionKeychain;
extern const CFStringRef kSecUseKeychain;
extern const CFStringRef kSecValueData;

CFStringRef SecCopyErrorMessageString(OSStatus status, void *reserved);
OSStatus SecItemAdd(CFDictionaryRef attributes, CFTypeRef *result);
OSStatus SecItemCopyMatching(CFDictionaryRef query, CFTypeRef *result);
OSStatus SecItemUpdate(CFDictionaryRef query, CFDictionaryRef attributes_to_update);
OSStatus SecItemDelete(CFDictionaryRef query);

OSStatus SecKeychainCopyDefault(SecKeychainRef *keychain);
OSStatus SecKeychainGetStatus(SecKeychainRef keychain, SecKeychainStatus *status);
OSStatus SecKeychainUnlock(SecKeychainRef keychain, UInt32 password_length, const void *password,
                           Boolean use_password);
OSStatus SecKeychainSetUserInteractionAllowed(Boolean state);
OSStatus SecKeychainGetUserInteractionAllowed(Boolean *state);
OSStatus SecKeychainItemDelete(SecKeychainItemRef item);

#endif
