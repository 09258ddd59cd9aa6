/*
 * What a file carries beside its content, macOS.  The promises are in attributes_posix.h.  Twin:
 * attributes_linux.c.
 *
 * The rules of the kernel are those of xnu-7195 (macOS 11) to xnu-11417 (macOS 15), bsd/vfs unless
 * another file is named, and of Libc (posix1e/acl_file.c, gen/filesec.c).
 */
#define _DARWIN_C_SOURCE
#include "attributes_posix.h"

#include <errno.h>
#include <sys/acl.h>
#include <sys/xattr.h>
#include <xattr_flags.h>

int64_t msalex__mtime_ns(const struct stat *file) {
    return (int64_t)file->st_mtimespec.tv_sec * 1000000000 + file->st_mtimespec.tv_nsec;
}

/* acl_get_fd_np says ENOENT when a file has no list, or its file system has none
 * (filesec_get_property). */
static int get_list(int fd, acl_t *list) {
    *list = acl_get_fd_np(fd, ACL_TYPE_EXTENDED);
    return *list != NULL ? 0 : errno;
}

static int set_list(int fd, acl_t list) {
    return acl_set_fd_np(fd, list, ACL_TYPE_EXTENDED) == 0 ? 0 : errno;
}

/* Is there a list?  0, or what get_list says. */
static int look_at_list(int fd) {
    acl_t list;
    const int code = get_list(fd, &list);

    if (code == 0)
        (void)acl_free(list);
    return code;
}

/* Entries that a file inherits from its directory apply whatever its mode is: an entry that allows
 * reading lets others read a file of mode 0600 (kauth_acl_inherit, kern/kern_authorization.c;
 * vnode_authorize_simple). */
bool msalex__is_open_to_others(int fd) {
    const int code = look_at_list(fd);
    return code == 0 || code == EACCES || code == EPERM;
}

/* With a list without entries the mode decides. */
int msalex__remove_access_list(int fd) {
    acl_t list;
    int code;

    if (look_at_list(fd) == ENOENT)
        return 0;
    /* A list that we may not even read is replaced all the same. */
    if ((list = acl_init(1)) == NULL)
        return errno;
    code = set_list(fd, list);
    (void)acl_free(list);
    return code == ENOTSUP ? 0 : code; /* vnode_setattr, kpi_vfs.c */
}

void msalex__let_mode_decide(int fd) {
    (void)msalex__remove_access_list(fd);
}

int msalex__copy_access_list(int from, int to) {
    acl_t list;
    int code = get_list(from, &list);

    if (code != 0)
        return code == ENOENT ? 0 : code;
    code = set_list(to, list);
    (void)acl_free(list);
    return code;
}

ssize_t msalex__list_attributes(int fd, char *names, size_t room) {
    return flistxattr(fd, names, room, 0);
}

/* The rule of the system itself for a save that exchanges the file (xattr_preserve_for_intent(3)):
 * it keeps com.apple.metadata:*, and so tags and the mark of `tmutil addexclusion`.  It leaves out
 * what belongs to the old content, such as quarantine and resource fork. */
bool msalex__keeps_attribute(const char *name) {
    return xattr_preserve_for_intent(name, XATTR_OPERATION_INTENT_SAVE) != 0;
}

void msalex__copy_attribute(int from, int to, const char *name, void *value, size_t room) {
    const ssize_t size = fgetxattr(from, name, value, room, 0, 0);
    if (size >= 0)
        (void)fsetxattr(to, name, value, (size_t)size, 0, 0);
}
