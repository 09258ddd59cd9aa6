/*
 * The files of a Mac on Linux: the effects of Darwin's calls that Linux does not have, or has in
 * another way.  See fake_kernel.h.  The rules are those of Apple's sources: xnu-7195 (macOS 11)
 * to xnu-11417 (15), bsd/vfs unless another file is named, and Libc.
 */
#include "fake_kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/acl.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#undef dlsym
#undef fcntl
#undef fstatfs
#undef statfs
#undef mkdirat
#undef open
#undef openat
#undef renameatx_np
int fcntl(int fd, int command, ...);
int mkdirat(int directory, const char *path, mode_t mode);
int openat(int directory, const char *path, int flags, ...);

enum {
    FAKE_O_EXEC = 0x40000000, /* a bit of O_SEARCH */
    NEWEST = 15,
    LISTS_MAX = 64
};

/* Not the C library's function, which tests let fail. */
static int status_of(int fd, struct stat *file) {
    return (int)syscall(SYS_fstat, fd, file);
}

static int version(void) {
    return fake_kernel.macos == 0 ? NEWEST : fake_kernel.macos;
}

/* ---- access lists ----
 *
 * A file has no list, an empty one, or one with entries; here an entry is only text. */

struct _acl {
    char text[64];
};
static struct list {
    dev_t device;
    ino_t inode; /* 0: an unused place */
    struct _acl list;
} lists[LISTS_MAX];
static size_t next_list;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static struct list *find_list(dev_t device, ino_t inode) {
    for (size_t i = 0; i < LISTS_MAX; i++) {
        if (lists[i].inode == inode && (inode == 0 || lists[i].device == device))
            return &lists[i];
    }
    return NULL;
}

/* `text` is NULL: the file has no list. */
static void store_list(const struct stat *file, const char *text) {
    struct list *list;

    (void)pthread_mutex_lock(&mutex);
    if ((list = find_list(file->st_dev, file->st_ino)) == NULL && text != NULL)
        list = find_list(0, 0);
    if (list == NULL && text != NULL) /* replaces one: most belong to files that are gone */
        list = &lists[next_list++ % LISTS_MAX];
    if (list != NULL)
        *list = (struct list){0};
    if (text != NULL) {
        list->device = file->st_dev;
        list->inode = file->st_ino;
        (void)snprintf(list->list.text, sizeof list->list.text, "%s", text);
    }
    (void)pthread_mutex_unlock(&mutex);
}

void fake_give_list(const char *path, const char *text) {
    struct stat file;
    if (stat(path, &file) != 0)
        abort();
    store_list(&file, text);
}

const char *fake_list_of(const char *path) {
    struct stat file;
    struct list *list;
    if (stat(path, &file) != 0)
        abort();
    list = find_list(file.st_dev, file.st_ino);
    return list == NULL ? NULL : list->list.text;
}

acl_t acl_init(int count) {
    if (count < 0)
        abort();
    return fake_fails("acl_init") ? NULL : calloc(1, sizeof(struct _acl));
}

int acl_free(void *object) {
    free(object);
    return 0;
}

/* ENOENT: no list (filesec_get_property, Libc's gen/filesec.c). */
acl_t acl_get_fd_np(int fd, acl_type_t type) {
    struct stat file;
    struct list *list;
    acl_t found = NULL;

    if (type != ACL_TYPE_EXTENDED)
        abort();
    if (fake_fails("acl_get_fd_np") || status_of(fd, &file) != 0)
        return NULL;
    (void)pthread_mutex_lock(&mutex);
    if ((list = find_list(file.st_dev, file.st_ino)) != NULL &&
        (found = malloc(sizeof *found)) != NULL)
        *found = list->list;
    (void)pthread_mutex_unlock(&mutex);
    if (list == NULL)
        errno = ENOENT;
    return found;
}

/* ENOTSUP: a file system without lists (vnode_setattr, kpi_vfs.c).  The owner may set
 * a list, whatever the old one says (vnode_authorize_simple). */
int acl_set_fd_np(int fd, acl_t list, acl_type_t type) {
    struct stat file;

    if (type != ACL_TYPE_EXTENDED || list == NULL)
        abort();
    if (fake_fails("acl_set_fd_np") || status_of(fd, &file) != 0)
        return -1;
    if (fake_kernel.without_lists) {
        errno = ENOTSUP;
        return -1;
    }
    if (geteuid() != 0 && geteuid() != file.st_uid) {
        errno = EPERM;
        return -1;
    }
    store_list(&file, list->text);
    if (S_ISDIR(file.st_mode) && list->text[0] == '\0')
        fake_kernel.emptied = file.st_ino;
    return 0;
}

