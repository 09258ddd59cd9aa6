/*
 * What libsecret_linux.c and libsecret_service_linux.c use of libsecret and GLib, declared by
 * ourselves, so that building needs no -dev package.  It is a file of its own because
 * libsecret_declarations.c in tests/native/linux compiles it together with the real headers, with
 * which it must agree: hence their names and tags.  (SecretSchema has no tag there, so each file
 * that includes this header declares it before.)
 */
#ifndef MSALEX_GLIB_LINUX_H
#define MSALEX_GLIB_LINUX_H

#include <stddef.h>
#include <stdint.h>

typedef struct _GCancellable GCancellable;
typedef struct _GDBusConnection GDBusConnection;
typedef struct _GDBusProxy GDBusProxy;
typedef struct _GError GError;
typedef struct _GHashTable GHashTable;
typedef struct _GMainContext GMainContext;
typedef struct _GObject GObject;
typedef struct _GVariant GVariant;
typedef struct _GVariantType GVariantType;
typedef struct _SecretService SecretService;
typedef struct _SecretValue SecretValue;

/* The layout of a GError, under another name because the real header defines that one. */
struct glib_error {
    uint32_t domain;
    int code;
    char *message;
};

/* Their enumerators, under other names for the same reason. */
enum glib_bus_type { BUS_SESSION = 2 };
enum glib_service_flags { SERVICE_NONE = 0, SERVICE_OPEN_SESSION = 2 };
enum glib_schema_flags { SCHEMA_NONE = 0 };
enum glib_schema_types {
    SCHEMA_STRING,
    SCHEMA_INTEGER,
    SCHEMA_BOOLEAN,
    SCHEMA_ATTRIBUTES_MAX = 32
};
enum glib_secret_error { SECRET_LOCKED = 2, SECRET_NO_SUCH_OBJECT = 3 };
enum glib_io_error {
    IO_NOT_FOUND = 1,
    IO_PERMISSION_DENIED = 14,
    IO_CLOSED = 18,
    IO_CANCELLED = 19,
    IO_TIMED_OUT = 24,
    IO_DBUS_ERROR = 36,
    IO_CONNECTION_REFUSED = 39,
    IO_BROKEN_PIPE = 44
};
enum glib_dbus_error {
    DBUS_SERVICE_UNKNOWN = 2,
    DBUS_NAME_HAS_NO_OWNER = 3,
    DBUS_NO_REPLY = 4,
    DBUS_ACCESS_DENIED = 9,
    DBUS_AUTH_FAILED = 10,
    DBUS_NO_SERVER = 11,
    DBUS_TIMEOUT = 12,
    DBUS_DISCONNECTED = 15,
    DBUS_UNKNOWN_METHOD = 19,
    DBUS_TIMED_OUT = 20,
    DBUS_SPAWN_FIRST = 23,
    DBUS_SPAWN_LAST = 34,
    DBUS_UNKNOWN_OBJECT = 41
};

/* ROW(result, function, parameters): one for each function that is looked up. */
#define GLIB_FUNCTIONS(ROW)                                                                      \
    ROW(GDBusConnection *, g_bus_get_sync, (int type, GCancellable *, GError **))                \
    ROW(void, g_cancellable_cancel, (GCancellable *))                                            \
    ROW(GCancellable *, g_cancellable_new, (void))                                               \
    ROW(GVariant *, g_dbus_connection_call_sync,                                                 \
        (GDBusConnection *, const char *name, const char *path, const char *interface,           \
         const char *method, GVariant *parameters, const GVariantType *reply, unsigned flags,    \
         int timeout_ms, GCancellable *, GError **))                                             \
    ROW(int, g_dbus_connection_is_closed, (GDBusConnection *))                                   \
    ROW(void, g_dbus_connection_set_exit_on_close, (GDBusConnection *, int))                     \
    ROW(const char *, g_dbus_proxy_get_name, (GDBusProxy *))                                     \
    ROW(void, g_error_free, (GError *))                                                          \
    ROW(void, g_free, (void *))                                                                  \
    ROW(int, g_hash_table_insert, (GHashTable *, void *key, void *value))                        \
    ROW(GHashTable *, g_hash_table_new_full,                                                     \
        (unsigned (*hash)(const void *), int (*equal)(const void *, const void *),               \
         void (*free_key)(void *), void (*free_value)(void *)))                                  \
    ROW(void, g_hash_table_unref, (GHashTable *))                                                \
    ROW(int, g_main_context_iteration, (GMainContext *, int may_block))                          \
    ROW(GMainContext *, g_main_context_new, (void))                                              \
    ROW(void, g_main_context_pop_thread_default, (GMainContext *))                               \
    ROW(void, g_main_context_push_thread_default, (GMainContext *))                              \
    ROW(void, g_object_run_dispose, (GObject *))                                                 \
    ROW(void, g_object_unref, (void *))                                                          \
    ROW(const char *, g_quark_to_string, (uint32_t))                                             \
    ROW(int, g_str_equal, (const void *, const void *))                                          \
    ROW(unsigned, g_str_hash, (const void *))                                                    \
    ROW(char *, g_strdup, (const char *))                                                        \
    ROW(void, g_strfreev, (char **))                                                             \
    ROW(int, g_utf8_validate, (const char *, ptrdiff_t size, const char **end))                  \
    ROW(void, g_variant_get, (GVariant *, const char *format, ...))                              \
    ROW(int, g_variant_is_object_path, (const char *))                                           \
    ROW(int, g_variant_is_of_type, (GVariant *, const GVariantType *))                           \
    ROW(GVariant *, g_variant_new, (const char *format, ...))                                    \
    ROW(void, g_variant_unref, (GVariant *))                                                     \
    ROW(SecretSchema *, secret_schema_newv,                                                      \
        (const char *name, unsigned flags, GHashTable *names_and_types))                         \
    ROW(void, secret_schema_unref, (SecretSchema *))                                             \
    ROW(int, secret_service_clear_sync,                                                          \
        (SecretService *, const SecretSchema *, GHashTable *, GCancellable *, GError **))        \
    ROW(SecretValue *, secret_service_decode_dbus_secret, (SecretService *, GVariant *))         \
    ROW(void, secret_service_disconnect, (void))                                                 \
    ROW(const char *, secret_service_get_session_dbus_path, (SecretService *))                   \
    ROW(SecretService *, secret_service_get_sync, (unsigned flags, GCancellable *, GError **))   \
    ROW(GVariant *, secret_service_prompt_at_dbus_path_sync,                                     \
        (SecretService *, const char *path, GCancellable *, const GVariantType *, GError **))    \
    ROW(char *, secret_service_read_alias_dbus_path_sync,                                        \
        (SecretService *, const char *alias, GCancellable *, GError **))                         \
    ROW(int, secret_service_search_for_dbus_paths_sync,                                          \
        (SecretService *, const SecretSchema *, GHashTable *, GCancellable *, char ***unlocked,  \
         char ***locked, GError **))                                                             \
    ROW(int, secret_service_store_sync,                                                          \
        (SecretService *, const SecretSchema *, GHashTable *, const char *collection,            \
         const char *label, SecretValue *, GCancellable *, GError **))                           \
    ROW(const char *, secret_value_get, (SecretValue *, size_t *size))                           \
    ROW(SecretValue *, secret_value_new, (const char *, ptrdiff_t size, const char *type))       \
    ROW(void, secret_value_unref, (void *))

#endif
