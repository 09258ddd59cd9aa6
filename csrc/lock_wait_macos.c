/*
 * Waiting for a lock file of ours, macOS.  The promise is in lock_wait_posix.h, the states are in
 * lock_registry_posix.h.  Twin: lock_wait_linux.c.
 *
 * flock knows no deadline.  So a waiter tries, asks a kqueue to tell of an unlock (NOTE_FUNLOCK), a
 * removal or a rename, tries *again*, because an unlock before the kqueue was there wakes nobody,
 * and then waits, at most SLICE_MS at a time.  A wake-up only means "look again": some come for
 * nothing, and one unlock wakes all waiters.  So there is no queue, and no order.
 *
 * fcntl has a wait with a deadline (F_OFD_SETLKWTIMEOUT, since macOS 15 in the SDK), which we do
 * not use.  It would bring no order: the kernel wakes all waiters of such a lock (F_WAKE1_SAFE of
 * kern_lockf.c is for flock alone).  It would also sleep on when the file loses its name, which is
 * how every holder gives back, and when a peer replaces the file.
 */
#define _DARWIN_C_SOURCE /* kqueue */
#include "lock_wait_posix.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/event.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "internal.h"
#include "lock_hold_posix.h"

enum {
    SLICE_MS = 250, /* the longest wait between two tries: a kqueue may miss a change */
    BLIND_MS = 20,  /* the same without a kqueue */
    ELECTION_MS = 5 /* how long a waiter leaves the next file to another one */
};

/* Makes a kqueue that tells of the file.  Where that fails, `events` stays -1. */
static void watch(struct msalex__lock_file *file) {
    struct kevent change;
    int queue;

    msalex__registry_enter(); /* as everything that opens a descriptor */
    if ((queue = kqueue()) >= 0) {
        (void)fcntl(queue, F_SETFD, FD_CLOEXEC);
        EV_SET(&change, (uintptr_t)file->fd, EVFILT_VNODE, EV_ADD | EV_CLEAR,
               NOTE_FUNLOCK | NOTE_DELETE | NOTE_RENAME | NOTE_REVOKE, 0, NULL);
        if (kevent(queue, &change, 1, NULL, 0, NULL) == 0)
            file->events = queue;
        else
            (void)close(queue);
    }
    msalex__registry_leave();
}

/* Waits for a change, a slice at most: 0 or EINTR. */
static int wait_a_slice(const struct msalex__lock_file *file, int64_t left) {
    const int64_t usual = file->events >= 0 ? SLICE_MS : BLIND_MS;
    const int64_t longest = file->left != 0 ? ELECTION_MS : usual;
    const int64_t slice = left >= 0 && left < longest ? left : longest;
    const struct timespec timeout = {.tv_nsec = (long)slice * 1000000};
    struct kevent change;

    if (file->events >= 0) {
        if (kevent(file->events, NULL, 0, &change, 1, &timeout) >= 0)
            return 0;
        if (errno == EINTR)
            return EINTR;
    }
    return nanosleep(&timeout, NULL) == 0 ? 0 : EINTR;
}

/* The file has lost its name, and all waiters wake up.  If each of them made the next file, all but
 * one would have to remove theirs again.  So the flock of the nameless file elects one of them, and
 * the others wait until that one closes it; but not for long, because the holder of a file that
 * somebody else removed goes on.  When the name is taken, or the farewell tells of a gap, nobody
 * has to be elected. */
static int elect(struct msalex__lock_file *file, int64_t deadline) {
    int code;

    if (file->left == 0)
        file->left = msalex__now_ms();
    code = msalex__lock_file_is_name_taken(file) ? EEXIST : msalex__lock_file_try(file);
    if (code == EWOULDBLOCK && msalex__now_ms() - file->left < ELECTION_MS &&
        msalex__time_left(deadline) != 0)
        return MSALEX__NOT_YET;
    msalex__lock_file_read_farewell(file);
    return code == 0 && file->until == 0 ? MSALEX__ELECTED : MSALEX__NAMELESS;
}

/* One try.  (On a network file system a signal may interrupt it.) */
static int attempt(struct msalex__lock_file *file, int64_t deadline) {
    int code = msalex__lock_file_check(file);

    if (code == MSALEX__NAMELESS)
        return elect(file, deadline);
    if (code != 0)
        return code;
    if ((code = msalex__lock_file_try(file)) == 0)
        return msalex__lock_file_take_over(file);
    if (code == EWOULDBLOCK)
        return MSALEX__NOT_YET;
    return code == EINTR ? MSALEX__SIGNAL : code;
}

bool msalex__lock_wait_join(struct msalex__lock_file **file) {
    (void)msalex__lock_file_change(*file, MSALEX__OPEN, MSALEX__POLLING);
    return true;
}

int msalex__lock_wait_for(struct msalex__lock_file *file, int64_t timeout_ms) {
    const int64_t deadline = msalex__deadline(timeout_ms);
    int code;

    while ((code = attempt(file, deadline)) == MSALEX__NOT_YET) {
        int64_t left;
        if (file->events < 0) {
            watch(file);
            if (file->events >= 0)
                continue; /* again: see above */
        }
        if ((left = msalex__time_left(deadline)) == 0)
            return MSALEX__NOT_YET;
        if (wait_a_slice(file, left) != 0)
            return MSALEX__SIGNAL;
    }
    if (code != MSALEX__SIGNAL)
        (void)msalex__lock_file_change(file, MSALEX__POLLING, MSALEX__SETTLED);
    return code;
}

void msalex__lock_wait_leave(struct msalex__lock_file *file) {
    msalex__lock_file_close(file);
}

/* There is no thread that could do that. */
bool msalex__lock_wait_linger(struct msalex__lock_file *file) {
    (void)file;
    return false;
}
