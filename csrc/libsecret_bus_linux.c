/*
 * How a call talks to the Secret Service: libsecret and GLib, the bus, the session, one D-Bus call.
 *
 * Each call's thread has a GMainContext of its own.  All that it asks for is asynchronous, and it
 * runs that context until the answer is there.  Only the thread itself cancels, and it runs the
 * context on until what it cancelled has ended.  (A GCancellable that another thread cancels at the
 * moment of the answer puts a source into a context that nobody runs any more: the context and its
 * eventfd are never freed, and GLib aborts the program that can open no more of them.)
 *
 * "home" is a context for all calls.  GDBus tells what happens to a connection or a service
 * (closed, vanished) to the context that was the thread's default when the object was made.  Each
 * call first lets home tell its news, so it notices that a bus or a service was restarted, and
 * replaces it.
 *
 * Of libsecret we use the session with its encryption, and nothing that waits for a person: its own
 * prompts leak a context when they are cancelled, and never return when they are dismissed with a
 * result of another type than expected (0.20.5).
 *
 * Not promised: the encrypted file that libsecret's password API uses inside Flatpak and Snap (or
 * with SECRET_BACKEND=file); there the program needs access to org.freedesktop.secrets.
 */
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "libsecret_linux.h"

#define BUS_NAME "org.freedesktop.DBus" /* the bus itself; also its interface */
#define BUS_PATH "/org/freedesktop/DBus"

enum {
    SESSIONS_MAX = 4, /* how often we ask for a session that is refused */
    AGAIN_MS = 5      /* between two attempts to get the bus */
};

struct msalex__glib msalex__glib;

/* What the calls of this process share; home_mutex guards it. */
static GMainContext *home;
static pthread_mutex_t home_mutex = PTHREAD_MUTEX_INITIALIZER;
static GDBusConnection *bus;
static SecretService *service;
static char *service_owner; /* the unique name of the program that has the session */

