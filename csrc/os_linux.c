/* What Linux and macOS do differently, Linux.  The promises are in os_posix.h.  Twin:
 * os_macos.c. */
#define _GNU_SOURCE /* O_PATH, fallocate, F_OFD_SETLK, syscall */
#include "os_posix.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

/* ---- directories and links ---- */

/* O_PATH needs no permission for the directory itself, only for those above it. */
int msalex__open_directory(int at, const char *name) {
    return openat(at, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

/* openat2(2), Linux 5.6.  Declared here because older headers lack it: struct open_how of
 * linux/openat2.h, and the call's number, which is the same on all architectures but alpha. */
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

/* The descriptor is of the link itself, so nobody can exchange the link between the questions. */
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

/* All links of procfs do, except those in its root, such as /proc/self (proc(5)). */
bool msalex__has_magic_links(int directory) {
    const long proc = 0x9fa0;  /* PROC_SUPER_MAGIC of linux/magic.h */
    const ino_t proc_root = 1; /* PROC_ROOT_INO of linux/proc_ns.h */
    struct statfs system;
    struct stat opened;

    return fstatfs(directory, &system) == 0 && (long)system.f_type == proc &&
           !(fstat(directory, &opened) == 0 && opened.st_ino == proc_root);
}

/* Reads numbers from a file of /proc.  Returns how many. */
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

/* user_namespaces(7), "Unmapped user and group IDs".  A line of uid_map is the first number inside,
 * the first one outside, and how many numbers it maps.  When no line maps 0 outside, root outside
 * is among the unmapped, whatever 0 is inside.  In nested namespaces the owner of "/" may show
 * it. */
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

/* By statfs(2)'s numbers; the rarer ones as in coreutils' src/stat.c, "remote". */
static bool is_type_remote(const struct statfs *system) {
    static const long MAGIC[] = {
        0x6969,     /* NFS */
        0x517b,     /* SMB */
        0xff534d42, /* CIFS */
        0xfe534d42, /* SMB2 */
        0x65735546, /* FUSE: sshfs, virtiofs and others */
        0x01021997, /* 9p */
        0x00c36400, /* Ceph */
        0x5346414f, /* AFS */
        0x6b414653, /* AFS of the kernel */
        0x73757245, /* Coda */
        0x786f4256, /* VirtualBox shared folders (fs/vboxsf/super.c) */
        0xbacbacbc, /* VMware shared folders */
        0x7c7c6673, /* Parallels shared folders */
        0x0bd00bd0, /* Lustre */
        0x47504653, /* GPFS */
        0x19830326, /* BeeGFS */
        0xaad7aaea, /* PanFS */
    };

    for (size_t i = 0; i < sizeof MAGIC / sizeof MAGIC[0]; i++) {
        if ((long)system->f_type == MAGIC[i])
            return true;
    }
    return false;
}

bool msalex__is_remote(int fd) {
    struct statfs system;
    return fstatfs(fd, &system) != 0 || is_type_remote(&system);
}

bool msalex__is_path_remote(const char *path) {
    struct statfs system;
    return statfs(path, &system) != 0 || is_type_remote(&system);
}

/* ---- writing ---- */

/* fdatasync writes the data and the size, which is all that must be on the disk before a rename;
 * the times that it leaves out are not worth a second journal commit. */
int msalex__sync(int fd, const char **call) {
    *call = "fdatasync";
    return fdatasync(fd) == 0 ? 0 : errno;
}

/* Not posix_fallocate: where the file system cannot reserve, that writes zeros into the file. */
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

/* ---- open file description (OFD) locks ---- */

/* Holders lock [0, ANNOUNCE_AT); waiters announce themselves at ANNOUNCE_AT, far behind any
 * content.  Data files have their turn behind that. */
_Static_assert(sizeof(off_t) == 8, "compile with -D_FILE_OFFSET_BITS=64: see ffi_build.py");
static const off_t ANNOUNCE_AT = (off_t)1 << 62;
static const off_t TURN_AT = ((off_t)1 << 62) + 1;

/* Sets (F_RDLCK, F_WRLCK) or withdraws (F_UNLCK) a lock: 0 or errno. */
static int set_lock(int fd, short type, off_t start, off_t length) {
    struct flock range = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = length};
    return fcntl(fd, F_OFD_SETLK, &range) == 0 ? 0 : errno == EACCES ? EAGAIN : errno;
}

/* Does another open file have an OFD or fcntl lock that excludes a write lock? */
static bool is_locked(int fd, off_t start, off_t length) {
    struct flock range = {
        .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = start, .l_len = length};
    return fcntl(fd, F_OFD_GETLK, &range) == 0 && range.l_type != F_UNLCK;
}

/* ---- lock files ---- */

int msalex__open_nameless(int directory) {
    return openat(directory, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
}

/* Before Linux 6.10 an empty path needs a capability, and "/proc/self/fd/N" is the way without
 * one. */
int msalex__give_name(int fd, int directory, const char *name) {
    char unnamed[sizeof "/proc/self/fd/" + 3 * sizeof(int)];

    if (linkat(fd, "", directory, name, AT_EMPTY_PATH) == 0)
        return 0;
    if (errno == EEXIST)
        return EEXIST;
    (void)snprintf(unnamed, sizeof unnamed, "/proc/self/fd/%d", fd);
    return linkat(AT_FDCWD, unnamed, directory, name, AT_SYMLINK_FOLLOW) == 0 ? 0 : errno;
}

int msalex__open_named(int directory, const char *name) {
    return openat(directory, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
}

bool msalex__is_unsupported(int code) {
    return code == ENOLCK || code == ENOSYS || code == EINVAL || code == EOPNOTSUPP;
}

bool msalex__is_read_locked(int code) {
    return code == EACCES || code == EAGAIN;
}

int msalex__exclude_fcntl(int fd) {
    return set_lock(fd, F_WRLCK, 0, ANNOUNCE_AT);
}

bool msalex__is_fcntl_locked(int fd) {
    return is_locked(fd, 0, ANNOUNCE_AT);
}

void msalex__announce(int fd) {
    (void)set_lock(fd, F_RDLCK, ANNOUNCE_AT, 1);
}

void msalex__withdraw(int fd) {
    (void)set_lock(fd, F_UNLCK, ANNOUNCE_AT, 1);
}

bool msalex__is_announced(int fd) {
    return is_locked(fd, ANNOUNCE_AT, 1);
}

void msalex__unlock(int fd, bool has_flock) {
    (void)set_lock(fd, F_UNLCK, 0, 0);
    if (has_flock)
        (void)flock(fd, LOCK_UN);
}

/* Do the mount's options say that its locks stay on this host (nfs(5), mount.cifs(8))?
 * proc_pid_mountinfo(5): the third field of a line is the device. */
static bool has_local_locks(dev_t device) {
    static const char *const OPTIONS[] = {"nolock", "local_lock=flock", "local_lock=all", "nobrl"};
    FILE *mounts = fopen("/proc/self/mountinfo", "re");
    unsigned major, minor;
    char *line = NULL;
    bool found = false;
    size_t room = 0;

    if (mounts == NULL)
        return true; /* we do not trust what we do not know */
    while (!found && getline(&line, &room, mounts) > 0) {
        if (sscanf(line, "%*d %*d %u:%u", &major, &minor) != 2 || makedev(major, minor) != device)
            continue;
        for (size_t i = 0; i < sizeof OPTIONS / sizeof OPTIONS[0]; i++)
            found = found || strstr(line, OPTIONS[i]) != NULL;
    }
    free(line);
    (void)fclose(mounts);
    return found;
}

/* FUSE gets its flock from the local kernel, unless the program has its own, which we cannot see
 * from here.  So does 9p with most of its caches.  virtiofs is FUSE. */
bool msalex__is_lock_local(int fd, dev_t device) {
    const long fuse = 0x65735546, plan9 = 0x01021997; /* of linux/magic.h */
    struct statfs system;

    if (fstatfs(fd, &system) != 0 || (long)system.f_type == fuse || (long)system.f_type == plan9)
        return true;
    return has_local_locks(device);
}

/* ---- locks on data files ---- */

void msalex__show_life(int fd) {
    (void)set_lock(fd, F_WRLCK, TURN_AT, 1);
}

/* The first version of this library showed it by a flock.  We ask for that by a shared one, so that
 * two sweepers do not take each other for the writer. */
bool msalex__shows_life(int fd) {
    if (is_locked(fd, TURN_AT, 1))
        return true;
    if (flock(fd, LOCK_SH | LOCK_NB) != 0)
        return errno == EWOULDBLOCK;
    (void)flock(fd, LOCK_UN);
    return false;
}

/* Not by closing, because a child forked just now shares the open file. */
void msalex__end_life(int fd) {
    (void)set_lock(fd, F_UNLCK, TURN_AT, 1);
}

/* The turn is a lock on the file itself.  File systems of other hosts or of programs turn OFD locks
 * into something else: there it is the flock of the directory.  Without a file there is no turn:
 * only one process can give it its first name, by msalex__rename_new. */
int msalex__try_turn(int directory, int file, int *holder) {
    int code;

    *holder = -1;
    if (!msalex__is_remote(file >= 0 ? file : directory)) {
        if (file < 0)
            return ENOENT;
        if ((code = set_lock(file, F_WRLCK, TURN_AT, 1)) == 0)
            *holder = file;
        return code;
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
        (void)set_lock(file, F_UNLCK, TURN_AT, 1);
    } else {
        (void)flock(holder, LOCK_UN);
        (void)close(holder);
    }
}
