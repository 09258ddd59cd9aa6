/*
 * Files, POSIX.  A reader never finds half of a content, and other users cannot exchange the file
 * during a call.  The promise is in msalex.h.  Twin: file_windows.c.
 *
 * Every function first finds the place of its file (place_posix.h), and from then on uses only the
 * directory and the name of that place.
 *
 * A save has three steps.  find_and_open() opens the old file, whose descriptor gives its owner,
 * mode and access list.  prepare() writes a temporary file and sends it to the disk.  put_in_turn()
 * checks the lock and gives the temporary file the name.
 *
 * The turn.  Between the check of the lock and the rename another program may remove the lock file.
 * Then another process of ours could enter, save and leave, and our rename would replace its save.
 * So processes that save under a lock take a turn: they check and rename one at a time.
 */
#define _XOPEN_SOURCE 700 /* openat, futimens */
#define _DARWIN_C_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "attributes_posix.h"
#include "content_posix.h"
#include "internal.h"
#include "keep_posix.h"
#include "os_posix.h"
#include "place_posix.h"
#include "temp_posix.h"

enum {
    OPEN_TRIES = 100, /* so often a call starts over because others replace the file */
    TURN_TRIES = 50,  /* one per millisecond; a process that keeps its turn longer was stopped */
    /* O_NONBLOCK: if the file has become a fifo, fail and do not hang. */
    OPEN_FLAGS = O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC
};

/* ---- small parts ---- */

static void fill_stamp(const struct stat *file, msalex_stamp *stamp) {
    stamp->device = (uint64_t)file->st_dev;
    stamp->inode = (uint64_t)file->st_ino;
    stamp->size = (uint64_t)file->st_size;
    stamp->mtime_ns = msalex__mtime_ns(file);
}

static int fail_not_regular(msalex_error *error, const struct stat *file, const char *call) {
    if (S_ISDIR(file->st_mode))
        return msalex__fail_errno(error, EISDIR, call);
    return msalex__fail(error, MSALEX_INVALID, EINVAL, call, "not a regular file");
}

/* A save through such a link is refused: its target may only be away for a while, for example on a
 * disk that is not mounted. */
static int fail_dangling(msalex_error *error) {
    return msalex__fail(error, MSALEX_INVALID, ENOENT, "readlink",
                        "a symbolic link that leads nowhere");
}

static int fail_too_large(msalex_error *error, const char *call) {
    return msalex__fail(error, MSALEX_INVALID, EFBIG, call,
                        "larger than 256 MiB, which no token cache is");
}

static int fail_lost(msalex_error *error) {
    return msalex__fail(error, MSALEX_LOCK_LOST, ENOENT, "lstat", "somebody removed the lock file");
}

/* Sets the times of the file to now, as the clock shows it.  By itself the kernel (Linux before
 * 6.13) sets the time of its last tick, which may be before the last save of a 1.3.1 beside us.
 * 1.3.1 only reloads files that are younger than its own last save: it would miss ours and write
 * its old copy back.  A user that does not own the file may only ask for the kernel's time. */
static int set_times(int fd) {
    struct timespec now[2];
    if (clock_gettime(CLOCK_REALTIME, &now[0]) == 0) {
        now[1] = now[0];
        if (futimens(fd, now) == 0)
            return 0;
    }
    return futimens(fd, NULL);
}

/* Sets the times, because a rename alone does not tell a watcher that only listens for "changed"
 * files, such as .NET's. */
static void finish(int fd, msalex_stamp *stamp) {
    struct stat file;
    (void)set_times(fd);
    if (fstat(fd, &file) == 0)
        fill_stamp(&file, stamp);
}

/* ---- opening ---- */

/* Fails if there is something at the place that is not a regular file.  After links this is asked
 * before the open as well, because opening a device can do something. */
static int check_regular(const struct msalex__place *place, msalex_error *error) {
    return place->exists && !S_ISREG(place->file.st_mode)
               ? fail_not_regular(error, &place->file, "open")
               : msalex__ok(error);
}

