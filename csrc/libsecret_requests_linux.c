/*
 * The methods of the Secret Service that we use, each as a function.  libsecret_service_linux.c
 * combines them.
 *
 * libsecret has functions for items, too.  They are not used, because they wait for a person without
 * a deadline, say "nothing there" of a locked item, and never change an item in place.
 */
#include <string.h>

#include "libsecret_linux.h"

#define SERVICE_INTERFACE "org.freedesktop.Secret.Service"
#define COLLECTION_INTERFACE "org.freedesktop.Secret.Collection"
#define ITEM_INTERFACE "org.freedesktop.Secret.Item"
#define PROPERTIES_INTERFACE "org.freedesktop.DBus.Properties"
#define SERVICE_PATH "/org/freedesktop/secrets"

static int fail_no_collection(msalex_libsecret_call *call) {
    call->again = call->gone = false;
    return msalex__fail(&call->error, MSALEX_UNAVAILABLE, SECRET_NO_SUCH_OBJECT, "collection",
                        "the Secret Service has no such collection");
}

/* ---- collections ---- */

void msalex__libsecret_ask_for_collection(msalex_libsecret_call *call, GAsyncResult **answer) {
    const char *alias = call->collection == NULL ? "default" : call->collection;

    *answer = NULL;
    if (strchr(alias, '/') == NULL)
        msalex__libsecret_send(call, NULL, SERVICE_PATH, SERVICE_INTERFACE, "ReadAlias",
                               glib->g_variant_new("(s)", alias), "(o)", answer);
}

int msalex__libsecret_find_collection(msalex_libsecret_call *call, GAsyncResult **answer,
                                      char **path) {
    GError *failure = NULL;
    GVariant *reply;

    *path = NULL;
    if (call->collection != NULL && strchr(call->collection, '/') != NULL) {
        *path = glib->g_strdup(call->collection);
        return MSALEX_OK;
    }
    if ((reply = msalex__libsecret_receive(call, answer, &failure)) == NULL)
        return msalex__libsecret_fail(call, failure, "ReadAlias", MSALEX_OS_ERROR);
    glib->g_variant_get(reply, "(o)", path);
    glib->g_variant_unref(reply);
    if (strcmp(*path, "/") != 0)
        return MSALEX_OK;
    glib->g_free(*path);
    *path = NULL;
    return call->collection == NULL ? MSALEX_OK : fail_no_collection(call);
}

/* Reads a property of a collection, of this type; NULL with `failure`: it could not be read. */
static GVariant *get_property(msalex_libsecret_call *call, const char *path, const char *name,
                              const char *type, GError **failure) {
    GVariant *value = NULL;
    GVariant *reply = msalex__libsecret_ask(call, NULL, path, PROPERTIES_INTERFACE, "Get",
                                            glib->g_variant_new("(ss)", COLLECTION_INTERFACE, name),
                                            "(v)", failure);

    if (reply == NULL)
        return NULL;
    glib->g_variant_get(reply, "(v)", &value);
    glib->g_variant_unref(reply);
    if (glib->g_variant_is_of_type(value, (const GVariantType *)(const void *)type))
        return value;
    glib->g_variant_unref(value);
    return NULL;
}

int msalex__libsecret_look_at_lock(msalex_libsecret_call *call, const char *path, bool *locked) {
    GError *failure = NULL;
    GVariant *value = get_property(call, path, "Locked", "b", &failure);
    int answer = 0; /* a gboolean */
    int status;

    if (failure != NULL) {
        status = msalex__libsecret_fail(call, failure, "Get Locked", MSALEX_OS_ERROR);
        return call->gone ? fail_no_collection(call) : status;
    }
    if (value != NULL) {
        glib->g_variant_get(value, "b", &answer);
        glib->g_variant_unref(value);
    }
    *locked = answer != 0;
    return MSALEX_OK;
}

char *msalex__libsecret_label_of(msalex_libsecret_call *call, const char *path) {
    GVariant *value = get_property(call, path, "Label", "s", NULL);
    char *label = NULL;

    if (value != NULL) {
        glib->g_variant_get(value, "s", &label);
        glib->g_variant_unref(value);
    }
    return label;
}

