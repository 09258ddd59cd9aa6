/*
 * Tells when a file changes, comes or goes, Linux.  The promise is in msalex.h.  Twins:
 * watch_macos.c, watch_windows.c.
 *
 * How it works.  inotify watches the *directory*: a watch on the file itself stays with the inode,
 * and the next atomic save gives the name to another one.  Events of other names in the directory
 * (lock files, temporary files) do not wake the caller.
 *
 * The directory, too, is watched by its inode, and may be deleted, moved and made again, or be
 * missing at the start.  Events about it, and a look 250 ms later at most, notice that: we ask
 * again for a watch of the same path.  The answer is the same number as long as the path leads to
 * the same directory; if it leads to another one, that one is watched from now on.
 *
 * Each look also compares what stat says with the last time.  That finds what inotify cannot see:
 * changes by other hosts on a network file system, a path that leads elsewhere since a link or a
 * parent directory was replaced, a writer that never closes the file.  Where nothing can be watched
 * (no directory yet, no permission to read it, no inotify instance or watch left) we only look,
 * more often at first (watch.c), and each look tries again to watch.
 *
 * A child made by fork shares its parent's queue of events: the one never sees an event that the
 * other has read.  So only the process that opened a queue reads it.  In another process the first
 * wait closes its copy, opens a queue of its own, and says that the file may have changed.
 */
#define _GNU_SOURCE /* ppoll */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "internal.h"
#include "watch.h"

static const uint32_t OF_DIRECTORY = IN_DELETE_SELF | IN_MOVE_SELF | IN_UNMOUNT | IN_IGNORED;
static const uint32_t LEAVING = IN_DELETE | IN_MOVED_FROM;
/* Not IN_MODIFY: a writer in place has not finished until it closes the file. */
static const uint32_t CHANGING = LEAVING | IN_CREATE | IN_MOVED_TO | IN_CLOSE_WRITE | IN_ATTRIB;

/* What stat says of the file.  If there is none, all is zero except the code. */
struct look {
    int code; /* errno */
    dev_t device;
    ino_t inode;
    off_t size;
    struct timespec changed, modified;
};

struct msalex_watch {
    uint32_t events; /* of the file, which wake */
    pid_t owner;     /* the process that may read from... */
    int inotify;     /* ...this; -1: we did not get one */
    int directory;   /* its number in there; -1: not watched */
    int64_t next_look, blind_since;
    struct look seen;
    char name[NAME_MAX + 1]; /* the file's, in the directory */
    char path[];
};

/* ---- looking ---- */

static struct look look_at(const char *path) {
    struct look found = {0};
    struct stat file;

    if (stat(path, &file) != 0) {
        found.code = errno;
        return found;
    }
    found.device = file.st_dev;
    found.inode = file.st_ino;
    found.size = file.st_size;
    found.changed = file.st_ctim;
    found.modified = file.st_mtim;
    return found;
}

static bool is_same_time(struct timespec one, struct timespec other) {
    return one.tv_sec == other.tv_sec && one.tv_nsec == other.tv_nsec;
}

static bool is_same(const struct look *one, const struct look *other) {
    return one->code == other->code && one->device == other->device && one->inode == other->inode &&
           one->size == other->size && is_same_time(one->changed, other->changed) &&
           is_same_time(one->modified, other->modified);
}

/* ---- the directory ---- */

/* Finds the directory of the file, with the slash, and the file's name in it.  Of a symbolic link
 * it takes the directory to which the link leads, because writers write there.  False: the path is
 * too long. */
static bool locate(msalex_watch *watch, char directory[PATH_MAX]) {
    const char *path = watch->path, *slash;
    char byte, target[PATH_MAX];
    size_t length;

    if (readlink(path, &byte, 1) > 0 && realpath(path, target) != NULL)
        path = target;
    slash = strrchr(path, '/');
    length = slash == NULL ? 0 : (size_t)(slash + 1 - path);
    if (length + sizeof "." > PATH_MAX || strlen(path + length) > NAME_MAX)
        return false;
    memcpy(directory, path, length);
    strcpy(directory + length, length == 0 ? "." : "");
    strcpy(watch->name, path + length);
    return true;
}

