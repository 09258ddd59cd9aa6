/*
 * A Darwin kernel on Linux, as far as our lock, our watch (fake_kernel.c) and our files
 * (fake_files.c) ask it: see darwin.h.
 *
 * By itself it is live: files and flock are Linux's own, a kqueue looks at its files every
 * other millisecond, and tells of deletions, renames and changes as Darwin does.  It does not
 * know of unlocks made by other processes, so that a waiter finds those at the end of a slice.
 *
 * A test may script it: say what happens during a wait, with a clock of its own, and which
 * call fails.
 */
#ifndef MSALEX_TEST_FAKE_KERNEL_H
#define MSALEX_TEST_FAKE_KERNEL_H

#include <stdbool.h>
#include <stdint.h>

struct fake_kernel {
    /* Instead of a wait of at most so many milliseconds: 1 when something is told, 0 when time
     * is up, or -1 with errno. */
    int (*wait)(int queue, int64_t timeout_ms);
    /* Just before a file is added to a kqueue. */
    void (*adding)(int fd);
    /* Just before flock is tried. */
    void (*trying)(int fd);
    /* Just before any function that can fail. */
    void (*before)(const char *name);
    /* Which function fails next, or `always`; with which errno; how many calls succeed before. */
    const char *failing;
    int code;
    bool always;
    int after;
    int rename_code; /* not 0: that of every exclusive rename */
    int link_code; /* not 0: that of every link */
    int64_t booted; /* not 0: when the system was started, by its clock; else, as it was */
    bool remote; /* every file system belongs to another host */
    bool unstable; /* each look at a path sees another inode number */
    int macos; /* not 0: the version whose kernel this is; what we build for begins with 11 */
    const char *file_system; /* not NULL: its name */
    bool with_barriers; /* it can keep the order of writes */
    bool without_lists; /* it has no access lists */
    bool quiet_renames; /* a rename does not change the times of what is renamed (HFS+) */
    bool long_links; /* a link's text fills any room */
    const char *inherited; /* not NULL: the list that every directory hands down to new files */
    uint32_t added; /* what the last file to be added is to tell of */
    /* What was called in a script: O open a kqueue, A add a file, W wait, L try a lock. */
    char log[256];
};
extern struct fake_kernel fake_kernel;

/* Is this call to fail?  Then errno is set. */
bool fake_fails(const char *name);

/* The access list of a file: none (NULL), one without entries (""), or its entries. */
void fake_give_list(const char *path, const char *text);
const char *fake_list_of(const char *path);

#endif
