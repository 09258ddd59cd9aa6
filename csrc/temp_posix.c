/* Temporary files beside their target.  The promise is in temp_posix.h. */
#define _XOPEN_SOURCE 700 /* openat, fdopendir */
#define _DARWIN_C_SOURCE
#include "temp_posix.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "attributes_posix.h"
#include "internal.h"
#include "os_posix.h"

/* The name is ".msalex-", 16 hexadecimal digits and ".tmp", or ".dir" for a directory.  The
 * target's name is no part of it, because that may have 255 bytes, which is all that a name can
 * have. */
static const char PREFIX[] = ".msalex-";
static const char SUFFIX[] = ".tmp";
static const char SUFFIX_OF_DIRECTORY[] = ".dir";

enum { DIGITS = 16, OPEN_TRIES = 10, REMOVE_TRIES = 100 };

static void make_name(char name[MSALEX__TEMP_NAME_SIZE], const char *suffix) {
    (void)snprintf(name, MSALEX__TEMP_NAME_SIZE, "%s%016llx%s", PREFIX,
                   (unsigned long long)msalex__nonce(), suffix);
}

void msalex__temp_name(char name[MSALEX__TEMP_NAME_SIZE]) {
    make_name(name, SUFFIX);
}

/* O_EXCL, and not a secret name, keeps us from using a file or link that others planted. */
static int open_new(int directory, const char *name) {
    return openat(directory, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
}

static void remove_entry(int directory, const char *name, int flags) {
    for (int tries = 0; tries < REMOVE_TRIES; tries++) {
        if (unlinkat(directory, name, flags) == 0 || errno != EINTR)
            return;
    }
}

/* Opens the directory that we have just made, unless another one has its name by now. */
static int open_apart(int directory, const char *name) {
    const int fd = openat(directory, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    struct stat opened;
    int code;

    if (fd < 0)
        return -1;
    if (fstat(fd, &opened) == 0 && opened.st_uid == geteuid()) {
        if ((code = msalex__remove_access_list(fd)) == 0)
            return fd;
    } else {
        code = EACCES;
    }
    (void)close(fd);
    errno = code;
    return -1;
}

/* Makes the file in a directory of its own, and moves it from there.  From a directory without a
 * list it inherits nothing, and it does not inherit when it is moved. */
static int open_new_apart(int directory, const char *name) {
    char way[MSALEX__TEMP_NAME_SIZE];
    int apart, code = 0, fd = -1;

    make_name(way, SUFFIX_OF_DIRECTORY);
    if (mkdirat(directory, way, 0700) != 0)
        return -1;
    if ((apart = open_apart(directory, way)) < 0 || (fd = open_new(apart, name)) < 0) {
        code = errno;
    } else if (renameat(apart, name, directory, name) != 0) {
        code = errno;
        msalex__temp_remove(apart, name);
        (void)close(fd);
        fd = -1;
    }
    if (apart >= 0)
        (void)close(apart);
    remove_entry(directory, way, AT_REMOVEDIR);
    errno = code;
    return fd;
}

/* Nobody else may open the file, not even before the list that it inherited is removed: such a
 * descriptor could read the content that comes later. */
static int open_unseen(int directory, const char *name) {
    int fd = open_new(directory, name);

    if (fd < 0 || !msalex__is_open_to_others(fd))
        return fd;
    msalex__temp_remove(directory, name);
    (void)close(fd);
    return open_new_apart(directory, name);
}

int msalex__temp_open(int directory, char name[MSALEX__TEMP_NAME_SIZE]) {
    int code, fd = -1;

    for (int tries = 0; fd < 0 && tries < OPEN_TRIES; tries++) {
        msalex__temp_name(name);
        fd = open_unseen(directory, name);
        if (fd < 0 && errno != EEXIST)
            return -1;
    }
    if (fd < 0)
        return -1;
    msalex__show_life(fd);
    if ((code = msalex__remove_access_list(fd)) != 0) {
        msalex__temp_remove(directory, name);
        (void)close(fd);
        errno = code;
        return -1;
    }
    return fd;
}

void msalex__temp_remove(int directory, const char *name) {
    remove_entry(directory, name, 0);
}

/* ---- sweeping ---- */

static bool has_name(const char *name, const char *suffix) {
    const size_t prefix = sizeof PREFIX - 1;
    return strncmp(name, PREFIX, prefix) == 0 &&
           strspn(name + prefix, "0123456789abcdef") == DIGITS &&
           strcmp(name + prefix + DIGITS, suffix) == 0;
}

/* Age alone is no proof: a writer that was stopped, or slept with the machine, for any time can
 * still rename its file.  So the file must be old and show no life. */
static bool is_dead(int fd, int dead_after_s) {
    struct stat file;
    return fstat(fd, &file) == 0 && S_ISREG(file.st_mode) &&
           time(NULL) - file.st_mtime >= dead_after_s && !msalex__shows_life(fd);
}

static void sweep_file(int directory, const char *name, int dead_after_s) {
    int fd = openat(directory, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

    if (fd < 0)
        return;
    if (is_dead(fd, dead_after_s))
        msalex__temp_remove(directory, name);
    (void)close(fd);
}

static int sweep(int fd, int dead_after_s, bool with_directories);

/* The directory holds one file of ours at most (open_new_apart).  With anything else in it, it
 * stays. */
static void sweep_directory(int directory, const char *name, int dead_after_s) {
    int fd = openat(directory, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    struct stat status;
    bool is_old;

    if (fd < 0)
        return;
    is_old = fstat(fd, &status) == 0 && time(NULL) - status.st_mtime >= dead_after_s;
    if (!is_old)
        (void)close(fd);
    else if (sweep(fd, dead_after_s, false) == 0)
        remove_entry(directory, name, AT_REMOVEDIR);
}

/* Closes the directory: 0 or errno. */
static int sweep(int fd, int dead_after_s, bool with_directories) {
    const struct dirent *entry;
    DIR *entries;
    int code;

    if ((entries = fdopendir(fd)) == NULL) {
        code = errno;
        (void)close(fd);
        return code;
    }
    while ((entry = readdir(entries)) != NULL) {
        if (has_name(entry->d_name, SUFFIX))
            sweep_file(fd, entry->d_name, dead_after_s);
        else if (with_directories && has_name(entry->d_name, SUFFIX_OF_DIRECTORY))
            sweep_directory(fd, entry->d_name, dead_after_s);
    }
    (void)closedir(entries);
    return 0;
}

int msalex__temp_sweep(int directory, int dead_after_s) {
    int fd = openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? errno : sweep(fd, dead_after_s, true);
}
