/*
 * msalex: the native half of msal-extensions.
 *
 * Stores a secret (a token cache) in a file or in the keyring of the operating
 * system, and excludes other processes meanwhile by a lock file.  This header is
 * the whole interface: the C compiler reads it, and so does cffi (ffi_build.py
 * drops the lines that start with '#'), so nothing is ever declared twice.
 *
 * Calling sequence.  Every function that can fail returns an msalex_status and
 * takes as its last parameter an msalex_error that belongs to the caller.  On
 * MSALEX_OK the error is empty.  On anything else it says which call of the
 * operating system failed and how, no other output holds anything, and nothing
 * needs to be freed.  Strings are UTF-8 (POSIX paths: the bytes the file system
 * uses), end in NUL and are only borrowed for the call.
 *
 * Times are milliseconds on a clock that never jumps: 0 tries once, a negative
 * time waits for ever.
 *
 * Secrets.  Whatever secret bytes this library copies it wipes before it frees
 * them, on success and on failure.  No secret gets into an msalex_error.  What
 * the operating system, libsecret or the Python interpreter copy is theirs.
 *
 * Every function exists on every platform.  One whose store does not exist there
 * returns MSALEX_UNAVAILABLE.  All functions may be called from any thread; one
 * msalex_lock, msalex_watch or msalex_libsecret_call may be used by one thread at a time.
 */
#ifndef MSALEX_H
#define MSALEX_H

#include <stddef.h>
#include <stdint.h>

enum msalex_status {
    MSALEX_OK,
    MSALEX_NOT_FOUND,   /* nothing is stored there */
    MSALEX_TIMEOUT,     /* the time was up first */
    MSALEX_UNAVAILABLE, /* this machine or session does not offer the store */
    MSALEX_DENIED,      /* permissions, a locked keyring, the user said no */
    MSALEX_CORRUPT,     /* what is stored cannot be what was saved */
    MSALEX_INVALID,     /* an argument the store cannot take */
    MSALEX_OS_ERROR,    /* anything else; error.code tells */
    MSALEX_INTERRUPTED, /* a signal came; handle it and call again */
    MSALEX_LOCK_LOST,   /* somebody removed the lock file: nothing was changed */
    MSALEX_NOT_TRUSTED, /* another user's link or file is in the way; the message names the user */
    MSALEX_TORN         /* a write in place failed half-way, and the old content is lost */
};

/* Why a call failed: native code, the operating system's call, its own words. */
typedef struct {
    int64_t code; /* errno, GetLastError(), OSStatus or GError code */
    char call[40];
    char message[472];
} msalex_error;

/* Bytes made by this library, for the caller to free. */
typedef struct {
    unsigned char *data; /* NULL when empty */
    size_t size;         /* bytes */
} msalex_buffer;

/* Wipes, then frees, then empties the buffer; an empty one or NULL is fine. */
void msalex_buffer_free(msalex_buffer *buffer);

/* ---- lock_<platform>.c ---------------------------------------------------
 *
 * A lock between processes (and threads), held by a lock file.  Use:
 *
 *     msalex_lock_new(path, program, &lock, &error);
 *     while ((status = msalex_lock_acquire(lock, 50, patience, &error)) != MSALEX_OK)
 *         ...give up, or handle signals, and go round with less patience...
 *     ...the protected section...
 *     msalex_lock_release(lock, &error);
 *     msalex_lock_free(lock);
 *
 * The lock is fair: who calls acquire again after MSALEX_TIMEOUT or
 * MSALEX_INTERRUPTED has kept its place in the queue.  (macOS has no queue; there
 * whoever looks first is next.)  A holder that dies frees the lock at once.  The
 * lock file is gone when nobody holds or wants the lock.  While it is busy all the time, its
 * name stays free for a moment every few seconds, for libraries that only look whether there
 * is a file; after that the waiters come back in their order, or nearly.
 *
 * It also excludes programs that respect a lock file in one of the ways of
 * msal-extensions 1.3.1, MSAL.NET, Java, Node and Go: existence of the file,
 * flock, fcntl; on Windows share modes and byte-range locks.
 *
 * Not promised: nothing can stop another program from deleting the file while it
 * is held.  Ask msalex_lock_check before and after what must not be lost.  A
 * second acquire of the same path in one thread waits for the first: for ever.
 */
