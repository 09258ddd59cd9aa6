/* One open lock file, Linux and macOS.  The promises are in lock_file_posix.h. */
#define _GNU_SOURCE /* O_NOFOLLOW */
#define _DARWIN_C_SOURCE
#include "lock_file_posix.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "internal.h"
#include "os_posix.h"
#include "process_posix.h"
#include "place_posix.h"

enum { CALLS_MAX = 100 /* of one kind: signals interrupt them on some network file systems */ };

/* ---- its place ---- */

/* Inside the registry: a new entry, which takes the directory of `place` over. */
static struct msalex__lock_file *new_file(struct msalex__place *place, const char *program) {
    const size_t name_size = strlen(place->name) + 1, program_size = strlen(program) + 1;
    struct msalex__lock_file *file = calloc(1, sizeof *file + name_size + program_size);

    if (file == NULL)
        return NULL;
    file->fd = file->events = file->directory = -1;
    if (fstat(place->directory, &file->directory_status) != 0) {
        free(file);
        return NULL;
    }
    file->directory = place->directory;
    place->directory = -1;
    memcpy(file->name, place->name, name_size);
    file->program = file->name + name_size;
    memcpy(file->program, program, program_size);
    msalex__registry_add(file);
    return file;
}

int msalex__lock_file_arrive(const char *path, const char *program, uint64_t key,
                             struct msalex__lock_file **file, msalex_error *error) {
    struct msalex__place place;
    int status;

    msalex__registry_start();
    msalex__registry_enter();
    if ((status = msalex__place_find_name(path, &place, error)) == MSALEX_OK) {
        if ((*file = new_file(&place, program)) == NULL)
            status = msalex__fail_errno(error, errno, "open directory");
        else
            (*file)->key = key;
        msalex__place_leave(&place);
    }
    msalex__registry_leave();
    return status;
}

static bool is_same(const struct stat *one, const struct stat *other) {
    return one->st_dev == other->st_dev && one->st_ino == other->st_ino;
}

/* ---- what is in it, and which name it has ---- */

/* A number for this boot of this machine, or, where that is hidden (gVisor, a sandbox of macOS),
 * for this process. */
static uint64_t boot(void) {
    static _Atomic uint64_t known;
    uint64_t found = atomic_load(&known), number;
    char id[64];
    size_t size;

    if (found != 0)
        return found;
    size = msalex__read_boot_id(id, sizeof id);
    number = size > 0 ? msalex__hash(id, size) : msalex__nonce();
    /* Another thread may have been faster, with another nonce. */
    return atomic_compare_exchange_strong(&known, &found, number) ? number : found;
}

uint64_t msalex__lock_view(int fd, dev_t device) {
    uint64_t view;

    if (!msalex__is_lock_local(fd, device))
        return 0;
    view = boot() ^ (uint64_t)device * 0x9e3779b97f4a7c15; /* odd: another device, another view */
    return view != 0 ? view : 1;
}

int msalex__lock_file_identify(struct msalex__lock_file *file, struct stat *opened) {
    bool remote;
    uint64_t view;

    /* FUSE may ask by the name, which can be gone; NFS calls that a stale file. */
    if (fstat(file->fd, opened) != 0)
        return errno == ENOENT ? ESTALE : errno;
    if (!S_ISREG(opened->st_mode))
        return EINVAL;
    remote = msalex__is_remote(file->fd);
    view = remote ? msalex__lock_view(file->fd, opened->st_dev) : 0;
    msalex__registry_enter(); /* a child made by fork reads this */
    file->device = opened->st_dev;
    file->inode = opened->st_ino;
    file->remote = remote;
    file->view = view;
    msalex__registry_leave();
    return 0;
}

void msalex__lock_file_close_fd(struct msalex__lock_file *file) {
    msalex__registry_enter();
    if (file->fd >= 0)
        (void)close(file->fd);
    file->fd = -1;
    file->inode = 0;
    file->has_flock = false;
    msalex__registry_leave();
}

