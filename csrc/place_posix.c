/*
 * Where a path leads.  The promise, and the rules for links, are in place_posix.h.
 *
 * The fast way is one call of the system: it opens the directory if no part of its path is a
 * link.  Where one is, or the system has no such call, the path is walked part by part, and each
 * link is judged before it is followed.  The walk asks nothing of a path but its next part, and
 * holds the directory reached so far open, so nobody can exchange what is behind it.
 */
#define _XOPEN_SOURCE 700 /* openat, fstatat, S_ISVTX */
#define _DARWIN_C_SOURCE
#include "place_posix.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "internal.h"
#include "os_posix.h"

enum {
    LINKS_MAX = 40,      /* as many as Linux follows; also what ends a game of exchanging them */
    DEPTH_MAX = PATH_MAX /* directories above another one */
};

struct walk {
    struct msalex__place *place; /* `directory` is the one reached so far */
    char rest[PATH_MAX];         /* of the path */
    int links;
    bool owes; /* a link was followed on condition that its owner owns the end of the path, */
    uid_t owner;
    char link[64]; /* ...and this is the link, for people */
};

/* ---- failures ---- */

/* A name that others may have chosen, for a message: no control characters, and not too long. */
static void describe(const char *name, char text[64]) {
    size_t length = 0;

    for (; name[length] != '\0' && length < 63; length++)
        text[length] = name[length] > ' ' && name[length] < 0x7f ? name[length] : '?';
    text[length] = '\0';
}

static int fail_not_trusted(const char *link, uid_t owner, msalex_error *error) {
    char message[256];

    (void)snprintf(message, sizeof message,
                   "The symbolic link \"%s\" belongs to user %lu and leads to what that user does"
                   " not own: it was not followed",
                   link, (unsigned long)owner);
    return msalex__fail(error, MSALEX_NOT_TRUSTED, EACCES, "readlink", message);
}

/* ---- whose links are followed ---- */

/* May nobody but the owners change what is above this directory? */
static bool is_private(int directory) {
    int at = msalex__open_directory(directory, "."), up;
    struct stat here, above;
    bool private = false;

    for (int depth = 0; at >= 0 && depth < DEPTH_MAX; depth++) {
        if (fstat(at, &here) != 0 || (here.st_mode & (S_IWGRP | S_IWOTH)) != 0)
            break;
        up = msalex__open_directory(at, "..");
        (void)close(at);
        at = up;
        private = at >= 0 && fstat(at, &above) == 0 && above.st_dev == here.st_dev &&
                  above.st_ino == here.st_ino;
        if (private)
            break;
    }
    if (at >= 0)
        (void)close(at);
    return private;
}

/* MSALEX_OK: follow the link; perhaps on a condition that settle() looks at. */
static int judge_link(struct walk *walk, const struct stat *link, const char *name,
                      msalex_error *error) {
    const int directory = walk->place->directory;
    struct stat parent;
    char text[64];

    describe(name, text);
    if (msalex__has_magic_links(directory))
        return msalex__fail(error, MSALEX_INVALID, ELOOP, "readlink",
                            "A link of /proc, which leads elsewhere than it reads");
    if (link->st_uid == geteuid() || link->st_uid == 0)
        return MSALEX_OK;
    if (fstat(directory, &parent) != 0)
        return msalex__fail_errno(error, errno, "fstat");
    if ((parent.st_mode & S_ISVTX) != 0 && (parent.st_mode & S_IWOTH) != 0 &&
        link->st_uid != parent.st_uid)
        return fail_not_trusted(text, link->st_uid, error);
    if (msalex__is_unmapped(link->st_uid) && is_private(directory))
        return MSALEX_OK;
    if (walk->owes && walk->owner != link->st_uid)
        return fail_not_trusted(text, link->st_uid, error);
    walk->owes = true;
    walk->owner = link->st_uid;
    strcpy(walk->link, text);
    return MSALEX_OK;
}

