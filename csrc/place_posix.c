/*
 * Where a path leads.  The promise, and the rules for links, are in place_posix.h.
 *
 * The walk goes part by part, and judges each link before it follows it.  Where the system can open
 * all directories of the path in one call, and none of them is a link, it does that instead.  The
 * directory that is reached so far stays open, so nobody can exchange what lies before it.
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
    LINKS_MAX = 40,      /* as in Linux; it also ends a walk whose links others keep exchanging */
    DEPTH_MAX = PATH_MAX /* of directories above another one */
};

/* When does the walk look at the last part?  A caller that opens it with O_NOFOLLOW learns the same
 * in one call less.  But a link may lead to a device, where opening alone can do something: so
 * after links the walk looks first. */
enum look { NEVER, AFTER_LINKS, ALWAYS };

struct walk {
    struct msalex__place *place; /* its `directory` is the one reached so far; -1: none yet */
    enum look look;
    bool keep_link;      /* the caller also wants the link that the path ends with */
    char rest[PATH_MAX]; /* of the path: the walk has still to take this */
    int links;           /* followed so far */
    char link[64];       /* the last link of another user, for messages */
};

/* ---- failures ---- */

/* Prepares a name for a message.  Others may have chosen it: so without control characters, and not
 * too long. */
static void describe(const char *name, char text[64]) {
    size_t length = 0;

    for (; name[length] != '\0' && length < 63; length++)
        text[length] = name[length] > ' ' && name[length] < 0x7f ? name[length] : '?';
    text[length] = '\0';
}

static const char IN_SHARED_DIRECTORY[] = "is in a directory that others may write to";
static const char LEADS_ELSEWHERE[] = "leads to a file or directory that this user does not own";

static int fail_not_trusted(const char *link, uid_t owner, const char *reason,
                            msalex_error *error) {
    char message[256];

    (void)snprintf(message, sizeof message,
                   "The symbolic link \"%s\" belongs to user %lu and %s: it was not followed", link,
                   (unsigned long)owner, reason);
    return msalex__fail(error, MSALEX_NOT_TRUSTED, EACCES, "readlink", message);
}

/* ---- which links are followed ---- */

/* True when neither group nor others may write to this directory, nor to any directory above it. */
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

/* MSALEX_OK: follow the link.  For a link of another user settle() checks the rest of the rule, at
 * the end of the walk. */
static int judge_link(struct walk *walk, const struct stat *link, const char *name,
                      msalex_error *error) {
    const int directory = walk->place->directory;
    struct stat parent;
    char text[64];

    if (msalex__has_magic_links(directory))
        return msalex__fail(error, MSALEX_INVALID, ELOOP, "readlink",
                            "A link of /proc, whose text is not where it leads");
    if (link->st_uid == geteuid() || link->st_uid == 0)
        return MSALEX_OK;
    describe(name, text);
    if (fstat(directory, &parent) != 0)
        return msalex__fail_errno(error, errno, "fstat");
    if ((parent.st_mode & S_ISVTX) != 0 && (parent.st_mode & S_IWOTH) != 0 &&
        link->st_uid != parent.st_uid)
        return fail_not_trusted(text, link->st_uid, IN_SHARED_DIRECTORY, error);
    if (msalex__is_unmapped(link->st_uid) && is_private(directory))
        return MSALEX_OK;
    if (walk->place->by_others_link && walk->place->link_owner != link->st_uid)
        return fail_not_trusted(text, link->st_uid, LEADS_ELSEWHERE, error);
    walk->place->by_others_link = true;
    walk->place->link_owner = link->st_uid;
    strcpy(walk->link, text);
    return MSALEX_OK;
}

/* Do the links of another user lead to something that the same user owns?  MSALEX_OK also when
 * there was no such link.  `text` names the link in the message of a refusal. */
static int settle(const struct msalex__place *place, const char *text, msalex_error *error) {
    const uid_t owner = place->link_owner;
    struct stat parent;

    if (!place->by_others_link || (place->exists && place->file.st_uid == owner))
        return msalex__ok(error);
    if (fstat(place->directory, &parent) != 0)
        return msalex__fail_errno(error, errno, "fstat");
    if (parent.st_uid == owner && (!place->exists || place->file.st_uid == geteuid()))
        return msalex__ok(error);
    return fail_not_trusted(text, owner, LEADS_ELSEWHERE, error);
}

/* ---- the walk ---- */

/* Makes `directory` the one that is reached; the one before it is closed. */
static int enter(struct walk *walk, int directory, msalex_error *error) {
    if (directory < 0)
        return msalex__fail_errno(error, errno, "open directory");
    if (walk->place->directory >= 0)
        (void)close(walk->place->directory);
    walk->place->directory = directory;
    return MSALEX_OK;
}

/* Opens the directory in which the walk begins, unless it has begun already. */
static int begin(struct walk *walk, msalex_error *error) {
    const char *first = walk->rest[0] == '/' ? "/" : ".";

    if (walk->place->directory >= 0)
        return MSALEX_OK;
    return enter(walk, msalex__open_directory(AT_FDCWD, first), error);
}

/* Notes that the path ends with a link, and keeps the first such link if the caller wants it. */
static int remember_link(struct walk *walk, const char *name, msalex_error *error) {
    struct msalex__place *place = walk->place;

    place->is_link = true;
    if (!walk->keep_link || place->link_directory >= 0)
        return MSALEX_OK;
    if ((place->link_directory = msalex__open_directory(place->directory, ".")) < 0)
        return msalex__fail_errno(error, errno, "open directory");
    strcpy(place->link_name, name);
    return MSALEX_OK;
}

