/*
 * What the pieces of the Linux lock share: lock_linux.c (the protocol), lock_file_linux.c (one
 * lock file), lock_queue_linux.c (waiting with a deadline, and fork), lock_peer_linux.c (other
 * libraries' files) and watch_linux.c (waiting for those to go away).
 */
#ifndef MSALEX_LOCK_LINUX_H
#define MSALEX_LOCK_LINUX_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "lock_record.h"
#include "msalex.h"
#include "os_linux.h"
#include "place_posix.h"

/* ---- lock_queue_linux.c ---- */

/* How far the thread that blocks in flock for somebody has come. */
enum msalex__progress { MSALEX__BLOCKED, MSALEX__UNBLOCKED, MSALEX__DONE };

/* One open lock file, and its place: the directory in which it has its name.  All of them are in
 * a registry, because a child made by fork must close them: it would otherwise keep the lock of a
 * parent that was killed. */
struct msalex__lock_file {
    struct msalex__lock_file *next;
    int fd;        /* -1: not open, or inherited by fork */
    int directory; /* every step uses this and the name, and no path; -1: inherited by fork */
    dev_t device;
    ino_t inode;
    enum { QUEUE_NONE, QUEUE_WAITING, QUEUE_GRANTED, QUEUE_ABANDONED } queue;
    bool exists;      /* flock does not work there: its existence is the lock */
    bool handed_over; /* somebody waits for it */
    bool polling;     /* no thread could be had: the caller tries again and again */
    _Atomic uint32_t progress; /* of its thread; a futex */
    int code;                  /* what came of it, once done: see msalex__queue_wait */
    const char *program;       /* who holds it, for people; borrowed */
    char name[];
};

/* A new entry of the registry with no file open, or NULL when out of memory.  It takes the
 * directory of `place` over, whose `directory` is -1 then.  `program` names the holder to people,
 * and must live as long as the entry has not been left. */
struct msalex__lock_file *msalex__lock_file_new(struct msalex__place *place, const char *program);

/* Withdraws all locks, closes, takes it out of the registry and frees it; NULL is fine. */
void msalex__lock_file_close(struct msalex__lock_file *file);

/* Announces a waiter and queues in flock.  May exchange *file for one whose thread is queued
 * for the same inode already; that one goes on with the directory of *file. */
void msalex__queue_join(struct msalex__lock_file **file);

/* Waits for the lock: 0 when it is ours, ETIMEDOUT or EINTR while we are still queued, what
 * msalex__lock_file_take_over says else, or why flock failed. */
int msalex__queue_wait(struct msalex__lock_file *file, int64_t timeout_ms);

/* Leaves the queue; a lock that comes, or came, is given back.  Frees the file;
 * NULL is fine. */
void msalex__queue_leave(struct msalex__lock_file *file);

/* Holders lock [0, ANNOUNCE_AT); waiters announce themselves at ANNOUNCE_AT. */
#define MSALEX__ANNOUNCE_AT ((off_t)1 << 62)

/* ---- lock_file_linux.c ---- */

/* Makes the file with its name, already locked and filled.  False with errno; EEXIST: there is
 * one.  Where links or locks do not exist it does what it can: see lock_linux.c. */
bool msalex__lock_file_publish(struct msalex__lock_file *file);

/* Makes a file of ours the lock of this process, which has its flock: 0; ESTALE: it does not have
 * its name any more; EBUSY: it has become a peer's. */
int msalex__lock_file_take_over(const struct msalex__lock_file *file);

/* Gives a lock back whose flock is ours: leaves the file to a waiter or unlinks it, then closes
 * and frees.  False when the file no longer had its name. */
bool msalex__lock_file_give_back(struct msalex__lock_file *file);

/* The same for a flock that nobody took over, because its wait was given up.  The flock alone
 * does not make the file ours: the questions of a take-over come first, and where the answer is
 * not 0 the file is only closed. */
void msalex__lock_file_turn_down(struct msalex__lock_file *file);

/* Fills device and inode from the open file, and its status.  False with errno; EINVAL: not a
 * regular file. */
bool msalex__lock_file_identify(struct msalex__lock_file *file, struct stat *opened);

/* Does the open file still have its name in its directory? */
bool msalex__lock_file_is_named(const struct msalex__lock_file *file);

/* Does its path, which led to this place just now, still lead to its directory? */
bool msalex__lock_file_is_in(const struct msalex__lock_file *file,
                             const struct msalex__place *place);

/* Removes the name, which is this file's: 0 or errno. */
int msalex__lock_file_unlink(const struct msalex__lock_file *file);

/* The start of the content; how many bytes there are of it. */
size_t msalex__lock_file_read(int fd, char bytes[MSALEX__RECORD_SIZE]);

/* Is that errno of a kernel lock the file system's way to say that it has none? */
bool msalex__is_unsupported(int code);

/* ---- lock_peer_linux.c ---- */

/* Has the peer that made this file died without removing it?  `content` is its start. */
bool msalex__peer_is_gone(const struct msalex__lock_file *file, const char *content,
                          size_t size);

/* ---- watch_linux.c ---- */

/* The same as msalex_watch_new, but the kernel wakes only when the file leaves its name. */
int msalex__watch_new_leaving(const char *path, msalex_watch **watch, msalex_error *error);

#endif