/* At the end of the path: does the owner of the links own what they lead to? */
static int settle(const struct walk *walk, msalex_error *error) {
    const struct msalex__place *place = walk->place;
    struct stat parent;

    if (!walk->owes)
        return msalex__ok(error);
    if (!place->exists && fstat(place->directory, &parent) != 0)
        return msalex__fail_errno(error, errno, "fstat");
    if ((place->exists ? place->file.st_uid : parent.st_uid) != walk->owner)
        return fail_not_trusted(walk->link, walk->owner, error);
    return msalex__ok(error);
}

/* ---- the walk ---- */

/* Makes another directory the one reached so far. */
static int enter(struct walk *walk, int directory, msalex_error *error) {
    if (directory < 0)
        return msalex__fail_errno(error, errno, "open directory");
    if (walk->place->directory >= 0)
        (void)close(walk->place->directory);
    walk->place->directory = directory;
    return MSALEX_OK;
}

/* Remembers the link that the path itself ends with. */
static int remember_link(struct msalex__place *place, const char *name, msalex_error *error) {
    if (place->link_directory >= 0)
        return MSALEX_OK;
    if ((place->link_directory = msalex__open_directory(place->directory, ".")) < 0)
        return msalex__fail_errno(error, errno, "open directory");
    strcpy(place->link_name, name);
    return MSALEX_OK;
}

/* Puts what a link reads in the place of its name; `tail` is what comes behind the name. */
static int follow(struct walk *walk, const char *name, const char *tail, msalex_error *error) {
    char text[PATH_MAX], rest[PATH_MAX];
    struct stat link;
    int code, status;

    if (++walk->links > LINKS_MAX)
        return msalex__fail_errno(error, ELOOP, "readlink");
    if ((code = msalex__read_link(walk->place->directory, name, &link, text)) != 0)
        return msalex__fail_errno(error, code == EINVAL ? ENOTDIR : code, "readlink");
    if ((status = judge_link(walk, &link, name, error)) != MSALEX_OK)
        return status;
    if (tail[0] == '\0' &&
        (status = remember_link(walk->place, name, error)) != MSALEX_OK)
        return status;
    if (snprintf(rest, sizeof rest, "%s%s", text, tail) >= (int)sizeof rest)
        return msalex__fail_errno(error, ENAMETOOLONG, "readlink");
    strcpy(walk->rest, rest);
    return text[0] == '/' ? enter(walk, msalex__open_directory(AT_FDCWD, "/"), error)
                          : MSALEX_OK;
}

/* Goes on to a part that is not the last. */
static int descend(struct walk *walk, const char *name, const char *tail, msalex_error *error) {
    int directory = msalex__open_directory(walk->place->directory, name);

    if (directory < 0 && (errno == ENOTDIR || errno == ELOOP))
        return follow(walk, name, tail, error);
    memmove(walk->rest, tail, strlen(tail) + 1);
    return enter(walk, directory, error);
}

/* Looks at the last part: 0, ELOOP when it is a link, or another errno. */
static int look_at_last(struct msalex__place *place) {
    if (fstatat(place->directory, place->name, &place->file, AT_SYMLINK_NOFOLLOW) != 0)
        return errno == ENOENT ? 0 : errno;
    if (S_ISLNK(place->file.st_mode))
        return ELOOP;
    place->exists = true;
    return 0;
}

/* The same, if the last part is a name at all, and if the caller wants it looked at. */
static int arrive(struct msalex__place *place, bool look) {
    if (place->name[0] == '\0')
        return EISDIR; /* the path ends with a slash */
    return look ? look_at_last(place) : 0;
}

