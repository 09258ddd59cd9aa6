/*
 * Waiting for a lock file of ours, Linux.  The promise is in lock_wait_posix.h, the states are in
 * lock_registry_posix.h.  Twin: lock_wait_macos.c.
 *
 * flock knows no deadline.  So a thread, the helper, blocks in it while the caller waits on a
 * futex, which is the state.  A caller that times out leaves its thread blocked in flock.  The
 * thread gives the lock back as soon as it is granted, unless another wait in this process for the
 * same file adopts the thread first.  (To cancel a thread needs libgcc_s, which slim images lack;
 * to interrupt it needs a signal, and signals are the program's own.)
 */
#define _GNU_SOURCE /* syscall */
#include "lock_wait_posix.h"

#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "internal.h"
#include "lock_hold_posix.h"
#include "os_posix.h"
#include "thread_posix.h"

enum {
    THREAD_STACK = 128 * 1024, /* bytes; the thread only makes a few system calls */
    IDLE_MS = 1000,            /* how long a thread waits for its next file */
    LINGER_MS = 1,             /* Go locks a file that it has opened within less */
    POLL_MS = 5                /* between two tries, where no thread can be started */
};

/* A thread that blocks in flock for others, for one file after another: making a new one each time
 * takes longer than handing over. */
struct helper {
    struct msalex__lock_file *file;
    _Atomic uint32_t busy; /* a futex: 0 while it waits for its next file */
};

static struct helper *idle; /* one at most, the others end; the registry guards it */
static pthread_once_t fork_handler = PTHREAD_ONCE_INIT;

/* The child has only the thread that forked. */
static void forget_helper(void) {
    idle = NULL;
}

static void install_fork_handler(void) {
    (void)pthread_atfork(NULL, NULL, forget_helper);
}

/* ---- futexes ---- */

/* Waits while *word is `value`, but not for ever: 0, EAGAIN, ETIMEDOUT or EINTR. */
static int futex_wait(_Atomic uint32_t *word, uint32_t value, int64_t timeout_ms) {
    const struct timespec timeout = {.tv_sec = (time_t)(timeout_ms / 1000),
                                     .tv_nsec = (long)(timeout_ms % 1000) * 1000000};
    return syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, &timeout, NULL, 0) == 0 ? 0 : errno;
}

