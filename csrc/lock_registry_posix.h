/*
 * The open lock files of this process, Linux and macOS: lock_registry_posix.c.
 *
 * The registry.  All open lock files of the process are in a list, because a child made by fork
 * must close them: it would otherwise keep the lock of a parent that was killed.  A mutex, "the
 * registry" (msalex__registry_enter, lock_gap.h), guards the list, the state of each file, and what
 * lock_gap.c remembers.  Every descriptor of a lock is opened and closed inside it, and a fork
 * waits for it, so that a child finds no descriptor that is not in the list.
 *
 * The life of a lock file.  `state` changes inside the registry only, by msalex__lock_file_move.
 *
 *     OPEN      --publish, try-->   HOLDING
 *     OPEN      --join-->           WAITING     a thread blocks in flock for it
 *     OPEN      --join-->           POLLING     (macOS): there is no thread
 *     WAITING   --no thread-->      POLLING     no thread could be started
 *     POLLING   --flock ends-->     SETTLED     `code` says with what result
 *     WAITING   --flock-->          TAKING      the thread makes the lock this process's
 *     WAITING   --flock fails-->    SETTLED     `code` says why
 *     TAKING    --taken over-->     SETTLED     `code` says with what result
 *     SETTLED   --code is 0-->      HOLDING
 *     WAITING   --leave-->          ABANDONED   the thread blocks on, and nobody waits for it
 *     ABANDONED --adopt-->          WAITING     another wait for the same file goes on with it
 *     ABANDONED --flock ends-->     RETURNING   the thread gives back what it got
 *     TAKING    --leave-->          RETURNING   the same
 *     HOLDING   --release-->        LINGERING   the thread keeps the nameless file locked a moment
 *     any       --fork-->           INHERITED   in the child: nothing is open any more
 *
 * The thread frees a file that is RETURNING or LINGERING.  The caller frees all others but an
 * ABANDONED one, by msalex__lock_file_close or msalex__lock_wait_leave.  In a child made by fork
 * there is no such thread: its files are freed there when the next lock file is made.
 */
#ifndef MSALEX_LOCK_REGISTRY_POSIX_H
#define MSALEX_LOCK_REGISTRY_POSIX_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "lock_gap.h"

enum msalex__lock_state {
    MSALEX__OPEN,
    MSALEX__WAITING,
    MSALEX__POLLING,
    MSALEX__TAKING,
    MSALEX__SETTLED,
    MSALEX__HOLDING,
    MSALEX__ABANDONED,
    MSALEX__RETURNING,
    MSALEX__LINGERING,
    MSALEX__INHERITED
};

struct msalex__lock_file {
    struct msalex__lock_file *next;
    _Atomic uint32_t state; /* enum msalex__lock_state; on Linux a futex */
    int code;               /* the result of a wait, once SETTLED: see msalex__lock_wait_for */

    int directory; /* every step uses this and the name, and no path; -1: not open */
    struct stat directory_status;
    int fd;     /* -1: not open */
    int events; /* a kqueue that tells of changes of the file (macOS), or -1 */
    dev_t device;
    ino_t inode;
    uint64_t nonce;
    uint64_t view;    /* how far a kernel lock reaches: msalex__lock_view */
    bool has_flock;   /* our open file has the flock; a thread sets it inside the registry */
    bool remote;      /* inode numbers prove nothing on this file system */
    bool exists;      /* flock does not work there: the file's existence is the lock */
    bool handed_over; /* we left it to a waiter, when its record said... */
    unsigned turn;    /* ...this number of hand-overs */

    uint64_t key;               /* of lock_gap.c */
    struct msalex__gap gap;     /* what its record says */
    struct msalex__gap carried; /* what the file said for which we waited before this one */
    int64_t since;              /* when this process began to hold it */
    int64_t left;               /* when a waiter saw that it has lost its name, or 0 (macOS) */
    int64_t until;              /* the end of a gap that its record told of, or 0 */
    unsigned order;             /* our place among the waiters that it sent away for that gap */

    char *program; /* the holder's name, for people */
    char name[];
};

/* To be called before the first file is added: from then on a fork waits for the registry. */
void msalex__registry_start(void);

/* Inside the registry: puts a file into the list, or takes it out. */
void msalex__registry_add(struct msalex__lock_file *file);
void msalex__registry_forget(struct msalex__lock_file *file);

/* Inside the registry: false, and no change, when the file is not in the state `from`. */
bool msalex__lock_file_move(struct msalex__lock_file *file, enum msalex__lock_state from,
                            enum msalex__lock_state to);

/* The same from outside. */
bool msalex__lock_file_change(struct msalex__lock_file *file, enum msalex__lock_state from,
                              enum msalex__lock_state to);

/* Inside the registry: a file in that state which is the same as `like`, or NULL. */
struct msalex__lock_file *msalex__lock_file_find(enum msalex__lock_state state,
                                                 const struct msalex__lock_file *like);

/* Are the descriptors of the file and of its directory still ours?  A program may close all
 * descriptors that it does not know, and the next file that it opens gets the same number. */
bool msalex__lock_file_is_open(const struct msalex__lock_file *file);
bool msalex__lock_file_is_directory_open(const struct msalex__lock_file *file);

#endif