/* Opens the file at a place: 0 or errno.  `place->file` then is the status of the open file.  For
 * O_RDWR: a file that we may write but not read is opened for writing only. */
static int open_at(struct msalex__place *place, int flags, int *fd) {
    int code;

    *fd = openat(place->directory, place->name, flags | OPEN_FLAGS);
    if (*fd < 0 && errno == EACCES && flags == O_RDWR)
        *fd = openat(place->directory, place->name, O_WRONLY | OPEN_FLAGS);
    if (*fd < 0)
        return errno;
    if (fstat(*fd, &place->file) == 0)
        return 0;
    code = errno;
    (void)close(*fd);
    *fd = -1;
    return code;
}

/* Finds the file and opens it.  MSALEX_OK with *fd -1: there is no file.  For writing (`flags` is
 * O_RDWR or O_WRONLY) it refuses a link without a target, and a third person's file. */
static int find_and_open(const char *path, int flags, struct msalex__place *place, int *fd,
                         msalex_error *error) {
    int code, status;

    *fd = -1;
    status = msalex__place_find_to_open(path, place, error);
    for (int tries = 0; status == MSALEX_OK; tries++) {
        if ((status = check_regular(place, error)) != MSALEX_OK)
            goto failed;
        code = open_at(place, flags, fd);
        if (code != ELOOP || tries == OPEN_TRIES)
            break;
        /* It is a link, or others exchanged the file for a link after the walk looked at it. */
        msalex__place_leave(place);
        status = msalex__place_find(path, place, error);
    }
    if (status != MSALEX_OK)
        return status;
    place->exists = code == 0;
    if (code != 0 && code != ENOENT) {
        status = msalex__fail_errno(error, code, "open");
        goto failed;
    }
    if ((status = check_regular(place, error)) != MSALEX_OK)
        goto failed;
    if (flags != O_RDONLY && code == ENOENT && place->is_link)
        status = fail_dangling(error);
    else if (flags != O_RDONLY)
        status = msalex__place_judge(place, error);
    if (status == MSALEX_OK)
        return status;
failed:
    if (*fd >= 0)
        (void)close(*fd);
    *fd = -1;
    msalex__place_leave(place);
    return status;
}

/* ---- preparing a save ---- */

struct save {
    const unsigned char *data;
    size_t size;
    msalex_lock *guard; /* or NULL */
    struct msalex__place place;
    int old;                                /* the file to replace, or -1 */
    int temp;                               /* the temporary file, or -1 */
    char temp_name[MSALEX__TEMP_NAME_SIZE]; /* "" when it has its final name */
    int status;                             /* what to return after FAILED */
};

/* How far a save has come. */
enum outcome {
    DONE,     /* the new content has the name */
    PREPARED, /* the new content is in the temporary file */
    IN_PLACE, /* a temporary file cannot be made or renamed: write into the old file */
    FAILED    /* the error says why */
};

static enum outcome fail_save(struct save *save, int code, const char *call, msalex_error *error) {
    save->status = msalex__fail_errno(error, code, call);
    return FAILED;
}

/* Does the new file take after the old one?  If not, it is ours, with mode 0600. */
static bool has_model(const struct save *save) {
    return save->old >= 0 && save->place.keeps_owner;
}

/* Writes the new content into a temporary file beside the old file. */
static enum outcome prepare(struct save *save, msalex_error *error) {
    const char *call;
    int code;

    save->temp = msalex__temp_open(save->place.directory, save->temp_name);
    if (save->temp < 0) {
        code = errno;
        if (save->old >= 0 && (code == EACCES || code == EPERM || code == EROFS))
            return IN_PLACE;
        return fail_save(save, code, "open", error);
    }
    if (has_model(save))
        msalex__keep_attributes(save->old, save->temp);
    if ((code = msalex__content_write(save->temp, save->data, save->size, 0)) != 0)
        return fail_save(save, code, "write", error);
    if (has_model(save) &&
        (code = msalex__keep_rights(save->old, &save->place.file, save->temp)) != 0)
        return fail_save(save, code, "fchmod", error);
    /* Before the rename: otherwise a power cut could leave an empty file with the name. */
    if ((code = msalex__sync(save->temp, &call)) != 0)
        return fail_save(save, code, call, error);
    return PREPARED;
}

