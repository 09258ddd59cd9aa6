/*
 * What the two files of the Secret Service share, beside libsecret itself (glib_linux.h):
 * libsecret_linux.c is a call and its thread; libsecret_service_linux.c is what the thread does.
 */
#ifndef MSALEX_LIBSECRET_LINUX_H
#define MSALEX_LIBSECRET_LINUX_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/types.h>

#include "internal.h"

typedef struct secret_schema SecretSchema;
#include "glib_linux.h"

struct msalex_libsecret_call {
    atomic_int references; /* one is the caller's, one the thread's */
    atomic_bool done;      /* the thread has set status, secret and error */
    int event;             /* an eventfd; readable when done */
    pid_t process;         /* the thread lives in this process only */
    int operation;
    bool alone;       /* there is no desktop, so nobody could answer a prompt */
    bool again;       /* a new connection may cure the failure */
    int64_t deadline; /* milliseconds of msalex__now_ms(); negative: none */
    char *label;
    char *collection;
    SecretSchema *schema;
    GHashTable *attributes;
    SecretValue *value; /* for SAVE; in memory that libsecret locks and wipes */
    GCancellable *cancellable;
    GDBusConnection *bus; /* this and the next: while the thread works */
    SecretService *service;
    int status;
    msalex_buffer secret; /* which LOAD has found */
    msalex_error error;
};

/* libsecret's and GLib's functions; msalex__libsecret_load fills it once. */
extern struct msalex__glib {
#define MEMBER(result, name, parameters) result(*name) parameters;
    GLIB_FUNCTIONS(MEMBER)
    GMainContext *home;         /* see libsecret_service_linux.c */
    pthread_mutex_t home_mutex; /* a context is one thread's at a time */
    char missing[256];          /* why libsecret cannot be used; empty: it can */
} msalex__glib;

static struct msalex__glib *const glib = &msalex__glib; /* for short */

/* Loads libsecret, the first time; MSALEX_UNAVAILABLE when the machine has none. */
int msalex__libsecret_load(msalex_error *error);

/* Carries out the call's operation; on failure fills the call's error. */
int msalex__libsecret_perform(msalex_libsecret_call *call);

#endif
