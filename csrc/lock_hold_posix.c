/* How a lock file becomes the lock of this process, and how it stops being that, Linux and macOS.
 * The promises are in lock_hold_posix.h. */
#define _GNU_SOURCE /* O_NOFOLLOW */
#define _DARWIN_C_SOURCE
#include "lock_hold_posix.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "attributes_posix.h"
#include "internal.h"
#include "os_posix.h"
#include "temp_posix.h"

enum {
    TURNS_MAX = 64, /* hand-overs in a row, before the file is unlinked all the same */
    YIELDS = 3,     /* after handing over: see see_it_taken */
    PLACES_MAX = 8, /* that a process remembers to have swept */
    LOOKS = 8       /* whether a waiter takes the lock: 25 ms together */
};

/* ---- how it comes to be ours ---- */

/* Writes the record that says that the file is ours. */
static int write_record(const struct msalex__lock_file *file, enum msalex__record_state state,
                        unsigned turn, int64_t when) {
    const struct msalex__record record = {.pid = getpid(),
                                          .state = file->exists ? MSALEX__EXISTS : state,
                                          .turn = turn,
                                          .nonce = file->nonce,
                                          .seen = file->gap.seen,
                                          .when = when,
                                          .view = file->view};
    char bytes[MSALEX__RECORD_SIZE];
    const char *call;
    ssize_t written;

    msalex__record_format(&record, file->program, bytes);
    written = pwrite(file->fd, bytes, sizeof bytes, 0);
    if (written < 0)
        return errno;
    if (written < (ssize_t)sizeof bytes)
        return ENOSPC; /* a short write sets no errno */
    /* Until the system sends it, other hosts would see an empty file. */
    return file->remote && msalex__sync(file->fd, &call) == EIO ? EIO : 0;
}

/* Takes those locks that the file system has. */
static int lock_new_file(struct msalex__lock_file *file) {
    int code = msalex__lock_file_try(file);

    if (code != 0 && !msalex__is_unsupported(code))
        return code;
    file->exists = code != 0;
    code = msalex__exclude_fcntl(file->fd);
    return msalex__is_unsupported(code) ? 0 : code;
}

/* Gives the file to the users that may remove other files in its directory, so that they can remove
 * it if we die: to the directory's owner, when we are root, and to its group.  It holds no secret.
 * Then a list that it inherited stays, too.  In a sticky directory users remove their own files
 * only.  Nobody else may open it: a reader can take the flock, and keep us out.  What the system
 * refuses stays as it is. */
static void share_with_directory(const struct msalex__lock_file *file, const struct stat *made) {
    const struct stat *const directory = &file->directory_status;
    const bool with_group = (directory->st_mode & S_IWGRP) != 0;
    const uid_t owner = made->st_uid == 0 ? directory->st_uid : made->st_uid;
    const gid_t group = with_group ? directory->st_gid : made->st_gid;

    if ((directory->st_mode & S_ISVTX) != 0 || !with_group)
        msalex__let_mode_decide(file->fd);
    if ((directory->st_mode & S_ISVTX) != 0)
        return;
    if ((owner != made->st_uid || group != made->st_gid) && fchown(file->fd, owner, group) != 0)
        return;
    if (with_group)
        (void)fchmod(file->fd, S_IRUSR | S_IWUSR | S_IRGRP | S_IWGRP);
}

/* Locks and fills a new file. */
static int fill(struct msalex__lock_file *file) {
    struct stat made;
    int code;

    file->nonce = msalex__nonce();
    if ((code = msalex__lock_file_identify(file, &made)) != 0 ||
        (code = lock_new_file(file)) != 0 ||
        (code = write_record(file, MSALEX__HELD, 0, file->gap.when)) != 0)
        return code;
    share_with_directory(file, &made);
    return 0;
}

static int open_nameless(int directory, const char *name) {
    (void)name;
    return msalex__open_nameless(directory);
}