/* Replaces the name of a link by its text in the rest of the path; `tail` is what follows the
 * name. */
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
    if (tail[0] == '\0' && (status = remember_link(walk, name, error)) != MSALEX_OK)
        return status;
    if (snprintf(rest, sizeof rest, "%s%s", text, tail) >= (int)sizeof rest)
        return msalex__fail_errno(error, ENAMETOOLONG, "readlink");
    strcpy(walk->rest, rest);
    return text[0] == '/' ? enter(walk, msalex__open_directory(AT_FDCWD, "/"), error) : MSALEX_OK;
}

/* Takes the next part of the path, which is not the last one. */
static int descend(struct walk *walk, const char *part, size_t length, msalex_error *error) {
    const char *tail = part + length + strspn(part + length, "/"); /* relative to that part */
    char name[PATH_MAX];
    int directory;

    memcpy(name, part, length);
    name[length] = '\0';
    directory = msalex__open_directory(walk->place->directory, name);
    if (directory < 0 && (errno == ENOTDIR || errno == ELOOP))
        return follow(walk, name, part + length, error);
    memmove(walk->rest, tail, strlen(tail) + 1);
    return enter(walk, directory, error);
}

/* Looks at the last part: 0, ELOOP for a link, or another errno. */
static int look_at_last(struct msalex__place *place) {
    if (fstatat(place->directory, place->name, &place->file, AT_SYMLINK_NOFOLLOW) != 0)
        return errno == ENOENT ? 0 : errno;
    if (S_ISLNK(place->file.st_mode))
        return ELOOP;
    place->exists = true;
    return 0;
}

/* The last directory is open: takes the name. */
static int arrive(struct walk *walk, const char *name, bool *done, msalex_error *error) {
    struct msalex__place *place = walk->place;
    int code = 0;

    memmove(place->name, name, strlen(name) + 1);
    if (name[0] == '\0')
        code = EISDIR; /* the path ends with a slash */
    else if (walk->look == ALWAYS || (walk->look == AFTER_LINKS && walk->links > 0))
        code = look_at_last(place);
    if (code == ELOOP)
        return follow(walk, place->name, "", error);
    *done = true;
    return code == 0 ? MSALEX_OK : msalex__fail_errno(error, code, "stat");
}

/* One step of the walk: into all directories at once, or into the next one. */
static int step(struct walk *walk, bool *done, msalex_error *error) {
    char *slash = strrchr(walk->rest, '/'), *part, first;
    int directory, status;

    if (slash == NULL)
        return (status = begin(walk, error)) != MSALEX_OK ? status
                                                          : arrive(walk, walk->rest, done, error);
    first = slash[1]; /* cut the text behind the slash, for this call only */
    slash[1] = '\0';
    directory = msalex__open_directory_without_links(walk->place->directory, walk->rest);
    slash[1] = first;
    if (directory >= 0) {
        (void)enter(walk, directory, error);
        return arrive(walk, slash + 1, done, error);
    }
    if (errno != ELOOP)
        return msalex__fail_errno(error, errno, "open directory");
    if ((status = begin(walk, error)) != MSALEX_OK)
        return status;
    part = walk->rest + strspn(walk->rest, "/");
    if (strchr(part, '/') == NULL) /* only slashes before the last part */
        return arrive(walk, part, done, error);
    return descend(walk, part, strcspn(part, "/"), error);
}

static int find(const char *path, enum look look, bool keep_link, struct msalex__place *place,
                msalex_error *error) {
    struct walk walk = {.place = place, .look = look, .keep_link = keep_link};
    bool done = false;
    int status = MSALEX_OK;

    place->directory = place->link_directory = -1;
    place->exists = place->is_link = place->by_others_link = false;
    if (path[0] == '\0')
        return msalex__fail_errno(error, ENOENT, "open");
    if (strlen(path) >= PATH_MAX)
        return msalex__fail_errno(error, ENAMETOOLONG, "open");
    strcpy(walk.rest, path);
    while (status == MSALEX_OK && !done)
        status = step(&walk, &done, error);
    /* The path ends with a link, and the directory of its target is missing. */
    if (status == MSALEX_NOT_FOUND && place->is_link) {
        place->name[0] = '\0';
        status = MSALEX_OK;
    }
    if (status == MSALEX_OK)
        status = settle(place, walk.link, error);
    if (status != MSALEX_OK)
        msalex__place_leave(place);
    return status;
}

/* ---- the interface ---- */

int msalex__place_find(const char *path, struct msalex__place *place, msalex_error *error) {
    return find(path, ALWAYS, false, place, error);
}

int msalex__place_find_both(const char *path, struct msalex__place *place, msalex_error *error) {
    return find(path, ALWAYS, true, place, error);
}

int msalex__place_find_to_open(const char *path, struct msalex__place *place, msalex_error *error) {
    return find(path, AFTER_LINKS, false, place, error);
}

int msalex__place_find_name(const char *path, struct msalex__place *place, msalex_error *error) {
    return find(path, NEVER, false, place, error);
}

int msalex__place_judge(struct msalex__place *place, msalex_error *error) {
    char name[64], message[256];
    struct stat parent;
    int status;

    place->keeps_owner = true;
    describe(place->name, name);
    /* Once more, because the caller may have opened another file than the walk found. */
    if ((status = settle(place, name, error)) != MSALEX_OK)
        return status;
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
