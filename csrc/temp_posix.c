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

/* The name is ".msalex-", 16 hexadecimal digits and ".tmp".  The target's name is no part of it,
 * because that may have 255 bytes, which is all that a name can have. */
static const char PREFIX[] = ".msalex-";
static const char SUFFIX[] = ".tmp";

enum { DIGITS = 16, OPEN_TRIES = 10, REMOVE_TRIES = 100 };

void msalex__temp_name(char name[MSALEX__TEMP_NAME_SIZE]) {
    (void)snprintf(name, MSALEX__TEMP_NAME_SIZE, "%s%016llx%s", PREFIX,
                   (unsigned long long)msalex__nonce(), SUFFIX);
}

int msalex__temp_open(int directory, char name[MSALEX__TEMP_NAME_SIZE]) {
    int code, fd = -1;

    for (int tries = 0; fd < 0 && tries < OPEN_TRIES; tries++) {
        msalex__temp_name(name);
        /* O_EXCL, and not a secret name, keeps us from using a file or link that others planted. */
        fd = openat(directory, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
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
    for (int tries = 0; tries < REMOVE_TRIES; tries++) {
        if (unlinkat(directory, name, 0) == 0 || errno != EINTR)
            return;
    }
}

/* ---- sweeping ---- */

static bool is_temp_name(const char *name) {
    const size_t prefix = sizeof PREFIX - 1;
    return strncmp(name, PREFIX, prefix) == 0 &&
           strspn(name + prefix, "0123456789abcdef") == DIGITS &&
           strcmp(name + prefix + DIGITS, SUFFIX) == 0;
}

/* Age alone is no proof: a writer that was stopped, or slept with the machine, for any time can
 * still rename its file.  So the file must be old and show no life. */
static bool is_dead(int fd, int dead_after_s) {
    struct stat file;
    return fstat(fd, &file) == 0 && S_ISREG(file.st_mode) &&
           time(NULL) - file.st_mtime >= dead_after_s && !msalex__shows_life(fd);
}

static void sweep_entry(int directory, const char *name, int dead_after_s) {
    int fd = openat(directory, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

    if (fd < 0)
        return;
    if (is_dead(fd, dead_after_s))
        msalex__temp_remove(directory, name);
    (void)close(fd);
}

int msalex__temp_sweep(int directory, int dead_after_s) {
    int code, fd = openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const struct dirent *entry;
    DIR *entries;

    if (fd < 0)
        return errno;
    if ((entries = fdopendir(fd)) == NULL) {
        code = errno;
        (void)close(fd);
        return code;
    }
    while ((entry = readdir(entries)) != NULL) {
        if (is_temp_name(entry->d_name))
            sweep_entry(fd, entry->d_name, dead_after_s);
    }
    (void)closedir(entries);
    return 0;
}
