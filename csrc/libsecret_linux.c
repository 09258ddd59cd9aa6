/*
 * One item of the Secret Service, through libsecret.  Twin: libsecret_none.c.
 *
 * How a call runs.  libsecret blocks on another process, and on a person when a keyring has to be
 * unlocked, so each call gets a thread.  The caller waits on an eventfd, in slices.  The thread ends
 * the call at its deadline.  If GLib does not obey it within GRACE_MS, the caller leaves, and the
 * thread frees what both shared once it has ended the call.
 */
#define _GNU_SOURCE /* ppoll */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libsecret_linux.h"
#include "thread_posix.h"

enum {
    GRACE_MS = 100,       /* how long a cancelled call may take to end */
    STACK_BYTES = 1 << 20 /* enough for libgcrypt, static TLS and sanitizers; only address space */
};

static atomic_int process_used; /* the process with GLib's worker thread; 0: none yet */

static int fail_forked(msalex_error *error) {
    return msalex__fail(error, MSALEX_UNAVAILABLE, 0, "fork",
                        "libsecret was used before this process was forked off, and does"
                        " not survive that; use a fresh process (spawn, exec)");
}

/* Finds out whether a call can begin.  Where there is no bus, GIO would start one of its own
 * (dbus-launch); no other program is on that bus, so it has no keyring. */
static int check_usable(msalex_error *error) {
    const char *address = getenv("DBUS_SESSION_BUS_ADDRESS");
    const char *directory = getenv("XDG_RUNTIME_DIR");
    char path[256];
    struct stat file;
    int process;
    int status = msalex__libsecret_library(error);

    if (status != MSALEX_OK)
        return status;
    process = atomic_load(&process_used);
    if (process != 0 && process != getpid())
        return fail_forked(error);
    if (address != NULL && strstr(address, "autolaunch:") == NULL)
        return msalex__ok(error);
    (void)snprintf(path, sizeof path, "%s/bus", directory == NULL ? "" : directory);
    if (address == NULL && stat(path, &file) == 0 && S_ISSOCK(file.st_mode) &&
        file.st_uid == geteuid()) /* GIO asks the same before it launches a bus */
        return msalex__ok(error);
    return msalex__fail(error, MSALEX_UNAVAILABLE, 0, "D-Bus",
                        "no session bus: DBUS_SESSION_BUS_ADDRESS is not set, and there is no"
                        " $XDG_RUNTIME_DIR/bus");
}

/* Gives up one reference; the last one frees. */
static void drop(msalex_libsecret_call *call) {
    if (atomic_fetch_sub(&call->references, 1) > 1)
        return;
    if (call->attributes != NULL)
        glib->g_variant_unref(call->attributes);
    if (call->value != NULL)
        glib->secret_value_unref(call->value);
    if (call->context != NULL)
        glib->g_main_context_unref(call->context);
    glib->g_free(call->label);
    glib->g_free(call->collection);
    msalex_buffer_free(&call->secret);
    if (call->event >= 0)
        (void)close(call->event);
    free(call);
}

static void *run(void *argument) {
    msalex_libsecret_call *call = argument;

    call->status = msalex__libsecret_perform(call);
    atomic_store(&call->done, true);
    (void)eventfd_write(call->event, 1);
    drop(call);
    return NULL;
}

/* Runs the call in a thread of its own. */
static int run_apart(msalex_libsecret_call *call) {
    int code;

    atomic_store(&call->references, 2);
    atomic_store(&process_used, (int)call->process);
    if ((code = msalex__start_thread(run, call, STACK_BYTES)) != 0)
        atomic_store(&call->references, 1);
    return code;
}

static bool is_utf8(const char *text) {
    return glib->g_utf8_validate(text, -1, NULL) != 0;
}

/* Does an attribute have the form of its SecretSchemaAttributeType?  libsecret asks the same. */
static bool fits(const char *value, int type) {
    char *end = NULL;

    if (type == SCHEMA_BOOLEAN)
        return strcmp(value, "true") == 0 || strcmp(value, "false") == 0;
    if (type == SCHEMA_INTEGER) {
        (void)strtoll(value, &end, 10);
        return *end == '\0';
    }
    return type == SCHEMA_STRING;
}

/* A name that D-Bus allows as the last part of a path. */
static bool is_alias(const char *name) {
    return name[0] != '\0' && strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                           "0123456789_") == strlen(name);
}

/* GLib ends the program, or cuts the text, when it meets strings that it does not expect. */
static const char *complaint_about(int operation, const msalex_libsecret_item *item,
                                   const unsigned char *secret, size_t size) {
    const char *collection = item->collection;

    if (!is_utf8(item->schema) || (item->label != NULL && !is_utf8(item->label)))
        return "the schema or the label is not UTF-8";
    if (collection != NULL && !is_alias(collection) &&
        (strchr(collection, '/') == NULL || !glib->g_variant_is_object_path(collection)))
        return "the collection is neither an alias nor a D-Bus object path";
    if (item->count > SCHEMA_ATTRIBUTES_MAX)
        return "an item has 32 attributes at most";
    for (size_t i = 0; i < item->count; i++) {
        if (!is_utf8(item->names[i]) || !is_utf8(item->values[i]))
            return "an attribute is not UTF-8";
        if (item->types[i] < SCHEMA_STRING || item->types[i] > SCHEMA_BOOLEAN)
            return "the type of an attribute is none of string, integer, boolean";
        if (operation != MSALEX_LIBSECRET_CONNECT && !fits(item->values[i], item->types[i]))
            return "the attributes do not fit their types";
    }
    if (size > 0 && !glib->g_utf8_validate((const char *)secret, (ptrdiff_t)size, NULL))
        return "the text is not UTF-8, or contains a NUL character";
    return NULL;
}