/* Watches the directory to which the path leads now.  True: another one was watched before. */
static bool rearm(msalex_watch *watch) {
    const int before = watch->directory;
    char directory[PATH_MAX];

    if (watch->inotify < 0)
        watch->inotify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    watch->directory = -1;
    if (watch->inotify >= 0 && locate(watch, directory))
        watch->directory =
            inotify_add_watch(watch->inotify, directory, watch->events | OF_DIRECTORY | IN_ONLYDIR);
    if (before >= 0 && before != watch->directory)
        (void)inotify_rm_watch(watch->inotify, before);
    return watch->directory != before;
}

static bool look(msalex_watch *watch) {
    bool moved = rearm(watch); /* first: else both miss a change between them */
    struct look now = look_at(watch->path);
    bool differs = !is_same(&now, &watch->seen);

    watch->seen = now;
    watch->next_look = msalex__watch_next_look(watch->directory >= 0, &watch->blind_since);
    return moved || differs;
}

/* ---- events ---- */

static bool concerns_file(const msalex_watch *watch, const struct inotify_event *event) {
    if ((event->mask & IN_Q_OVERFLOW) != 0)
        return true; /* events were lost, maybe one of the file */
    if (event->wd != watch->directory)
        return false; /* of a directory to which the path led before */
    return (event->mask & OF_DIRECTORY) != 0 ||
           (event->len > 0 && strcmp(event->name, watch->name) == 0);
}

/* Reads all events; true when one concerns the file. */
static bool read_events(const msalex_watch *watch) {
    _Alignas(struct inotify_event) char buffer[4096];
    bool found = false;
    ssize_t size;

    while ((size = read(watch->inotify, buffer, sizeof buffer)) > 0) {
        for (char *at = buffer; at < buffer + size;) {
            const struct inotify_event *event = (const struct inotify_event *)(const void *)at;
            found = concerns_file(watch, event) || found;
            at += sizeof *event + event->len;
        }
    }
    return found;
}

static void leave_queue_to_parent(msalex_watch *watch) {
    if (watch->owner == getpid())
        return;
    if (watch->inotify >= 0)
        (void)close(watch->inotify);
    watch->inotify = watch->directory = -1;
    watch->owner = getpid();
    watch->next_look = 0;
}

static bool may_have_changed(msalex_watch *watch) {
    bool told = watch->inotify >= 0 && read_events(watch);

    /* After an event, too, so that a later look does not find the same change once more. */
    if (told || msalex__now_ms() >= watch->next_look)
        told = look(watch) || told;
    return told;
}

/* ---- the interface ---- */

static int new_watch(const char *path, uint32_t events, msalex_watch **watch, msalex_error *error) {
    const size_t size = strlen(path) + 1;

    if ((*watch = calloc(1, sizeof **watch + size)) == NULL)
        return msalex__fail_errno(error, ENOMEM, "malloc");
    memcpy((*watch)->path, path, size);
    (*watch)->events = events;
    (*watch)->owner = getpid();
    (*watch)->inotify = (*watch)->directory = -1;
    (void)look(*watch);
    return msalex__ok(error);
}

int msalex_watch_new(const char *path, msalex_watch **watch, msalex_error *error) {
    return new_watch(path, CHANGING, watch, error);
}

int msalex__watch_new_leaving(const char *path, msalex_watch **watch, msalex_error *error) {
    return new_watch(path, LEAVING, watch, error);
}

int msalex_watch_wait(msalex_watch *watch, int64_t timeout_ms, msalex_error *error) {
    const int64_t deadline = msalex__deadline(timeout_ms);

    leave_queue_to_parent(watch);
    while (!may_have_changed(watch)) {
        struct pollfd readable = {.fd = watch->inotify, .events = POLLIN}; /* -1 is ignored */
        const int64_t now = msalex__now_ms();
        int64_t left = (deadline < watch->next_look ? deadline : watch->next_look) - now;
        struct timespec pause;

        if (now >= deadline)
            return msalex__fail(error, MSALEX_TIMEOUT, ETIMEDOUT, "ppoll", "nothing changed");
        left = left > 0 ? left : 0;
        pause = (struct timespec){.tv_sec = (time_t)(left / 1000),
                                  .tv_nsec = (long)(left % 1000) * 1000000};
        if (ppoll(&readable, 1, &pause, NULL) < 0)
            return msalex__fail_errno(error, errno, "ppoll");
    }
    return msalex__ok(error);
}

void msalex_watch_free(msalex_watch *watch) {
    if (watch == NULL)
        return;
    if (watch->inotify >= 0)
        (void)close(watch->inotify);
    free(watch);
}
