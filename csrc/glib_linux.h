/*
 * What the files of the Secret Service use of libsecret and GLib, declared by ourselves, so that
 * building needs no -dev package.  It is a file of its own because
 * libsecret_declarations.c in tests/native/linux compiles it together with the real headers, with
 * which it must agree: hence their names and tags.
 */
#ifndef MSALEX_GLIB_LINUX_H
#define MSALEX_GLIB_LINUX_H

#include <stddef.h>
#include <stdint.h>

typedef struct _GAsyncResult GAsyncResult;
typedef struct _GCancellable GCancellable;
typedef struct _GClosure GClosure;
typedef struct _GDBusConnection GDBusConnection;
typedef struct _GDBusProxy GDBusProxy;
typedef struct _GError GError;
typedef struct _GMainContext GMainContext;
typedef struct _GObject GObject;
typedef struct _GSource GSource;
typedef struct _GVariant GVariant;
typedef struct _GVariantBuilder GVariantBuilder;
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
enum glib_service_flags { SERVICE_OPEN_SESSION = 2 };
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

/* Their GAsyncReadyCallback and GDBusSignalCallback. */
typedef void glib_ready(GObject *source, GAsyncResult *, void *data);
typedef void glib_signal(GDBusConnection *, const char *sender, const char *path,
                         const char *interface, const char *signal, GVariant *parameters,
                         void *data);

/* ROW(result, function, parameters): one for each function that is looked up. */
#define GLIB_FUNCTIONS(ROW)                                                                      \
    ROW(GDBusConnection *, g_bus_get_finish, (GAsyncResult *, GError **))                        \
    ROW(void, g_bus_get, (int type, GCancellable *, glib_ready *, void *data))                   \
    ROW(void, g_cancellable_cancel, (GCancellable *))                                            \
    ROW(GCancellable *, g_cancellable_new, (void))                                               \
    ROW(void, g_dbus_connection_call,                                                            \
        (GDBusConnection *, const char *name, const char *path, const char *interface,           \
         const char *method, GVariant *parameters, const GVariantType *reply, unsigned           \
         flags, int timeout_ms, GCancellable *, glib_ready *, void *data))                       \
    ROW(GVariant *, g_dbus_connection_call_finish,                                               \
        (GDBusConnection *, GAsyncResult *, GError **))                                          \
    ROW(int, g_dbus_connection_is_closed, (GDBusConnection *))                                   \
    ROW(void, g_dbus_connection_set_exit_on_close, (GDBusConnection *, int))                     \
    ROW(unsigned, g_dbus_connection_signal_subscribe,                                            \
        (GDBusConnection *, const char *sender, const char *interface, const char *signal,       \
         const char *path, const char *argument, unsigned flags, glib_signal *, void *data,      \
         void (*free_data)(void *)))                                                             \
    ROW(void, g_dbus_connection_signal_unsubscribe, (GDBusConnection *, unsigned subscription))  \
    ROW(const char *, g_dbus_proxy_get_name, (GDBusProxy *))                                     \
    ROW(char *, g_dbus_proxy_get_name_owner, (GDBusProxy *))                                     \
    ROW(void, g_error_free, (GError *))                                                          \
    ROW(void, g_free, (void *))                                                                  \
    ROW(int, g_main_context_iteration, (GMainContext *, int may_block))                          \
    ROW(GMainContext *, g_main_context_new, (void))                                              \
    ROW(void, g_main_context_pop_thread_default, (GMainContext *))                               \
    ROW(void, g_main_context_push_thread_default, (GMainContext *))                              \
    ROW(void, g_main_context_unref, (GMainContext *))                                            \
    ROW(void, g_main_context_wakeup, (GMainContext *))                                           \
    ROW(void *, g_object_ref, (void *))                                                          \
    ROW(void, g_object_run_dispose, (GObject *))                                                 \
    ROW(void, g_object_unref, (void *))                                                          \
    ROW(const char *, g_quark_to_string, (uint32_t))                                             \
    ROW(unsigned long, g_signal_connect_data,                                                    \
        (void *instance, const char *signal, void (*handler)(void), void *data, void             \
         (*free_data)(void *, GClosure *), unsigned flags))                                      \
    ROW(void, g_signal_stop_emission_by_name, (void *instance, const char *signal))              \
    ROW(unsigned, g_source_attach, (GSource *, GMainContext *))                                  \
    ROW(void, g_source_destroy, (GSource *))                                                     \
    ROW(void, g_source_set_callback,                                                             \
        (GSource *, int (*)(void *), void *data, void (*free_data)(void *)))                     \
    ROW(void, g_source_unref, (GSource *))                                                       \
    ROW(char *, g_strdup, (const char *))                                                        \
    ROW(void, g_strfreev, (char **))                                                             \
    ROW(GSource *, g_timeout_source_new, (unsigned ms))                                          \
    ROW(int, g_utf8_validate, (const char *, ptrdiff_t size, const char **end))                  \
    ROW(void, g_variant_builder_add, (GVariantBuilder *, const char *format, ...))               \
    ROW(GVariant *, g_variant_builder_end, (GVariantBuilder *))                                  \
    ROW(GVariantBuilder *, g_variant_builder_new, (const GVariantType *))                        \
    ROW(void, g_variant_builder_unref, (GVariantBuilder *))                                      \
    ROW(void, g_variant_get, (GVariant *, const char *format, ...))                              \
    ROW(void, g_variant_get_child, (GVariant *, size_t index, const char *format, ...))          \
    ROW(int, g_variant_is_object_path, (const char *))                                           \
    ROW(int, g_variant_is_of_type, (GVariant *, const GVariantType *))                           \
    ROW(int, g_variant_lookup, (GVariant *, const char *key, const char *format, ...))           \
    ROW(size_t, g_variant_n_children, (GVariant *))                                              \
    ROW(GVariant *, g_variant_new, (const char *format, ...))                                    \
    ROW(GVariant *, g_variant_new_parsed, (const char *format, ...))                             \
    ROW(GVariant *, g_variant_ref_sink, (GVariant *))                                            \
    ROW(void, g_variant_unref, (GVariant *))                                                     \
    ROW(SecretValue *, secret_service_decode_dbus_secret, (SecretService *, GVariant *))         \
    ROW(GVariant *, secret_service_encode_dbus_secret, (SecretService *, SecretValue *))         \
    ROW(const char *, secret_service_get_session_dbus_path, (SecretService *))                   \
    ROW(size_t, secret_service_get_type, (void))                                                 \
    ROW(void, secret_service_open,                                                               \
        (size_t type, const char *name, unsigned flags, GCancellable *, glib_ready *, void       \
         *data))                                                                                 \
    ROW(SecretService *, secret_service_open_finish, (GAsyncResult *, GError **))                \
    ROW(const char *, secret_value_get, (SecretValue *, size_t *size))                           \
    ROW(SecretValue *, secret_value_new, (const char *, ptrdiff_t size, const char *type))       \
    ROW(void, secret_value_unref, (void *))

#endif
