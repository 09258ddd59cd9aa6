/*
 * What the files of the Secret Service share, beside libsecret itself (glib_linux.h), from the top:
 *
 *   libsecret_linux.c           a call and its thread
 *   libsecret_service_linux.c   what the thread does: connect, save, load, delete
 *   libsecret_requests_linux.c  the methods of the Secret Service
 *   libsecret_prompt_linux.c    a dialog in which a person unlocks or allows something
 *   libsecret_bus_linux.c       libsecret, the bus, the session, one D-Bus call
 */
#ifndef MSALEX_LIBSECRET_LINUX_H
#define MSALEX_LIBSECRET_LINUX_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/types.h>

#include "glib_linux.h"
#include "internal.h"

enum { CONNECT_MS = 5000 }; /* how long reaching the service may take; nobody is asked meanwhile */

struct msalex_libsecret_call {
    atomic_int references; /* one is the caller's, one the thread's */
    atomic_bool done;      /* the thread has set status, secret and error */
    atomic_bool left;      /* the caller does not wait any more */
    int event;             /* an eventfd; readable when done */
    pid_t process;         /* the thread lives in this process only */
    int operation;
    bool alone;       /* there is no desktop, so nobody could answer a prompt */
    int64_t deadline; /* milliseconds of msalex__now_ms(); negative: none */
    char *label;
    char *collection;     /* NULL: the default one */
    GVariant *attributes; /* a{ss}; the schema's name is one of them */
    SecretValue *value;   /* for SAVE; in memory that libsecret locks and wipes */
    /* The next ones are the thread's alone. */
    GMainContext *context;
    GCancellable *cancellable;
    GSource *timer;       /* sets `over`; NULL: there is no deadline */
    bool over;            /* the deadline has passed */
    GDBusConnection *bus; /* this and the next: between reach() and leave() */
    SecretService *service;
    bool again;   /* the last failure: a new connection may cure it */
    bool gone;    /* the last failure: there is no such object any more */
    bool deleted; /* DELETE has deleted an item */
    int status;
    msalex_buffer secret; /* which LOAD has found */
    msalex_error error;
};

/* libsecret's and GLib's functions; msalex__libsecret_library fills it once. */
extern struct msalex__glib {
#define MEMBER(result, name, parameters) result(*name) parameters;
    GLIB_FUNCTIONS(MEMBER)
    char missing[256]; /* why libsecret cannot be used; empty: it can */
} msalex__glib;

static struct msalex__glib *const glib = &msalex__glib; /* for short */

/* ---- libsecret_bus_linux.c ---- */

/* Loads libsecret, the first time; MSALEX_UNAVAILABLE when the machine has none. */
int msalex__libsecret_library(msalex_error *error);

/* Tells the call's thread that `left` has changed; called by the caller. */
void msalex__libsecret_wake(msalex_libsecret_call *call);

/* In the thread, before all that follows, and after it. */
void msalex__libsecret_begin(msalex_libsecret_call *call);
void msalex__libsecret_end(msalex_libsecret_call *call);

/* Gets the bus, and the service with a session, within CONNECT_MS.  Afterwards the thread leaves
 * them, whatever happened; with `forget` the next call makes a new session. */
int msalex__libsecret_reach(msalex_libsecret_call *call);
void msalex__libsecret_leave(msalex_libsecret_call *call, bool forget);

/* Makes one D-Bus call to the program with this name (NULL: the service), and waits for the reply,
 * which has the type `reply`.  Frees `parameters` if they are floating.  NULL with `failure`: it
 * failed. */
GVariant *msalex__libsecret_ask(msalex_libsecret_call *call, const char *name, const char *path,
                                const char *interface, const char *method, GVariant *parameters,
                                const char *reply, GError **failure);

/* The same in two steps, so that two calls can be on their way at once.  `*answer` is NULL before;
 * what was sent has to be received, whatever happens in between. */
void msalex__libsecret_send(msalex_libsecret_call *call, const char *name, const char *path,
                            const char *interface, const char *method, GVariant *parameters,
                            const char *reply, GAsyncResult **answer);
GVariant *msalex__libsecret_receive(msalex_libsecret_call *call, GAsyncResult **answer,
                                    GError **failure);

/* The unique name of the program that owns a name (NULL: the service's), to be freed; NULL: none,
 * or no answer. */
char *msalex__libsecret_owner(msalex_libsecret_call *call, const char *name);

/* Waits at most `ms` for a signal; false at once: the call has to end. */
bool msalex__libsecret_pause(msalex_libsecret_call *call, int64_t ms);

/* Fills the call's error, `again` and `gone` from `failure`, and frees that.  `name` is the call
 * that failed; `otherwise` is the status of an error that has no meaning of its own. */
int msalex__libsecret_fail(msalex_libsecret_call *call, GError *failure, const char *name,
                           int otherwise);

/* ---- libsecret_prompt_linux.c ---- */

/* Shows a prompt ("/": there is none), and waits until it is completed; after `limit_ms` (negative:
 * the call's deadline) it is dismissed.  MSALEX_DENIED: a person has said no.  The caller looks
 * whether the prompt has changed what it should. */
int msalex__libsecret_prompt(msalex_libsecret_call *call, const char *path, int64_t limit_ms);

/* ---- libsecret_requests_linux.c ---- */

/* Asks for the path of the call's collection; find_collection() has to follow, and finds it, to be
 * freed.  MSALEX_UNAVAILABLE when there is none.  NULL with MSALEX_OK: there is no default one. */
void msalex__libsecret_ask_for_collection(msalex_libsecret_call *call, GAsyncResult **answer);
int msalex__libsecret_find_collection(msalex_libsecret_call *call, GAsyncResult **answer,
                                      char **path);

/* Makes the default collection; its prompt asks a person for the new password.  `*path`: as
 * find_collection() finds it then. */
int msalex__libsecret_create_default(msalex_libsecret_call *call, char **path);

/* Finds out whether a collection is locked. */
int msalex__libsecret_look_at_lock(msalex_libsecret_call *call, const char *path, bool *locked);

/* The label of a collection, to be freed; NULL: it could not be read. */
char *msalex__libsecret_label_of(msalex_libsecret_call *call, const char *path);

/* Asks to unlock an item or a collection; `limit_ms`: of the prompt. */
int msalex__libsecret_unlock(msalex_libsecret_call *call, const char *path, int64_t limit_ms);

/* Finds the paths of the items that are open, and of those that are locked; both to be freed. */
int msalex__libsecret_search(msalex_libsecret_call *call, char ***open, char ***locked);

/* Copies the secret of an item that is not locked. */
int msalex__libsecret_fetch(msalex_libsecret_call *call, const char *path);

/* Finds out whether an item has exactly our attributes, and whether it lacks a label. */
int msalex__libsecret_look_at_item(msalex_libsecret_call *call, const char *path, bool *ours,
                                   bool *nameless);

/* Gives an item another secret; one without a label gets ours, if the service lets us. */
int msalex__libsecret_set_secret(msalex_libsecret_call *call, const char *path, bool nameless);

/* Makes an item; the service replaces one that has at least our attributes.  When the collection is
 * locked, `*locked` becomes its path, to be freed. */
int msalex__libsecret_create_item(msalex_libsecret_call *call, const char *collection,
                                  char **locked);

/* Deletes an item; one that is gone by now is deleted as well. */
int msalex__libsecret_delete_item(msalex_libsecret_call *call, const char *path);

/* ---- libsecret_service_linux.c ---- */

/* Carries out the call's operation; on failure fills the call's error. */
int msalex__libsecret_perform(msalex_libsecret_call *call);

#endif
