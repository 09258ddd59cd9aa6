/*
 * msalex: the native half of msal-extensions.
 *
 * It stores a secret (a token cache) in a file or in the keyring of the operating system, and a
 * lock file keeps other processes out meanwhile.  This header is the whole interface.  The C
 * compiler reads it, and so does cffi (ffi_build.py drops the lines that start with '#'), so
 * nothing is ever declared twice.
 *
 * Calling sequence.  Every function that can fail returns a value of msalex_status.  (It is
 * declared as int, because a compiler may choose the size of an enum.)  Its last parameter is an
 * msalex_error that belongs to the caller.  On MSALEX_OK the error is empty.  On any other status
 * it says which call of the operating system failed and how; all other outputs are empty, and the
 * caller has nothing more to free than before the call.  Strings are UTF-8 (POSIX paths: the bytes
 * that the file system uses) and end in NUL.  The caller keeps them; the library only reads them
 * during the call.
 *
 * Times are milliseconds on a clock that never jumps: 0 tries once, a negative time waits for ever.
 *
 * Secrets.  The library wipes its own copies of secret bytes before it frees them, on success and
 * on failure.  It puts no secret into an msalex_error.  It cannot wipe the copies that the
 * operating system, libsecret or the Python interpreter make.
 *
 * Every function exists on every platform.  Where a platform does not have the store, its functions
 * return MSALEX_UNAVAILABLE.  Any thread may call any function, but only one thread at a time may
 * use the same msalex_lock, msalex_watch, msalex_libsecret_call or msalex_keychain_call.
 */
#ifndef MSALEX_H
#define MSALEX_H

#include <stddef.h>
#include <stdint.h>

enum msalex_status {
    MSALEX_OK,
    MSALEX_NOT_FOUND,   /* nothing is stored there */
    MSALEX_TIMEOUT,     /* the time was over before it was done */
    MSALEX_UNAVAILABLE, /* this machine or session does not offer the store */
    MSALEX_DENIED,      /* permissions, a locked keyring, or the user said no */
    MSALEX_CORRUPT,     /* the stored bytes cannot be what was saved */
    MSALEX_INVALID,     /* an argument that the store cannot take */
    MSALEX_OS_ERROR,    /* anything else; error.code says what */
    MSALEX_INTERRUPTED, /* a signal came; handle it and call again */
    MSALEX_LOCK_LOST,   /* somebody removed the lock file: nothing was changed */
    MSALEX_NOT_TRUSTED, /* another user's link or file is in the way; the message names the user */
    MSALEX_TORN         /* a write in place failed half-way, and the old content is lost */
};

/* Why a call failed: a code, the call of the operating system, and the system's own words. */
typedef struct {
    int64_t code; /* errno, GetLastError(), OSStatus or GError code */
    char call[40];
    char message[472];
} msalex_error;

/* Bytes that this library allocated; the caller frees them with msalex_buffer_free. */
typedef struct {
    unsigned char *data; /* NULL when empty */
    size_t size;         /* bytes */
} msalex_buffer;

/* Wipes, then frees, then empties the buffer.  An empty buffer and NULL are fine. */
void msalex_buffer_free(msalex_buffer *buffer);

/* ---- lock_<platform>.c ---------------------------------------------------
 *
 * A lock between processes, and between threads: a lock file shows that somebody holds it.  Use:
 *
 *     msalex_lock_new(path, program, &lock, &error);
 *     while ((status = msalex_lock_acquire(lock, 50, patience, &error)) != MSALEX_OK)
 *         ...give up, or handle signals and go round again with less patience...
 *     ...the protected section...
 *     msalex_lock_release(lock, &error);
 *     msalex_lock_free(lock);
 *
 * Order.  Linux serves waiters in order: the kernel keeps a queue, and a caller that gets
 * MSALEX_TIMEOUT or MSALEX_INTERRUPTED and calls acquire again keeps its place in it.  After 64
 * hand-overs in a row the lock file is removed all the same, and the waiters queue anew.  Windows
 * does the same with its queue of requests for a byte.  It does not document in which order it
 * grants them; whatever that is, waiters are served in it.  On macOS there is no queue: the first
 * waiter that looks after a release is next.
 *
 * When a holder dies, the lock is free at once; where kernel locks do not reach all processes, as
 * on some network and FUSE file systems, after 60 seconds.  A release removes the lock file unless
 * somebody waits for the lock.  A killed holder leaves it, and the next holder takes it over.
 *
 * While the lock is busy without a pause, the name of its file stays free for a moment every few
 * seconds, for libraries that only check now and then whether the file exists.  After that moment
 * the waiters come back, on Linux nearly in their order.
 *
 * The lock also excludes programs that respect a lock file in one of the ways of msal-extensions
 * 1.3.1, MSAL.NET, Java, Node and Go: existence of the file, flock, fcntl; on Windows share modes
 * and byte-range locks.
 *
 * Not promised: nothing can stop another program from deleting the file while the lock is held.
 * Call msalex_lock_check before and after every write that must not be lost.  A thread that
 * acquires the same path twice, with two objects, waits for itself until its patience ends.
 */