typedef struct msalex_lock msalex_lock;

/* Makes the object; touches no file.  `program` names the holder to people who
 * read the lock file; it must not be a secret. */
int msalex_lock_new(const char *path, const char *program, msalex_lock **lock,
                    msalex_error *error);

/* Waits at most `slice_ms` for the lock, in one of several calls: `patience_ms` tells for how
 * long the caller will go on calling, this call included.  MSALEX_OK: held.  MSALEX_TIMEOUT and
 * MSALEX_INTERRUPTED: not yet, still in the queue (unless patience_ms is 0, which tries once and
 * queues nowhere).  Otherwise no longer waiting; MSALEX_NOT_FOUND: the directory does not exist;
 * MSALEX_NOT_TRUSTED: another user's link is on the way to it. */
int msalex_lock_acquire(msalex_lock *lock, int64_t slice_ms, int64_t patience_ms,
                        msalex_error *error);

/* MSALEX_OK while the lock is held and its file is still the one that the path leads to;
 * MSALEX_NOT_FOUND when it is not held, or somebody removed or replaced the file or its
 * directory. */
int msalex_lock_check(msalex_lock *lock, msalex_error *error);

/* Gives the lock back, or leaves the queue.  Whatever it returns, this process
 * holds nothing afterwards; MSALEX_NOT_FOUND: somebody had removed the file. */
int msalex_lock_release(msalex_lock *lock, msalex_error *error);

/* Releases if need be, then frees; NULL is fine. */
void msalex_lock_free(msalex_lock *lock);

/* Reads who says to hold the lock: "<pid> <program>", one line of printable UTF-8, because anybody
 * may have written the file. */
int msalex_lock_holder(const char *path, msalex_buffer *text, msalex_error *error);

/* ---- watch_<platform>.c --------------------------------------------------
 *
 * Tells when a file changes, comes or goes.  Use:
 *
 *     msalex_watch_new(path, &watch, &error);
 *     while (...) {
 *         status = msalex_watch_wait(watch, 50, &error);
 *         if (status == MSALEX_OK)
 *             ...look at the file...
 *         else
 *             ...MSALEX_TIMEOUT, MSALEX_INTERRUPTED: handle signals and go round...
 *     }
 *     msalex_watch_free(watch);
 *
 * It sees a file that is written in place (when its writer closes it), renamed over, touched,
 * made or deleted, and a directory that is deleted, moved or made again; neither has to exist.
 * Other files in the directory do not count.  The kernel wakes the waiter; what it does not
 * notice (another host's changes on a network file system), or cannot watch (no directory,
 * its resources exhausted), is found by looking a few times a second.
 *
 * Nothing is lost between new and the first wait, or between two waits.  Several changes may
 * be told as one, and one as several; that nothing changed after all is possible too, so who
 * wants to be sure compares stamps.  Not promised: a change that leaves inode, size and times
 * as they were, where the kernel cannot watch.
 */
typedef struct msalex_watch msalex_watch;

/* Starts watching.  Fails only when memory runs out.  A relative path is looked up in the
 * working directory of the moment. */
int msalex_watch_new(const char *path, msalex_watch **watch, msalex_error *error);

/* Waits at most `timeout_ms`.  MSALEX_OK: since msalex_watch_new or the last MSALEX_OK the
 * file may have changed, come or gone; MSALEX_TIMEOUT: it has not, as far as can be seen. */
int msalex_watch_wait(msalex_watch *watch, int64_t timeout_ms, msalex_error *error);

