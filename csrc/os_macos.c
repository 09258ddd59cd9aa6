/*
 * What Linux and macOS do differently, macOS 11 and later.  The promises are in os_posix.h.  Twin:
 * os_linux.c.
 *
 * We read in its source what the kernel does (xnu-7195, which is macOS 11, to xnu-11417, macOS 15;
 * bsd/vfs unless another file is named).  Each rule stands beside the code that needs it.
 */
#define _DARWIN_C_SOURCE /* O_NOFOLLOW_ANY, O_SYMLINK, F_PREALLOCATE, fstatfs, flock */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/param.h>
#include <sys/mount.h>
#include <sys/file.h>
#include <unistd.h>

#include "os_posix.h"

enum {
    /* O_SEARCH, which the headers of macOS 11 and 12 lack.  Kernels that old ignore the bit and
     * open for reading (open1, vfs_syscalls.c), so there a directory with search permission alone
     * is denied. */
    SEARCH = 0x40000000 | O_DIRECTORY,
    LINK_TRIES = 10
};

/* ---- directories and links ---- */

int msalex__open_directory(int at, const char *name) {
    return openat(at, name, SEARCH | O_NOFOLLOW | O_CLOEXEC);
}

/* macOS 11 brought O_NOFOLLOW_ANY.  A kernel without it would ignore the flag and follow links
 * without a word, so the kernel has to prove that it knows the flag: then it refuses the flag
 * beside O_NOFOLLOW before it looks at the path (vn_open_auth, vfs_vnops.c). */
static bool can_refuse_links(void) {
    static atomic_bool is_proven;
    int fd;

    if (atomic_load(&is_proven))
        return true;
    fd = open("/", SEARCH | O_NOFOLLOW | O_NOFOLLOW_ANY | O_CLOEXEC);
    if (fd >= 0)
        (void)close(fd);
    else if (errno == EINVAL)
        atomic_store(&is_proven, true);
    return atomic_load(&is_proven);
}

int msalex__open_directory_without_links(int at, const char *path) {
    if (can_refuse_links())
        return openat(at >= 0 ? at : AT_FDCWD, path, SEARCH | O_NOFOLLOW_ANY | O_CLOEXEC);
    errno = ELOOP;
    return -1;
}

/* Ends the text of a link that took `size` bytes: 0 or errno. */
static int end_text(ssize_t size, char text[PATH_MAX]) {
    if (size < 0)
        return errno;
    if (size == PATH_MAX)
        return ENAMETOOLONG;
    text[size] = '\0';
    return 0;
}

/* From macOS 13 a link can be opened (O_SYMLINK is older) and read as it was opened. */
typedef ssize_t read_open_link(int fd, char *text, size_t size);