int msalex__lock_file_open(struct msalex__lock_file *file) {
    struct stat opened;
    int code = 0;

    msalex__registry_enter();
    /* O_NONBLOCK: the open of a fifo must not hang. */
    file->fd = openat(file->directory, file->name, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    code = file->fd < 0 ? errno : 0;
    msalex__registry_leave();
    if (code == 0 && (code = msalex__lock_file_identify(file, &opened)) != 0) {
        msalex__lock_file_close_fd(file);
        if (code == EACCES || code == EPERM)
            code = EIO; /* from the open these mean another user's file */
    }
    return code;
}

static int read_start(int fd, char bytes[MSALEX__RECORD_SIZE], size_t *size) {
    ssize_t count;
    int calls = 0;

    do
        count = pread(fd, bytes, MSALEX__RECORD_SIZE, 0);
    while (count < 0 && errno == EINTR && ++calls < CALLS_MAX);
    *size = count < 0 ? 0 : (size_t)count;
    return count < 0 ? errno : 0;
}

int msalex__lock_file_read(const struct msalex__lock_file *file, char bytes[MSALEX__RECORD_SIZE],
                           size_t *size) {
    return read_start(file->fd, bytes, size);
}

/* Inside the registry, as everything that opens a descriptor. */
static int read_in(int directory, const char *name, char bytes[MSALEX__RECORD_SIZE], size_t *size) {
    int calls = 0, code, fd;

    do
        fd = openat(directory, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    while (fd < 0 && errno == EINTR && ++calls < CALLS_MAX);
    if (fd < 0)
        return errno;
    code = read_start(fd, bytes, size);
    (void)close(fd);
    return code;
}

bool msalex__lock_file_is_name_taken(const struct msalex__lock_file *file) {
    struct stat found;
    return fstatat(file->directory, file->name, &found, AT_SYMLINK_NOFOLLOW) == 0;
}

int msalex__lock_file_read_named(const struct msalex__lock_file *file,
                                 char bytes[MSALEX__RECORD_SIZE], size_t *size) {
    int code;

    msalex__registry_enter();
    code = read_in(file->directory, file->name, bytes, size);
    msalex__registry_leave();
    return code;
}

bool msalex__lock_file_is_ours(struct msalex__lock_file *file, const char *bytes, size_t size) {
    struct msalex__record record;

    if (!msalex__record_parse(bytes, size, &record))
        return false;
    file->nonce = record.nonce;
    return record.state != MSALEX__EXISTS && record.view == file->view;
}

bool msalex__lock_file_has_record(const struct msalex__lock_file *file,
                                  struct msalex__record *record) {
    char bytes[MSALEX__RECORD_SIZE];
    size_t size;

    return msalex__lock_file_read(file, bytes, &size) == 0 &&
           msalex__record_parse(bytes, size, record);
}

/* Which file is it, by its record alone? */
enum whose { THIS, ANOTHER, UNKNOWN };

static enum whose whose(const struct msalex__lock_file *file, const char *bytes, size_t size) {
    struct msalex__record record;

    if (!msalex__record_parse(bytes, size, &record))
        return UNKNOWN;
    return record.nonce == file->nonce ? THIS : ANOTHER;
}

/* Inside the registry.  For file systems where inode numbers prove nothing: FUSE file systems may
 * change them from one look to the next, or give the number of a removed file to the next file with
 * its name.  There the nonce tells.  A peer of the same mount may have written over it, but then
 * our own descriptor shows that, too.  We read that one first, because a read by name may replace
 * what the system remembers of both. */
static int check_record(const struct msalex__lock_file *file, int directory, bool same_inode) {
    char bytes[MSALEX__RECORD_SIZE];
    enum whose open, named;
    size_t size;
    int code;

    if ((code = read_start(file->fd, bytes, &size)) != 0)
        return code;
    open = whose(file, bytes, size);
    code = read_in(directory, file->name, bytes, &size);
    if (code == ENOENT || (msalex__is_read_locked(code) && !same_inode))
        return MSALEX__NAMELESS;
    if (code != 0)
        return msalex__is_read_locked(code) ? 0 : code;
    named = whose(file, bytes, size);
    if (named == THIS || (same_inode && named == UNKNOWN && open == UNKNOWN))
        return 0;
    return MSALEX__NAMELESS;
}

int msalex__lock_file_check(const struct msalex__lock_file *file) {
    struct stat named;
    int calls = 0, code;
    bool same;

    if (!msalex__lock_file_is_open(file))
        return MSALEX__NAMELESS;
    do
        code = fstatat(file->directory, file->name, &named, AT_SYMLINK_NOFOLLOW) == 0 ? 0 : errno;
    while (code == EINTR && ++calls < CALLS_MAX);
    if (code != 0)
        return code == ENOENT ? MSALEX__NAMELESS : code;
    same = named.st_dev == file->device && named.st_ino == file->inode;
    if (same && !file->remote)
        return 0;
    msalex__registry_enter();
    code = check_record(file, file->directory, same);
    msalex__registry_leave();
    return code;
}

bool msalex__lock_file_is_at(const struct msalex__lock_file *file, const char *path) {
    struct msalex__place place;
    msalex_error ignored;
    struct stat found;
    bool same = false;
    int status;

    msalex__registry_enter();
    do
        status = msalex__place_find_name(path, &place, &ignored);
    while (status == MSALEX_INTERRUPTED);
    if (status == MSALEX_OK) {
        same = fstat(place.directory, &found) == 0 &&
               (is_same(&found, &file->directory_status) ||
                check_record(file, place.directory, false) == 0);
        msalex__place_leave(&place);
    }
    msalex__registry_leave();
    return same;
}

int msalex__lock_file_unlink(const struct msalex__lock_file *file) {
    int calls = 0, code;

    do
        code = unlinkat(file->directory, file->name, 0) == 0 ? 0 : errno;
    while (code == EINTR && ++calls < CALLS_MAX);
    return code;
}

int msalex__lock_file_try(struct msalex__lock_file *file) {
    if (flock(file->fd, LOCK_EX | LOCK_NB) != 0)
        return errno;
    file->has_flock = true;
    return 0;
}

void msalex__lock_file_unlock(struct msalex__lock_file *file) {
    msalex__unlock(file->fd, file->has_flock);
    file->has_flock = false;
}
