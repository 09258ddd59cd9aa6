/* The part of the Security framework that keychain_macos.c uses: see CoreFoundation.h. */
#ifndef MSALEX_TEST_SECURITY_H
#define MSALEX_TEST_SECURITY_H

#include <CoreFoundation/CoreFoundation.h>

enum {
    errSecSuccess = 0,
    errSecParam = -50,
    errSecWrPerm = -61,
    errSecAllocate = -108,
    errSecUserCanceled = -128,
    errSecNotAvailable = -25291,
    errSecReadOnly = -25292,
    errSecAuthFailed = -25293,
    errSecNoSuchKeychain = -25294,
    errSecDuplicateItem = -25299,
    errSecItemNotFound = -25300,
    errSecDataTooLarge = -25302,
    errSecNoDefaultKeychain = -25307,
    errSecInteractionNotAllowed = -25308,
    errSecInteractionRequired = -25315,
    errSecDecode = -26275,
    errSecMissingEntitlement = -34018,
    errSecCSInfoPlistFailed = -67030 /* CSCommon.h */
};

extern const CFStringRef kSecClass;
extern const CFStringRef kSecClassGenericPassword;
extern const CFStringRef kSecAttrService;
extern const CFStringRef kSecAttrAccount;
extern const CFStringRef kSecAttrLabel;
extern const CFStringRef kSecMatchLimit;
extern const CFStringRef kSecMatchLimitOne;
extern const CFStringRef kSecReturnData;
extern const CFStringRef kSecUseDataProtectionKeychain;
extern const CFStringRef kSecValueData;

CFStringRef SecCopyErrorMessageString(OSStatus status, void *reserved);
OSStatus SecItemAdd(CFDictionaryRef attributes, CFTypeRef *result);
OSStatus SecItemCopyMatching(CFDictionaryRef query, CFTypeRef *result);
OSStatus SecItemUpdate(CFDictionaryRef query, CFDictionaryRef attributes_to_update);
OSStatus SecItemDelete(CFDictionaryRef query);

#endif
