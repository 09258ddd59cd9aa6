/*
 * Tells when a file changes, comes or goes, macOS.  The promise is in msalex.h.  Twins:
 * watch_linux.c, watch_windows.c.
 *
 * How it works.  A kqueue watches the *file*, which tells of writes in place, and its *directory*,
 * which tells that some name in it came or went, but not which one.  So an event of the directory
 * only makes us look: we compare what stat says of the file, and where the path leads, with the
 * last time.
 *
 * Both are watched as open files, not by their names, and every atomic save puts another file under
 * the name.  So each look *first* opens both anew, and then compares: a change before the new watch
 * shows in the comparison, a change after it is an event.
 *
 * A look every 250 ms finds what a kqueue cannot see: changes by other hosts on a network file
 * system, a path that leads elsewhere since a parent directory was replaced.  Where nothing can be
 * watched (no directory yet, no permission, no descriptor left) we only look, more often at first
 * (watch.c).
 *
 * A child made by fork does not inherit a kqueue; its number is another file's there.
 */
#define _DARWIN_C_SOURCE /* kqueue, O_EVTONLY */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/event.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "internal.h"
#include "watch.h"

/* What stat says of the file and of its directory.  If there is none, all is zero except the
 * code. */
struct look {
    int code, directory_code; /* errno */
    dev_t device, directory_device;
    ino_t inode, directory_inode;
    off_t size;
    struct timespec changed, modified;
};

/* What the events of a kqueue tell. */
enum told { NOTHING, LOOK_AGAIN, THE_FILE };

struct msalex_watch {
    pid_t owner;         /* the process that has... */
    int queue;           /* ...this; -1: we did not get one */
    int file, directory; /* watched by it, or -1 */
    int64_t next_look, blind_since;
    struct look seen;
    char *directory_path; /* behind the path */
    char path[];
};

/* ---- looking ---- */

static struct look look_at(const msalex_watch *watch) {
    struct look found = {0};
    struct stat file;

    if (stat(watch->directory_path, &file) == 0) {
        found.directory_device = file.st_dev;
        found.directory_inode = file.st_ino;
    } else {
        found.directory_code = errno;
    }
    if (stat(watch->path, &file) == 0) {
        found.device = file.st_dev;
        found.inode = file.st_ino;
        found.size = file.st_size;
        found.changed = file.st_ctimespec;
        found.modified = file.st_mtimespec;
    } else {
        found.code = errno;
    }
    return found;
}

static bool is_same_time(struct timespec one, struct timespec other) {
    return one.tv_sec == other.tv_sec && one.tv_nsec == other.tv_nsec;
}

static bool is_same(const struct look *one, const struct look *other) {
    return one->code == other->code && one->directory_code == other->directory_code &&
           one->device == other->device && one->directory_device == other->directory_device &&
           one->inode == other->inode && one->directory_inode == other->directory_inode &&
           one->size == other->size && is_same_time(one->changed, other->changed) &&
           is_same_time(one->modified, other->modified);
}

/* ---- watching ---- */

static void close_and_forget(int *fd) {
    if (*fd >= 0)
        (void)close(*fd);
    *fd = -1;
}

/* Opens the file that is at the path now, and makes the kqueue tell of it. */
static int open_watched(const msalex_watch *watch, const char *path, uint32_t events) {
    struct kevent change;
    int fd;

    if (watch->queue < 0 || (fd = open(path, O_EVTONLY | O_NONBLOCK | O_CLOEXEC)) < 0)
        return -1;
    EV_SET(&change, (uintptr_t)fd, EVFILT_VNODE, EV_ADD | EV_CLEAR, events, 0, NULL);
    if (kevent(watch->queue, &change, 1, NULL, 0, NULL) != 0)
        close_and_forget(&fd);
    return fd;
}