/* Does the directory hand down what the script says?  Not if its own list was emptied. */
static bool hands_down(int directory) {
    struct stat status;

    if (fake_kernel.without_lists || fake_kernel.inherited == NULL)
        return false;
    return status_of(directory, &status) != 0 /* the working directory */ ||
           status.st_ino != fake_kernel.emptied;
}

/* A new file inherits the list of its directory, whatever its mode (vn_attribute_prepare,
 * kauth_acl_inherit).  Linux uses inode numbers again, so this also removes an older file's
 * list. */
static int inherit(int fd, int directory) {
    struct stat file;
    if (fd >= 0 && status_of(fd, &file) == 0)
        store_list(&file, hands_down(directory) ? fake_kernel.inherited : NULL);
    return fd;
}

int fake_mkdirat(int directory, const char *path, mode_t mode) {
    int fd;

    if (fake_fails("mkdirat") || mkdirat(directory, path, mode) != 0)
        return -1;
    fd = inherit(openat(directory, path, O_PATH | O_CLOEXEC), directory);
    return fd < 0 ? -1 : close(fd);
}

/* ---- opening ---- */

/* Opens one directory of a path. */
static int open_part(int directory, const char *name) {
    int fd = openat(directory, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    struct stat part;

    if (fd < 0)
        return -1;
    if (status_of(fd, &part) == 0 && S_ISDIR(part.st_mode))
        return fd;
    (void)close(fd);
    errno = S_ISLNK(part.st_mode) ? ELOOP : ENOTDIR;
    return -1;
}

/* O_NOFOLLOW_ANY: vn_open_auth, vfs_vnops.c.  Walks by hand, because valgrind does not know
 * openat2.  The library uses it for directories only. */
static int open_without_links(int directory, const char *path, int flags) {
    char rest[4096], *next = rest, *part;
    int at, up;

    if ((flags & (O_NOFOLLOW | O_SYMLINK)) != 0) {
        errno = EINVAL;
        return -1;
    }
    (void)snprintf(rest, sizeof rest, "%s", path);
    at = openat(directory, path[0] == '/' ? "/" : ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    while (at >= 0 && (part = strsep(&next, "/")) != NULL) {
        up = at;
        at = open_part(up, part[0] == '\0' ? "." : part);
        (void)close(up);
    }
    if (at < 0 || (flags & O_PATH) != 0)
        return at;
    up = at;
    at = openat(up, ".", flags & ~O_NOFOLLOW_ANY);
    (void)close(up);
    return at;
}

/* O_SEARCH came with macOS 13 (FFLAGS, bsd/sys/fcntl.h).  Such a descriptor serves to look up
 * names, and to open it takes the right to do so (vn_authorize_open_existing, vfs_subr.c).
 * Older kernels ignore the bit. */
static int open_for_search(int directory, const char *path, int flags) {
    int fd = (flags & O_NOFOLLOW_ANY) != 0 ? open_without_links(directory, path, flags | O_PATH)
                                           : openat(directory, path, flags | O_PATH);

    if (fd >= 0 && faccessat(fd, ".", X_OK, AT_EACCESS) != 0) {
        (void)close(fd);
        errno = EACCES;
        return -1;
    }
    return fd;
}

/* The directories of a path have a name of their own here, so that a test can let only these
 * fail. */
static bool fails_to_open(const char *name, int flags) {
    return fake_fails((flags & FAKE_O_EXEC) != 0 ? "opendir" : name);
}

/* O_EXLOCK: open1, vfs_syscalls.c.  When the lock fails, the file has been made all the same. */
static int lock_new(int fd, int flags) {
    int code;

    if (fd < 0 || (flags & O_EXLOCK) == 0)
        return fd;
    if ((flags & O_NONBLOCK) == 0)
        abort(); /* it would wait */
    if (fake_flock(fd, LOCK_EX | LOCK_NB) == 0)
        return fd;
    code = errno;
    (void)close(fd);
    errno = code;
    return -1;
}

static int open_as_darwin(int directory, const char *path, int flags, unsigned mode) {
    const bool for_search = (flags & FAKE_O_EXEC) != 0 && version() >= 13;

    flags &= ~FAKE_O_EXEC;
    if (version() < 11)
        flags &= ~O_NOFOLLOW_ANY;
    if (for_search)
        return open_for_search(directory, path, flags);
    if ((flags & O_NOFOLLOW_ANY) != 0)
        return open_without_links(directory, path, flags);
    if ((flags & O_SYMLINK) != 0) /* the link itself; the library reads only its text */
        return openat(directory, path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if ((flags & (O_CREAT | O_EXCL)) == (O_CREAT | O_EXCL)) {
        if (fake_kernel.wait != NULL) /* else there are threads */
            fake_kernel.made++;
        return lock_new(inherit(openat(directory, path, flags & ~O_EXLOCK, mode), directory),
                        flags);
    }
    return openat(directory, path, flags, mode);
}

int fake_open(const char *path, int flags, ...) {
    va_list arguments;
    unsigned mode;

    va_start(arguments, flags);
    mode = va_arg(arguments, unsigned);
    va_end(arguments);
    return fails_to_open("open", flags) ? -1 : open_as_darwin(AT_FDCWD, path, flags, mode);
}

int fake_openat(int directory, const char *path, int flags, ...) {
    va_list arguments;
    unsigned mode;

    va_start(arguments, flags);
    mode = va_arg(arguments, unsigned);
    va_end(arguments);
    return fails_to_open("openat", flags) ? -1 : open_as_darwin(directory, path, flags, mode);
}

/* freadlink(2), macOS 13. */
static ssize_t fake_freadlink(int fd, char *text, size_t size) {
    if (fake_fails("freadlink"))
        return -1;
    if (!fake_kernel.long_links)
        return syscall(SYS_readlinkat, fd, "", text, size);
    memset(text, 'x', size);
    return (ssize_t)size;
}

void *fake_dlsym(void *handle, const char *name) {
    ssize_t (*function)(int, char *, size_t) = fake_freadlink;
    void *address;

    (void)handle;
    if (strcmp(name, "freadlink") != 0)
        abort();
    memcpy(&address, &function, sizeof address);
    return version() < 13 ? NULL : address;
}

/* ---- writing ---- */

/* F_PEOFPOSMODE: behind what is allocated; the size stays (fcntl(2), sys_fcntl of
 * bsd/kern/kern_descrip.c, hfs_vnop_allocate). */
static int preallocate(int fd, fstore_t *room) {
    struct stat file;
    off_t end;

    if (fake_fails("F_PREALLOCATE"))
        return -1;
    if ((fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDONLY) {
        errno = EBADF;
        return -1;
    }
    if (room->fst_posmode != F_PEOFPOSMODE || room->fst_offset != 0 || room->fst_length < 0) {
        errno = EINVAL;
        return -1;
    }
    if (status_of(fd, &file) != 0)
        return -1;
    end = file.st_blocks * 512 > file.st_size ? file.st_blocks * 512 : file.st_size;
    if (fallocate(fd, FALLOC_FL_KEEP_SIZE, end, room->fst_length) != 0)
        return -1;
    room->fst_bytesalloc = room->fst_length;
    return 0;
}

/* Only HFS+ and APFS know F_BARRIERFSYNC; the default is another file system (ENOTTY,
 * err_ioctl). */
static int barrier(int fd) {
    if (fake_fails("F_BARRIERFSYNC"))
        return -1;
    errno = ENOTTY;
    return fake_kernel.with_barriers ? (int)syscall(SYS_fsync, fd) : -1;
}

int fake_fcntl(int fd, int command, ...) {
    va_list arguments;
    void *argument;

    va_start(arguments, command);
    argument = va_arg(arguments, void *);
    va_end(arguments);
    if (command == F_PREALLOCATE)
        return preallocate(fd, argument);
    if (command == F_BARRIERFSYNC)
        return barrier(fd);
    return fcntl(fd, command, argument);
}

/* A file system that cannot do it says ENOTSUP (vn_default_error, vfs_init.c). */
int fake_renameatx_np(int from_directory, const char *from, int to_directory, const char *to,
                      unsigned flags) {
    if (flags != RENAME_EXCL)
        abort();
    if (fake_kernel.rename_code != 0) {
        errno = fake_kernel.rename_code;
        return -1;
    }
    if (fake_fails("renameatx_np"))
        return -1;
    return (int)syscall(SYS_renameat2, from_directory, from, to_directory, to, RENAME_NOREPLACE);
}

static int describe(struct statfs *system) {
    system->f_flags = fake_kernel.remote ? 0 : MNT_LOCAL;
    (void)snprintf(system->f_fstypename, sizeof system->f_fstypename, "%s",
                   fake_kernel.file_system == NULL ? "apfs" : fake_kernel.file_system);
    return 0;
}

int fake_fstatfs(int fd, struct statfs *system) {
    (void)fd;
    return fake_fails("fstatfs") ? -1 : describe(system);
}

int fake_statfs(const char *path, struct statfs *system) {
    if (fake_fails("statfs"))
        return -1;
    return access(path, F_OK) == 0 ? describe(system) : -1;
}
