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
#include <stddef.h>
#include <sys/acl.h>

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

/* Entries that a file inherits from its directory apply whatever its mode is: an entry that allows
 * reading lets others read a file of mode 0600 (kauth_acl_inherit, kern/kern_authorization.c;
 * vnode_authorize_simple).  With a list without entries the mode decides. */
int msalex__remove_access_list(int fd) {
    acl_t list;
    int code = get_list(fd, &list);

    if (code == ENOENT)
        return 0;
    if (code == 0)
        (void)acl_free(list);
    /* A list that we may not even read is replaced all the same. */
    if ((list = acl_init(1)) == NULL)
        return errno;
    code = set_list(fd, list);
    (void)acl_free(list);
    return code == ENOTSUP ? 0 : code; /* vnode_setattr, kpi_vfs.c */
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
