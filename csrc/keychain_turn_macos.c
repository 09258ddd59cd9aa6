/*
 * One call at a time inside macOS, and dialogs forbidden to it on request.
 *
 * In this process.  Apple's "Working with Concurrency" asks programs to serialize their calls of
 * the keychain: the framework shares one object for an item among threads, with the number of a
 * record that another thread's update has just replaced.  A queue serves the calls in order.  A
 * call that waits for a person keeps the turn; the others wait their own time at most.
 *
 * Among processes.  Processes that read an item while another one updates it get failures of
 * several kinds (keychain_status_macos.c), and nothing in macOS prevents that.  So a call holds the
 * flock of a file meanwhile.  The file lies in the directory for caches that macOS gives to each
 * user (confstr), with mode 0700.  $HOME does not choose it: root with the HOME of a user (sudo)
 * must leave no file of its own in the user's directories, or the user could not open it later.
 * The file is empty and stays on the disk, because to remove it would let two processes lock two
 * files.  The lock makes failures rare; it protects nothing else.  A process that asks a person may
 * hold it for hours.  So a call waits for 3 s at most and then goes on without it, and also when
 * there is no such file or lock at all.  Each holder sets the time of the file.  So a process that
 * has waited in vain once does not wait for the same holder again.
 *
 * After fork the child closes its copy of the file and does not unlock it, because the lock is the
 * parent's.
 */
#define _DARWIN_C_SOURCE /* confstr, flock */
#include "keychain_macos.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "attributes_posix.h"

enum {
    FLOCK_MS = 3000,   /* how long a call waits for other processes */
    PAUSE_MAX_MS = 20, /* between two looks at the lock */
    FILE_MODE = 0600
};

/* A call that waits for its turn in this process. */
struct waiter {
    struct waiter *next;
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER; /* guards all that follows */
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static struct waiter *queue;
static bool busy;              /* a call has the turn */
static int file = -1;          /* the open lock file of that call */
static int64_t held_since;     /* the time of the file for whose lock a call waited in vain */
static bool forbidden;         /* that call has forbidden dialogs */
static Boolean allowed_before; /* what the program wants of them */
static pthread_once_t fork_handlers = PTHREAD_ONCE_INIT;

static void lock(void) {
    (void)pthread_mutex_lock(&mutex);
}

static void leave(void) {
    (void)pthread_mutex_unlock(&mutex);
}

/* The threads that waited or had the turn are the parent's.  `forbidden` stays, so that the first
 * call here puts dialogs back. */
static void after_fork_in_child(void) {
    changed = (pthread_cond_t)PTHREAD_COND_INITIALIZER;
    queue = NULL;
    busy = false;
    if (file >= 0)
        (void)close(file);
    file = -1;
    leave();
}

static void install_fork_handlers(void) {
    (void)pthread_atfork(lock, leave, after_fork_in_child);
}

static void enter(void) {
    (void)pthread_once(&fork_handlers, install_fork_handlers);
    lock();
}

/* ---- this process ---- */

void msalex__keychain_wake(void) {
    enter();
    (void)pthread_cond_broadcast(&changed);
    leave();
}

static void join_queue(struct waiter *waiter) {
    struct waiter **link = &queue;
    while (*link != NULL)
        link = &(*link)->next;
    *link = waiter;
}

static void leave_queue(const struct waiter *waiter) {
    struct waiter **link = &queue;
    while (*link != waiter)
        link = &(*link)->next;
    *link = waiter->next;
}

/* False: the time of the call is over, or its caller has left. */
static bool wait_in_queue(const msalex_keychain_call *call) {
    struct waiter self = {.next = NULL};
    bool mine;

    enter();
    join_queue(&self);
    while (!(mine = !busy && queue == &self) && !atomic_load(&call->left)) {
        const int64_t left = msalex__time_left(call->deadline);
        if (left == 0)
            break;
        msalex__keychain_sleep(&changed, &mutex, left);
    }
    leave_queue(&self);
    if (mine)
        busy = true;
    else
        (void)pthread_cond_broadcast(&changed); /* the next one may be first now */
    leave();
    return mine;
}

/* ---- other processes ---- */

/* The time of the lock file, by which one holder can be told from the next; -1: it is no file of
 * ours. */
static int64_t time_of(int fd) {
    struct stat found;
    return fstat(fd, &found) == 0 && S_ISREG(found.st_mode) && found.st_uid == geteuid()
               ? msalex__mtime_ns(&found)
               : -1;
}

/* Opens the lock file: a descriptor, or -1.  It must be a file of ours; whatever else has its name
 * is not waited for. */
static int open_file(void) {
    static const char name[] = "msal-extensions.keychain.lock";
    char directory[PATH_MAX], path[PATH_MAX + sizeof name];
    const size_t length = confstr(_CS_DARWIN_USER_CACHE_DIR, directory, sizeof directory);
    int fd;

    if (length == 0 || length > sizeof directory)
        return -1;
    (void)snprintf(path, sizeof path, "%s/%s", directory, name);
    fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, FILE_MODE);
    if (fd >= 0 && time_of(fd) < 0) {
        (void)close(fd);
        return -1;
    }
    return fd;
}