/* What identifies the item: its attributes and its schema, as libsecret tells them to the service. */
static GVariant *attributes_of(const msalex_libsecret_item *item) {
    static const char schema[] = "xdg:schema";
    GVariantBuilder *builder =
        glib->g_variant_builder_new((const GVariantType *)(const void *)"a{ss}");
    GVariant *attributes;

    for (size_t i = 0; i < item->count; i++)
        if (strcmp(item->names[i], schema) != 0)
            glib->g_variant_builder_add(builder, "{ss}", item->names[i], item->values[i]);
    glib->g_variant_builder_add(builder, "{ss}", schema, item->schema);
    attributes = glib->g_variant_ref_sink(glib->g_variant_builder_end(builder));
    glib->g_variant_builder_unref(builder);
    return attributes;
}

int msalex_libsecret_start(int operation, const msalex_libsecret_item *item,
                           const unsigned char *secret, size_t size, int64_t timeout_ms,
                           msalex_libsecret_call **call, msalex_error *error) {
    const char *displays[] = {getenv("DISPLAY"), getenv("WAYLAND_DISPLAY")};
    msalex_libsecret_call *made;
    const char *complaint;
    int status, code;

    *call = NULL;
    if ((status = check_usable(error)) != MSALEX_OK)
        return status;
    if ((complaint = complaint_about(operation, item, secret, size)) != NULL)
        return msalex__fail(error, MSALEX_INVALID, EINVAL, "libsecret", complaint);
    if ((made = calloc(1, sizeof *made)) == NULL)
        return msalex__fail_errno(error, ENOMEM, "calloc");
    atomic_init(&made->references, 1);
    atomic_init(&made->done, false);
    atomic_init(&made->left, false);
    if ((made->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) < 0) {
        status = msalex__fail_errno(error, errno, "eventfd");
        goto err;
    }
    made->process = getpid();
    made->operation = operation;
    made->alone = (displays[0] == NULL || displays[0][0] == '\0') &&
                  (displays[1] == NULL || displays[1][0] == '\0');
    if (operation == MSALEX_LIBSECRET_CONNECT && (timeout_ms < 0 || timeout_ms > CONNECT_MS))
        timeout_ms = CONNECT_MS;
    made->deadline = timeout_ms < 0 ? -1 : msalex__now_ms() + timeout_ms;
    made->label = glib->g_strdup(item->label == NULL ? "" : item->label);
    made->collection = glib->g_strdup(item->collection); /* NULL stays NULL */
    made->attributes = attributes_of(item);
    made->context = glib->g_main_context_new();
    if (operation == MSALEX_LIBSECRET_SAVE)
        made->value = glib->secret_value_new(size == 0 ? "" : (const char *)secret, (ptrdiff_t)size,
                                             "text/plain");
    if ((code = run_apart(made)) != 0) {
        status = msalex__fail_errno(error, code, "pthread_create");
        goto err;
    }
    *call = made;
    return msalex__ok(error);
err:
    drop(made);
    return status;
}

int msalex_libsecret_wait(msalex_libsecret_call *call, int64_t slice_ms, msalex_buffer *secret,
                          msalex_error *error) {
    int64_t left = slice_ms, begin = msalex__now_ms();
    struct pollfd event = {.fd = call->event, .events = POLLIN};
    struct timespec timeout;
    int ready;

    *secret = (msalex_buffer){0};
    if (getpid() != call->process)
        return fail_forked(error);
    if (call->deadline >= 0) {
        const int64_t end = call->deadline + GRACE_MS;
        if (left < 0 || left > end - begin)
            left = end > begin ? end - begin : 0;
    }
    timeout = (struct timespec){.tv_sec = (time_t)(left / 1000),
                                .tv_nsec = (long)(left % 1000) * 1000000};
    ready = ppoll(&event, 1, left < 0 ? NULL : &timeout, NULL);
    if (ready < 0)
        return msalex__fail_errno(error, errno, "ppoll");
    if (atomic_load(&call->done)) {
        *secret = call->secret;
        call->secret = (msalex_buffer){0};
        *error = call->error;
        return call->status;
    }
    if (call->deadline >= 0 && msalex__now_ms() >= call->deadline + GRACE_MS)
        return msalex__fail(error, MSALEX_TIMEOUT, ETIMEDOUT, "libsecret",
                            "the Secret Service did not answer in time");
    return msalex__fail(error, MSALEX_TIMEOUT, 0, "libsecret", "still running");
}

void msalex_libsecret_free(msalex_libsecret_call *call) {
    if (call == NULL)
        return;
    if (getpid() != call->process) { /* a child made by fork has no such thread, and no GLib */
        msalex_buffer_free(&call->secret);
        (void)close(call->event);
        free(call);
        return;
    }
    atomic_store(&call->left, true);
    msalex__libsecret_wake(call);
    drop(call);
}
