/*
 * One open lock file, Linux and macOS: lock_file_posix.c.  The protocol that this serves stands at
 * the top of lock_posix.c.
 *
 * The registry.  All open lock files of the process are in a list, because a child made by fork
 * must close them: it would otherwise keep the lock of a parent that was killed.  A mutex, "the
 * registry", guards the list, the state of each file, and what lock_gap.c remembers.  Every
 * descriptor of a lock is opened and closed inside it, and a fork waits for it, so that a child
 * finds no descriptor that is not in the list.
 *
 * The life of a lock file.  `state` changes inside the registry only, by msalex__lock_file_move.
 *
 *     OPEN      --publish, try-->   HOLDING
 *     OPEN      --join-->           WAITING     a thread blocks in flock for it
 *     OPEN      --join-->           POLLING     (macOS): there is none
 *     WAITING   --no thread-->      POLLING     none could be had
 *     POLLING   --flock-->          SETTLED
 *     WAITING   --flock-->          TAKING      the thread makes the lock this process's
 *     WAITING   --flock fails-->    SETTLED
 *     TAKING    --taken over-->     SETTLED     `code` tells what came of it
 *     SETTLED   --code is 0-->      HOLDING
 *     WAITING   --leave-->          ABANDONED   the thread blocks on, for nobody
 *     ABANDONED --adopt-->          WAITING     for another wait for the same file
 *     ABANDONED --flock ends-->     RETURNING   the thread gives back what it got
 *     TAKING    --leave-->          RETURNING
 *     HOLDING   --release-->        LINGERING   the thread keeps a nameless file locked for a moment
 *     any       --fork-->           INHERITED   in the child: nothing is open any more
 *
 * Freed by the thread: RETURNING, LINGERING.  Freed by the caller: all others but ABANDONED, by
 * msalex__lock_file_close or msalex__lock_wait_leave.  In a child, what was the thread's is freed
 * when the next lock file is made.
 */
#ifndef MSALEX_LOCK_FILE_POSIX_H
#define MSALEX_LOCK_FILE_POSIX_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "lock_gap.h"
#include "lock_record.h"
#include "msalex.h"

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

/* What functions that return an errno value say besides. */
enum {
    MSALEX__NAMELESS = -1, /* the file has lost its name */
    MSALEX__PEERS = -2,    /* it has become a peer's */
    MSALEX__NOT_YET = -3,  /* another has it; the wait goes on with the next call ... */
    MSALEX__SIGNAL = -4    /* ... and so it does when a signal came */
};

struct msalex__lock_file {
    struct msalex__lock_file *next;
    _Atomic uint32_t state; /* enum msalex__lock_state; on Linux a futex */
    int code;               /* what came of a wait, once SETTLED: see msalex__lock_wait_for */

    int directory; /* every step uses this and the name, and no path; -1: not open */
    struct stat directory_status;
    int fd;        /* -1: not open */
    int events;    /* a kqueue that tells of changes of it (macOS), or -1 */
    dev_t device;
    ino_t inode;
    uint64_t nonce;
    uint64_t view;    /* where a kernel lock reaches, by msalex__lock_view */
    bool remote;      /* inode numbers prove nothing there */
    bool exists;      /* flock does not work there: its existence is the lock */
    bool handed_over; /* it was left to a waiter, when its record told of... */
    unsigned turn;    /* ...so many hand-overs */

    uint64_t key;           /* of lock_gap.c */
    struct msalex__gap gap; /* what its record says */
    struct msalex__gap carried; /* what the file said that we waited for before this one */
    int64_t since;          /* when we began to hold it */
    int64_t until;          /* a gap lasts of which it told us, or 0 */
    unsigned order;         /* in which we were sent away for that gap */

    char *program; /* the holder, for people */
    char name[];
};

/* ---- the registry ---- */

void msalex__registry_enter(void);
void msalex__registry_leave(void);

/* Inside the registry: false, and no change, when the file is not in the state `from`. */
bool msalex__lock_file_move(struct msalex__lock_file *file, enum msalex__lock_state from,
                            enum msalex__lock_state to);