static int open_unlocked(int directory, const char *name) {
    return openat(directory, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
}

/* Opens a new file in one of these ways. */
static int create(struct msalex__lock_file *file, const char *name,
                  int (*open_new)(int directory, const char *name)) {
    int code;

    msalex__registry_enter();
    file->fd = open_new(file->directory, name);
    code = file->fd < 0 ? errno : 0;
    msalex__registry_leave();
    return code;
}

/* Makes the file without a name, and gives it its name when all is done.  EOPNOTSUPP: the file
 * system cannot do that. */
static int create_nameless(struct msalex__lock_file *file) {
    int code;

    if ((code = create(file, NULL, open_nameless)) != 0)
        return code == EISDIR || code == EINVAL || code == ENOENT ? EOPNOTSUPP : code;
    if ((code = fill(file)) != 0)
        return code;
    code = msalex__give_name(file->fd, file->directory, file->name);
    return code == 0 || code == EEXIST ? code : EOPNOTSUPP;
}

/* Locks the file that has the name now: for many FUSE file systems a link is another file than the
 * one that it was made from, and the locks of the two do not exclude each other.  EEXIST: another
 * process has it, which came in between.  The name may belong to a peer since, and we must not take
 * the file of a peer that has no flock: only a record with our nonce is ours. */
static int lock_named(struct msalex__lock_file *file) {
    const uint64_t nonce = file->nonce;
    char bytes[MSALEX__RECORD_SIZE];
    struct msalex__record record;
    size_t size;
    int code;

    if ((code = msalex__lock_file_open(file)) == 0 && (code = lock_new_file(file)) == 0 &&
        (code = msalex__lock_file_read(file, bytes, &size)) == 0)
        code = msalex__record_parse(bytes, size, &record) && record.nonce == nonce
                   ? msalex__lock_file_check(file)
                   : MSALEX__NAMELESS;
    if (code == ENOENT || code == ESTALE || code == EWOULDBLOCK || code == MSALEX__NAMELESS)
        return EEXIST;
    return code;
}

/* Gives the file with the name `temp` its final name. */
static int rename_or_link(struct msalex__lock_file *file, const char *temp) {
    int code = msalex__rename_new(file->directory, temp, file->name);

    if (code == 0 || code == EEXIST)
        return code;
    /* bindfs and sshfs have no rename that refuses to replace */
    if (linkat(file->directory, temp, file->directory, file->name, 0) != 0)
        return errno;
    /* First, else the file gets a third name when it loses this one. */
    msalex__lock_file_close_fd(file);
    msalex__temp_remove(file->directory, temp);
    return lock_named(file);
}

/* A process that was killed before its rename has left a temporary file.  Saves of files remove
 * such leftovers, but a program may have its tokens in a keyring, or only take locks.  So each
 * process looks when it makes its first lock in a place. */
static void sweep_once(const struct msalex__lock_file *file) {
    static uint64_t swept[PLACES_MAX];
    static size_t next;
    bool is_first = true;

    msalex__registry_enter();
    for (size_t i = 0; i < PLACES_MAX; i++)
        is_first = is_first && swept[i] != file->key;
    if (is_first)
        swept[next++ % PLACES_MAX] = file->key;
    msalex__registry_leave();
    if (is_first)
        (void)msalex__temp_sweep(file->directory, MSALEX__TEMP_DEAD_S);
}

/* Makes the file with another name first.  EOPNOTSUPP: the file system cannot do that.  On macOS
 * one unlock wakes all waiters.  One that comes too late for the name does not make and remove a
 * file: that changes the directory, and so wakes everybody that watches it. */
static int create_renamed(struct msalex__lock_file *file) {
    char temp[MSALEX__TEMP_NAME_SIZE];
    int code;

    if (msalex__lock_file_is_name_taken(file))
        return EEXIST;
    msalex__temp_name(temp);
    if ((code = create(file, temp, open_unlocked)) != 0)
        return code;
    if ((code = fill(file)) == 0) {
        if ((code = rename_or_link(file, temp)) == 0) {
            sweep_once(file);
            return 0;
        }
        if (msalex__lock_file_is_name_taken(file))
            code = EEXIST; /* sshfs has no errno of its own for this */
        else if (msalex__is_unsupported(code) || code == EPERM || code == ENOENT)
            code = EOPNOTSUPP;
    }
    msalex__temp_remove(file->directory, temp);
    return code;
}

/* Makes the file with its name from the start.  Processes of ours never touch a young file without
 * a record.  A peer may, and then the file is the peer's.  The way before this one has found out
 * whether there are locks here. */
static int create_named(struct msalex__lock_file *file) {
    int code = create(file, file->name, file->exists ? open_unlocked : msalex__open_named);

    if (code != 0)
        return msalex__lock_file_is_name_taken(file) ? EEXIST : code;
    if ((code = fill(file)) == 0 && (code = msalex__lock_file_check(file)) == 0)
        return 0;
    if (code == EWOULDBLOCK || msalex__lock_file_check(file) == MSALEX__NAMELESS)
        return EEXIST; /* a peer caught it */
    (void)msalex__lock_file_unlink(file);
    return code;
}

int msalex__lock_file_publish(struct msalex__lock_file *file, struct msalex__gap said) {
    static int (*const ways[])(struct msalex__lock_file *) = {create_nameless, create_renamed,
                                                              create_named};
    const int64_t now = msalex__now_ms();
    int code = EOPNOTSUPP;

    file->gap = msalex__gap_of_new_file(file->key, said, now);
    for (size_t i = 0; code == EOPNOTSUPP && i < sizeof ways / sizeof ways[0]; i++) {
        msalex__lock_file_close_fd(file); /* which the way before has left open */
        code = ways[i](file);
    }
    if (code != 0) {
        msalex__lock_file_close_fd(file);
        return code;
    }
    file->since = now;
    msalex__lock_file_hold(file);
    return 0;
}

void msalex__lock_file_hold(struct msalex__lock_file *file) {
    if (!msalex__lock_file_change(file, MSALEX__SETTLED, MSALEX__HOLDING))
        (void)msalex__lock_file_change(file, MSALEX__OPEN, MSALEX__HOLDING);
}

/* Each waiter that reads the farewell counts itself in it, because the waiters shall come back in
 * the order in which they read it. */
void msalex__lock_file_read_farewell(struct msalex__lock_file *file) {
    struct msalex__record record;

    file->gap = (struct msalex__gap){0};
    file->until = 0;
    if (!msalex__lock_file_has_record(file, &record))
        return;
    file->gap.seen = record.seen;
    if (record.state != MSALEX__GAP) {
        file->gap.when = record.when;
        return;
    }
    file->until = msalex__gap_check(record.when, msalex__now_ms());
    file->order = record.turn;
    (void)write_record(file, MSALEX__GAP, record.turn + 1, record.when);
}

/* Does the flock, which this process has, make the file ours?  0: yes; MSALEX__NAMELESS,
 * MSALEX__PEERS, or the error that keeps us from the answer.  It takes the range of bytes that
 * fcntl peers lock, because they could lock it between a question and the use of the answer. */
static int claim(struct msalex__lock_file *file, struct msalex__record *record) {
    char bytes[MSALEX__RECORD_SIZE];
    size_t size;
    bool parsed;
    int code;

    if ((code = msalex__lock_file_read(file, bytes, &size)) != 0)
        return code;
    if ((parsed = msalex__record_parse(bytes, size, record)))
        file->nonce = record->nonce;
    if ((code = msalex__lock_file_check(file)) != 0) {
        if (code == MSALEX__NAMELESS)
            msalex__lock_file_read_farewell(file);
        return code;
    }
    /* A peer with fcntl locks is inside.  Or a peer (Go) was inside, wrote over the record, and has
     * yet to remove the file that it unlocked: then the file is a peer's, although one of ours made
     * it. */
    if (msalex__exclude_fcntl(file->fd) == EAGAIN || !parsed || record->view != file->view)
        return MSALEX__PEERS;
    return 0;
}

int msalex__lock_file_take_over(struct msalex__lock_file *file) {
    struct msalex__record record;
    int code = claim(file, &record);
    int64_t now;

    if (code != 0)
        return code;
    file->since = now = msalex__now_ms();
    if (file->carried.when != 0 && (record.when == 0 || file->carried.when < record.when))
        record.when = file->carried.when;
    file->gap = msalex__gap_of_taken_file(
        file->key, (struct msalex__gap){.when = record.when, .seen = record.seen}, now);
    (void)write_record(file, MSALEX__HELD, record.turn + 1, file->gap.when);
    return 0;
}

/* ---- how it goes ---- */

/* Shall the file stay, for a waiter?  Its record goes on naming us until the waiter writes its own:
 * the flock decides, and nobody acts on the name in the record.  If a peer has written over it, the
 * file would look like the peer's to all processes that are not queued yet. */
static bool hand_over(struct msalex__lock_file *file) {
    struct msalex__record record;

    if (!msalex__is_announced(file->fd) || !msalex__lock_file_has_record(file, &record) ||
        record.turn >= TURNS_MAX)
        return false;
    file->turn = record.turn;
    return true;
}

/* Begins a gap, in which the name stays free for peers, if one is due. */
static bool begin_gap(struct msalex__lock_file *file) {
    int64_t until;

    if (file->exists) /* nobody waits in flock for that file, and reads a farewell in it */
        file->gap.when = 0;
    until = msalex__gap_begin(file->key, file->gap, file->since, msalex__now_ms());
    if (until == 0)
        return false;
    (void)write_record(file, MSALEX__GAP, 0, until);
    return true;
}

int msalex__lock_file_give_back(struct msalex__lock_file *file) {
    const int code = msalex__lock_file_check(file);

    if (code != 0)
        return code;
    file->handed_over = !begin_gap(file) && hand_over(file);
    return file->handed_over ? 0 : msalex__lock_file_unlink(file);
}

void msalex__lock_file_turn_down(struct msalex__lock_file *file) {
    struct msalex__record record;

    if (claim(file, &record) == 0) {
        file->gap = (struct msalex__gap){.when = record.when, .seen = record.seen};
        file->since = msalex__now_ms();
        (void)msalex__lock_file_give_back(file);
    }
    msalex__lock_file_close(file);
}

/* Is the record as we left it?  Then nobody has taken the lock over. */
static bool is_left(const struct msalex__lock_file *file) {
    struct msalex__record record;

    return msalex__lock_file_has_record(file, &record) && record.nonce == file->nonce &&
           record.turn == file->turn;
}

/* We left the lock to a waiter.  A waiter that is stopped (Ctrl-Z) has announced itself, but does
 * not wait in flock meanwhile: the file would keep out peers that only look whether it exists,
 * until the waiter goes on.  So we remove it if nobody takes it for a while. */
static void see_it_taken(struct msalex__lock_file *file) {
    struct timespec pause = {.tv_nsec = 100 * 1000};

    /* If this process locked again at once, it would keep the processor from the waiter that it has
     * just woken. */
    for (int i = 0; i < YIELDS; i++)
        (void)sched_yield();
    for (int i = 0; i < LOOKS && is_left(file); i++) {
        (void)nanosleep(&pause, NULL);
        pause.tv_nsec *= 2;
    }
    if (is_left(file) && msalex__lock_file_try(file) == 0) {
        if (is_left(file) && msalex__lock_file_check(file) == 0)
            (void)msalex__lock_file_unlink(file);
        msalex__lock_file_unlock(file);
    }
}

void msalex__lock_file_close(struct msalex__lock_file *file) {
    if (file == NULL)
        return;
    if (!msalex__lock_file_is_open(file)) {
        file->fd = -1;
    } else {
        msalex__lock_file_unlock(file);
        if (file->handed_over)
            see_it_taken(file);
    }
    msalex__registry_enter();
    if (file->fd >= 0)
        (void)close(file->fd);
    if (file->events >= 0)
        (void)close(file->events);
    if (msalex__lock_file_is_directory_open(file))
        (void)close(file->directory);
    msalex__registry_forget(file);
    msalex__registry_leave();
    free(file);
}
