/*
 * Waiting for a flock with a deadline, and the registry of open lock files.  The reasons are
 * at the top of lock_linux.c.
 */
#define _GNU_SOURCE /* F_OFD_SETLK, syscall */
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "internal.h"
#include "lock_linux.h"
#include "os_posix.h"

enum {
    THREAD_STACK = 128 * 1024, /* bytes; it makes a few system calls only */
    IDLE_MS = 1000,            /* how long a thread waits for its next file */
    YIELDS = 3,                /* after handing over: see msalex__lock_file_close */
    POLL_MS = 5                /* between two tries, where there is no thread to be had */
};

/* A thread that blocks in flock for others, for one file after another: making a new one each
 * time takes longer than handing over. */
struct helper {
    struct msalex__lock_file *file;
    _Atomic uint32_t busy; /* a futex: 0 while it waits for its next file */
};

/* Guards the list and the idle helper, and `queue` and `code` of every file in the list. */
static pthread_mutex_t registry_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct msalex__lock_file *registry;
static struct helper *idle; /* one at most; the others end */
static pthread_once_t fork_handlers = PTHREAD_ONCE_INIT;

/* ---- the registry ---- */

static void before_fork(void) {
    (void)pthread_mutex_lock(&registry_mutex);
}

static void after_fork_in_parent(void) {
    (void)pthread_mutex_unlock(&registry_mutex);
}

/* The open files are shared with the parent: closing takes nothing away from it. */
static void after_fork_in_child(void) {
    for (struct msalex__lock_file *file = registry; file != NULL; file = file->next) {
        if (file->fd >= 0)
            (void)close(file->fd);
        if (file->directory >= 0)
            (void)close(file->directory);
        file->fd = file->directory = -1;
        file->queue = QUEUE_NONE; /* its thread stayed in the parent */
    }
    idle = NULL;
    (void)pthread_mutex_unlock(&registry_mutex);
}

static void install_fork_handlers(void) {
    (void)pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}

struct msalex__lock_file *msalex__lock_file_new(struct msalex__place *place, const char *program) {
    size_t size = strlen(place->name) + 1;
    struct msalex__lock_file *file = calloc(1, sizeof *file + size);

    if (file == NULL)
        return NULL;
    file->fd = -1;
    file->program = program;
    memcpy(file->name, place->name, size);
    (void)pthread_once(&fork_handlers, install_fork_handlers);
    (void)pthread_mutex_lock(&registry_mutex);
    file->directory = place->directory;
    place->directory = -1;
    file->next = registry;
    registry = file;
    (void)pthread_mutex_unlock(&registry_mutex);
    return file;
}

static void forget(struct msalex__lock_file *file) {
    struct msalex__lock_file **link = &registry;
    while (*link != file)
        link = &(*link)->next;
    *link = file->next;
}

void msalex__lock_file_close(struct msalex__lock_file *file) {
    int fd, directory;

    if (file == NULL)
        return;
    (void)pthread_mutex_lock(&registry_mutex);
    forget(file);
    fd = file->fd;
    directory = file->directory;
    (void)pthread_mutex_unlock(&registry_mutex);
    if (fd >= 0) {
        /* Explicitly, because a child forked at the wrong moment may share the open file, and
         * because the kernel reports IN_CLOSE before it drops a closed file's locks. */
        (void)msalex__ofd_lock(fd, F_UNLCK, 0, 0);
        (void)flock(fd, LOCK_UN);
        /* Who comes back at once would take the processor from those it has just woken. */
        for (int i = 0; file->handed_over && i < YIELDS; i++)
            (void)sched_yield();
        (void)close(fd);
    }
    if (directory >= 0)
        (void)close(directory);
    free(file);
}

/* ---- the queue ---- */

/* Waits while *word is `value`, but not for ever: 0, EAGAIN, ETIMEDOUT or EINTR. */
static int futex_wait(_Atomic uint32_t *word, uint32_t value, int64_t timeout_ms) {
    const struct timespec timeout = {.tv_sec = (time_t)(timeout_ms / 1000),
                                     .tv_nsec = (long)(timeout_ms % 1000) * 1000000};
    return syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, &timeout, NULL, 0) == 0 ? 0 : errno;
}

