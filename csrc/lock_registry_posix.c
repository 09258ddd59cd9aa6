/* The open lock files of this process, Linux and macOS.  The promises are in
 * lock_registry_posix.h. */
#define _GNU_SOURCE /* fstat, pthread_atfork */
#define _DARWIN_C_SOURCE
#include "lock_registry_posix.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct msalex__lock_file *registry;
static struct msalex__lock_file *orphans; /* in a child: files of threads of the parent */
static pthread_once_t fork_handlers = PTHREAD_ONCE_INIT;

void msalex__registry_enter(void) {
    (void)pthread_mutex_lock(&mutex);
}

void msalex__registry_leave(void) {
    (void)pthread_mutex_unlock(&mutex);
}

/* Such a file is the thread's: no caller has it any more. */
static bool is_threads(enum msalex__lock_state state) {
    return state == MSALEX__ABANDONED || state == MSALEX__RETURNING || state == MSALEX__LINGERING;
}

/* Parent and child share the open files, so closing here takes nothing away from the parent.  A
 * file that was opened a moment ago has no inode number yet, and is ours.  A kqueue is not
 * inherited, and its number may soon be another file's. */
static void after_fork_in_child(void) {
    struct msalex__lock_file *file = registry, *next;

    registry = NULL;
    for (; file != NULL; file = next) {
        const enum msalex__lock_state state = (enum msalex__lock_state)atomic_load(&file->state);
        struct msalex__lock_file **list = is_threads(state) ? &orphans : &registry;
        const bool is_new = file->inode == 0;
        if (file->fd >= 0 && (is_new || msalex__lock_file_is_open(file)))
            (void)close(file->fd);
        if (file->directory >= 0 && (is_new || msalex__lock_file_is_directory_open(file)))
            (void)close(file->directory);
        file->fd = file->directory = file->events = -1;
        (void)msalex__lock_file_move(file, state, MSALEX__INHERITED);
        next = file->next;
        file->next = *list;
        *list = file;
    }
    msalex__registry_leave();
}

static void install_fork_handlers(void) {
    (void)pthread_atfork(msalex__registry_enter, msalex__registry_leave, after_fork_in_child);
}

void msalex__registry_start(void) {
    (void)pthread_once(&fork_handlers, install_fork_handlers);
}

static void free_orphans(void) {
    while (orphans != NULL) {
        struct msalex__lock_file *file = orphans;
        orphans = file->next;
        free(file);
    }
}

void msalex__registry_add(struct msalex__lock_file *file) {
    free_orphans();
    file->next = registry;
    registry = file;
}

void msalex__registry_forget(struct msalex__lock_file *file) {
    struct msalex__lock_file **link = &registry;
    while (*link != file)
        link = &(*link)->next;
    *link = file->next;
}

bool msalex__lock_file_move(struct msalex__lock_file *file, enum msalex__lock_state from,
                            enum msalex__lock_state to) {
    if (atomic_load(&file->state) != (uint32_t)from)
        return false;
    atomic_store(&file->state, (uint32_t)to);
    return true;
}

bool msalex__lock_file_change(struct msalex__lock_file *file, enum msalex__lock_state from,
                              enum msalex__lock_state to) {
    bool moved;

    msalex__registry_enter();
    moved = msalex__lock_file_move(file, from, to);
    msalex__registry_leave();
    return moved;
}

struct msalex__lock_file *msalex__lock_file_find(enum msalex__lock_state state,
                                                 const struct msalex__lock_file *like) {
    for (struct msalex__lock_file *file = registry; file != NULL; file = file->next) {
        if (atomic_load(&file->state) == (uint32_t)state && file->device == like->device &&
            file->inode == like->inode && strcmp(file->name, like->name) == 0)
            return file;
    }
    return NULL;
}

/* When a file was removed elsewhere, FUSE says that there is none, or tells of the next file with
 * its name. */
static bool is_still(int fd, dev_t device, ino_t inode, bool remote) {
    struct stat opened;

    if (fd < 0)
        return false;
    if (fstat(fd, &opened) != 0)
        return errno != EBADF;
    return opened.st_dev == device && (remote || opened.st_ino == inode);
}

bool msalex__lock_file_is_open(const struct msalex__lock_file *file) {
    return is_still(file->fd, file->device, file->inode, file->remote);
}

bool msalex__lock_file_is_directory_open(const struct msalex__lock_file *file) {
    return is_still(file->directory, file->directory_status.st_dev, file->directory_status.st_ino,
                    file->remote);
}
