/* Whether a file system is local: see darwin.h. */
#ifndef MSALEX_TEST_MOUNT_H
#define MSALEX_TEST_MOUNT_H

struct statfs {
    unsigned f_flags;
};
int fake_fstatfs(int fd, struct statfs *system);

#endif
