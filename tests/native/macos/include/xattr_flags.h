/* Which attributes a copy keeps (xattr_preserve_for_intent(3)), which zig's headers lack. */
#ifndef MSALEX_TEST_XATTR_FLAGS_H
#define MSALEX_TEST_XATTR_FLAGS_H

typedef unsigned int xattr_operation_intent_t;
#define XATTR_OPERATION_INTENT_SAVE ((xattr_operation_intent_t)2)

int xattr_preserve_for_intent(const char *name, xattr_operation_intent_t intent);

#endif
