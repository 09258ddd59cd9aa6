/*
 * What the files of the macOS keychain share, from the top:
 *
 *   keychain_macos.c         a call and its thread
 *   keychain_tries_macos.c   what the thread does: the operation, in its turn, and again if need be
 *   keychain_items_macos.c   unlock, look, load, save, add, delete, each done once
 *   keychain_turn_macos.c    one call at a time, and dialogs forbidden meanwhile
 *   keychain_call_macos.c    between the thread and its caller; how both wait
 *   keychain_status_macos.c  what an OSStatus means, and which of them are tried again
 */
#ifndef MSALEX_KEYCHAIN_MACOS_H
#define MSALEX_KEYCHAIN_MACOS_H

#include <CoreFoundation/CoreFoundation.h>
#include <Security/Security.h>
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

/* One operation, and what it needs of Core Foundation. */
struct msalex__keychain_job {
    msalex_keychain_call *call;
    msalex_error *error; /* of the call */
    CFStringRef service;
    CFStringRef account;
    CFMutableDataRef data;   /* for SAVE and ADD */
    SecKeychainRef keychain; /* the default one; this and the next two: during one try */
    bool is_locked;
    CFArrayRef searched; /* the keychain, alone */
};

/* ---- keychain_tries_macos.c ---- */

/* Carries out the operation of the call; on failure fills the call's error. */
int msalex__keychain_perform(msalex_keychain_call *call);

/* ---- keychain_items_macos.c ---- */

/* Carries out the operation once; on failure fills the error. */
int msalex__keychain_operate(const struct msalex__keychain_job *job);

/* ---- keychain_turn_macos.c ---- */

/* Waits until this call may use the keychain.  On failure fills the call's error, and nothing has
 * to be given back. */
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

/* The same when the caller has left.  Nobody sees this error. */
int msalex__keychain_fail_left(const struct msalex__keychain_job *job, const char *name);

/* Waits for the condition, at most so long (negative: as long as it takes).  It may come back
 * early. */
void msalex__keychain_sleep(pthread_cond_t *condition, pthread_mutex_t *mutex, int64_t ms);

/* ---- keychain_status_macos.c ---- */

/* Fills the error with the words of macOS; the status is that of the table. */
int msalex__keychain_fail(msalex_error *error, OSStatus code, const char *name);

/* The end of a function of macOS: MSALEX_OK, or the error filled. */
int msalex__keychain_told(const struct msalex__keychain_job *job, OSStatus code, const char *name);

int msalex__keychain_fail_memory(const struct msalex__keychain_job *job, const char *name);

/* Did the call fail because others use the item or the keychain in the same moment, or because
 * securityd has just started anew?  Then it may succeed soon; `tries` have failed so far.
 * `was_long`: the last one was so long that it may have asked a person. */
bool msalex__keychain_is_race(const msalex_keychain_call *call, int tries, bool was_long);

/* Releases an object that may be NULL; CFRelease(NULL) crashes. */
void msalex__keychain_release(CFTypeRef object);

#endif
