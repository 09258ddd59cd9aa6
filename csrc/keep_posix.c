/* What a save keeps of the file that it replaces.  The promises are in keep_posix.h. */
#define _XOPEN_SOURCE 700 /* fchown, fchmod */
#define _DARWIN_C_SOURCE
#include "keep_posix.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "attributes_posix.h"

enum { NAMES_SIZE = 8192, VALUE_SIZE = 64 * 1024 };

void msalex__keep_attributes(int old, int new) {
    char names[NAMES_SIZE];
    const ssize_t size = msalex__list_attributes(old, names, sizeof names);
    void *value;

    if (size <= 0 || (value = malloc(VALUE_SIZE)) == NULL)
        return;
    for (const char *name = names; name < names + size; name += strlen(name) + 1) {
        if (msalex__keeps_attribute(name))
            msalex__copy_attribute(old, new, name, value, VALUE_SIZE);
    }
    free(value);
}

/* Group and list belong together: without the group the new file gets no list. */
int msalex__keep_rights(int old, const struct stat *status, int new) {
    mode_t mode = status->st_mode & 0660;
    bool has_group = true;
    struct stat made;

    if (fstat(new, &made) != 0)
        return errno;
    if (made.st_uid != status->st_uid || made.st_gid != status->st_gid)
        has_group = fchown(new, status->st_uid, status->st_gid) == 0 ||
                    fchown(new, (uid_t)-1, status->st_gid) == 0;
    /* With an access list the group bits of the mode are the mask of the list, and not the rights
     * of the group. */
    if (!has_group || msalex__copy_access_list(old, new) != 0)
        mode &= 0600;
    if (mode == 0600 && (status->st_mode & 07777) == 0600)
        return 0;
    if (fchmod(new, mode) == 0 || (made.st_mode & 0777) != 0600)
        return 0; /* a file system without our modes: we made it with 0600, and it shows others */
    return errno;
}