/* Closes everything, and removes the temporary file unless it has its final name. */
static void end(struct save *save) {
    if (save->temp >= 0) {
        if (save->temp_name[0] != '\0')
            msalex__temp_remove(save->place.directory, save->temp_name);
        msalex__end_life(save->temp);
        (void)close(save->temp);
    }
    if (save->old >= 0)
        (void)close(save->old);
    msalex__place_leave(&save->place);
}

/* ---- writing in place ---- */

/* Two files are never written in place: a third person's file in a directory that others may write
 * to, and a file of ours that another user's link led to, because that user chose which one it is
 * (place_posix.h). */
static bool may_write_in_place(const struct msalex__place *place) {
    return place->keeps_owner &&
           (!place->by_others_link || place->file.st_uid == place->link_owner);
}

static int fail_others_file(const struct stat *file, msalex_error *error) {
    char message[200];

    (void)snprintf(message, sizeof message,
                   "The file belongs to user %lu, and another user can choose which file it is: it"
                   " was not used",
                   (unsigned long)file->st_uid);
    return msalex__fail(error, MSALEX_NOT_TRUSTED, EACCES, "write in place", message);
}

/* The last resort, where a rename is not possible. */
static enum outcome write_in_place(struct save *save, msalex_stamp *stamp, msalex_error *error) {
    if (!may_write_in_place(&save->place))
        save->status = fail_others_file(&save->place.file, error);
    else
        save->status = msalex__content_overwrite(save->old, save->data, save->size, error);
    if (save->status != MSALEX_OK)
        return FAILED;
    finish(save->old, stamp);
    return DONE;
}

/* ---- putting the new content in place ---- */

static bool is_held(msalex_lock *guard) {
    msalex_error ignored;
    return guard == NULL || msalex_lock_check(guard, &ignored) == MSALEX_OK;
}

/* Does the open old file still have the name?  If not, opens the file that has it, if there is
 * one. */
static bool is_named(struct save *save) {
    msalex_error ignored;
    struct stat named;
    int fd;

    if (fstatat(save->place.directory, save->place.name, &named, AT_SYMLINK_NOFOLLOW) == 0 &&
        named.st_dev == save->place.file.st_dev && named.st_ino == save->place.file.st_ino)
        return true;
    if (open_at(&save->place, O_RDWR, &fd) == 0) {
        (void)close(save->old);
        save->old = fd;
        if (msalex__place_judge(&save->place, &ignored) != MSALEX_OK)
            save->place.keeps_owner = false; /* replace it, but never write into it */
    }
    return false;
}

/* Waits for the turn, and returns what msalex__end_turn takes.  A process that keeps its turn for
 * longer than TURN_TRIES ms was stopped, and some network file systems have no turns: in both cases
 * the save goes on without one (-1). */
static int take_turn(struct save *save) {
    const struct timespec pause = {.tv_nsec = 1000000};
    int code, holder;

    for (int tries = 0; save->guard != NULL && tries < TURN_TRIES; tries++) {
        code = msalex__try_turn(save->place.directory, save->old, &holder);
        /* A turn on a file that lost its name keeps nobody out: take it on the file that has it. */
        if (code == 0 && (holder != save->old || is_named(save)))
            return holder;
        if (code == EAGAIN)
            (void)nanosleep(&pause, NULL);
        else if (code != 0)
            break;
    }
    return -1;
}

/* Gives the temporary file the name. */
static enum outcome put(struct save *save, msalex_stamp *stamp, msalex_error *error) {
    const int directory = save->place.directory;
    int code = EINVAL;