/* Stops watching; NULL is fine. */
void msalex_watch_free(msalex_watch *watch);

/* ---- file_<platform>.c ---------------------------------------------------
 *
 * A reader of `path` finds the old content or the new one, whatever dies when: content is
 * written beside the file, sent to the disk, and renamed over it.  After a power cut it may be
 * the version of some seconds ago, never a mixture.  These functions take no lock.
 *
 * Other users of the machine cannot turn them against other files (POSIX).  Each call that opens,
 * makes, changes or removes a file resolves its path once, to a directory that it keeps open and
 * a name in it.  Symbolic links are followed only where their owner gains nothing by that (the
 * rules are in place_posix.h); else the answer is MSALEX_NOT_TRUSTED.  So it is for a save, touch
 * or delete of a file that a third person, neither we nor the owner of the directory, has in a
 * sticky directory that others may write to.
 *
 * Each can answer MSALEX_INTERRUPTED, on network file systems for example: call again.  What was
 * stored before is still there then.
 */

enum { MSALEX_FILE_SIZE_MAX = 268435456 }; /* bytes; 256 MiB */

/* Which content a file has: two different stamps, two different contents.  (The
 * reverse is not promised: file systems reuse inode numbers, clocks tick.) */
typedef struct {
    uint64_t device;
    uint64_t inode;
    uint64_t size;    /* bytes */
    int64_t mtime_ns; /* since 1970 */
} msalex_stamp;

/* Follows all links, because a stamp is only compared. */
int msalex_file_stat(const char *path, msalex_stamp *stamp, msalex_error *error);

/* 1: another host, or another mount, may change the file behind this kernel, which then goes on
 * showing the stamp that it knew: FUSE for 1 s, NFS for 3 s and more, sshfs for 20 s.  Only reading
 * tells what is in the file.  1 also when it cannot be found out, or there is no file.  Else 0. */
int msalex_file_is_remote(const char *path);

/* Reads all of it; the stamp is that of the bytes that were read.  A file of over
 * MSALEX_FILE_SIZE_MAX bytes is no token cache: MSALEX_INVALID with EFBIG. */
int msalex_file_read(const char *path, msalex_buffer *content, msalex_stamp *stamp,
                     msalex_error *error);

/* Replaces the content; makes the file, readable by its owner only, when there is none.
 *
 * `guard` is the lock that the caller holds meanwhile, or NULL: it is looked at when all is
 * written but the rename, and if it is held no more the answer is MSALEX_LOCK_LOST.  Processes
 * that replace a file under a guard look and rename one at a time.
 *
 * Keeps the owner, the group, the access list, and of the mode what owner and group may read and
 * write (POSIX: 0660).  What cannot be kept is taken from the group, never given to it.  The owner
 * is not kept where others may write to the directory and the file is a third person's.
 *
 * Where a file cannot be renamed over (it is a mount point, or the directory is read-only) it is
 * written in place: a reader meanwhile can find a mixture, and so can everybody after a crash.  On
 * POSIX room is reserved first, and the old content is restored when a write fails; if even that
 * fails the answer is MSALEX_TORN. */
int msalex_file_replace(const char *path, const unsigned char *data, size_t size,
                        msalex_lock *guard, msalex_stamp *stamp, msalex_error *error);

/* Makes a new file with that content, readable by its owner only.  MSALEX_OS_ERROR with EEXIST
 * when there is one, or a link, with that name: nothing is ever replaced. */
int msalex_file_create(const char *path, const unsigned char *data, size_t size,
                       msalex_error *error);

/* Sets the modification time to now; makes an empty file when there is none. */
int msalex_file_touch(const char *path, msalex_error *error);

/* Removes it, a link that leads to it, and what writers that died left in its directory.
 * MSALEX_NOT_FOUND when it was not there. */
int msalex_file_delete(const char *path, msalex_error *error);