/* The same from outside. */
bool msalex__lock_file_change(struct msalex__lock_file *file, enum msalex__lock_state from,
                              enum msalex__lock_state to);

/* Inside the registry: a file in that state which is the same as `like`, or NULL. */
struct msalex__lock_file *msalex__lock_file_find(enum msalex__lock_state state,
                                                 const struct msalex__lock_file *like);

/* ---- its place ---- */

/* Resolves the path, once for all that a look does: a new lock file in that place, OPEN, whose
 * file is not open yet.  `program` is copied. */
int msalex__lock_file_arrive(const char *path, const char *program, uint64_t key,
                             struct msalex__lock_file **file, msalex_error *error);

/* ---- what is in it, and which name it has ----
 *
 * Functions that return an int return 0 or an errno value. */

/* Opens what has the name.  EINVAL: not a regular file. */
int msalex__lock_file_open(struct msalex__lock_file *file);

/* The start of the content, and how many bytes there are of it. */
int msalex__lock_file_read(const struct msalex__lock_file *file, char bytes[MSALEX__RECORD_SIZE],
                           size_t *size);

/* Has anything the name? */
bool msalex__lock_file_is_name_taken(const struct msalex__lock_file *file);

/* The same as msalex__lock_file_read of whatever has the name now. */
int msalex__lock_file_read_named(const struct msalex__lock_file *file,
                                 char bytes[MSALEX__RECORD_SIZE], size_t *size);

/* Is this content of a file whose flock decides?  Not of a peer's, and not of one of ours whose
 * flock does not reach us.  Remembers the nonce of any of ours. */
bool msalex__lock_file_is_ours(struct msalex__lock_file *file, const char *bytes, size_t size);

/* Is the open file still the one that has the name?  MSALEX__NAMELESS: it is not. */
int msalex__lock_file_check(const struct msalex__lock_file *file);

/* Does the path still lead to the directory of the lock file?  Else others exclude each other
 * elsewhere. */
bool msalex__lock_file_is_at(const struct msalex__lock_file *file, const char *path);

/* Removes the name, which is this file's. */
int msalex__lock_file_unlink(const struct msalex__lock_file *file);

/* ---- how it comes to be ours ---- */

/* Tries the flock.  EWOULDBLOCK: another has it. */
int msalex__lock_file_try(const struct msalex__lock_file *file);

/* Makes the file with its name, already locked and filled: HOLDING.  EEXIST: there is one.  Where
 * that cannot be done in one step, or locks do not exist, it does what it can.  `said`: see
 * msalex__gap_of_new_file. */
int msalex__lock_file_publish(struct msalex__lock_file *file, struct msalex__gap said);

/* It is this process's now: HOLDING. */
void msalex__lock_file_hold(struct msalex__lock_file *file);

/* A file of ours that has lost its name: what does it say to those that waited for it?  Fills
 * `gap`, `until` and `order`. */
void msalex__lock_file_read_farewell(struct msalex__lock_file *file);

/* Makes the file, whose flock this process has, its lock.  MSALEX__PEERS; MSALEX__NAMELESS: `gap`,
 * `until` and `order` are what it said. */
int msalex__lock_file_take_over(struct msalex__lock_file *file);

/* ---- how it goes ---- */

/* Gives the name of a lock that we hold back: leaves the file to a waiter, or removes it.
 * MSALEX__NAMELESS: it was not ours any more.  The locks stay until the file is closed. */
int msalex__lock_file_give_back(struct msalex__lock_file *file);

/* The same for a flock that nobody took over, because its wait was given up, and closes.  The
 * flock alone does not make the file ours: the questions of a take-over come first, and where the
 * answer is not 0 the file is only closed. */
void msalex__lock_file_turn_down(struct msalex__lock_file *file);

/* Withdraws all locks, closes, takes it out of the registry and frees it; NULL is fine. */
void msalex__lock_file_close(struct msalex__lock_file *file);

#endif
