/*
 * A prompt of the Secret Service: a dialog in which a person types a password or gives permission.
 *
 * The service sends a signal when it is completed.  Every program on the bus can send signals, so
 * only those of the service's unique name count.  We subscribe before the prompt is shown, so none
 * is missed, and go on until GDBus has forgotten the subscriptions, because until then it may still
 * call back.
 */
#include <errno.h>
#include <string.h>

#include "libsecret_linux.h"

#define PROMPT_INTERFACE "org.freedesktop.Secret.Prompt"

enum { LOOK_MS = 100 }; /* how often we look whether the bus is still there */

struct prompt {
    bool completed, dismissed;
    bool vanished;     /* the service has left the bus */
    int subscriptions; /* that may still call back */
};

/* A GDBusSignalCallback for both signals that end a prompt. */
static void on_signal(GDBusConnection *connection, const char *sender, const char *path,
                      const char *interface, const char *name, GVariant *parameters, void *data) {
    struct prompt *prompt = data;
    int dismissed = 1; /* a gboolean */

    (void)connection, (void)sender, (void)path, (void)interface;
    if (strcmp(name, "Completed") != 0) {
        prompt->vanished = true;
        return;
    }
    /* The result says nothing: its type differs between services, and between their answers. */
    if (glib->g_variant_is_of_type(parameters, (const GVariantType *)(const void *)"(bv)"))
        glib->g_variant_get(parameters, "(bv)", &dismissed, NULL);
    prompt->dismissed = dismissed != 0;
    prompt->completed = true;
}

static void on_unsubscribed(void *data) {
    ((struct prompt *)data)->subscriptions--;
}

static unsigned subscribe(msalex_libsecret_call *call, const char *sender, const char *interface,
                          const char *signal, const char *path, const char *argument,
                          struct prompt *prompt) {
    prompt->subscriptions++;
    return glib->g_dbus_connection_signal_subscribe(call->bus, sender, interface, signal, path,
                                                    argument, 0, on_signal, prompt,
                                                    on_unsubscribed);
}

/* Tells the service to take its prompt away; nobody waits for the answer. */
static void dismiss(msalex_libsecret_call *call, const char *owner, const char *path) {
    glib->g_dbus_connection_call(call->bus, owner, path, PROMPT_INTERFACE, "Dismiss", NULL, NULL, 0,
                                 -1, NULL, NULL, NULL);
}

static int fail_vanished(msalex_libsecret_call *call, const char *name) {
    call->again = true;
    return msalex__fail(&call->error, MSALEX_UNAVAILABLE, 0, name,
                        "the Secret Service has left the bus");
}

/* Shows the prompt of this owner, and waits until it ends. */
static int show(msalex_libsecret_call *call, const char *owner, const char *path, int64_t limit_ms,
                struct prompt *prompt) {
    static const char name[] = "Prompt";
    const int64_t limit = limit_ms < 0 ? INT64_MAX : msalex__now_ms() + limit_ms;
    GError *failure = NULL;
    GVariant *reply = msalex__libsecret_ask(call, owner, path, PROMPT_INTERFACE, name,
                                            glib->g_variant_new("(s)", ""), "()", &failure);

    if (reply == NULL) {
        const int status = msalex__libsecret_fail(call, failure, name, MSALEX_OS_ERROR);
        if (status == MSALEX_TIMEOUT)
            dismiss(call, owner, path);
        return status;
    }
    glib->g_variant_unref(reply);
    while (!prompt->completed && !prompt->vanished) {
        if (glib->g_dbus_connection_is_closed(call->bus))
            return fail_vanished(call, name);
        if (msalex__now_ms() >= limit || !msalex__libsecret_pause(call, LOOK_MS)) {
            dismiss(call, owner, path);
            return msalex__fail(&call->error, MSALEX_TIMEOUT, ETIMEDOUT, name,
                                "nobody answered the prompt of the Secret Service in time");
        }
    }
    if (!prompt->completed)
        return fail_vanished(call, name);
    if (prompt->dismissed)
        return msalex__fail(&call->error, MSALEX_DENIED, SECRET_LOCKED, name,
                            "the prompt was dismissed, so the keyring stays locked");
    return MSALEX_OK;
}

int msalex__libsecret_prompt(msalex_libsecret_call *call, const char *path, int64_t limit_ms) {
    struct prompt prompt = {0};
    unsigned completed, vanished;
    char *owner;
    int status;

    if (strcmp(path, "/") == 0)
        return MSALEX_OK;
    if ((owner = msalex__libsecret_owner(call, NULL)) == NULL)
        return fail_vanished(call, "GetNameOwner");
    completed = subscribe(call, owner, PROMPT_INTERFACE, "Completed", path, NULL, &prompt);
    vanished = subscribe(call, "org.freedesktop.DBus", "org.freedesktop.DBus", "NameOwnerChanged",
                         "/org/freedesktop/DBus", owner, &prompt);
    status = show(call, owner, path, limit_ms, &prompt);
    glib->g_dbus_connection_signal_unsubscribe(call->bus, completed);
    glib->g_dbus_connection_signal_unsubscribe(call->bus, vanished);
    while (prompt.subscriptions > 0)
        (void)glib->g_main_context_iteration(call->context, 1);
    glib->g_free(owner);
    return status;
}