static void rearm(msalex_watch *watch) {
    const uint32_t leaving = NOTE_DELETE | NOTE_RENAME | NOTE_REVOKE;

    if (watch->queue < 0 && (watch->queue = kqueue()) >= 0)
        (void)fcntl(watch->queue, F_SETFD, FD_CLOEXEC);
    close_and_forget(&watch->file);
    close_and_forget(&watch->directory);
    watch->directory = open_watched(watch, watch->directory_path, leaving | NOTE_WRITE);
    watch->file = open_watched(watch, watch->path,
                               leaving | NOTE_WRITE | NOTE_EXTEND | NOTE_ATTRIB | NOTE_LINK);
}

static bool look(msalex_watch *watch) {
    struct look now;
    bool differs;

    rearm(watch);
    now = look_at(watch);
    differs = !is_same(&now, &watch->seen);
    watch->seen = now;
    watch->next_look = msalex__watch_next_look(watch->directory >= 0, &watch->blind_since);
    return differs;
}

/* Waits for events.  NOTHING: the time is over, or (with errno EINTR) a signal came. */
static enum told receive(const msalex_watch *watch, int64_t timeout_ms) {
    const struct timespec timeout = {.tv_sec = (time_t)(timeout_ms / 1000),
                                     .tv_nsec = (long)(timeout_ms % 1000) * 1000000};
    struct kevent events[2];
    enum told told = NOTHING;
    int count = -1;

    errno = 0;
    if (watch->queue >= 0)
        count = kevent(watch->queue, NULL, 0, events, 2, &timeout);
    if (count < 0 && errno != EINTR) /* there is no kqueue, or no memory for it */
        (void)nanosleep(&timeout, NULL);
    for (int i = 0; i < count && told != THE_FILE; i++)
        told = events[i].ident == (uintptr_t)watch->file ? THE_FILE : LOOK_AGAIN;
    return told;
}

static void leave_queue_to_parent(msalex_watch *watch) {
    if (watch->owner == getpid())
        return;
    watch->queue = -1;
    watch->owner = getpid();
    watch->next_look = 0;
}

/* ---- the interface ---- */

int msalex_watch_new(const char *path, msalex_watch **watch, msalex_error *error) {
    const size_t size = strlen(path) + 1;
    const char *slash = strrchr(path, '/');
    const size_t length = slash == NULL ? 0 : (size_t)(slash + 1 - path);

    if ((*watch = calloc(1, sizeof **watch + size + length + sizeof ".")) == NULL)
        return msalex__fail_errno(error, ENOMEM, "malloc");
    memcpy((*watch)->path, path, size);
    (*watch)->directory_path = (*watch)->path + size;
    memcpy((*watch)->directory_path, path, length);
    strcpy((*watch)->directory_path + length, length == 0 ? "." : "");
    (*watch)->owner = getpid();
    (*watch)->queue = (*watch)->file = (*watch)->directory = -1;
    (void)look(*watch);
    return msalex__ok(error);
}

int msalex__watch_new_leaving(const char *path, msalex_watch **watch, msalex_error *error) {
    return msalex_watch_new(path, watch, error);
}

int msalex_watch_wait(msalex_watch *watch, int64_t timeout_ms, msalex_error *error) {
    const int64_t deadline = msalex__deadline(timeout_ms);
    enum told told;

    leave_queue_to_parent(watch);
    told = receive(watch, 0);
    for (;;) {
        int64_t now = msalex__now_ms(), left;
        /* After an event of the file, too, so that a later look does not find it once more. */
        if ((told != NOTHING || now >= watch->next_look) && (look(watch) || told == THE_FILE))
            return msalex__ok(error);
        if (now >= deadline)
            return msalex__fail(error, MSALEX_TIMEOUT, ETIMEDOUT, "kevent", "nothing changed");
        left = (deadline < watch->next_look ? deadline : watch->next_look) - now;
        told = receive(watch, left > 0 ? left : 0);
        if (told == NOTHING && errno == EINTR)
            return msalex__fail_errno(error, EINTR, "kevent");
    }
}

void msalex_watch_free(msalex_watch *watch) {
    if (watch == NULL)
        return;
    leave_queue_to_parent(watch);
    close_and_forget(&watch->file);
    close_and_forget(&watch->directory);
    close_and_forget(&watch->queue);
    free(watch);
}
