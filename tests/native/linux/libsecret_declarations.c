/*
 * Compares csrc/glib_linux.h with the real headers (libsecret-1-dev): a declaration of ours that
 * differs does not compile.  Run by tests/test_secret_service.py:
 *
 *     cc -std=c11 -Werror -fsyntax-only -Icsrc $(pkg-config --cflags libsecret-1) FILE
 */
#include <libsecret/secret.h>

#include "glib_linux.h"

/* Newer GLib also has macros of these names. */
#undef g_strdup
#undef g_object_ref

/* Each function of ours, redeclared with the type that we believe it has. */
#define REDECLARE(result, name, parameters) extern result name parameters;
GLIB_FUNCTIONS(REDECLARE)

#define SAME(ours, theirs) _Static_assert((int)(ours) == (int)(theirs), #theirs);
#define SAME_MEMBER(name)                                                                        \
    SAME(offsetof(struct glib_error, name), offsetof(GError, name))                              \
    SAME(sizeof((struct glib_error *)0)->name, sizeof((GError *)0)->name)

SAME(sizeof(struct glib_error), sizeof(GError))
SAME_MEMBER(domain)
SAME_MEMBER(code)
SAME_MEMBER(message)
SAME(sizeof(size_t), sizeof(gsize))
SAME(sizeof(ptrdiff_t), sizeof(gssize))
SAME(BUS_SESSION, G_BUS_TYPE_SESSION)
SAME(SERVICE_OPEN_SESSION, SECRET_SERVICE_OPEN_SESSION)
SAME(SCHEMA_STRING, SECRET_SCHEMA_ATTRIBUTE_STRING)
SAME(SCHEMA_INTEGER, SECRET_SCHEMA_ATTRIBUTE_INTEGER)
SAME(SCHEMA_BOOLEAN, SECRET_SCHEMA_ATTRIBUTE_BOOLEAN)
SAME(SCHEMA_ATTRIBUTES_MAX, G_N_ELEMENTS(((SecretSchema *)0)->attributes))
SAME(SECRET_LOCKED, SECRET_ERROR_IS_LOCKED)
SAME(SECRET_NO_SUCH_OBJECT, SECRET_ERROR_NO_SUCH_OBJECT)
SAME(IO_NOT_FOUND, G_IO_ERROR_NOT_FOUND)
SAME(IO_PERMISSION_DENIED, G_IO_ERROR_PERMISSION_DENIED)
SAME(IO_CLOSED, G_IO_ERROR_CLOSED)
SAME(IO_CANCELLED, G_IO_ERROR_CANCELLED)
SAME(IO_TIMED_OUT, G_IO_ERROR_TIMED_OUT)
SAME(IO_DBUS_ERROR, G_IO_ERROR_DBUS_ERROR)
SAME(IO_CONNECTION_REFUSED, G_IO_ERROR_CONNECTION_REFUSED)
SAME(IO_BROKEN_PIPE, G_IO_ERROR_BROKEN_PIPE)
SAME(DBUS_SERVICE_UNKNOWN, G_DBUS_ERROR_SERVICE_UNKNOWN)
SAME(DBUS_NAME_HAS_NO_OWNER, G_DBUS_ERROR_NAME_HAS_NO_OWNER)
SAME(DBUS_NO_REPLY, G_DBUS_ERROR_NO_REPLY)
SAME(DBUS_ACCESS_DENIED, G_DBUS_ERROR_ACCESS_DENIED)
SAME(DBUS_AUTH_FAILED, G_DBUS_ERROR_AUTH_FAILED)
SAME(DBUS_NO_SERVER, G_DBUS_ERROR_NO_SERVER)
SAME(DBUS_TIMEOUT, G_DBUS_ERROR_TIMEOUT)
SAME(DBUS_DISCONNECTED, G_DBUS_ERROR_DISCONNECTED)
SAME(DBUS_UNKNOWN_METHOD, G_DBUS_ERROR_UNKNOWN_METHOD)
SAME(DBUS_TIMED_OUT, G_DBUS_ERROR_TIMED_OUT)
SAME(DBUS_SPAWN_FIRST, G_DBUS_ERROR_SPAWN_EXEC_FAILED)
SAME(DBUS_SPAWN_LAST, G_DBUS_ERROR_SPAWN_NO_MEMORY)
SAME(DBUS_UNKNOWN_OBJECT, G_DBUS_ERROR_UNKNOWN_OBJECT)
