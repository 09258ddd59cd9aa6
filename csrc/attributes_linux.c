/* What a file carries beside its content, Linux.  The promises are in attributes_posix.h.  Twin:
 * attributes_macos.c. */
#define _GNU_SOURCE
#include "attributes_posix.h"

#include <errno.h>
#include <string.h>
#include <sys/xattr.h>

/* acl(5): the access list is kept as this attribute. */
static const char ACCESS_LIST[] = "system.posix_acl_access";

static bool means_no_list(int code) {
    return code == ENODATA || code == EOPNOTSUPP || code == ENOSYS;
}

int64_t msalex__mtime_ns(const struct stat *file) {
    return (int64_t)file->st_mtim.tv_sec * 1000000000 + file->st_mtim.tv_nsec;
}

bool msalex__is_open_to_others(int fd) {
    (void)fd;
    return false;
}

int msalex__remove_access_list(int fd) {
    return fremovexattr(fd, ACCESS_LIST) == 0 || means_no_list(errno) ? 0 : errno;
}

void msalex__let_mode_decide(int fd) {
    (void)fd;
}

int msalex__copy_access_list(int from, int to) {
    char list[4096]; /* 500 entries */
    ssize_t size = fgetxattr(from, ACCESS_LIST, list, sizeof list);

    if (size < 0)
        return means_no_list(errno) ? 0 : errno;
    return fsetxattr(to, ACCESS_LIST, list, (size_t)size, 0) == 0 ? 0 : errno;
}

ssize_t msalex__list_attributes(int fd, char *names, size_t room) {
    return flistxattr(fd, names, room);
}

bool msalex__keeps_attribute(const char *name) {
    return strncmp(name, "user.", sizeof "user." - 1) == 0;
}

void msalex__copy_attribute(int from, int to, const char *name, void *value, size_t room) {
    const ssize_t size = fgetxattr(from, name, value, room);
    if (size >= 0)
        (void)fsetxattr(to, name, value, (size_t)size, 0);
}