int msalex__libsecret_unlock(msalex_libsecret_call *call, const char *path, int64_t limit_ms) {
    const char *paths[] = {path, NULL};
    const char *prompt = NULL;
    GError *failure = NULL;
    GVariant *reply = msalex__libsecret_ask(call, NULL, SERVICE_PATH, SERVICE_INTERFACE, "Unlock",
                                            glib->g_variant_new("(^ao)", paths), "(aoo)", &failure);
    int status;

    if (reply == NULL)
        return msalex__libsecret_fail(call, failure, "Unlock", MSALEX_OS_ERROR);
    glib->g_variant_get(reply, "(ao&o)", NULL, &prompt);
    status = msalex__libsecret_prompt(call, prompt, limit_ms);
    glib->g_variant_unref(reply);
    return status;
}

int msalex__libsecret_create_default(msalex_libsecret_call *call, char **path) {
    const char *prompt = NULL;
    GError *failure = NULL;
    GAsyncResult *answer;
    int status;
    GVariant *reply = msalex__libsecret_ask(
        call, NULL, SERVICE_PATH, SERVICE_INTERFACE, "CreateCollection",
        glib->g_variant_new_parsed("({'" COLLECTION_INTERFACE ".Label': <'Default keyring'>},"
                                   " 'default')"),
        "(oo)", &failure);
    if (reply == NULL)
        return msalex__libsecret_fail(call, failure, "CreateCollection", MSALEX_OS_ERROR);
    glib->g_variant_get(reply, "(o&o)", NULL, &prompt);
    status = msalex__libsecret_prompt(call, prompt, -1);
    glib->g_variant_unref(reply);
    if (status != MSALEX_OK)
        return status;
    msalex__libsecret_ask_for_collection(call, &answer);
    return msalex__libsecret_find_collection(call, &answer, path);
}

/* ---- items ---- */

int msalex__libsecret_search(msalex_libsecret_call *call, char ***open, char ***locked) {
    GError *failure = NULL;
    GVariant *reply = msalex__libsecret_ask(
        call, NULL, SERVICE_PATH, SERVICE_INTERFACE, "SearchItems",
        glib->g_variant_new("(@a{ss})", call->attributes), "(aoao)", &failure);

    *open = *locked = NULL;
    if (reply == NULL)
        return msalex__libsecret_fail(call, failure, "SearchItems", MSALEX_OS_ERROR);
    glib->g_variant_get(reply, "(^ao^ao)", open, locked);
    glib->g_variant_unref(reply);
    return MSALEX_OK;
}