static int try_flock(void) {
    return flock(file, LOCK_EX | LOCK_NB) == 0 ? 0 : errno;
}

/* Waits for the lock.  False: the time of the call is over, or its caller has left. */
static bool wait_for_flock(msalex_keychain_call *call) {
    const int64_t since = time_of(file), end = msalex__deadline(since == held_since ? 0 : FLOCK_MS);
    int64_t pause = 1;
    int code;

    while ((code = try_flock()) == EWOULDBLOCK && msalex__time_left(end) != 0) {
        if (!msalex__keychain_begin(call, "flock") || !msalex__keychain_pause(call, pause))
            return false;
        pause = pause < PAUSE_MAX_MS / 2 ? 2 * pause : PAUSE_MAX_MS;
    }
    if (code == 0)
        (void)futimens(file, NULL);
    else if (code == EWOULDBLOCK && time_of(file) == since)
        held_since = since;
    return true;
}

/* False: the time of the call is over, or its caller has left. */
static bool lock_file(msalex_keychain_call *call) {
    enter(); /* a fork must not come between opening it and knowing it */
    file = open_file();
    leave();
    return file < 0 || wait_for_flock(call);
}

/* A child that is forked off before it calls exec may share the open file, so closing alone would
 * not unlock it. */
static void unlock_file(void) {
    if (file >= 0) {
        (void)flock(file, LOCK_UN);
        (void)close(file);
    }
    file = -1;
}

/* ---- dialogs ---- */

/* The switch belongs to the whole process: other threads that use the keychain, or a key of TLS in
 * it, get errors in place of dialogs meanwhile.  So it is used only for calls that ask for it, and
 * only while macOS works on one.  SecItem has no such switch for one call: it does not look at
 * kSecUseAuthenticationUI for passwords in keychain files (SecItem.cpp). */
int msalex__keychain_forbid_dialogs(msalex_keychain_call *call) {
    static const char get[] = "SecKeychainGetUserInteractionAllowed";
    static const char set[] = "SecKeychainSetUserInteractionAllowed";
    OSStatus code;

    if ((code = SecKeychainGetUserInteractionAllowed(&allowed_before)) != errSecSuccess)
        return msalex__keychain_fail(&call->error, code, get);
    forbidden = true; /* before it is true, because a fork may come in between */
    if ((code = SecKeychainSetUserInteractionAllowed(false)) != errSecSuccess)
        return msalex__keychain_fail(&call->error, code, set);
    return MSALEX_OK;
}

/* If it fails, the next call does it. */
void msalex__keychain_allow_dialogs(void) {
    if (forbidden)
        forbidden = SecKeychainSetUserInteractionAllowed(allowed_before) != errSecSuccess;
}

/* ---- the turn ---- */

int msalex__keychain_take_turn(msalex_keychain_call *call) {
    if (!msalex__keychain_begin(call, "turn") || !wait_in_queue(call))
        return msalex__keychain_fail_late(&call->error, "turn");
    msalex__keychain_allow_dialogs(); /* forbidden now: by the parent of this process */
    if (!lock_file(call)) {
        msalex__keychain_give_turn();
        return msalex__keychain_fail_late(&call->error, "flock");
    }
    return MSALEX_OK;
}

void msalex__keychain_give_turn(void) {
    enter();
    unlock_file();
    busy = false;
    (void)pthread_cond_broadcast(&changed);
    leave();
}
