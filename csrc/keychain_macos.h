/*
 * What the files of the macOS keychain share, from the top:
 *
 *   keychain_macos.c         a call and its thread
 *   keychain_items_macos.c   what the thread does: unlock, look, load, save, add, delete
 *   keychain_turn_macos.c    one call at a time, and dialogs forbidden meanwhile
 *   keychain_call_macos.c    between the thread and its caller; how both wait
 *   keychain_status_macos.c  what an OSStatus means, and which of them are tried again
 */
#ifndef MSALEX_KEYCHAIN_MACOS_H
#define MSALEX_KEYCHAIN_MACOS_H

#include <CoreFoundation/CoreFoundation.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/types.h>

#include "internal.h"

struct msalex_keychain_call {
    atomic_int references; /* one is the caller's, one the thread's */
    atomic_bool left;      /* the caller does not wait any more */
    pthread_mutex_t mutex;
    pthread_cond_t changed; /* `done` or `left` */
    bool done;              /* the mutex guards this and the next */
    const char *waits_for;  /* as error.call of msalex_keychain_wait */
    pid_t process;          /* the thread lives in this process only */
    int operation;
    bool interactive;
    int64_t deadline; /* see msalex__deadline */
    char *service;
    char *account;
    msalex_buffer data; /* for SAVE and ADD */
    /* The next ones are the thread's until `done`. */
    int status;
    msalex_buffer secret; /* which LOOK or LOAD has found */
    msalex_error error;
};

/* ---- keychain_items_macos.c ---- */

/* Carries out the operation of the call; on failure fills the call's error. */
int msalex__keychain_perform(msalex_keychain_call *call);

/* ---- keychain_turn_macos.c ---- */

/* Waits until this call may use the keychain.  On failure fills the call's error, and nothing has to
 * be given back. */
int msalex__keychain_take_turn(msalex_keychain_call *call);
void msalex__keychain_give_turn(void);

/* Tells the calls that wait for their turn that the caller of one of them has left. */
void msalex__keychain_wake(void);

/* Forbids dialogs to this process, and puts back what was before; within a turn.  On failure fills
 * the call's error. */
int msalex__keychain_forbid_dialogs(msalex_keychain_call *call);
void msalex__keychain_allow_dialogs(void);

/* ---- keychain_call_macos.c ---- */

/* Before the thread begins to wait for something (named as error.call of msalex_keychain_wait).
 * False: the caller has left, and nothing more may be begun. */
bool msalex__keychain_begin(msalex_keychain_call *call, const char *what);

/* Waits so long.  False: the caller has left, or the time of the call is over. */
bool msalex__keychain_pause(msalex_keychain_call *call, int64_t ms);

/* Fills the error of a call that ends without an answer, because of `what`. */
int msalex__keychain_fail_late(msalex_error *error, const char *what);

/* Waits for the condition, at most so long (negative: as long as it takes).  It may come back
 * early. */
void msalex__keychain_sleep(pthread_cond_t *condition, pthread_mutex_t *mutex, int64_t ms);

/* ---- keychain_status_macos.c ---- */

/* Fills the error with the words of macOS; the status is that of the table. */
int msalex__keychain_fail(msalex_error *error, OSStatus code, const char *name);

/* Did the call fail because others use the item or the keychain in the same moment, or because
 * securityd has just started anew?  Then it may succeed soon; `tries` have failed so far. */
bool msalex__keychain_is_race(const msalex_keychain_call *call, int tries);

/* Releases an object that may be NULL; CFRelease(NULL) crashes. */
void msalex__keychain_release(CFTypeRef object);

#endif