    if (save->old < 0 && save->guard != NULL)
        code = msalex__rename_new(directory, save->temp_name, save->place.name);
    if (code == EEXIST) { /* another process of ours saved, although we had the lock */
        save->status = fail_lost(error);
        return FAILED;
    }
    if (code == EINVAL)
        code = renameat(directory, save->temp_name, directory, save->place.name) == 0 ? 0 : errno;
    if (code == 0) {
        save->temp_name[0] = '\0';
        finish(save->temp, stamp);
        return DONE;
    }
    if (save->old >= 0 && (code == EBUSY || code == EPERM || code == EXDEV))
        return IN_PLACE;
    return fail_save(save, code, "rename", error);
}

/* Checks the lock and gives the new content the name: one process at a time. */
static enum outcome put_in_turn(struct save *save, enum outcome outcome, msalex_stamp *stamp,
                                msalex_error *error) {
    const int turn = take_turn(save);

    if (!is_held(save->guard)) {
        save->status = fail_lost(error);
        outcome = FAILED;
    }
    if (outcome == PREPARED)
        outcome = put(save, stamp, error);
    if (outcome == IN_PLACE)
        outcome = write_in_place(save, stamp, error);
    msalex__end_turn(save->old, turn);
    return outcome;
}

int msalex_file_replace(const char *path, const unsigned char *data, size_t size,
                        msalex_lock *guard, msalex_stamp *stamp, msalex_error *error) {
    struct save save = {.data = data, .size = size, .guard = guard, .old = -1, .temp = -1};
    enum outcome outcome;
    int status;

    *stamp = (msalex_stamp){0};
    if (size > MSALEX_FILE_SIZE_MAX)
        return fail_too_large(error, "write");
    if ((status = find_and_open(path, O_RDWR, &save.place, &save.old, error)) != MSALEX_OK)
        return status;
    outcome = prepare(&save, error);
    if (outcome != FAILED)
        outcome = put_in_turn(&save, outcome, stamp, error);
    end(&save);
    return outcome == DONE ? msalex__ok(error) : save.status;
}

/* Gives the temporary file a name that must be free: 0 or errno.  Where no rename refuses to replace,
 * it gets a second name, and end() removes the first one. */
static int put_new(struct save *save) {
    const int directory = save->place.directory;
    int code = msalex__rename_new(directory, save->temp_name, save->place.name);

    if (code == 0)
        save->temp_name[0] = '\0';
    else if (code == EINVAL)
        code = linkat(directory, save->temp_name, directory, save->place.name, 0) == 0 ? 0 : errno;
    return code;
}

int msalex_file_create(const char *path, const unsigned char *data, size_t size,
                       msalex_error *error) {
    struct save save = {.data = data, .size = size, .old = -1, .temp = -1};
    enum outcome outcome;
    int code, status;

    if (size > MSALEX_FILE_SIZE_MAX)
        return fail_too_large(error, "write");
    if ((status = msalex__place_find(path, &save.place, error)) != MSALEX_OK)
        return status;
    if (save.place.exists || save.place.is_link)
        outcome = fail_save(&save, EEXIST, "open", error);
    else
        outcome = prepare(&save, error);
    if (outcome == PREPARED)
        outcome = (code = put_new(&save)) == 0 ? DONE : fail_save(&save, code, "rename", error);
    end(&save);
    return outcome == DONE ? msalex__ok(error) : save.status;
}

/* ---- the rest of the interface ---- */

int msalex_file_stat(const char *path, msalex_stamp *stamp, msalex_error *error) {
    struct stat file;

    *stamp = (msalex_stamp){0};
    if (stat(path, &file) != 0)
        return msalex__fail_errno(error, errno, "stat");
    fill_stamp(&file, stamp);
    return msalex__ok(error);
}

int msalex_file_is_remote(const char *path) {
    return msalex__is_path_remote(path) ? 1 : 0;
}