static void futex_wake(_Atomic uint32_t *word) {
    (void)syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

/* ---- the thread ---- */

/* Moves the file, and wakes the caller, which must enter the registry before it can free the
 * file. */
static bool tell(struct msalex__lock_file *file, enum msalex__lock_state from,
                 enum msalex__lock_state to, int code) {
    bool moved;

    msalex__registry_enter();
    if ((moved = msalex__lock_file_move(file, from, to))) {
        file->code = code;
        futex_wake(&file->state);
    }
    msalex__registry_leave();
    return moved;
}

/* Nobody waits any more: the file is the thread's. */
static bool keep(struct msalex__lock_file *file) {
    return msalex__lock_file_change(file, MSALEX__ABANDONED, MSALEX__RETURNING);
}

static void wait_in_flock(struct msalex__lock_file *file) {
    int code;

    do
        code = flock(file->fd, LOCK_EX) == 0 ? 0 : errno;
    while (code == EINTR);

    msalex__registry_enter(); /* another wait may just adopt the file */
    file->has_flock = code == 0;
    msalex__registry_leave();
    if (code != 0) {
        while (!tell(file, MSALEX__WAITING, MSALEX__SETTLED, code)) {
            if (keep(file)) { /* else another wait has just adopted it */
                msalex__lock_file_close(file);
                return;
            }
        }
        return;
    }
    /* The caller needs some time to wake up.  Meanwhile this thread does the rest. */
    while (!tell(file, MSALEX__WAITING, MSALEX__TAKING, 0)) {
        if (keep(file)) {
            msalex__lock_file_turn_down(file);
            return;
        }
    }
    code = msalex__lock_file_take_over(file);
    if (tell(file, MSALEX__TAKING, MSALEX__SETTLED, code))
        return;
    if (code == 0) /* the caller has left meanwhile: RETURNING */
        (void)msalex__lock_file_give_back(file);
    msalex__lock_file_close(file);
}

static void linger(struct msalex__lock_file *file) {
    const struct timespec moment = {.tv_nsec = LINGER_MS * 1000000L};
    (void)nanosleep(&moment, NULL);
    msalex__lock_file_close(file);
}

/* Offers itself for another file.  False: another helper offers itself, or no file came. */
static bool next_file(struct helper *self) {
    msalex__registry_enter();
    if (idle != NULL) {
        msalex__registry_leave();
        return false;
    }
    idle = self;
    atomic_store(&self->busy, 0);
    msalex__registry_leave();

    while (atomic_load(&self->busy) == 0 && futex_wait(&self->busy, 0, IDLE_MS) != ETIMEDOUT)
        ;
    msalex__registry_enter(); /* files are given to it inside */
    if (idle == self)
        idle = NULL;
    msalex__registry_leave();
    return atomic_load(&self->busy) != 0;
}

static void *help(void *file) {
    struct helper self = {.file = file};
    do {
        if (atomic_load(&self.file->state) == MSALEX__LINGERING)
            linger(self.file);
        else
            wait_in_flock(self.file);
    } while (next_file(&self));
    return NULL;
}

/* Gives the file to the idle helper and moves its state.  False: there is no such helper, or the
 * file has another state; it is still the caller's. */
static bool use_idle_helper(struct msalex__lock_file *file, enum msalex__lock_state from,
                            enum msalex__lock_state to) {
    struct helper *helper = NULL;

    msalex__registry_enter();
    if (idle != NULL && msalex__lock_file_move(file, from, to)) {
        helper = idle;
        idle = NULL;
        helper->file = file;
        atomic_store(&helper->busy, 1);
        futex_wake(&helper->busy);
    }
    msalex__registry_leave();
    return helper != NULL;
}

/* ---- the interface ---- */

/* Finds a wait for the same file that was given up: its thread has a place in the queue. */
static struct msalex__lock_file *adopt(struct msalex__lock_file *file) {
    struct msalex__lock_file *adopted;

    msalex__registry_enter();
    adopted = msalex__lock_file_find(MSALEX__ABANDONED, file);
    if (adopted != NULL) {
        const struct msalex__lock_file before = *adopted;
        adopted->carried = file->carried;
        adopted->directory = file->directory; /* where the path leads now */
        adopted->directory_status = file->directory_status;
        file->directory = before.directory;
        file->directory_status = before.directory_status;
        (void)msalex__lock_file_move(adopted, MSALEX__ABANDONED, MSALEX__WAITING);
    }
    msalex__registry_leave();
    return adopted;
}

bool msalex__lock_wait_join(struct msalex__lock_file **file) {
    struct msalex__lock_file *const adopted = adopt(*file);

    (void)pthread_once(&fork_handler, install_fork_handler);
    if (adopted != NULL) {
        msalex__lock_file_close(*file);
        *file = adopted;
    }
    /* NFS makes a lock on all bytes out of a flock, and our announcement would stand in its way. */
    if (!(*file)->remote)
        msalex__announce((*file)->fd);
    if (adopted != NULL)
        return true;
    /* A file that lingers without a name is no file to wait for. */
    if (msalex__lock_file_check(*file) == MSALEX__NAMELESS) {
        msalex__lock_file_close(*file);
        *file = NULL;
        return false;
    }
    if (use_idle_helper(*file, MSALEX__OPEN, MSALEX__WAITING))
        return true;
    (void)msalex__lock_file_change(*file, MSALEX__OPEN, MSALEX__WAITING);
    if (msalex__start_thread(help, *file, THREAD_STACK) != 0)
        (void)msalex__lock_file_change(*file, MSALEX__WAITING, MSALEX__POLLING);
    return true;
}

/* The wait without a thread. */
static int poll_flock(struct msalex__lock_file *file, int64_t deadline) {
    const struct timespec pause = {.tv_nsec = POLL_MS * 1000000L};
    int code;

    while ((code = msalex__lock_file_try(file)) == EWOULDBLOCK) {
        if (msalex__time_left(deadline) == 0)
            return MSALEX__NOT_YET;
        if (nanosleep(&pause, NULL) != 0)
            return MSALEX__SIGNAL;
    }
    if (code == EINTR)
        return MSALEX__SIGNAL;
    if (code == 0)
        code = msalex__lock_file_take_over(file);
    (void)tell(file, MSALEX__POLLING, MSALEX__SETTLED, code);
    return code;
}

int msalex__lock_wait_for(struct msalex__lock_file *file, int64_t timeout_ms) {
    const int64_t deadline = msalex__deadline(timeout_ms);
    uint32_t state;

    if (atomic_load(&file->state) == MSALEX__POLLING)
        return poll_flock(file, deadline);
    while ((state = atomic_load(&file->state)) != MSALEX__SETTLED) {
        const int64_t left = msalex__time_left(deadline);
        if (left == 0)
            return MSALEX__NOT_YET;
        if (futex_wait(&file->state, state, left < 0 || left > IDLE_MS ? IDLE_MS : left) == EINTR)
            return MSALEX__SIGNAL;
    }
    msalex__registry_enter(); /* the thread wrote `code` inside */
    msalex__registry_leave();
    return file->code;
}

/* Leaves the file to its thread, if the thread still waits for the lock or takes it now. */
static bool leave_to_thread(struct msalex__lock_file *file) {
    bool left;

    msalex__registry_enter();
    left = msalex__lock_file_move(file, MSALEX__WAITING, MSALEX__ABANDONED) ||
           msalex__lock_file_move(file, MSALEX__TAKING, MSALEX__RETURNING);
    msalex__registry_leave();
    return left;
}

void msalex__lock_wait_leave(struct msalex__lock_file *file) {
    if (file == NULL)
        return;
    /* First, so that a holder that releases now unlinks the file, and leaves it to nobody. */
    if (file->fd >= 0)
        msalex__withdraw(file->fd);
    if (leave_to_thread(file))
        return;
    /* A holder that saw the announcement may have handed over to us. */
    if (file->fd >= 0 && msalex__lock_file_try(file) == 0)
        msalex__lock_file_turn_down(file);
    else
        msalex__lock_file_close(file);
}

bool msalex__lock_wait_linger(struct msalex__lock_file *file) {
    return use_idle_helper(file, MSALEX__HOLDING, MSALEX__LINGERING);
}