typedef struct msalex_lock msalex_lock;

/* Makes the object; touches no file.  `program` names the holder to people that read the lock file;
 * it must not be a secret. */
int msalex_lock_new(const char *path, const char *program, msalex_lock **lock, msalex_error *error);

/* Waits at most `slice_ms` for the lock.  A caller makes several such calls, and says by
 * `patience_ms` how long it will go on, this call included.  MSALEX_OK: held.  MSALEX_TIMEOUT and
 * MSALEX_INTERRUPTED: not yet, and still waiting (unless patience_ms is 0, which tries once and
 * waits for nothing).  Any other status: no longer waiting.  MSALEX_NOT_FOUND: the directory does
 * not exist.  MSALEX_NOT_TRUSTED: a link of another user is on the way to it. */
int msalex_lock_acquire(msalex_lock *lock, int64_t slice_ms, int64_t patience_ms,
                        msalex_error *error);

/* MSALEX_OK while the lock is held and the path still leads to its file.  MSALEX_NOT_FOUND when it
 * is not held, or when somebody removed or replaced the file or its directory. */
int msalex_lock_check(msalex_lock *lock, msalex_error *error);

/* Gives the lock back, or stops waiting.  Whatever the status, this object holds nothing
 * afterwards.  MSALEX_NOT_FOUND: somebody had removed the file. */
int msalex_lock_release(msalex_lock *lock, msalex_error *error);

/* Releases the lock if it is held or waited for, then frees the object.  NULL is fine. */
void msalex_lock_free(msalex_lock *lock);

/* Reads which process the lock file names as its holder: "<pid> <program>", one line of UTF-8.
 * Bytes that a terminal would not print are replaced, because anybody may have written the file. */
int msalex_lock_holder(const char *path, msalex_buffer *text, msalex_error *error);

/* ---- watch_<platform>.c --------------------------------------------------
 *
 * Reports when a file changes, appears or vanishes.  Use:
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
 * A watch sees a file that is written in place (when its writer closes it), renamed over, touched,
 * made or deleted, and a directory that is deleted, moved or made again.  Neither the file nor the
 * directory has to exist.  Other files in the directory do not count.  The kernel wakes the waiter.
 * The kernel does not notice all changes (another host's on a network file system), and cannot
 * always watch (no directory, or no resources left): then the watch looks a few times a second.
 *
 * No change is lost between new and the first wait, or between two waits.  Several changes may be
 * reported as one, and one change may be reported several times.  A report may also come when
 * nothing changed; compare stamps to be sure.  Not promised: where the kernel cannot watch, a
 * change that leaves inode, size and times as they were.
 */
typedef struct msalex_watch msalex_watch;

/* Starts watching.  Fails when memory runs out, and on Windows for a text that is no path.  POSIX
 * looks up a relative path anew at each look, Windows only in this call. */
int msalex_watch_new(const char *path, msalex_watch **watch, msalex_error *error);

/* Waits at most `timeout_ms`.  MSALEX_OK: the file may have changed, appeared or vanished since
 * msalex_watch_new or the last MSALEX_OK.  MSALEX_TIMEOUT: no such change can be seen. */
int msalex_watch_wait(msalex_watch *watch, int64_t timeout_ms, msalex_error *error);

/* Stops watching; NULL is fine. */
void msalex_watch_free(msalex_watch *watch);

/* ---- file_<platform>.c ---------------------------------------------------
 *
 * A reader of `path` finds the old content or the new one, whenever a writer dies: new content is
 * written to a file beside it, sent to the disk, and renamed over it.  After a power cut the file
 * may be the version of some seconds ago, never a mixture.  These functions take no lock.
 *
 * Other users of the machine cannot redirect them to other files.  Each call that opens, makes,
 * changes or removes a file resolves its path once, to a directory that it keeps open and a name
 * in that directory.  A link is followed only where its owner gains nothing by that (place_posix.h
 * and place_windows.h have the rules); otherwise the status is MSALEX_NOT_TRUSTED.  On POSIX a
 * save, touch or delete gets the same status in a sticky directory that others may write to, when
 * the file belongs to a third person: neither us nor the owner of the directory.
 *
 * Each can return MSALEX_INTERRUPTED, for example on network file systems: then call it again.  The
 * old content is still there.
 */