int msalex__libsecret_fetch(msalex_libsecret_call *call, const char *path) {
    static const char name[] = "GetSecret";
    const char *session = glib->secret_service_get_session_dbus_path(call->service);
    GVariant *encoded = NULL;
    GError *failure = NULL;
    const char *text;
    size_t size = 0;
    SecretValue *value;
    int status;
    GVariant *reply =
        msalex__libsecret_ask(call, NULL, path, ITEM_INTERFACE, name,
                              glib->g_variant_new("(o)", session), "((oayays))", &failure);

    if (reply == NULL)
        return msalex__libsecret_fail(call, failure, name, MSALEX_OS_ERROR);
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

/* KeePassXC shows these with each item (EntryAttributes::DefaultAttributes and ItemAttributes in its
 * sources). */
static bool is_of_keepassxc(const char *name) {
    static const char *const names[] = {"Title", "UserName", "URL", "Notes", "Path", "Uuid"};

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    return false;
}

/* Are these the attributes that the call would give to a new item? */
static bool are_ours(msalex_libsecret_call *call, GVariant *attributes) {
    const char *name, *value, *other;

    for (size_t i = 0; i < glib->g_variant_n_children(call->attributes); i++) {
        glib->g_variant_get_child(call->attributes, i, "{&s&s}", &name, &value);
        if (!glib->g_variant_lookup(attributes, name, "&s", &other) || strcmp(value, other) != 0)
            return false;
    }
    for (size_t i = 0; i < glib->g_variant_n_children(attributes); i++) {
        glib->g_variant_get_child(attributes, i, "{&s&s}", &name, &value);
        if (!is_of_keepassxc(name) && !glib->g_variant_lookup(call->attributes, name, "&s", &other))
            return false;
    }
    return true;
}

int msalex__libsecret_look_at_item(msalex_libsecret_call *call, const char *path, bool *ours,
                                   bool *nameless) {
    GVariant *attributes = NULL, *properties = NULL;
    const char *label = NULL;
    GError *failure = NULL;
    GVariant *reply =
        msalex__libsecret_ask(call, NULL, path, PROPERTIES_INTERFACE, "GetAll",
                              glib->g_variant_new("(s)", ITEM_INTERFACE), "(a{sv})", &failure);

    *ours = *nameless = false;
    if (reply == NULL)
        return msalex__libsecret_fail(call, failure, "GetAll", MSALEX_OS_ERROR);
    glib->g_variant_get(reply, "(@a{sv})", &properties);
    if (glib->g_variant_lookup(properties, "Attributes", "@a{ss}", &attributes)) {
        *ours = are_ours(call, attributes);
        glib->g_variant_unref(attributes);
    }
    *nameless = glib->g_variant_lookup(properties, "Label", "&s", &label) && label[0] == '\0';
    glib->g_variant_unref(properties);
    glib->g_variant_unref(reply);
    return MSALEX_OK;
}

/* Encrypts the call's secret for the session; NULL: fills the error. */
static GVariant *encode(msalex_libsecret_call *call) {
    GVariant *encoded = glib->secret_service_encode_dbus_secret(call->service, call->value);

    if (encoded == NULL)
        (void)msalex__fail(&call->error, MSALEX_OS_ERROR, 0, "encode",
                           "libsecret could not encrypt the text for the Secret Service");
    return encoded;
}

int msalex__libsecret_set_secret(msalex_libsecret_call *call, const char *path, bool nameless) {
    GError *failure = NULL;
    GVariant *encoded = encode(call), *reply;

    if (encoded == NULL)
        return MSALEX_OS_ERROR;
    reply = msalex__libsecret_ask(call, NULL, path, ITEM_INTERFACE, "SetSecret",
                                  glib->g_variant_new("(@(oayays))", encoded), "()", &failure);
    if (reply == NULL)
        return msalex__libsecret_fail(call, failure, "SetSecret", MSALEX_OS_ERROR);
    glib->g_variant_unref(reply);
    if (nameless && call->label[0] != '\0') {
        reply = msalex__libsecret_ask(call, NULL, path, PROPERTIES_INTERFACE, "Set",
                                      glib->g_variant_new("(ssv)", ITEM_INTERFACE, "Label",
                                                          glib->g_variant_new("s", call->label)),
                                      "()", NULL);
        if (reply != NULL)
            glib->g_variant_unref(reply);
    }
    return MSALEX_OK;
}

int msalex__libsecret_create_item(msalex_libsecret_call *call, const char *collection,
                                  char **locked) {
    const char *prompt = NULL;
    GError *failure = NULL;
    GVariant *encoded = encode(call), *reply;
    int status;

    if (encoded == NULL)
        return MSALEX_OS_ERROR;
    reply = msalex__libsecret_ask(
        call, NULL, collection, COLLECTION_INTERFACE, "CreateItem",
        glib->g_variant_new_parsed("({'" ITEM_INTERFACE ".Label': <%s>, '" ITEM_INTERFACE
                                   ".Attributes': <%@a{ss}>}, %@(oayays), true)",
                                   call->label, call->attributes, encoded),
        "(oo)", &failure);
    if (reply == NULL) {
        status = msalex__libsecret_fail(call, failure, "CreateItem", MSALEX_OS_ERROR);
        if (status == MSALEX_DENIED)
            *locked = glib->g_strdup(collection);
        return call->gone ? fail_no_collection(call) : status;
    }
    glib->g_variant_get(reply, "(o&o)", NULL, &prompt);
    status = msalex__libsecret_prompt(call, prompt, -1);
    glib->g_variant_unref(reply);
    return status;
}

int msalex__libsecret_delete_item(msalex_libsecret_call *call, const char *path) {
    const char *prompt = NULL;
    GError *failure = NULL;
    int status;
    GVariant *reply =
        msalex__libsecret_ask(call, NULL, path, ITEM_INTERFACE, "Delete", NULL, "(o)", &failure);

    if (reply == NULL) {
        status = msalex__libsecret_fail(call, failure, "Delete", MSALEX_OS_ERROR);
        return call->gone ? MSALEX_OK : status;
    }
    glib->g_variant_get(reply, "(&o)", &prompt);
    status = msalex__libsecret_prompt(call, prompt, -1);
    glib->g_variant_unref(reply);
    return status;
}
