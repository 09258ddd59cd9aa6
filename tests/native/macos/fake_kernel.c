/* See fake_kernel.h. */
#include "fake_kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/event.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#undef close
int close(int fd);

enum { WATCHES_MAX = 256, STEP_MS = 2 };

struct fake_kernel fake_kernel;

void fake_note(char what) {
    size_t length;

    if (fake_kernel.wait == NULL)
        return; /* live, with threads */
    length = strlen(fake_kernel.log);
    if (length + 1 < sizeof fake_kernel.log)
        fake_kernel.log[length] = what;
}

bool fake_fails(const char *name) {
    if (fake_kernel.before != NULL)
        fake_kernel.before(name);
    if (fake_kernel.failing == NULL || strcmp(fake_kernel.failing, name) != 0)
        return false;
    if (fake_kernel.after-- > 0)
        return false;
    errno = fake_kernel.code;
    if (!fake_kernel.always)
        fake_kernel.failing = NULL;
    return true;
}

/* ---- kqueue ---- */

/* One file in one kqueue, with its state at the last event. */
struct watch {
    int queue; /* 0: an unused place; descriptor 0 is never a kqueue here */
    int fd;
    uint32_t wanted;
    struct stat before;
    struct fake_unlocks unlocks;
    bool is_doubted;
    char name[4096];
};
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct watch watches[WATCHES_MAX];

static void before_fork(void) {
    (void)pthread_mutex_lock(&mutex);
}

static void after_fork(void) {
    (void)pthread_mutex_unlock(&mutex);
}

/* First, so that the library's own handlers may close files in the child. */
__attribute__((constructor)) static void survive_forks(void) {
    (void)pthread_atfork(before_fork, after_fork, after_fork);
}

int kqueue(void) {
    fake_note('O');
    return fake_fails("kqueue") ? -1 : eventfd(0, 0); /* Darwin's is not close-on-exec either */
}

/* A kqueue forgets a file that is closed. */
int fake_close(int fd) {
    (void)pthread_mutex_lock(&mutex);
    for (size_t i = 0; i < WATCHES_MAX; i++) {
        if (watches[i].queue == fd || watches[i].fd == fd)
            watches[i].queue = 0;
    }
    (void)pthread_mutex_unlock(&mutex);
    return close(fd);
}

/* The path of a file; "... (deleted)" if it has no name any more. */
static void name_of(int fd, char name[4096]) {
    char link[64];
    ssize_t size;

    (void)snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    size = readlink(link, name, 4095);
    name[size < 0 ? 0 : size] = '\0';
}

static int add(int queue, const struct kevent *change) {
    int result = -1;

    if (change->filter != EVFILT_VNODE || change->flags != (EV_ADD | EV_CLEAR))
        abort();
    fake_note('A');
    if (fake_kernel.wait != NULL)
        fake_kernel.added = change->fflags;
    if (fake_kernel.adding != NULL)
        fake_kernel.adding((int)change->ident);
    if (fake_fails("kevent"))
        return -1;
    errno = ENOMEM;
    (void)pthread_mutex_lock(&mutex);
    for (size_t i = 0; i < WATCHES_MAX && result != 0; i++) {
        if (watches[i].queue != 0)
            continue;
        watches[i] =
            (struct watch){.queue = queue, .fd = (int)change->ident, .wanted = change->fflags};
        result = fstat(watches[i].fd, &watches[i].before);
        if (result == 0 && (change->fflags & NOTE_FUNLOCK) != 0)
            watches[i].unlocks = fake_unlocks_of(&watches[i].before);
        name_of(watches[i].fd, watches[i].name);
    }
    (void)pthread_mutex_unlock(&mutex);
    return result;
}

/* Was the file unlocked since the last call?  See fake_flock.c.  A lock that has gone without an
 * unlock must be seen to have gone twice. */
static bool was_unlocked(struct watch *watch) {
    const struct fake_unlocks now = fake_unlocks_of(&watch->before), before = watch->unlocks;
    const bool has_gone = (before.is_locked || now.locks != before.locks) && !now.is_locked;

    if (now.unlocks == before.unlocks && has_gone && !watch->is_doubted) {
        watch->is_doubted = true;
        return false;
    }
    watch->is_doubted = false;
    watch->unlocks = now;
    return now.unlocks != before.unlocks || has_gone;
}

/* The events of a file since the last call. */
static uint32_t changes_of(struct watch *watch) {
    struct stat now;
    char name[4096];
    uint32_t found = 0;

    if (fstat(watch->fd, &now) != 0)
        return 0;
    name_of(watch->fd, name);
    if (now.st_nlink == 0 && watch->before.st_nlink > 0)
        found |= NOTE_DELETE;
    else if (now.st_nlink > 0 && strcmp(name, watch->name) != 0)
        found |= NOTE_RENAME;
    if (memcmp(&now.st_mtim, &watch->before.st_mtim, sizeof now.st_mtim) != 0)
        found |= NOTE_WRITE | NOTE_ATTRIB;
    if (memcmp(&now.st_ctim, &watch->before.st_ctim, sizeof now.st_ctim) != 0)
        found |= NOTE_ATTRIB;
    watch->before = now;
    if ((watch->wanted & NOTE_FUNLOCK) != 0 && was_unlocked(watch))
        found |= NOTE_FUNLOCK;
    (void)snprintf(watch->name, sizeof watch->name, "%s", name);
    return found & watch->wanted;
}

static int look(int queue, struct kevent *event) {
    int found = 0;

    (void)pthread_mutex_lock(&mutex);
    for (size_t i = 0; i < WATCHES_MAX && found == 0; i++) {
        uint32_t changes = watches[i].queue == queue ? changes_of(&watches[i]) : 0;
        if (changes != 0) {
            *event = (struct kevent){.ident = (uintptr_t)watches[i].fd, .fflags = changes};
            found = 1;
        }
    }
    (void)pthread_mutex_unlock(&mutex);
    return found;
}

/* A signal ends it whenever it comes, because all signals are blocked except while it sleeps. */
static int wait_live(int queue, struct kevent *events, int64_t left) {
    sigset_t all, before;
    int result = 0;

    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    while (result == 0 && (result = look(queue, events)) == 0 && left > 0) {
        const struct timespec step = {.tv_nsec = (left < STEP_MS ? left : STEP_MS) * 1000000};
        result = ppoll(NULL, 0, &step, &before);
        left -= STEP_MS;
    }
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    return result;
}

int kevent(int queue, const struct kevent *changes, int change_count, struct kevent *events,
           int event_count, const struct timespec *timeout) {
    int64_t left;

    for (int i = 0; i < change_count; i++) {
        if (add(queue, &changes[i]) != 0)
            return -1;
    }
    if (event_count == 0)
        return 0;
    if (fcntl(queue, F_GETFD) != FD_CLOEXEC)
        abort(); /* a child would get it */
    fake_note('W');
    left = timeout->tv_sec * 1000 + timeout->tv_nsec / 1000000;
    if (fake_fails("kevent"))
        return -1;
    if (fake_kernel.wait != NULL) {
        const int count = fake_kernel.wait(queue, left);
        events[0] = (struct kevent){.ident = (uintptr_t)fake_kernel.told};
        return count;
    }
    return wait_live(queue, events, left);
}
