/* What Linux does in its own way.  The promises are in os_posix.h.  Twin: os_macos.c. */
#define _GNU_SOURCE /* O_PATH, fallocate, F_OFD_SETLK, syscall */
#include "os_linux.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "os_posix.h"

/* ---- directories and links ---- */

/* O_PATH needs no permission for the directory itself, only for those above it. */
int msalex__open_directory(int at, const char *name) {
    return openat(at, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

/* openat2(2), Linux 5.6.  Declared here because older headers lack it: struct open_how of
 * linux/openat2.h, and the number that all architectures but alpha share. */
struct how {
    uint64_t flags, mode, resolve;
};
enum { SYS_OPENAT2 = 437, NO_SYMLINKS = 0x04 /* RESOLVE_NO_SYMLINKS */ };

int msalex__open_directory_without_links(int at, const char *path) {
    const struct how how = {.flags = O_PATH | O_DIRECTORY | O_CLOEXEC, .resolve = NO_SYMLINKS};
    static _Atomic bool refused; /* ENOSYS: an older kernel, gVisor; EPERM: an older seccomp */
    long fd;

    if (refused) {
        errno = ELOOP;
        return -1;
    }
    fd = syscall(SYS_OPENAT2, at >= 0 ? at : AT_FDCWD, path, &how, sizeof how);
    if (fd < 0 && (errno == ENOSYS || errno == EPERM)) {
        refused = true;
        errno = ELOOP;
    }
    return (int)fd;
}

/* The descriptor is that of the link itself, so nobody can exchange it between the questions. */
int msalex__read_link(int directory, const char *name, struct stat *link, char text[PATH_MAX]) {
    int code = 0, fd = openat(directory, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    ssize_t size;

    if (fd < 0)
        return errno;
    if (fstat(fd, link) != 0)
        code = errno;
    else if (!S_ISLNK(link->st_mode))
        code = EINVAL;
    else if ((size = readlinkat(fd, "", text, PATH_MAX)) < 0)
        code = errno;
    else if (size == PATH_MAX)
        code = ENAMETOOLONG;
    else
        text[size] = '\0';
    (void)close(fd);
    return code;
}

/* All links of procfs but those in its root, such as /proc/self (proc(5)). */
bool msalex__has_magic_links(int directory) {
    const long proc = 0x9fa0;    /* PROC_SUPER_MAGIC of linux/magic.h */
    const ino_t proc_root = 1;   /* PROC_ROOT_INO of linux/proc_ns.h */
    struct statfs system;
    struct stat opened;

    return fstatfs(directory, &system) == 0 && (long)system.f_type == proc &&
           !(fstat(directory, &opened) == 0 && opened.st_ino == proc_root);
}

/* Reads numbers from a file of /proc: how many. */
static int read_numbers(const char *path, unsigned long *numbers, int most) {
    FILE *file = fopen(path, "re");
    int count = 0;

    if (file == NULL)
        return 0;
    while (count < most && fscanf(file, "%lu", &numbers[count]) == 1)
        count++;
    (void)fclose(file);
    return count;
}

/* user_namespaces(7), "Unmapped user and group IDs".  A line of uid_map is the first number
 * inside, the first one outside, and how many.  Root outside is among the unmapped when no line
 * maps 0 outside, whatever 0 is inside; in nested namespaces its directory "/" may tell. */
bool msalex__is_unmapped(uid_t owner) {
    enum { LINES_MAX = 340 }; /* UID_GID_MAP_MAX_EXTENTS */
    unsigned long overflow = 65534, map[LINES_MAX * 3];
    bool maps_root = false;
    struct stat root;
    int count;

    (void)read_numbers("/proc/sys/kernel/overflowuid", &overflow, 1);
    if (owner != (uid_t)overflow)
        return false;
    count = read_numbers("/proc/self/uid_map", map, LINES_MAX * 3);
    for (int line = 0; line + 2 < count; line += 3) {
        if (map[line + 1] == 0 && map[line + 2] > 0)
            maps_root = true;
    }
    return (count > 0 && !maps_root) || (stat("/", &root) == 0 && root.st_uid == owner);
}

bool msalex__is_remote(int fd) {
    static const long MAGIC[] = {
        0x6969,     /* NFS */
        0x517b,     /* SMB */
        0xff534d42, /* CIFS */
        0xfe534d42, /* SMB2 */
        0x65735546, /* FUSE: sshfs and others */
        0x01021997, /* 9p */
        0x00c36400, /* Ceph */
        0x5346414f, /* AFS */
    };
    struct statfs system;

    if (fstatfs(fd, &system) != 0)
        return true; /* what is not known is not trusted */
    for (size_t i = 0; i < sizeof MAGIC / sizeof MAGIC[0]; i++) {
        if ((long)system.f_type == MAGIC[i])
            return true;
    }
    return false;
}

/* ---- what a file carries beside its content ---- */

/* acl(5): the access list is kept as this attribute. */
static const char ACCESS_LIST[] = "system.posix_acl_access";

static bool means_no_list(int code) {
    return code == ENODATA || code == EOPNOTSUPP || code == ENOSYS;
}

int64_t msalex__mtime_ns(const struct stat *file) {
    return (int64_t)file->st_mtim.tv_sec * 1000000000 + file->st_mtim.tv_nsec;
}

int msalex__remove_access_list(int fd) {
    return fremovexattr(fd, ACCESS_LIST) == 0 || means_no_list(errno) ? 0 : errno;
}

int msalex__copy_access_list(int from, int to) {
    char list[4096]; /* 500 entries */
    ssize_t size = fgetxattr(from, ACCESS_LIST, list, sizeof list);

    if (size < 0)
        return means_no_list(errno) ? 0 : errno;
    return fsetxattr(to, ACCESS_LIST, list, (size_t)size, 0) == 0 ? 0 : errno;
}

/* ---- writing ---- */

/* fdatasync writes the data and the size, which is all that a rename needs behind it; the
 * times it leaves out are not worth a second journal commit. */
int msalex__sync(int fd) {
    return fdatasync(fd);
}

/* Not posix_fallocate: where the file system cannot, it writes zeros into the file. */
int msalex__reserve(int fd, off_t size) {
    if (size == 0 || fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, size) == 0)
        return 0;
    return errno == ENOSYS ? EOPNOTSUPP : errno;
}

int msalex__rename_new(int directory, const char *from, const char *to) {
    const unsigned int no_replace = 1; /* RENAME_NOREPLACE of linux/fs.h */

    if (syscall(SYS_renameat2, directory, from, directory, to, no_replace) == 0)
        return 0;
    return errno == ENOSYS ? EINVAL : errno;
}

/* ---- locks on data files ---- */

/* Behind any content, and behind what the lock's own files use (lock_linux.h). */
static const off_t TURN_AT = ((off_t)1 << 62) + 1;

int msalex__ofd_lock(int fd, short type, off_t start, off_t length) {
    struct flock range = {.l_type = type, .l_whence = SEEK_SET, .l_start = start,
                          .l_len = length};
    return fcntl(fd, F_OFD_SETLK, &range) == 0 ? 0 : errno;
}

bool msalex__ofd_conflict(int fd, short type, off_t start, off_t length) {
    struct flock range = {.l_type = type, .l_whence = SEEK_SET, .l_start = start,
                          .l_len = length};
    return fcntl(fd, F_OFD_GETLK, &range) == 0 && range.l_type != F_UNLCK;
}

void msalex__show_life(int fd) {
    (void)msalex__ofd_lock(fd, F_WRLCK, TURN_AT, 1);
}

/* A flock is how the first version of this library showed it.  It is asked for by a shared one, so
 * that two sweepers do not take each other for the writer. */
bool msalex__shows_life(int fd) {
    if (msalex__ofd_conflict(fd, F_WRLCK, TURN_AT, 1))
        return true;
    if (flock(fd, LOCK_SH | LOCK_NB) != 0)
        return errno == EWOULDBLOCK;
    (void)flock(fd, LOCK_UN);
    return false;
}

/* Explicitly, because a child forked just now shares the open file. */
void msalex__end_life(int fd) {
    (void)msalex__ofd_lock(fd, F_UNLCK, TURN_AT, 1);
}

/* On the file itself.  File systems of other hosts or of programs turn OFD locks into something
 * else: there it is the flock of the directory.  Without a file there is no turn: its first name is
 * given by msalex__rename_new, to one process only. */
int msalex__try_turn(int directory, int file, int *holder) {
    int code;

    *holder = -1;
    if (!msalex__is_remote(file >= 0 ? file : directory)) {
        if (file < 0)
            return ENOENT;
        if ((code = msalex__ofd_lock(file, F_WRLCK, TURN_AT, 1)) == 0)
            *holder = file;
        return code == EACCES ? EAGAIN : code;
    }
    if ((*holder = openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
        return errno;
    if (flock(*holder, LOCK_EX | LOCK_NB) == 0)
        return 0;
    code = errno;
    (void)close(*holder);
    *holder = -1;
    return code == EWOULDBLOCK ? EAGAIN : code;
}

void msalex__end_turn(int file, int holder) {
    if (holder < 0)
        return;
    if (holder == file) {
        (void)msalex__ofd_lock(file, F_UNLCK, TURN_AT, 1);
    } else {
        (void)flock(holder, LOCK_UN);
        (void)close(holder);
    }
}
