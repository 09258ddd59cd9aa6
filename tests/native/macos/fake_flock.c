/*
 * flock and the unlocks that a kqueue tells of, as on a Mac: see fake_kernel.h.  The locks
 * themselves are Linux's.  These rules are xnu's (xnu-11417):
 *
 *     LOCK_UN posts NOTE_FUNLOCK to all watchers of the file, also when the open file had no lock:
 *         lf_advlock answers 0 then (kern_lockf.c), and VNOP_ADVLOCK posts after each success
 *         (kpi_vfs.c).
 *     The last close of an open file that was ever locked posts it as well, also when the process
 *         dies (vn_closefile, vfs_vnops.c; nothing takes FWASLOCKED away).
 *     The unlock of a fcntl lock posts nothing (VNOP_ADVLOCK asks for F_FLOCK or F_OFD_LOCK).
 *     All kinds of locks are in one list, so a flock and a fcntl lock exclude each other
 *         (lf_getblock, kern_lockf.c), even in one process.
 *
 * Each LOCK_UN and each lock is counted in memory that processes share: those made by fork, and all
 * processes for which the variable FAKE_UNLOCKS names the same file.  A lock that ends without
 * LOCK_UN (by a close, a death, or in a peer that is no program of ours) shows in /proc/locks: it
 * has gone.  If another process has a flock again by then, that one's end tells.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "fake_kernel.h"

#undef close
#undef fcntl
#undef flock
#undef open
int close(int fd);
int fcntl(int fd, int command, ...);
int flock(int fd, int operation);
int open(const char *path, int flags, ...);

enum {
    FILES = 4096, /* that can be told apart; others only cause an event for nothing */
    READS = 5
};
struct shared {
    struct {
        _Atomic uint32_t unlocks, locks;
    } files[FILES];
    _Atomic uint32_t idle; /* unlocks of what was not locked */
};
static struct shared *shared;

__attribute__((constructor)) static void share(void) {
    const char *path = getenv("FAKE_UNLOCKS");
    const int flags = path == NULL ? MAP_SHARED | MAP_ANONYMOUS : MAP_SHARED;
    int fd = path == NULL ? -1 : open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);

    if (path != NULL && (fd < 0 || ftruncate(fd, sizeof *shared) != 0))
        abort();
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, flags, fd, 0);
    if (shared == MAP_FAILED)
        abort();
    if (fd >= 0)
        (void)close(fd);
}

static size_t number_of(const struct stat *file) {
    return (size_t)(((uint64_t)file->st_ino * 31 + (uint64_t)file->st_dev) % FILES);
}

/* Is there a flock in the file (proc_locks(5), or proc_pid_fdinfo(5)), on that inode if it is not
 * NULL? */
static bool lists_flock(const char *path, const struct stat *file) {
    char line[256], wanted[64] = "";
    FILE *locks = fopen(path, "re");
    bool found = false;

    if (file != NULL)
        (void)snprintf(wanted, sizeof wanted, " %02x:%02x:%llu ", major(file->st_dev),
                       minor(file->st_dev), (unsigned long long)file->st_ino);
    while (locks != NULL && !found && fgets(line, sizeof line, locks) != NULL)
        found = strstr(line, " FLOCK ") != NULL && strstr(line, "->") == NULL &&
                strstr(line, wanted) != NULL;
    if (locks != NULL)
        (void)fclose(locks);
    return found;
}

static bool has_flock(int fd) {
    char path[64];
    (void)snprintf(path, sizeof path, "/proc/self/fdinfo/%d", fd);
    return lists_flock(path, NULL);
}

/* While others lock and unlock, a read of that file may miss a lock, but hardly several times. */
static bool is_flocked(const struct stat *file) {
    bool found = false;

    for (int reads = 0; !found && reads < READS; reads++)
        found = lists_flock("/proc/locks", file);
    return found;
}

struct fake_unlocks fake_unlocks_of(const struct stat *file) {
    const size_t number = number_of(file);
    return (struct fake_unlocks){.unlocks = atomic_load(&shared->files[number].unlocks),
                                 .locks = atomic_load(&shared->files[number].locks),
                                 .is_locked = is_flocked(file)};
}

unsigned fake_idle_unlocks(void) {
    return atomic_load(&shared->idle);
}

/* Does a fcntl lock of any process exclude this flock?  (An OFD lock of Linux would, too.) */
static bool is_excluded_by_fcntl(int fd, int operation) {
    struct flock range = {.l_type = (operation & LOCK_EX) != 0 ? F_WRLCK : F_RDLCK,
                          .l_whence = SEEK_SET};
    return fcntl(fd, F_OFD_GETLK, &range) == 0 && range.l_type != F_UNLCK;
}

static int unlock(int fd) {
    const bool was_locked = has_flock(fd);
    struct stat file;

    if (syscall(SYS_fstat, fd, &file) != 0 || flock(fd, LOCK_UN) != 0)
        return -1;
    (void)atomic_fetch_add(&shared->files[number_of(&file)].unlocks, 1);
    fake_note(was_locked ? 'U' : 'u');
    if (!was_locked)
        (void)atomic_fetch_add(&shared->idle, 1);
    return 0;
}

/* Counted before it can end. */
static int lock(int fd, int operation) {
    struct stat file;

    if (syscall(SYS_fstat, fd, &file) != 0 || flock(fd, operation) != 0)
        return -1;
    (void)atomic_fetch_add(&shared->files[number_of(&file)].locks, 1);
    return 0;
}

/* Between the two questions about fcntl locks such a lock may come, and it stays. */
int fake_flock(int fd, int operation) {
    if ((operation & LOCK_UN) != 0)
        return unlock(fd);
    if ((operation & LOCK_NB) == 0)
        abort(); /* the library never blocks in it on macOS */
    fake_note('L');
    if (fake_kernel.trying != NULL)
        fake_kernel.trying(fd);
    if (fake_fails("flock"))
        return -1;
    if (!is_excluded_by_fcntl(fd, operation)) {
        if (lock(fd, operation) != 0)
            return -1;
        if (!is_excluded_by_fcntl(fd, operation))
            return 0;
        (void)flock(fd, LOCK_UN);
    }
    errno = EWOULDBLOCK;
    return -1;
}
