/*
 * What one call does with the Secret Service.  libsecret_linux.c runs it in a thread.
 *
 * GLib's "home" context.  GDBus tells what happens to a connection or a service (closed, vanished)
 * to the GMainContext that was the thread's default when the object was made, and keeps the object
 * alive until then.  We make these objects under a context of our own, which every call drains
 * first.  So the next call notices that a bus or a service was restarted, and replaces it.
 *
 * Unlocking is done here, not by libsecret's store and look-up.  When a prompt is dismissed without
 * the result that they expect, these never return (0.20.5), and a look-up says "nothing there" of a
 * locked item.
 *
 * Not promised: the encrypted file that libsecret's password API uses inside Flatpak and Snap (or
 * with SECRET_BACKEND=file); there the program needs access to org.freedesktop.secrets.
 */
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "libsecret_linux.h"

/* ---- libsecret and GLib, loaded once ---- */

struct msalex__glib msalex__glib = {.home_mutex = PTHREAD_MUTEX_INITIALIZER};

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
        glib->home = glib->g_main_context_new();
}

int msalex__libsecret_load(msalex_error *error) {
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

/* The one place where GErrors get their meaning; for all others the caller says it. */
static const struct {
    const char *domain;
    int code;
    int status;
    bool again; /* a new connection may help */
} gerror_table[] = {
    {SECRET, SECRET_LOCKED, MSALEX_DENIED, false},            /* and nobody unlocked it */
    {SECRET, SECRET_NO_SUCH_OBJECT, MSALEX_NOT_FOUND, false}, /* another has just deleted it */
    {IO, IO_CANCELLED, MSALEX_TIMEOUT, false},                /* by our deadline: nobody else can */
    {IO, IO_TIMED_OUT, MSALEX_TIMEOUT, false},                /* D-Bus waits 25 s for a reply */
    {IO, IO_NOT_FOUND, MSALEX_UNAVAILABLE, false},            /* no socket at the address */
    {IO, IO_CONNECTION_REFUSED, MSALEX_UNAVAILABLE, false},   /* a dead socket */
    {IO, IO_PERMISSION_DENIED, MSALEX_DENIED, false},         /* another user's bus */
    {IO, IO_CLOSED, MSALEX_UNAVAILABLE, true},                /* the bus went away */
    {IO, IO_BROKEN_PIPE, MSALEX_UNAVAILABLE, true},           /* the same, while we sent */
    /* An error that GIO does not know: NoSession, when the service was restarted. */
    {IO, IO_DBUS_ERROR, MSALEX_OS_ERROR, true},
    {DBUS, DBUS_SERVICE_UNKNOWN, MSALEX_UNAVAILABLE, false},   /* none on this bus */
    {DBUS, DBUS_NAME_HAS_NO_OWNER, MSALEX_UNAVAILABLE, false}, /* the same */
    {DBUS, DBUS_NO_REPLY, MSALEX_UNAVAILABLE, true},           /* the service died meanwhile */
    {DBUS, DBUS_DISCONNECTED, MSALEX_UNAVAILABLE, true},       /* the bus died */
    {DBUS, DBUS_UNKNOWN_OBJECT, MSALEX_UNAVAILABLE, true},     /* the path of a former session */
    /* The same; or a collection that does not exist. */
    {DBUS, DBUS_UNKNOWN_METHOD, MSALEX_UNAVAILABLE, true},
    {DBUS, DBUS_ACCESS_DENIED, MSALEX_DENIED, false}, /* the bus's policy */
    {DBUS, DBUS_AUTH_FAILED, MSALEX_DENIED, false},   /* another user's bus */
    {DBUS, DBUS_NO_SERVER, MSALEX_UNAVAILABLE, false},
    {DBUS, DBUS_TIMEOUT, MSALEX_TIMEOUT, false}, /* the bus waited long enough */
    {DBUS, DBUS_TIMED_OUT, MSALEX_TIMEOUT, false},
};

/* Fills the call's error from `failure`, and frees that; `name` is libsecret's function. */
static int fail_call(msalex_libsecret_call *call, GError *failure, const char *name,
                     int otherwise) {
    struct glib_error *told = (struct glib_error *)(void *)failure;
    const char *domain;
    int status = otherwise;

    if (failure == NULL) /* libsecret has checked the attributes, and complained on stderr */
        return msalex__fail(&call->error, MSALEX_INVALID, 0, name,
                            "the attributes do not fit their types");
    domain = glib->g_quark_to_string(told->domain);
    if (strcmp(domain, DBUS) == 0 && told->code >= DBUS_SPAWN_FIRST &&
        told->code <= DBUS_SPAWN_LAST)
        status = MSALEX_UNAVAILABLE; /* the bus could not start the service, for 12 reasons */
    for (size_t i = 0; i < sizeof gerror_table / sizeof gerror_table[0]; i++) {
        if (told->code == gerror_table[i].code && strcmp(domain, gerror_table[i].domain) == 0) {
            status = gerror_table[i].status;
            call->again = gerror_table[i].again;
        }
    }
    (void)msalex__fail(&call->error, status, status == MSALEX_TIMEOUT ? ETIMEDOUT : told->code,
                       name, told->message);
    glib->g_error_free(failure);
    return status;
}

static int fail_locked(msalex_libsecret_call *call, const char *name) {
    return msalex__fail(&call->error, MSALEX_DENIED, SECRET_LOCKED, name,
                        "the keyring is locked, and was not unlocked");
}

static int fail_not_found(msalex_libsecret_call *call, const char *name) {
    return msalex__fail(&call->error, MSALEX_NOT_FOUND, 0, name, "no such item");
}

/* ---- the operations ---- */

/* Gets the session bus, an open one.  GIO has one connection per process.  After that is closed,
 * GIO goes on handing it out as long as somebody has a reference to it.  That may be libsecret, or
 * an event that waits in our context, or nobody: GIO's synchronous calls sometimes leak a reference
 * (2.74: in some 5 % of processes), and only dispose makes GIO forget such a connection. */
static int reach_bus(msalex_libsecret_call *call) {
    GError *failure = NULL;

    for (int turn = 0;; turn++) {
        while (glib->g_main_context_iteration(glib->home, 0))
            ;
        if ((call->bus = glib->g_bus_get_sync(BUS_SESSION, call->cancellable, &failure)) == NULL)
            return fail_call(call, failure, "g_bus_get_sync", MSALEX_UNAVAILABLE);
        if (turn == 2 || !glib->g_dbus_connection_is_closed(call->bus))
            break;
        glib->secret_service_disconnect();
        if (turn == 1)
            glib->g_object_run_dispose((GObject *)(void *)call->bus);
        glib->g_object_unref(call->bus);
    }
    /* Without this GIO kills the program when the bus goes away. */
    glib->g_dbus_connection_set_exit_on_close(call->bus, 0);
    return MSALEX_OK;
}

/* Gets the service with a session, from libsecret's cache if it is there. */
static int reach(msalex_libsecret_call *call) {
    GError *failure = NULL;
    int status;

    (void)pthread_mutex_lock(&glib->home_mutex);
    glib->g_main_context_push_thread_default(glib->home);
    if ((status = reach_bus(call)) == MSALEX_OK) {
        /* In two steps, because the first one costs nothing when libsecret has all of it. */
        call->service = glib->secret_service_get_sync(SERVICE_NONE, call->cancellable, &failure);
        if (call->service != NULL &&
            glib->secret_service_get_session_dbus_path(call->service) == NULL) {
            glib->g_object_unref(call->service);
            call->service =
                glib->secret_service_get_sync(SERVICE_OPEN_SESSION, call->cancellable, &failure);
        }
        if (call->service == NULL)
            status = fail_call(call, failure, "secret_service_get_sync", MSALEX_UNAVAILABLE);
    }
    glib->g_main_context_pop_thread_default(glib->home);
    (void)pthread_mutex_unlock(&glib->home_mutex);
    return status;
}

/* Makes one D-Bus call to the service; NULL with `failure`: it failed. */
static GVariant *ask(msalex_libsecret_call *call, const char *path, const char *interface,
                     const char *method, GVariant *parameters, const char *reply,
                     GError **failure) {
    const char *name = glib->g_dbus_proxy_get_name((GDBusProxy *)(void *)call->service);

    return glib->g_dbus_connection_call_sync(call->bus, name, path, interface, method, parameters,
                                             (const GVariantType *)(const void *)reply, 0, -1,
                                             call->cancellable, failure);
}

/* Is the collection locked?  False with `failure`: the service did not answer. */
static bool is_collection_locked(msalex_libsecret_call *call, const char *path, GError **failure) {
    GVariant *value = NULL;
    int answer = 0; /* a gboolean */
    GVariant *reply = ask(
        call, path, "org.freedesktop.DBus.Properties", "Get",
        glib->g_variant_new("(ss)", "org.freedesktop.Secret.Collection", "Locked"), "(v)", failure);
    if (reply == NULL)
        return false;
    glib->g_variant_get(reply, "(v)", &value);
    if (glib->g_variant_is_of_type(value, (const GVariantType *)(const void *)"b"))
        glib->g_variant_get(value, "b", &answer);
    glib->g_variant_unref(value);
    glib->g_variant_unref(reply);
    return answer != 0;
}

/* Asks to unlock an item or a collection.  The caller has to look whether that worked. */
static int unlock(msalex_libsecret_call *call, const char *path) {
    const char *paths[] = {path, NULL};
    const char *prompt = NULL;
    GVariant *result = NULL;
    GError *failure = NULL;
    GVariant *reply = ask(call, "/org/freedesktop/secrets", "org.freedesktop.Secret.Service",
                          "Unlock", glib->g_variant_new("(^ao)", paths), "(aoo)", &failure);
    if (reply == NULL)
        return fail_call(call, failure, "Unlock", MSALEX_OS_ERROR);
    glib->g_variant_get(reply, "(ao&o)", NULL, &prompt);
    if (strcmp(prompt, "/") != 0)
        result = glib->secret_service_prompt_at_dbus_path_sync(call->service, prompt,
                                                               call->cancellable, NULL, &failure);
    if (result != NULL)
        glib->g_variant_unref(result);
    glib->g_variant_unref(reply);
    return failure == NULL ? MSALEX_OK : fail_call(call, failure, "Prompt", MSALEX_OS_ERROR);
}

/* Without a desktop the default collection has to be there and open, because nobody could be asked
 * for its password.  We say so when connecting, not when loading, because programs choose another
 * persistence when connecting fails. */
static int connect_alone(msalex_libsecret_call *call) {
    GError *failure = NULL;
    bool is_locked;
    char *path;

    path = glib->secret_service_read_alias_dbus_path_sync(call->service, "default",
                                                          call->cancellable, &failure);
    if (path == NULL && failure != NULL)
        return fail_call(call, failure, "secret_service_read_alias", MSALEX_UNAVAILABLE);
    if (path == NULL)
        return msalex__fail(&call->error, MSALEX_UNAVAILABLE, SECRET_NO_SUCH_OBJECT,
                            "secret_service_read_alias",
                            "there is no default keyring, and without a desktop nobody can be"
                            " asked for the password of a new one");
    is_locked = is_collection_locked(call, path, &failure);
    glib->g_free(path);
    if (failure != NULL)
        return fail_call(call, failure, "Get Locked", MSALEX_UNAVAILABLE);
    if (is_locked)
        return msalex__fail(&call->error, MSALEX_DENIED, SECRET_LOCKED, "Get Locked",
                            "the keyring is locked, and without a desktop nobody can be asked"
                            " for its password");
    return MSALEX_OK;
}

static int save(msalex_libsecret_call *call) {
    static const char name[] = "secret_service_store_sync";
    GError *failure = NULL;
    char path[256];
    int status;

    /* Where a prompt can appear, unlock before libsecret would (see the top). */
    if (!call->alone) {
        const char *collection = call->collection == NULL ? "default" : call->collection;
        const char *aliases = strchr(collection, '/') ? "" : "/org/freedesktop/secrets/aliases/";
        (void)snprintf(path, sizeof path, "%s%s", aliases, collection);
        if (is_collection_locked(call, path, &failure)) {
            if ((status = unlock(call, path)) != MSALEX_OK)
                return status;
            if (is_collection_locked(call, path, &failure))
                return fail_locked(call, name);
        }
        if (failure != NULL) /* no such collection: storing makes it, or says so */
            glib->g_error_free(failure);
        failure = NULL;
    }
    if (glib->secret_service_store_sync(call->service, call->schema, call->attributes,
                                        call->collection, call->label, call->value,
                                        call->cancellable, &failure))
        return MSALEX_OK;
    status = fail_call(call, failure, name, MSALEX_OS_ERROR);
    /* Not found is the collection: "nothing stored" is no answer to a save. */
    return status == MSALEX_NOT_FOUND ? MSALEX_UNAVAILABLE : status;
}

/* Copies the secret of an item that is not locked.  (libsecret 0.20.5's own function for this loses
 * the memory of the reply with each call, so we let it only decode.) */
static int fetch(msalex_libsecret_call *call, const char *path) {
    static const char name[] = "GetSecret";
    const char *session = glib->secret_service_get_session_dbus_path(call->service);
    GVariant *encoded = NULL;
    GError *failure = NULL;
    const char *text;
    size_t size = 0;
    SecretValue *value;
    int status;
    GVariant *reply = ask(call, path, "org.freedesktop.Secret.Item", "GetSecret",
                          glib->g_variant_new("(o)", session), "((oayays))", &failure);

    if (reply == NULL)
        return fail_call(call, failure, name, MSALEX_OS_ERROR);
    glib->g_variant_get(reply, "(@(oayays))", &encoded);
    value = glib->secret_service_decode_dbus_secret(call->service, encoded);
    glib->g_variant_unref(encoded);
    glib->g_variant_unref(reply);
    if (value == NULL)
        return msalex__fail(&call->error, MSALEX_OS_ERROR, 0, name,
                            "the Secret Service sent what libsecret cannot decode");
    text = glib->secret_value_get(value, &size);
    if (!glib->g_utf8_validate(text, (ptrdiff_t)size, NULL)) /* refuses NUL as well */
        status = msalex__fail(&call->error, MSALEX_CORRUPT, 0, name, "the item is not UTF-8 text");
    else
        status = msalex__buffer_copy(&call->secret, text, size, &call->error);
    glib->secret_value_unref(value);
    return status;
}

/* Finds the paths of the items that are open (NULL: not wanted) and of those that are locked, both
 * to be freed.  A failure is told as one of the function `name`. */
static int search(msalex_libsecret_call *call, const char *name, char ***open, char ***locked) {
    GError *failure = NULL;

    if (glib->secret_service_search_for_dbus_paths_sync(call->service, call->schema,
                                                        call->attributes, call->cancellable, open,
                                                        locked, &failure))
        return MSALEX_OK;
    return fail_call(call, failure, name, MSALEX_OS_ERROR);
}

/* Fetches the item that libsecret's look-up would choose: the first one that is open.  When all are
 * locked the answer is MSALEX_DENIED, and `*locked` is the path of the first, to be freed. */
static int look_up(msalex_libsecret_call *call, char **locked) {
    static const char name[] = "secret_service_search";
    char **open_paths = NULL, **locked_paths = NULL;
    int status;

    *locked = NULL;
    if ((status = search(call, name, &open_paths, &locked_paths)) != MSALEX_OK)
        return status;
    if (open_paths[0] != NULL) {
        status = fetch(call, open_paths[0]);
    } else if (locked_paths[0] != NULL) {
        *locked = glib->g_strdup(locked_paths[0]);
        status = fail_locked(call, name);
    } else {
        status = fail_not_found(call, name);
    }
    glib->g_strfreev(open_paths);
    glib->g_strfreev(locked_paths);
    return status;
}

static int load(msalex_libsecret_call *call) {
    char *locked, *still_locked = NULL;
    int status = look_up(call, &locked);

    if (locked != NULL && (status = unlock(call, locked)) == MSALEX_OK)
        status = look_up(call, &still_locked);
    glib->g_free(locked);
    glib->g_free(still_locked);
    return status;
}

static int delete(msalex_libsecret_call *call) {
    static const char name[] = "secret_service_clear_sync";
    char **locked = NULL;
    GError *failure = NULL;
    int status;
    const bool cleared =
        glib->secret_service_clear_sync(call->service, call->schema, call->attributes,
                                        call->cancellable, &failure) != 0;

    if (failure != NULL)
        return fail_call(call, failure, name, MSALEX_OS_ERROR);
    /* This has passed over locked items. */
    if ((status = search(call, name, NULL, &locked)) != MSALEX_OK)
        return status;
    if (locked[0] != NULL)
        status = fail_locked(call, name);
    else if (!cleared)
        status = fail_not_found(call, name);
    glib->g_strfreev(locked);
    return status;
}

static int attempt(msalex_libsecret_call *call) {
    int status;

    call->again = false;
    if ((status = reach(call)) == MSALEX_OK) {
        if (call->operation == MSALEX_LIBSECRET_SAVE)
            status = save(call);
        else if (call->operation == MSALEX_LIBSECRET_LOAD)
            status = load(call);
        else if (call->operation == MSALEX_LIBSECRET_DELETE)
            status = delete(call);
        else if (call->alone && call->collection == NULL)
            status = connect_alone(call);
    }
    if (call->service != NULL)
        glib->g_object_unref(call->service);
    if (call->bus != NULL)
        glib->g_object_unref(call->bus);
    call->service = NULL;
    call->bus = NULL;
    return status;
}

int msalex__libsecret_perform(msalex_libsecret_call *call) {
    int status = attempt(call);

    if (status != MSALEX_OK && call->again) { /* once; the deadline goes on counting */
        glib->secret_service_disconnect();
        status = attempt(call);
    }
    return status == MSALEX_OK ? msalex__ok(&call->error) : status;
}