int msalex_file_read(const char *path, msalex_buffer *content, msalex_stamp *stamp,
                     msalex_error *error) {
    struct msalex__place place;
    int code, fd, status;

    *content = (msalex_buffer){0};
    *stamp = (msalex_stamp){0};
    if ((status = find_and_open(path, O_RDONLY, &place, &fd, error)) != MSALEX_OK)
        return status;
    if (fd < 0) {
        status = msalex__fail_errno(error, ENOENT, "open");
    } else if ((code = msalex__content_read(fd, &place.file, content)) == EFBIG) {
        status = fail_too_large(error, "read");
    } else if (code != 0) {
        status = msalex__fail_errno(error, code, "read");
    } else {
        fill_stamp(&place.file, stamp);
        status = msalex__ok(error);
    }
    if (fd >= 0)
        (void)close(fd);
    msalex__place_leave(&place);
    return status;
}

/* Makes an empty file: a descriptor, or -1 with errno. */
static int make_empty(const struct msalex__place *place) {
    int fd = openat(place->directory, place->name, O_WRONLY | O_CREAT | O_EXCL | OPEN_FLAGS, 0600);
    if (fd >= 0)
        (void)msalex__remove_access_list(fd);
    return fd;
}

int msalex_file_touch(const char *path, msalex_error *error) {
    int code = EEXIST, fd = -1, status;
    struct msalex__place place;

    /* Starts over when others make or remove the file between two steps. */
    for (int tries = 0; code == EEXIST && tries < OPEN_TRIES; tries++) {
        if ((status = find_and_open(path, O_WRONLY, &place, &fd, error)) != MSALEX_OK)
            return status;
        if (fd < 0)
            fd = make_empty(&place);
        code = fd < 0 ? errno : 0;
        msalex__place_leave(&place);
    }
    if (fd < 0)
        return msalex__fail_errno(error, code, "open");
    if (set_times(fd) != 0)
        code = errno;
    (void)close(fd);
    return code != 0 ? msalex__fail_errno(error, code, "futimens") : msalex__ok(error);
}

/* The secret must be gone: so this removes a link, the file that it leads to, and the temporary
 * files of killed saves. */
int msalex_file_delete(const char *path, msalex_error *error) {
    struct msalex__place place;
    int status;

    if ((status = msalex__place_find_both(path, &place, error)) != MSALEX_OK)
        return status;
    if ((status = msalex__place_judge(&place, error)) == MSALEX_OK) {
        const bool is_there = place.exists || place.is_link;
        if ((place.exists && unlinkat(place.directory, place.name, 0) != 0) ||
            (place.is_link && unlinkat(place.link_directory, place.link_name, 0) != 0) || !is_there)
            status = msalex__fail_errno(error, is_there ? errno : ENOENT, "unlink");
        (void)msalex__temp_sweep(place.directory, MSALEX__TEMP_DEAD_SOON_S);
    }
    msalex__place_leave(&place);
    return status;
}

int msalex_file_sweep(const char *path, msalex_error *error) {
    struct msalex__place place;
    int code, status;

    if ((status = msalex__place_find(path, &place, error)) != MSALEX_OK)
        return status;
    code = msalex__temp_sweep(place.directory, MSALEX__TEMP_DEAD_S);
    msalex__place_leave(&place);
    return code != 0 ? msalex__fail_errno(error, code, "opendir") : msalex__ok(error);
}

/* Removes the access list that a new directory inherited: 0 or errno. */
static int make_private(const struct msalex__place *place) {
    int fd = openat(place->directory, place->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    int code;

    if (fd < 0)
        return errno;
    code = msalex__remove_access_list(fd);
    (void)close(fd);
    return code;
}

int msalex_directory_make(const char *path, msalex_error *error) {
    struct msalex__place place;
    int code, status;

    if ((status = msalex__place_find_name(path, &place, error)) != MSALEX_OK)
        return status;
    if (mkdirat(place.directory, place.name, 0700) != 0) {
        status = msalex__fail_errno(error, errno, "mkdir");
    } else if ((code = make_private(&place)) != 0) {
        (void)unlinkat(place.directory, place.name, AT_REMOVEDIR);
        status = msalex__fail_errno(error, code, "mkdir");
    }
    msalex__place_leave(&place);
    return status;
}