enum { MSALEX_FILE_SIZE_MAX = 268435456 }; /* bytes; 256 MiB */

/* Four facts by which a change of a file shows.
 *
 * Different stamps: somebody wrote, replaced or touched the file.  Its bytes may still be the same.
 *
 * Equal stamps alone do not prove equal bytes: two writes within one tick of the file system's
 * clock can have the same time, and inode numbers are used again.  They do prove it for bytes that
 * were read more than one tick after this stamp was first seen (_freshness.py waits for that), if
 * no other host or mount changes the file (msalex_file_is_remote). */
typedef struct {
    uint64_t device;
    uint64_t inode;
    uint64_t size;    /* bytes */
    int64_t mtime_ns; /* since 1970 */
} msalex_stamp;

/* Follows every link: the result is only compared with other stamps. */
int msalex_file_stat(const char *path, msalex_stamp *stamp, msalex_error *error);

/* 1: another host, or another mount, may change the file without the knowledge of this kernel,
 * which then goes on showing the stamp that it knew: FUSE for 1 s, NFS for 3 s and more, sshfs for
 * 20 s.  Only a read shows what is in the file.  Also 1 when this cannot be found out, or there is
 * no file.  Otherwise 0. */
int msalex_file_is_remote(const char *path);

/* Reads the whole file; the stamp is the one that these bytes had, or an older one.  A file of over
 * MSALEX_FILE_SIZE_MAX bytes is no token cache: MSALEX_INVALID with EFBIG. */
int msalex_file_read(const char *path, msalex_buffer *content, msalex_stamp *stamp,
                     msalex_error *error);

/* Replaces the content.  Makes the file, readable by its owner only, when there is none.
 *
 * `guard` is the lock that the caller holds meanwhile, or NULL.  When everything is written and
 * only the rename is left, the function checks the guard; if it is no longer held, the status is
 * MSALEX_LOCK_LOST.  Processes that save with a guard check it and rename one at a time (POSIX).
 *
 * What is kept.  POSIX: the owner, the group, the access list, and those bits of the mode that let
 * owner and group read and write (0660).  Where one of them cannot be kept, the group loses rights;
 * it never gains any.  The owner is not kept where others may write to the directory and the file
 * belongs to a third person.  Otherwise extended attributes of the user are kept as well
 * (keep_posix.h), such as the mark of `tmutil addexclusion`.  Windows: some attributes, and the
 * access list, unless the file belongs to a third person (save_windows.c).
 *
 * Some files cannot be renamed over: a mount point, a file in a read-only directory, or (Windows)
 * one whose access list grants writing but not deletion.  They are written in place; a reader
 * meanwhile can find a mixture, and so can everybody after a crash.  Room on the disk is reserved
 * first, and the old content is restored when a write fails.  If even that fails, the status is
 * MSALEX_TORN. */
int msalex_file_replace(const char *path, const unsigned char *data, size_t size,
                        msalex_lock *guard, msalex_stamp *stamp, msalex_error *error);

/* Makes a new file with that content, readable by its owner only.  It never replaces anything: a
 * file or a link with that name gives MSALEX_OS_ERROR with EEXIST. */
int msalex_file_create(const char *path, const unsigned char *data, size_t size,
                       msalex_error *error);

/* Sets the modification time to now; makes an empty file when there is none. */
int msalex_file_touch(const char *path, msalex_error *error);

/* Removes the file, the link that the path ends with, and the temporary files that dead writers
 * left in its directory.  MSALEX_NOT_FOUND when there was neither file nor link. */
int msalex_file_delete(const char *path, msalex_error *error);

/* Removes the temporary files that dead writers left in the directory of `path`. */
int msalex_file_sweep(const char *path, msalex_error *error);

/* Makes one directory in a directory that exists, for its owner only (Windows: with the access list
 * that it inherits).  MSALEX_OS_ERROR with EEXIST when something has that name. */
int msalex_directory_make(const char *path, msalex_error *error);

