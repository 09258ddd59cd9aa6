/*
 * The part of Core Foundation that keychain_*macos.c use, declared as in Apple's headers, which we
 * do not have.  With it the files compile on Linux, for macOS (zig) and for the fake
 * (fake_keychain.c).  A function that is missing here does not compile; one that is missing in
 * CoreFoundation.tbd does not link.
 */
#ifndef MSALEX_TEST_COREFOUNDATION_H
#define MSALEX_TEST_COREFOUNDATION_H

#include <stdint.h>

typedef unsigned char Boolean;
typedef uint8_t UInt8;
typedef uint32_t UInt32;
typedef int32_t SInt32;
typedef SInt32 OSStatus;
typedef long CFIndex;
typedef unsigned long CFTypeID;
typedef UInt32 CFStringEncoding;
typedef double CFAbsoluteTime; /* seconds since 2001 */

typedef const void *CFTypeRef;
typedef const struct __CFAllocator *CFAllocatorRef;
typedef const struct __CFBoolean *CFBooleanRef;
typedef const struct __CFString *CFStringRef;
typedef const struct __CFData *CFDataRef;
typedef struct __CFData *CFMutableDataRef;
typedef const struct __CFDate *CFDateRef;
typedef const struct __CFArray *CFArrayRef;
typedef const struct __CFDictionary *CFDictionaryRef;
typedef struct __CFArrayCallBacks CFArrayCallBacks;
typedef struct __CFDictionaryKeyCallBacks CFDictionaryKeyCallBacks;
typedef struct __CFDictionaryValueCallBacks CFDictionaryValueCallBacks;

enum { kCFStringEncodingUTF8 = 0x08000100 };

extern const CFBooleanRef kCFBooleanTrue;
extern const CFBooleanRef kCFBooleanFalse;
extern const CFArrayCallBacks kCFTypeArrayCallBacks;
extern const CFDictionaryKeyCallBacks kCFTypeDictionaryKeyCallBacks;
extern const CFDictionaryValueCallBacks kCFTypeDictionaryValueCallBacks;

void CFRelease(CFTypeRef object);
CFTypeID CFGetTypeID(CFTypeRef object);

CFStringRef CFStringCreateWithBytes(CFAllocatorRef allocator, const UInt8 *bytes, CFIndex size,
                                    CFStringEncoding encoding, Boolean has_byte_order_mark);
Boolean CFStringGetCString(CFStringRef string, char *buffer, CFIndex size,
                           CFStringEncoding encoding);

CFTypeID CFDataGetTypeID(void);
CFMutableDataRef CFDataCreateMutable(CFAllocatorRef allocator, CFIndex capacity);
void CFDataAppendBytes(CFMutableDataRef data, const UInt8 *bytes, CFIndex size);
const UInt8 *CFDataGetBytePtr(CFDataRef data);
UInt8 *CFDataGetMutableBytePtr(CFMutableDataRef data);
CFIndex CFDataGetLength(CFDataRef data);

CFTypeID CFDateGetTypeID(void);
CFAbsoluteTime CFDateGetAbsoluteTime(CFDateRef date);

CFArrayRef CFArrayCreate(CFAllocatorRef allocator, const void **values, CFIndex count,
                         const CFArrayCallBacks *callbacks);

CFTypeID CFDictionaryGetTypeID(void);
const void *CFDictionaryGetValue(CFDictionaryRef dictionary, const void *key);
CFDictionaryRef CFDictionaryCreate(CFAllocatorRef allocator, const void **keys, const void **values,
                                   CFIndex count, const CFDictionaryKeyCallBacks *key_callbacks,
                                   const CFDictionaryValueCallBacks *value_callbacks);

#endif