static void futex_set(_Atomic uint32_t *word, uint32_t value) {
    atomic_store(word, value);
    (void)syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

/* Tells the caller, under the mutex, without which it cannot free the file.  False: it has left. */
static bool report(struct msalex__lock_file *file, enum msalex__progress progress) {
    bool wanted;

    (void)pthread_mutex_lock(&registry_mutex);
    wanted = file->queue != QUEUE_ABANDONED;
    file->queue = QUEUE_GRANTED; /* nobody can adopt it from here on */
    if (wanted)
        futex_set(&file->progress, progress);
    (void)pthread_mutex_unlock(&registry_mutex);
    return wanted;
}

static void wait_in_flock(struct msalex__lock_file *file) {
    do
        file->code = flock(file->fd, LOCK_EX) == 0 ? 0 : errno;
    while (file->code == EINTR);

    /* The caller wakes up, which takes its time, while this thread does the rest. */
    if (report(file, MSALEX__UNBLOCKED)) {
        if (file->code == 0)
            file->code = msalex__lock_file_take_over(file);
        (void)report(file, MSALEX__DONE);
    } else if (file->code == 0) {
        msalex__lock_file_turn_down(file);
    } else {
        msalex__lock_file_close(file);
    }
}

/* Offers itself for another file.  False: another helper does, or nobody came. */
static bool next_file(struct helper *self) {
    (void)pthread_mutex_lock(&registry_mutex);
    if (idle != NULL) {
        (void)pthread_mutex_unlock(&registry_mutex);
        return false;
    }
    idle = self;
    atomic_store(&self->busy, 0);
    (void)pthread_mutex_unlock(&registry_mutex);

    while (atomic_load(&self->busy) == 0 && futex_wait(&self->busy, 0, IDLE_MS) != ETIMEDOUT)
        ;
    (void)pthread_mutex_lock(&registry_mutex); /* who gives it a file holds this */
    if (idle == self)
        idle = NULL;
    (void)pthread_mutex_unlock(&registry_mutex);
    return atomic_load(&self->busy) != 0;
}

static void *help(void *file) {
    struct helper self = {.file = file};
    do
        wait_in_flock(self.file);
    while (next_file(&self));
    return NULL;
}

static bool use_idle_helper(struct msalex__lock_file *file) {
    struct helper *helper;

    (void)pthread_mutex_lock(&registry_mutex);
    if ((helper = idle) != NULL) {
        idle = NULL;
        helper->file = file;
        futex_set(&helper->busy, 1);
    }
    (void)pthread_mutex_unlock(&registry_mutex);
    return helper != NULL;
}

static bool start_thread(struct msalex__lock_file *file) {
    pthread_attr_t attributes;
    pthread_t thread;
    sigset_t all, before;
    bool started;

    if (pthread_attr_init(&attributes) != 0)
        return false;
    (void)pthread_attr_setstacksize(&attributes, THREAD_STACK);
    (void)pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    /* The thread inherits the mask: the program's signals must go to its own threads. */
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    started = pthread_create(&thread, &attributes, help, file) == 0;
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    (void)pthread_attr_destroy(&attributes);
    return started;
}

static struct msalex__lock_file *find_abandoned(const struct msalex__lock_file *like) {
    for (struct msalex__lock_file *file = registry; file != NULL; file = file->next) {
        if (file->queue == QUEUE_ABANDONED && file->device == like->device &&
            file->inode == like->inode && strcmp(file->name, like->name) == 0)
            return file;
    }
    return NULL;
}

void msalex__queue_join(struct msalex__lock_file **file) {
    struct msalex__lock_file *adopted;

    (void)pthread_mutex_lock(&registry_mutex);
    if ((adopted = find_abandoned(*file)) != NULL) {
        const int directory = adopted->directory;
        adopted->queue = QUEUE_WAITING;
        adopted->program = (*file)->program;
        adopted->directory = (*file)->directory; /* where the path leads now */
        (*file)->directory = directory;
    } else {
        (*file)->queue = QUEUE_WAITING;
    }
    (void)pthread_mutex_unlock(&registry_mutex);

    if (adopted != NULL) {
        msalex__lock_file_close(*file);
        *file = adopted;
    }
    /* NFS makes a flock out of a lock on all bytes, which our announcement would hold up. */
    if (!msalex__is_remote((*file)->fd))
        (void)msalex__ofd_lock((*file)->fd, F_RDLCK, MSALEX__ANNOUNCE_AT, 1);
    if (adopted == NULL && !use_idle_helper(*file) && !start_thread(*file)) {
        (*file)->queue = QUEUE_NONE;
        (*file)->polling = true;
    }
}

static int poll_flock(const struct msalex__lock_file *file, int64_t timeout_ms) {
    const struct timespec pause = {.tv_nsec = POLL_MS * 1000000L};
    const int64_t deadline = msalex__now_ms() + timeout_ms;

    while (flock(file->fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK)
            return errno;
        if (timeout_ms >= 0 && msalex__now_ms() >= deadline)
            return ETIMEDOUT;
        if (nanosleep(&pause, NULL) != 0)
            return EINTR;
    }
    return 0;
}

/* The thread has the lock in its hands; it never takes long, and the file is its until then. */
static void wait_until_done(struct msalex__lock_file *file) {
    while (atomic_load(&file->progress) == MSALEX__UNBLOCKED)
        (void)futex_wait(&file->progress, MSALEX__UNBLOCKED, IDLE_MS);
}

int msalex__queue_wait(struct msalex__lock_file *file, int64_t timeout_ms) {
    const int64_t deadline = msalex__now_ms() + timeout_ms;
    int code;

    if (file->polling)
        return (code = poll_flock(file, timeout_ms)) != 0 ? code
                                                          : msalex__lock_file_take_over(file);
    while (atomic_load(&file->progress) == MSALEX__BLOCKED) {
        int64_t left = timeout_ms < 0 ? IDLE_MS : deadline - msalex__now_ms();
        if (left <= 0)
            return ETIMEDOUT;
        if (futex_wait(&file->progress, MSALEX__BLOCKED, left) == EINTR)
            return EINTR;
    }
    wait_until_done(file);
    return file->code;
}

void msalex__queue_leave(struct msalex__lock_file *file) {
    bool waiting, granted;

    if (file == NULL)
        return;
    /* First, so that a holder who releases now unlinks rather than hands over to nobody. */
    (void)msalex__ofd_lock(file->fd, F_UNLCK, MSALEX__ANNOUNCE_AT, 1);
    (void)pthread_mutex_lock(&registry_mutex);
    granted = file->queue == QUEUE_GRANTED;
    waiting = file->queue == QUEUE_WAITING;
    if (waiting)
        file->queue = QUEUE_ABANDONED; /* now it is the thread's */
    (void)pthread_mutex_unlock(&registry_mutex);
    if (waiting)
        return;
    if (granted)
        wait_until_done(file);
    /* A holder that saw the announcement may have handed over to us. */
    if (file->fd >= 0 && flock(file->fd, LOCK_EX | LOCK_NB) == 0)
        msalex__lock_file_turn_down(file);
    else
        msalex__lock_file_close(file);
}
