/*
 * A kernel with a script, and a clock of its own, for the tests of the macOS lock: the test chooses
 * what happens at each moment of a wait.
 *
 *     start_held(wait_script);            `holder` has the lock, `waiter` and `third` do not
 *     event = holder_releases;            what happens during a wait
 *     msalex_lock_acquire(waiter, ...)
 *     end();
 */
#ifndef MSALEX_TEST_LOCK_SCRIPT_H
#define MSALEX_TEST_LOCK_SCRIPT_H

#include <stdbool.h>
#include <stdint.h>

#include "check.h"
#include "lock_record.h"

extern const char PATH[];
extern int64_t now, begin; /* the clock, and what it showed at the start */
extern int waits;          /* how many there were so far */
extern int64_t longest;    /* the longest of them */
extern msalex_lock *holder, *waiter, *third;
extern int holder_fd;
extern void (*event)(void);  /* what happens during a wait */
extern int event_at;         /* the number of that wait; 0: all waits */
extern void (*at_try)(void); /* what act_at_try does, once */

/* Time passes to the end of a wait, unless there is an event; or a signal ends each wait. */
int wait_script(int queue, int64_t timeout_ms);
int interrupted_script(int queue, int64_t timeout_ms);

void start(int (*script)(int queue, int64_t timeout_ms));
void start_held(int (*script)(int queue, int64_t timeout_ms));
void end(void);

/* ---- lock files ---- */

void write_record(int fd, const struct msalex__record *record);
bool read_record(int fd, struct msalex__record *record);
bool read_record_at(const char *path, struct msalex__record *record);

/* A lock file of this library whose holder looks like another process. */
void make_held_by_other(const char *path);
void write_peer(long pid);

/* Does the file name this program as the holder? */
bool names(const char *program);

/* ---- what happens during a wait ---- */

void nothing(void);
void holder_releases(void);
void holder_dies(void);
void somebody_unlinks(void);
void peer_replaces(void);

/* For fake_kernel.trying. */
void act_at_try(int fd);

#endif