static int read_pinned(int directory, const char *name, read_open_link *function, struct stat *link,
                       char text[PATH_MAX]) {
    /* O_NONBLOCK and O_NOCTTY: something else may have taken the link's place. */
    int fd = openat(directory, name, O_RDONLY | O_SYMLINK | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    int code;

    if (fd < 0)
        return errno;
    if (fstat(fd, link) != 0)
        code = errno;
    else if (!S_ISLNK(link->st_mode))
        code = EINVAL;
    else
        code = end_text(function(fd, text, PATH_MAX), text);
    (void)close(fd);
    return code;
}

static bool is_same_time(struct timespec one, struct timespec other) {
    return one.tv_sec == other.tv_sec && one.tv_nsec == other.tv_nsec;
}

/* The status that shows whether a name in a directory came or went. */
struct look {
    struct stat link, directory;
};

static int look(int directory, const char *name, struct look *found) {
    return fstat(directory, &found->directory) == 0 &&
                   fstatat(directory, name, &found->link, AT_SYMLINK_NOFOLLOW) == 0
               ? 0
               : errno;
}

static bool is_unchanged(const struct look *before, const struct look *after) {
    return before->link.st_dev == after->link.st_dev && before->link.st_ino == after->link.st_ino &&
           is_same_time(before->link.st_ctimespec, after->link.st_ctimespec) &&
           is_same_time(before->directory.st_mtimespec, after->directory.st_mtimespec) &&
           is_same_time(before->directory.st_ctimespec, after->directory.st_ctimespec);
}

/* Before macOS 13 status and text come by two calls.  Between them somebody may put a link of their
 * own in the place of one that we trust, and then put that one back.  So the same is asked again:
 * it must be the same link, and no name in its directory may have come or gone, which sets the
 * times of the directory.  Where times are whole seconds, as on HFS+, that proves less. */
static int read_unpinned(int directory, const char *name, struct stat *link, char text[PATH_MAX]) {
    struct look before, after;
    int code;

    for (int tries = 0; tries < LINK_TRIES; tries++) {
        if ((code = look(directory, name, &before)) != 0 ||
            (code = end_text(readlinkat(directory, name, text, PATH_MAX), text)) != 0 ||
            (code = look(directory, name, &after)) != 0)
            return code;
        *link = before.link;
        if (is_unchanged(&before, &after))
            return 0;
    }
    return ELOOP;
}

int msalex__read_link(int directory, const char *name, struct stat *link, char text[PATH_MAX]) {
    void *address = dlsym(RTLD_DEFAULT, "freadlink");
    read_open_link *function;

    if (fstatat(directory, name, link, AT_SYMLINK_NOFOLLOW) != 0)
        return errno;
    if (!S_ISLNK(link->st_mode))
        return EINVAL; /* and we do not open it: it may be a device */
    if (address == NULL)
        return read_unpinned(directory, name, link, text);
    memcpy(&function, &address, sizeof function); /* ISO C has no cast for this */
    return read_pinned(directory, name, function, link, text);
}

/* There is no /proc, and /dev/fd holds devices. */
bool msalex__has_magic_links(int directory) {
    (void)directory;
    return false;
}

/* There are no user namespaces. */
bool msalex__is_unmapped(uid_t owner) {
    (void)owner;
    return false;
}

/* Does a program serve it (macFUSE: "macfuse", older ones "osxfuse"), or the host of a virtual
 * machine (virtiofs, 9p)?  Both may call themselves local (-o local). */
static bool is_foreign(const struct statfs *system) {
    return strstr(system->f_fstypename, "fuse") != NULL ||
           strstr(system->f_fstypename, "virtio") != NULL ||
           strcmp(system->f_fstypename, "9p") == 0;
}

static bool is_type_remote(const struct statfs *system) {
    return (system->f_flags & MNT_LOCAL) == 0 || is_foreign(system);
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

/* fsync does not make the drive empty its cache, which may then write the rename before the
 * content.  A barrier keeps the order (fcntl(2)).  To empty the cache (F_FULLFSYNC) would cost tens
 * of milliseconds for nothing that a save promises.  Only HFS+ and APFS have barriers.  The
 * failures below are about the content, and a later fsync could take it for written. */
int msalex__sync(int fd, const char **call) {
    *call = "F_BARRIERFSYNC";
    if (fcntl(fd, F_BARRIERFSYNC) == 0)
        return 0;
    if (errno == EIO || errno == ENOSPC || errno == EDQUOT || errno == EINTR)
        return errno;
    *call = "fsync";
    return fsync(fd) == 0 ? 0 : errno;
}

/* F_PREALLOCATE counts from the end of the allocated room (fcntl(2)), and does not change the size.
 * The room is given back when the file is closed.  This does not reserve the room that is needed
 * when a snapshot shares the content that we write over. */
int msalex__reserve(int fd, off_t size) {
    struct stat file;
    fstore_t room = {.fst_flags = F_ALLOCATEALL, .fst_posmode = F_PEOFPOSMODE};

    if (fstat(fd, &file) != 0)
        return errno;
    if (size <= file.st_size)
        return 0;
    room.fst_length = size - file.st_size;
    if (fcntl(fd, F_PREALLOCATE, &room) == 0)
        return 0;
    return errno == ENOTSUP || errno == EINVAL ? EOPNOTSUPP : errno;
}

/* A file system without it says ENOTSUP (vn_default_error, for VNOP_RENAMEX). */
int msalex__rename_new(int directory, const char *from, const char *to) {
    if (renameatx_np(directory, from, directory, to, RENAME_EXCL) == 0)
        return 0;
    return errno == ENOTSUP ? EINVAL : errno;
}

/* ---- lock files ---- */

int msalex__open_nameless(int directory) {
    (void)directory;
    errno = EOPNOTSUPP;
    return -1;
}

int msalex__give_name(int fd, int directory, const char *name) {
    (void)fd, (void)directory, (void)name;
    return EOPNOTSUPP;
}

/* The kernel takes the lock in the same call as it makes the file, though not in the same moment
 * (open1, vfs_syscalls.c).  If the lock fails, the file stays. */
int msalex__open_named(int directory, const char *name) {
    const int flags = O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
    return openat(directory, name, flags | O_EXLOCK | O_NONBLOCK, 0600);
}

bool msalex__is_unsupported(int code) {
    return code == ENOTSUP || code == EOPNOTSUPP || code == ENOLCK || code == EINVAL;
}

bool msalex__is_read_locked(int code) {
    return code == EACCES || code == EAGAIN;
}

/* A fcntl lock beside our flock would exclude us: xnu keeps all kinds of locks in one list
 * (kern_lockf.c). */
int msalex__exclude_fcntl(int fd) {
    (void)fd;
    return 0;
}

bool msalex__is_fcntl_locked(int fd) {
    (void)fd;
    return false;
}

void msalex__announce(int fd) {
    (void)fd;
}

void msalex__withdraw(int fd) {
    (void)fd;
}

bool msalex__is_announced(int fd) {
    (void)fd;
    return false;
}

/* The unlock of a file that nobody has locked succeeds, and wakes every waiter for nothing
 * (lf_advlock of kern_lockf.c; VNOP_ADVLOCK of kpi_vfs.c posts NOTE_FUNLOCK). */
void msalex__unlock(int fd, bool has_flock) {
    if (has_flock)
        (void)flock(fd, LOCK_UN);
}

/* On these the local kernel locks, and knows nothing of processes that come by another mount. */
bool msalex__is_lock_local(int fd, dev_t device) {
    struct statfs system;

    (void)device;
    /* We do not trust what we do not know. */
    return fstatfs(fd, &system) != 0 || is_foreign(&system);
}

/* ---- locks on data files ---- */

void msalex__show_life(int fd) {
    (void)flock(fd, LOCK_EX | LOCK_NB);
}

/* Asks by a shared lock, so that two sweepers do not take each other for the writer. */
bool msalex__shows_life(int fd) {
    if (flock(fd, LOCK_SH | LOCK_NB) != 0)
        return errno == EWOULDBLOCK;
    (void)flock(fd, LOCK_UN);
    return false;
}

/* Not by closing, because a child forked just now shares the open file. */
void msalex__end_life(int fd) {
    (void)flock(fd, LOCK_UN);
}

int msalex__try_turn(int directory, int file, int *holder) {
    int code;

    (void)file;
    *holder = openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (*holder < 0)
        return errno;
    if (flock(*holder, LOCK_EX | LOCK_NB) == 0)
        return 0;
    code = errno;
    (void)close(*holder);
    *holder = -1;
    return code;
}

void msalex__end_turn(int file, int holder) {
    (void)file;
    if (holder < 0)
        return;
    (void)flock(holder, LOCK_UN);
    (void)close(holder);
}
