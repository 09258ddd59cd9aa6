/* Filling an msalex_error: see "Calling sequence" in msalex.h. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "internal.h"

/* The only place that gives errno values a status.  Values that are not here: MSALEX_OS_ERROR. */
static const struct {
    int code;
    int status;
} errno_table[] = {
    {ENOENT, MSALEX_NOT_FOUND},     /* no such file */
    {EACCES, MSALEX_DENIED},        /* permission bits */
    {EPERM, MSALEX_DENIED},         /* immutable file, sandbox */
    {EROFS, MSALEX_DENIED},         /* mounted read-only */
    {EINTR, MSALEX_INTERRUPTED},    /* a signal handler wants to run */
    {ETIMEDOUT, MSALEX_TIMEOUT},    /* network file systems */
    {EINVAL, MSALEX_INVALID},       /* the call does not take this argument */
    {ENAMETOOLONG, MSALEX_INVALID}, /* a path component over 255 bytes */
    {EISDIR, MSALEX_INVALID},       /* a directory where a file belongs */
    {ENOTDIR, MSALEX_INVALID},      /* a file where a directory belongs */
    {ELOOP, MSALEX_INVALID},        /* too many symbolic links, or one where a file belongs */
};

int msalex__ok(msalex_error *error) {
    error->code = 0;
    error->call[0] = '\0';
    error->message[0] = '\0';
    return MSALEX_OK;
}

int msalex__fail(msalex_error *error, int status, int64_t code, const char *call,
                 const char *message) {
    error->code = code;
    (void)snprintf(error->call, sizeof error->call, "%s", call);
    (void)snprintf(error->message, sizeof error->message, "%s", message);
    return status;
}

int msalex__status_of_errno(int code) {
    for (size_t i = 0; i < sizeof errno_table / sizeof errno_table[0]; i++) {
        if (errno_table[i].code == code)
            return errno_table[i].status;
    }
    return MSALEX_OS_ERROR;
}

int msalex__fail_errno(msalex_error *error, int code, const char *call) {
    return msalex__fail(error, msalex__status_of_errno(code), code, call, strerror(code));
}
