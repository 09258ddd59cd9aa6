/* Lock files of other libraries, Linux and macOS.  The promises are in lock_peer_posix.h.  Twin:
 * lock_peer_windows.c. */
#define _GNU_SOURCE /* O_NOFOLLOW */
#define _DARWIN_C_SOURCE
#include "lock_peer_posix.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "lock.h"
#include "lock_record.h"
#include "os_posix.h"
#include "process_posix.h"

/* By what the peer wrote, and when. */
static bool seems_gone(const struct msalex__lock_file *file, const char *bytes, size_t size) {
    const int64_t pid = msalex__record_pid(bytes, size);
    struct stat written;
    time_t age;

    if (fstat(file->fd, &written) != 0)
        return false;
    age = time(NULL) - written.st_mtime;
    if (pid <= 0)
        return age >= STALE_WITHOUT_PID_S;
    switch (msalex__life_of(pid, written.st_mtime)) {
    case MSALEX__ALIVE:
        return false;
    case MSALEX__DEAD: /* on a remote file system it may be the pid of another host */
        return !file->remote || age >= STALE_ELSEWHERE_S;
    default:
        return age >= STALE_ELSEWHERE_S;
    }
}

static bool is_flocked(struct msalex__lock_file *file) {
    const int code = msalex__lock_file_try(file);

    if (code != 0)
        return !msalex__is_unsupported(code);
    msalex__lock_file_unlock(file);
    return false;
}

bool msalex__lock_peer_is_gone(struct msalex__lock_file *file, const char *bytes, size_t size) {
    /* The flock comes last, because our try can make the peer's own try fail. */
    return seems_gone(file, bytes, size) && !msalex__is_fcntl_locked(file->fd) && !is_flocked(file);
}

/* Asks once more, while the flock, or the guard, keeps others from doing the same. */
static int remove_now(const struct msalex__lock_file *file) {
    char bytes[MSALEX__RECORD_SIZE];
    size_t size;
    int code;

    if ((code = msalex__lock_file_read(file, bytes, &size)) != 0)
        return code;
    if (!seems_gone(file, bytes, size))
        return MSALEX__PEERS;
    code = msalex__lock_file_check(file);
    if (code == 0)
        code = msalex__lock_file_unlink(file);
    return code == MSALEX__NAMELESS || code == ENOENT ? 0 : code;
}

/* Where there is no flock, another file, the guard, keeps the others away. */
static int remove_guarded(const struct msalex__lock_file *file) {
    char guard[PATH_MAX + sizeof ".stale"];
    int code, fd;

    (void)snprintf(guard, sizeof guard, "%s.stale", file->name);
    msalex__registry_enter();
    if ((fd = openat(file->directory, guard, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
                     0600)) >= 0)
        (void)close(fd);
    code = fd < 0 ? errno : 0;
    msalex__registry_leave();
    if (code != 0)
        return code;
    code = remove_now(file);
    (void)unlinkat(file->directory, guard, 0);
    return code;
}

int msalex__lock_peer_remove(struct msalex__lock_file *file) {
    const int code = msalex__lock_file_try(file);

    if (code == 0)
        return remove_now(file);
    return msalex__is_unsupported(code) ? remove_guarded(file) : code;
}