/* Removes what writers that died left in the directory of `path`. */
int msalex_file_sweep(const char *path, msalex_error *error);

/* Makes one directory, in one that exists, for its owner only (Windows: with the access list that
 * it inherits).  MSALEX_OS_ERROR with EEXIST when something has that name. */
int msalex_directory_make(const char *path, msalex_error *error);

/* ---- libsecret_<platform>.c ----------------------------------------------
 *
 * One item of the Secret Service (https://specifications.freedesktop.org/secret-service/).
 * libsecret is loaded when first used.  Its calls block on another process and, to
 * unlock a keyring, on a person, so each runs in a thread of its own:
 *
 *     msalex_libsecret_start(MSALEX_LIBSECRET_LOAD, &item, NULL, 0, 25000, &call, &error);
 *     while ((status = msalex_libsecret_wait(call, 50, &secret, &error)) is
 *            MSALEX_TIMEOUT or MSALEX_INTERRUPTED)
 *         ...handle signals...
 *     msalex_libsecret_free(call);
 */
enum msalex_libsecret_operation {
    MSALEX_LIBSECRET_CONNECT, /* reach the service; stores and reads nothing */
    MSALEX_LIBSECRET_SAVE,
    MSALEX_LIBSECRET_LOAD,
    MSALEX_LIBSECRET_DELETE
};

typedef struct {
    const char *schema;
    const char *label;
    const char *collection;   /* NULL: the default one */
    const char *const *names; /* of the attributes that identify the item */
    const char *const *values;
    const int *types; /* SecretSchemaAttributeType */
    size_t count;
} msalex_libsecret_item;

typedef struct msalex_libsecret_call msalex_libsecret_call;

/* Starts an operation, which ends after `timeout_ms` at the latest.  Everything is
 * copied; `secret` (UTF-8 without NUL) is for SAVE only. */
int msalex_libsecret_start(int operation, const msalex_libsecret_item *item,
                           const unsigned char *secret, size_t size, int64_t timeout_ms,
                           msalex_libsecret_call **call, msalex_error *error);

/* Waits at most `slice_ms` for its end.  While it runs: MSALEX_TIMEOUT with error.code
 * 0, or MSALEX_INTERRUPTED.  A MSALEX_TIMEOUT that ends it has error.code ETIMEDOUT.
 * LOAD fills `secret`; DELETE says MSALEX_NOT_FOUND when there was nothing. */
int msalex_libsecret_wait(msalex_libsecret_call *call, int64_t slice_ms, msalex_buffer *secret,
                          msalex_error *error);

/* Cancels it when it still runs (without waiting for it), and frees; NULL is fine. */
void msalex_libsecret_free(msalex_libsecret_call *call);

/* ---- dpapi_<platform>.c -- the Windows Data Protection API ---------------- */

/* MSALEX_OK where it exists. */
int msalex_dpapi_available(msalex_error *error);

enum msalex_dpapi_scope { MSALEX_DPAPI_CURRENT_USER, MSALEX_DPAPI_LOCAL_MACHINE };

int msalex_dpapi_protect(const unsigned char *data, size_t size, const unsigned char *entropy,
                         size_t entropy_size, int scope, msalex_buffer *blob,
                         msalex_error *error);
int msalex_dpapi_unprotect(const unsigned char *blob, size_t size, const unsigned char *entropy,
                           size_t entropy_size, msalex_buffer *data, msalex_error *error);

/* ---- keychain_<platform>.c -- generic passwords of the macOS keychain ----- */

/* MSALEX_OK where it exists. */
int msalex_keychain_available(msalex_error *error);

int msalex_keychain_save(const char *service, const char *account, const unsigned char *secret,
                         size_t size, msalex_error *error);
int msalex_keychain_load(const char *service, const char *account, msalex_buffer *secret,
                         msalex_error *error);
int msalex_keychain_delete(const char *service, const char *account, msalex_error *error);

#endif
