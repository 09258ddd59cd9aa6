/*
 * Extended attributes of a Mac: see fake_kernel.h.  Linux keeps them as "user.<name>".  The rules
 * are those of xnu-11417 (bsd/vfs/vfs_xattr.c) and of copyfile (xattr_flags.c).
 */
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>
#include <xattr_flags.h>

#include "fake_kernel.h"

enum { NAME_SIZE = 256, NAMES_SIZE = 64 * 1024 };

static const char PREFIX[] = "user.";

static bool fails(const char *call) {
    if (fake_fails(call))
        return true;
    errno = ENOTSUP; /* vn_getxattr, for a file system without them */
    return fake_kernel.without_attributes;
}

static const char *name_here(const char *name, char text[NAME_SIZE]) {
    (void)snprintf(text, NAME_SIZE, "%s%s", PREFIX, name);
    return text;
}

ssize_t flistxattr(int fd, char *names, size_t size, int options) {
    const size_t prefix = sizeof PREFIX - 1;
    static _Thread_local char all[NAMES_SIZE];
    ssize_t found, written = 0;

    if (options != 0)
        abort();
    if (fails("flistxattr") || (found = syscall(SYS_flistxattr, fd, all, sizeof all)) < 0)
        return -1;
    for (const char *name = all; name < all + found; name += strlen(name) + 1) {
        const size_t length = strlen(name) + 1 - prefix;
        if (strncmp(name, PREFIX, prefix) != 0)
            continue;
        if ((size_t)written + length > size) {
            errno = ERANGE;
            return -1;
        }
        memcpy(names + written, name + prefix, length);
        written += (ssize_t)length;
    }
    return written;
}

ssize_t fgetxattr(int fd, const char *name, void *value, size_t size, uint32_t at, int options) {
    char text[NAME_SIZE];
    if (at != 0 || options != 0)
        abort();
    return fails("fgetxattr") ? -1 : syscall(SYS_fgetxattr, fd, name_here(name, text), value, size);
}

/* Only the system sets this one (macOS 13). */
int fsetxattr(int fd, const char *name, const void *value, size_t size, uint32_t at, int options) {
    char text[NAME_SIZE];
    if (at != 0 || options != 0)
        abort();
    if (fails("fsetxattr"))
        return -1;
    if (strcmp(name, "com.apple.provenance") == 0) {
        errno = EPERM;
        return -1;
    }
    return (int)syscall(SYS_fsetxattr, fd, name_here(name, text), value, size, 0);
}

/* For a save: not what depends on the content (C), nor what is never kept (N).  A name may say so
 * itself behind a '#'; a table says it of Apple's own names. */
int xattr_preserve_for_intent(const char *name, xattr_operation_intent_t intent) {
    static const char *const OF_CONTENT[] = {"com.apple.quarantine", "com.apple.TextEncoding",
                                             "com.apple.ResourceFork", "com.apple.FinderInfo"};
    const char *flags = strrchr(name, '#');

    if (intent != XATTR_OPERATION_INTENT_SAVE)
        abort();
    if (flags != NULL)
        return strpbrk(flags, "CNB") == NULL;
    for (size_t i = 0; i < sizeof OF_CONTENT / sizeof OF_CONTENT[0]; i++) {
        if (strcmp(name, OF_CONTENT[i]) == 0)
            return 0;
    }
    return 1;
}