/* One step.  `*done` tells that it was the last one. */
static int step(struct walk *walk, bool look, bool *done, msalex_error *error) {
    const char *part = walk->rest + strspn(walk->rest, "/");
    const size_t length = strcspn(part, "/");
    char *name = walk->place->name;
    int code;

    memcpy(name, part, length);
    name[length] = '\0';
    if (part[length] != '\0')
        return descend(walk, name, part + length, error);
    if ((code = arrive(walk->place, look)) == ELOOP)
        return follow(walk, name, "", error);
    *done = true;
    return code == 0 ? MSALEX_OK : msalex__fail_errno(error, code, "stat");
}

static int find_by_walking(const char *path, bool look, struct msalex__place *place,
                           msalex_error *error) {
    struct walk walk = {.place = place};
    const char *start = path[0] == '/' ? "/" : ".";
    bool done = false;
    int status;

    strcpy(walk.rest, path);
    status = enter(&walk, msalex__open_directory(AT_FDCWD, start), error);
    while (status == MSALEX_OK && !done)
        status = step(&walk, look, &done, error);
    /* A link that leads into a directory which is missing leads nowhere. */
    if (status == MSALEX_NOT_FOUND && place->link_directory >= 0)
        status = MSALEX_OK;
    if (status == MSALEX_OK)
        status = settle(&walk, error);
    if (status != MSALEX_OK)
        msalex__place_leave(place);
    return status;
}

/* ---- the fast way ---- */

/* 0; ELOOP: walk; or another errno. */
static int find_at_once(const char *path, bool look, struct msalex__place *place) {
    const char *slash = strrchr(path, '/');
    const size_t length = slash == NULL ? 0 : (size_t)(slash + 1 - path);
    char directory[PATH_MAX] = ".";

    if (length > 0) {
        memcpy(directory, path, length);
        directory[length] = '\0';
    }
    strcpy(place->name, path + length);
    place->directory = msalex__open_directory_without_links(directory);
    return place->directory < 0 ? errno : arrive(place, look);
}

static int find(const char *path, bool look, struct msalex__place *place, msalex_error *error) {
    int code;

    place->directory = place->link_directory = -1;
    place->exists = false;
    if (path[0] == '\0')
        return msalex__fail_errno(error, ENOENT, "open");
    if (strlen(path) >= PATH_MAX)
        return msalex__fail_errno(error, ENAMETOOLONG, "open");
    if ((code = find_at_once(path, look, place)) == 0)
        return msalex__ok(error);
    msalex__place_leave(place);
    return code == ELOOP ? find_by_walking(path, look, place, error)
                         : msalex__fail_errno(error, code, "open");
}

/* ---- the interface ---- */

int msalex__place_find(const char *path, struct msalex__place *place, msalex_error *error) {
    return find(path, true, place, error);
}

int msalex__place_find_name(const char *path, struct msalex__place *place,
                            msalex_error *error) {
    return find(path, false, place, error);
}

int msalex__place_judge(struct msalex__place *place, msalex_error *error) {
    struct stat parent;
    char name[64], message[256];

    place->keeps_owner = true;
    if (!place->exists || place->file.st_uid == geteuid())
        return msalex__ok(error);
    if (fstat(place->directory, &parent) != 0)
        return msalex__fail_errno(error, errno, "fstat");
    if (place->file.st_uid == parent.st_uid || (parent.st_mode & S_IWOTH) == 0)
        return msalex__ok(error);
    if ((parent.st_mode & S_ISVTX) == 0) {
        place->keeps_owner = false;
        return msalex__ok(error);
    }
    describe(place->name, name);
    (void)snprintf(message, sizeof message,
                   "The file \"%s\" belongs to user %lu, and others may write to its directory:"
                   " it was not used",
                   name, (unsigned long)place->file.st_uid);
    return msalex__fail(error, MSALEX_NOT_TRUSTED, EACCES, "open", message);
}

void msalex__place_leave(struct msalex__place *place) {
    if (place->directory >= 0)
        (void)close(place->directory);
    if (place->link_directory >= 0)
        (void)close(place->link_directory);
    place->directory = place->link_directory = -1;
}