static void load_library(void) {
    void *library = dlopen("libsecret-1.so.0", RTLD_NOW | RTLD_LOCAL);
    void *symbol = NULL;

    /* ISO C has no cast from a pointer to an object to one to a function; POSIX copies it so. */
#define FIND(result, name, parameters)                                                           \
    if (library != NULL && (symbol = dlsym(library, #name)) != NULL)                             \
        memcpy(&glib->name, &symbol, sizeof symbol);                                             \
    else if (glib->missing[0] == '\0')                                                           \
        (void)snprintf(glib->missing, sizeof glib->missing, "%s", dlerror());
    GLIB_FUNCTIONS(FIND)

    if (glib->missing[0] == '\0')
        home = glib->g_main_context_new();
}

int msalex__libsecret_library(msalex_error *error) {
    static pthread_once_t loaded = PTHREAD_ONCE_INIT;

    (void)pthread_once(&loaded, load_library);
    if (glib->missing[0] != '\0')
        return msalex__fail(error, MSALEX_UNAVAILABLE, 0, "dlopen", glib->missing);
    return msalex__ok(error);
}

/* ---- errors ---- */

static const char SECRET[] = "secret-error";
static const char IO[] = "g-io-error-quark";
static const char DBUS[] = "g-dbus-error-quark";

enum { AGAIN = 1, GONE = 2 }; /* set the call's `again` and `gone` */

/* The one place where GErrors get their meaning; for all others the caller says it. */
static const struct {
    const char *domain;
    int code;
    int status;
    int flags;
} gerror_table[] = {
    {SECRET, SECRET_LOCKED, MSALEX_DENIED, 0},
    {SECRET, SECRET_NO_SUCH_OBJECT, MSALEX_UNAVAILABLE, GONE},
    {IO, IO_CANCELLED, MSALEX_TIMEOUT, 0},              /* by our deadline; see ask_for_bus() */
    {IO, IO_TIMED_OUT, MSALEX_TIMEOUT, 0},              /* D-Bus waits 25 s for a reply */
    {IO, IO_NOT_FOUND, MSALEX_UNAVAILABLE, 0},          /* no socket at the address */
    {IO, IO_CONNECTION_REFUSED, MSALEX_UNAVAILABLE, 0}, /* a dead socket */
    {IO, IO_PERMISSION_DENIED, MSALEX_UNAVAILABLE, 0},  /* another user's bus */
    {IO, IO_CLOSED, MSALEX_UNAVAILABLE, AGAIN},         /* the bus went away, or refuses us */
    {IO, IO_BROKEN_PIPE, MSALEX_UNAVAILABLE, AGAIN},    /* the same, while we sent */
    /* An error that GIO does not know: NoSession, when the service was restarted. */
    {IO, IO_DBUS_ERROR, MSALEX_OS_ERROR, AGAIN},
    {DBUS, DBUS_SERVICE_UNKNOWN, MSALEX_UNAVAILABLE, 0},   /* none on this bus */
    {DBUS, DBUS_NAME_HAS_NO_OWNER, MSALEX_UNAVAILABLE, 0}, /* the same */
    {DBUS, DBUS_NO_REPLY, MSALEX_UNAVAILABLE, AGAIN},      /* the service died meanwhile */
    {DBUS, DBUS_DISCONNECTED, MSALEX_UNAVAILABLE, AGAIN},  /* the bus died */
    /* No such object; or (KWallet) no such session, because the service was restarted. */
    {DBUS, DBUS_UNKNOWN_OBJECT, MSALEX_UNAVAILABLE, AGAIN | GONE},
    {DBUS, DBUS_UNKNOWN_METHOD, MSALEX_UNAVAILABLE, AGAIN | GONE}, /* said of objects, too */
    {DBUS, DBUS_ACCESS_DENIED, MSALEX_UNAVAILABLE, 0},             /* the bus's policy */
    {DBUS, DBUS_AUTH_FAILED, MSALEX_UNAVAILABLE, 0},               /* another user's bus */
    {DBUS, DBUS_NO_SERVER, MSALEX_UNAVAILABLE, 0},
    {DBUS, DBUS_TIMEOUT, MSALEX_TIMEOUT, 0}, /* the bus waited long enough */
    {DBUS, DBUS_TIMED_OUT, MSALEX_TIMEOUT, 0},
};

static bool is_error(const GError *failure, const char *domain, int code) {
    const struct glib_error *told = (const struct glib_error *)(const void *)failure;

    return told->code == code && strcmp(glib->g_quark_to_string(told->domain), domain) == 0;
}

int msalex__libsecret_fail(msalex_libsecret_call *call, GError *failure, const char *name,
                           int otherwise) {
    struct glib_error *told = (struct glib_error *)(void *)failure;
    const char *domain = glib->g_quark_to_string(told->domain);
    int status = otherwise;

    if (strcmp(domain, DBUS) == 0 && told->code >= DBUS_SPAWN_FIRST &&
        told->code <= DBUS_SPAWN_LAST)
        status = MSALEX_UNAVAILABLE; /* the bus could not start the service, for 12 reasons */
    for (size_t i = 0; i < sizeof gerror_table / sizeof gerror_table[0]; i++) {
        if (told->code == gerror_table[i].code && strcmp(domain, gerror_table[i].domain) == 0) {
            status = gerror_table[i].status;
            call->again = (gerror_table[i].flags & AGAIN) != 0;
            call->gone = (gerror_table[i].flags & GONE) != 0;
        }
    }
    if (status == MSALEX_TIMEOUT)
        (void)msalex__fail(&call->error, status, ETIMEDOUT, name,
                           "the Secret Service did not answer in time");
    else
        (void)msalex__fail(&call->error, status, told->code, name, told->message);
    glib->g_error_free(failure);
    return status;
}

/* ---- waiting ---- */

/* A GSourceFunc. */
static int raise_flag(void *flag) {
    *(bool *)flag = true;
    return 0; /* once */
}

/* Sets `*flag` after `ms` milliseconds, and wakes the context. */
static GSource *start_timer(GMainContext *context, int64_t ms, bool *flag) {
    GSource *timer = glib->g_timeout_source_new(ms < 0 ? 0 : ms > INT_MAX ? INT_MAX : (unsigned)ms);
    glib->g_source_set_callback(timer, raise_flag, flag, NULL);
    (void)glib->g_source_attach(timer, context);
    return timer;
}

static void stop_timer(GSource *timer) {
    if (timer == NULL)
        return;
    glib->g_source_destroy(timer);
    glib->g_source_unref(timer);
}

void msalex__libsecret_begin(msalex_libsecret_call *call) {
    call->cancellable = glib->g_cancellable_new();
    glib->g_main_context_push_thread_default(call->context);
    if (call->deadline >= 0)
        call->timer = start_timer(call->context, call->deadline - msalex__now_ms(), &call->over);
}

void msalex__libsecret_end(msalex_libsecret_call *call) {
    stop_timer(call->timer);
    /* What is left in the context holds a reference to it. */
    while (glib->g_main_context_iteration(call->context, 0))
        ;
    glib->g_main_context_pop_thread_default(call->context);
    glib->g_object_unref(call->cancellable);
}

void msalex__libsecret_wake(msalex_libsecret_call *call) {
    glib->g_main_context_wakeup(call->context);
    glib->g_main_context_wakeup(home);
}

static bool must_end(msalex_libsecret_call *call) {
    return call->over || atomic_load(&call->left);
}

/* What is cancelled is not sent any more, and gets a result. */
static void cancel_if_ended(msalex_libsecret_call *call) {
    if (must_end(call))
        glib->g_cancellable_cancel(call->cancellable);
}

/* Runs a context for at most `ms`, until it has told one thing. */
static void run_once(GMainContext *context, int64_t ms) {
    bool is_time_up;
    GSource *timer = start_timer(context, ms, &is_time_up);

    (void)glib->g_main_context_iteration(context, 1);
    stop_timer(timer);
}

bool msalex__libsecret_pause(msalex_libsecret_call *call, int64_t ms) {
    if (must_end(call))
        return false;
    run_once(call->context, ms);
    return true;
}

/* A GAsyncReadyCallback that keeps the result. */
static void keep_result(GObject *source, GAsyncResult *result, void *kept) {
    (void)source;
    *(GAsyncResult **)kept = glib->g_object_ref(result);
}

/* Runs the context until the result is there, which a cancelled operation has as well. */
static void await(msalex_libsecret_call *call, GMainContext *context, GAsyncResult **result) {
    while (*result == NULL) {
        cancel_if_ended(call);
        (void)glib->g_main_context_iteration(context, 1);
    }
}

/* ---- one D-Bus call ---- */

static const char *name_of_service(msalex_libsecret_call *call) {
    return glib->g_dbus_proxy_get_name((GDBusProxy *)(void *)call->service);
}

void msalex__libsecret_send(msalex_libsecret_call *call, const char *name, const char *path,
                            const char *interface, const char *method, GVariant *parameters,
                            const char *reply, GAsyncResult **answer) {
    call->again = call->gone = false;
    cancel_if_ended(call);
    glib->g_dbus_connection_call(
        call->bus, name == NULL ? name_of_service(call) : name, path, interface, method, parameters,
        (const GVariantType *)(const void *)reply, 0, -1, call->cancellable, keep_result, answer);
}

GVariant *msalex__libsecret_receive(msalex_libsecret_call *call, GAsyncResult **answer,
                                    GError **failure) {
    GVariant *reply;

    await(call, call->context, answer);
    reply = glib->g_dbus_connection_call_finish(call->bus, *answer, failure);
    glib->g_object_unref(*answer);
    *answer = NULL;
    return reply;
}

GVariant *msalex__libsecret_ask(msalex_libsecret_call *call, const char *name, const char *path,
                                const char *interface, const char *method, GVariant *parameters,
                                const char *reply, GError **failure) {
    GAsyncResult *answer = NULL;

    msalex__libsecret_send(call, name, path, interface, method, parameters, reply, &answer);
    return msalex__libsecret_receive(call, &answer, failure);
}

char *msalex__libsecret_owner(msalex_libsecret_call *call, const char *name) {
    GVariant *reply = msalex__libsecret_ask(
        call, BUS_NAME, BUS_PATH, BUS_NAME, "GetNameOwner",
        glib->g_variant_new("(s)", name == NULL ? name_of_service(call) : name), "(s)", NULL);
    char *owner = NULL;

    if (reply != NULL) {
        glib->g_variant_get(reply, "(s)", &owner);
        glib->g_variant_unref(reply);
    }
    return owner;
}

/* ---- the bus and the service ---- */

static void forget_service(void) {
    if (service != NULL)
        glib->g_object_unref(service);
    glib->g_free(service_owner);
    service = NULL;
    service_owner = NULL;
}

static void forget_bus(void) {
    forget_service();
    if (bus != NULL)
        glib->g_object_unref(bus);
    bus = NULL;
}

static void hear_news(void) {
    while (glib->g_main_context_iteration(home, 0))
        ;
}

/* Asks GIO for the session bus.  GIO has one connection per process, and until it exists, one
 * attempt to make it.  GIO before 2.80 hands the failure of the attempt to all that wait for it,
 * and to all that ask soon afterwards, even when one of them has cancelled it.  Another's
 * cancellation is not ours, so we ask again; NULL: ours, or a real failure. */
static GDBusConnection *ask_for_bus(msalex_libsecret_call *call, GError **failure) {
    for (;;) {
        GAsyncResult *result = NULL;
        GDBusConnection *got;

        glib->g_bus_get(BUS_SESSION, call->cancellable, keep_result, &result);
        await(call, home, &result);
        got = glib->g_bus_get_finish(result, failure);
        glib->g_object_unref(result);
        if (got != NULL || must_end(call) || !is_error(*failure, IO, IO_CANCELLED))
            return got;
        glib->g_error_free(*failure);
        *failure = NULL;
        run_once(home, AGAIN_MS); /* the attempt lives as long as a thread of GIO's refers to it */
    }
}

/* Gets the session bus, an open one.  After the connection is closed, GIO goes on handing it out as
 * long as somebody has a reference to it.  That may be an event that waits in our context, or
 * another part of the program; only dispose makes GIO forget it then. */
static int connect_to_bus(msalex_libsecret_call *call) {
    static const char name[] = "g_bus_get";
    GError *failure = NULL;

    for (int turn = 0; bus == NULL; turn++) {
        GDBusConnection *got;

        hear_news();
        if ((got = ask_for_bus(call, &failure)) == NULL)
            return msalex__libsecret_fail(call, failure, name, MSALEX_UNAVAILABLE);
        if (turn < 2 && glib->g_dbus_connection_is_closed(got)) {
            if (turn == 1)
                glib->g_object_run_dispose((GObject *)(void *)got);
            glib->g_object_unref(got);
            continue;
        }
        /* Without this GIO kills the program when the bus goes away. */
        glib->g_dbus_connection_set_exit_on_close(got, 0);
        bus = got;
    }
    return MSALEX_OK;
}

static const char SIGNAL[] = "g-signal"; /* GDBus has received a signal of the service */

/* A handler that runs before libsecret's own one, and keeps it from running.  That keeps a list of
 * collections, which we do not use, and crashes when a service that was restarted has made one
 * (0.20.5: it asks for the old list, and there is none). */
static void hide_from_libsecret(void *proxy) {
    glib->g_signal_stop_emission_by_name(proxy, SIGNAL);
}

/* Opens a session of our own: secret_service_get() would share one with the rest of the program. */
static int connect_to_service(msalex_libsecret_call *call) {
    GError *failure = NULL;
    GAsyncResult *result = NULL;

    glib->secret_service_open(glib->secret_service_get_type(), NULL, SERVICE_OPEN_SESSION,
                              call->cancellable, keep_result, &result);
    await(call, home, &result);
    service = glib->secret_service_open_finish(result, &failure);
    glib->g_object_unref(result);
    if (service == NULL)
        return msalex__libsecret_fail(call, failure, "secret_service_open", MSALEX_OS_ERROR);
    (void)glib->g_signal_connect_data(service, SIGNAL, (void (*)(void))hide_from_libsecret, NULL,
                                      NULL, 0);
    service_owner = glib->g_dbus_proxy_get_name_owner((GDBusProxy *)(void *)service);
    return MSALEX_OK;
}

int msalex__libsecret_reach(msalex_libsecret_call *call) {
    int status = MSALEX_OK;
    GSource *timer;
    char *owner;

    call->again = call->gone = false;
    (void)pthread_mutex_lock(&home_mutex);
    glib->g_main_context_push_thread_default(home);
    hear_news();
    if (bus != NULL && glib->g_dbus_connection_is_closed(bus))
        forget_bus();
    if (service != NULL) {
        owner = glib->g_dbus_proxy_get_name_owner((GDBusProxy *)(void *)service);
        if (owner == NULL || service_owner == NULL || strcmp(owner, service_owner) != 0)
            forget_service();
        glib->g_free(owner);
    }
    if (service == NULL) {
        const int64_t left = call->deadline < 0 ? CONNECT_MS : call->deadline - msalex__now_ms();
        timer = start_timer(home, left < CONNECT_MS ? left : CONNECT_MS, &call->over);
        status = connect_to_bus(call);
        /* KWallet (5.103) refuses one session in 256: libsecret leaves out a zero byte at the
         * beginning of its public key, and the key is too short then.  The next one is another. */
        for (int turn = 0; bus != NULL && service == NULL && turn < SESSIONS_MAX; turn++)
            if ((status = connect_to_service(call)) != MSALEX_OS_ERROR)
                break;
        stop_timer(timer);
    }
    if (status == MSALEX_OK) {
        call->bus = glib->g_object_ref(bus);
        call->service = glib->g_object_ref(service);
    }
    glib->g_main_context_pop_thread_default(home);
    (void)pthread_mutex_unlock(&home_mutex);
    return status;
}

void msalex__libsecret_leave(msalex_libsecret_call *call, bool forget) {
    (void)pthread_mutex_lock(&home_mutex);
    if (forget && service == call->service)
        forget_service();
    if (call->service != NULL)
        glib->g_object_unref(call->service);
    if (call->bus != NULL)
        glib->g_object_unref(call->bus);
    (void)pthread_mutex_unlock(&home_mutex);
    call->service = NULL;
    call->bus = NULL;
}