/* ---- libsecret_<platform>.c ----------------------------------------------
 *
 * One item of the Secret Service (https://specifications.freedesktop.org/secret-service/).
 * libsecret is loaded at the first use.  The calls wait for another process and, when a keyring has
 * to be unlocked, for a person, so each runs in a thread of its own:
 *
 *     msalex_libsecret_start(MSALEX_LIBSECRET_LOAD, &item, NULL, 0, 25000, &call, &error);
 *     while ((status = msalex_libsecret_wait(call, 50, &secret, &error)) is
 *            MSALEX_TIMEOUT or MSALEX_INTERRUPTED)
 *         ...handle signals...
 *     msalex_libsecret_free(call);
 */
enum msalex_libsecret_operation {
    /* Reaches the service, within 5 s; stores and reads nothing, and shows no prompt.
     * MSALEX_DENIED: the keyring is locked, and there is no desktop on which its password could be
     * asked for. */
    MSALEX_LIBSECRET_CONNECT,
    /* Changes the secret of the item that LOAD would find, if that has no other attributes and lies
     * in the collection; otherwise makes an item, in place of any that has these attributes and
     * more.  An item with a label keeps it. */
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

/* Starts an operation, which ends after `timeout_ms` at the latest (negative: never).  At most 5 s
 * of that are for reaching the service.  All arguments are copied.  `secret` (UTF-8 without NUL) is
 * for SAVE only.  error.call says how far the operation came: "dlopen", "D-Bus", "g_bus_get",
 * "secret_service_open" (all while connecting), "default" and "collection" (there is none), and the
 * methods of the Secret Service. */
int msalex_libsecret_start(int operation, const msalex_libsecret_item *item,
                           const unsigned char *secret, size_t size, int64_t timeout_ms,
                           msalex_libsecret_call **call, msalex_error *error);

/* Waits at most `slice_ms` for its end.  While it runs: MSALEX_TIMEOUT with error.code 0, or
 * MSALEX_INTERRUPTED.  When `timeout_ms` has ended it: MSALEX_TIMEOUT with error.code ETIMEDOUT.
 * LOAD fills `secret`; DELETE returns MSALEX_NOT_FOUND when there was no such item. */
int msalex_libsecret_wait(msalex_libsecret_call *call, int64_t slice_ms, msalex_buffer *secret,
                          msalex_error *error);

/* Cancels the operation if it still runs, without waiting for it, and frees it.  NULL is fine. */
void msalex_libsecret_free(msalex_libsecret_call *call);

/* ---- dpapi_<platform>.c -- the Windows Data Protection API ---------------- */

/* MSALEX_OK where the platform has it. */
int msalex_dpapi_available(msalex_error *error);

enum msalex_dpapi_scope { MSALEX_DPAPI_CURRENT_USER, MSALEX_DPAPI_LOCAL_MACHINE };

int msalex_dpapi_protect(const unsigned char *data, size_t size, const unsigned char *entropy,
                         size_t entropy_size, int scope, msalex_buffer *blob, msalex_error *error);
int msalex_dpapi_unprotect(const unsigned char *blob, size_t size, const unsigned char *entropy,
                           size_t entropy_size, msalex_buffer *data, msalex_error *error);

/* ---- keychain_<platform>.c ------------------------------------------------
 *
 * One generic password in the default keychain of macOS.  A call may wait for a person, for another
 * process, or for a macOS that never answers, so each runs in a thread of its own:
 *
 *     msalex_keychain_start(MSALEX_KEYCHAIN_LOAD, &item, NULL, 0, 25000, &call, &error);
 *     while ((status = msalex_keychain_wait(call, 50, &secret, &error)) is
 *            MSALEX_TIMEOUT with error.code 0, or MSALEX_INTERRUPTED)
 *         ...handle signals...
 *     msalex_keychain_free(call);
 *
 * One call at a time is inside macOS: of this process always; of all processes of this user, too,
 * but a call waits for another process for 3 s at most.  What fails because others change the item
 * in the same moment is tried again, for about a second.
 */
enum msalex_keychain_operation {
    /* Asks for the password of the keychain if that is locked.  Reads and changes no item. */
    MSALEX_KEYCHAIN_UNLOCK,
    /* Fills `secret` with a text that stands for this version of the item: its modification date.
     * macOS keeps that in seconds, so two versions of one second have the same.  Asks nobody, and
     * needs no unlocked keychain. */
    MSALEX_KEYCHAIN_LOOK,
    MSALEX_KEYCHAIN_LOAD,
    /* Changes the item that is there; makes one where there is none. */
    MSALEX_KEYCHAIN_SAVE,
    /* Makes the item.  MSALEX_OS_ERROR with code -25299: there is one already, and it was not
     * changed. */
    MSALEX_KEYCHAIN_ADD,
    MSALEX_KEYCHAIN_DELETE
};

typedef struct {
    const char *service; /* neither this nor the next is empty */
    const char *account;
    /* 0: nobody is asked.  An operation that would have to ask: MSALEX_DENIED, with code -25308
     * when the keychain is locked, -25293 (or -25308) when this program may not use the item. */
    int interactive;
} msalex_keychain_item;

typedef struct msalex_keychain_call msalex_keychain_call;

/* MSALEX_OK where the platform has it. */
int msalex_keychain_available(msalex_error *error);

/* Starts an operation, for which the caller waits at most `timeout_ms` (negative: for ever).  All
 * arguments are copied.  `secret` is for SAVE and ADD only.  An operation that is not interactive
 * forbids dialogs to the whole program for as long as macOS works on it (LOOK and UNLOCK do not).
 */
int msalex_keychain_start(int operation, const msalex_keychain_item *item,
                          const unsigned char *secret, size_t size, int64_t timeout_ms,
                          msalex_keychain_call **call, msalex_error *error);

/* Waits at most `slice_ms` for its end.  While it runs: MSALEX_TIMEOUT with error.code 0, or
 * MSALEX_INTERRUPTED.  When its time is over: MSALEX_TIMEOUT with error.code ETIMEDOUT, and
 * error.call says for what it waited:
 *     "turn"    another call of this program, which perhaps waits for a person
 *     "flock"   the call of another process
 *     other     this function of macOS, which perhaps asks a person
 * LOOK and LOAD fill `secret`.  LOOK, LOAD and DELETE return MSALEX_NOT_FOUND when there is no such
 * item.  It is no proof of that: macOS also says so when it could not search. */
int msalex_keychain_wait(msalex_keychain_call *call, int64_t slice_ms, msalex_buffer *secret,
                         msalex_error *error);

/* Leaves the call, without waiting for it.  A call that still runs then asks macOS for nothing
 * more; what macOS works on at that moment may still be done, and a person may still be asked for
 * it.  NULL is fine. */
void msalex_keychain_free(msalex_keychain_call *call);

/* ---- kernelkey_<platform>.c -----------------------------------------------
 *
 * Keys that the Linux kernel keeps in memory, in the persistent keyring of this uid and user
 * namespace (persistent-keyring(7)).  Other users, except root, cannot read it, every process of
 * this user can, and it outlives logins and sessions.  It ends with the machine.  And when nobody
 * has used it for three days, the kernel removes it some minutes later, with all keys (the seconds
 * are in /proc/sys/kernel/keys/persistent_keyring_expiry).  Every call here counts as a use.
 *
 * No call changes a key.  So all processes find the same bytes under a description, whichever of
 * them made it, until somebody removes it.
 *
 * A call waits for nobody, except for a second or so while the user's quota is used up (200 keys,
 * 20,000 bytes).  It makes its system calls in a thread of its own, which has ended when the call
 * returns, because a thread needs a keyring to reach others, and that keyring counts against the
 * quota for as long as the thread lives.
 *
 * MSALEX_UNAVAILABLE: this machine or container has no such keyring, or forbids it: ENOSYS and
 * EOPNOTSUPP (the kernel has none of it, or is older than 5.3 and cannot add a key safely), EPERM
 * and EACCES (forbidden, as containers do).
 */

enum { MSALEX_KERNELKEY_SIZE_MAX = 256 }; /* bytes of a key */

/* Finds a key.  MSALEX_NOT_FOUND: it is not there (code ENOKEY), or nobody can use it any more:
 * somebody has given it a time of its own, and that is over (EKEYEXPIRED), or has revoked it
 * (EKEYREVOKED).  A key that went with the whole keyring leaves no trace: ENOKEY.  MSALEX_CORRUPT:
 * another program has put more than MSALEX_KERNELKEY_SIZE_MAX bytes there. */
int msalex_kernelkey_find(const char *description, msalex_buffer *key, msalex_error *error);

/* Puts a key of 1 to MSALEX_KERNELKEY_SIZE_MAX bytes there.  MSALEX_OS_ERROR with EEXIST: there is
 * one of that description, and it was not changed.  Of any number of processes that add at the same
 * time, one gets MSALEX_OK.  Keys that expired or were revoked are replaced.  MSALEX_OS_ERROR with
 * EDQUOT: the quota of this user is used up. */
int msalex_kernelkey_add(const char *description, const unsigned char *key, size_t size,
                         msalex_error *error);

/* Removes a key, also one that nobody can use any more.  MSALEX_NOT_FOUND: there was none. */
int msalex_kernelkey_remove(const char *description, msalex_error *error);

#endif
