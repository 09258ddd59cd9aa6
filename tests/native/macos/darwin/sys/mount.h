/* The kind of a file system: see darwin.h. */
#ifndef MSALEX_TEST_MOUNT_H
#define MSALEX_TEST_MOUNT_H

struct statfs {
    unsigned f_flags;
    char f_fstypename[16];
};
int fake_fstatfs(int fd, struct statfs *system);
int fake_statfs(const char *path, struct statfs *system);

#endif
