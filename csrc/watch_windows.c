/*
 * Tells when a file changes, comes or goes, Windows.  The promise is in msalex.h.  Twins:
 * watch_linux.c, watch_macos.c.
 *
 * How it works.  The system signals a handle whenever anything changes in the *directory*.  A look
 * then compares the file's attributes with the last time, so that other names in the directory
 * (lock files, temporary files) do not wake the caller.  ReadDirectoryChangesW would give no more
 * than that: it also tells names, but when its buffer was too small it tells none, and we have to
 * look in any case.
 *
 * The handle does not keep anybody from deleting the directory, but the directory's name is free
 * again only once the handle is closed.  So each look, 250 ms later at most, asks whether the path
 * still leads to the directory that is watched.  Where nothing can be watched (no directory yet, no
 * permission to read it, a file server that does not tell) we only look, more often at first
 * (watch.c), and each look tries again to watch.
 */
#include "os_windows.h"
#include "watch.h"

#include <errno.h>
#include <stdlib.h>

struct msalex_watch {
    HANDLE changes;                    /* or INVALID_HANDLE_VALUE: nothing could be watched */
    struct msalex__identity directory; /* the one that is watched */
    int64_t next_look, blind_since;
    msalex_stamp seen; /* all zero: there is no such file */
    wchar_t *file, *parent;
};

/* ---- looking ---- */

static bool identify_parent(const msalex_watch *watch, struct msalex__identity *identity) {
    HANDLE parent = msalex__open_attributes(watch->parent, 0);
    bool found = parent != INVALID_HANDLE_VALUE && msalex__identify(parent, identity);
    msalex__close(parent);
    return found;
}

static void stop(msalex_watch *watch) {
    if (watch->changes != INVALID_HANDLE_VALUE)
        (void)FindCloseChangeNotification(watch->changes);
    watch->changes = INVALID_HANDLE_VALUE;
}

/* Watches the directory to which the path leads now. */
static void rearm(msalex_watch *watch) {
    const DWORD changing = FILE_NOTIFY_CHANGE_FILE_NAME | FILE_NOTIFY_CHANGE_LAST_WRITE |
                           FILE_NOTIFY_CHANGE_SIZE | FILE_NOTIFY_CHANGE_ATTRIBUTES;
    struct msalex__identity now;
    const bool found = identify_parent(watch, &now);

    if (watch->changes != INVALID_HANDLE_VALUE && found &&
        msalex__is_same_file(&now, &watch->directory))
        return;
    stop(watch);
    if (!found)
        return;
    watch->directory = now;
    watch->changes = FindFirstChangeNotificationW(watch->parent, FALSE, changing);
}

/* True when the file is not what it was at the last look. */
static bool look(msalex_watch *watch) {
    msalex_stamp now;
    bool differs;

    rearm(watch); /* first: else both miss a change between them */
    (void)msalex__stamp_of_path(watch->file, &now); /* empty if there is none */
    differs = now.device != watch->seen.device || now.inode != watch->seen.inode ||
              now.size != watch->seen.size || now.mtime_ns != watch->seen.mtime_ns;
    watch->seen = now;
    watch->next_look =
        msalex__watch_next_look(watch->changes != INVALID_HANDLE_VALUE, &watch->blind_since);
    return differs;
}

/* Something changed in the directory: look now.  Listening again comes first; otherwise both would
 * miss a change between them. */
static void told(msalex_watch *watch) {
    if (!FindNextChangeNotification(watch->changes))
        stop(watch);
    watch->next_look = 0;
}

/* ---- the interface ---- */

int msalex_watch_new(const char *path, msalex_watch **watch, msalex_error *error) {
    wchar_t *file = msalex__wide_path(path, error);

    *watch = NULL;
    if (file == NULL)
        return msalex__status_of_errno((int)error->code);
    if ((*watch = calloc(1, sizeof **watch)) == NULL ||
        ((*watch)->parent = msalex__directory_of(file)) == NULL) {
        free(*watch);
        free(file);
        *watch = NULL;
        return msalex__fail_errno(error, ENOMEM, "malloc");
    }
    (*watch)->file = file;
    (*watch)->changes = INVALID_HANDLE_VALUE;
    (void)look(*watch);
    return msalex__ok(error);
}

int msalex_watch_wait(msalex_watch *watch, int64_t timeout_ms, msalex_error *error) {
    const int64_t deadline = msalex__deadline(timeout_ms);

    for (;;) {
        const int64_t now = msalex__now_ms();
        int64_t left = (deadline < watch->next_look ? deadline : watch->next_look) - now;

        left = left > 0 ? left : 0;
        if (watch->changes == INVALID_HANDLE_VALUE)
            msalex__pause((DWORD)left);
        else if (WaitForSingleObject(watch->changes, (DWORD)left) == WAIT_OBJECT_0)
            told(watch);
        if (msalex__now_ms() >= watch->next_look && look(watch))
            return msalex__ok(error);
        if (msalex__now_ms() >= deadline)
            return msalex__fail(error, MSALEX_TIMEOUT, ETIMEDOUT, "WaitForSingleObject",
                                "nothing changed");
    }
}

void msalex_watch_free(msalex_watch *watch) {
    if (watch == NULL)
        return;
    stop(watch);
    free(watch->file);
    free(watch->parent);
    free(watch);
}
