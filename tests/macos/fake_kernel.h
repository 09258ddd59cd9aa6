/*
 * A Darwin kernel, as far as our lock and our watch ask it, on Linux: see darwin.h.
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
    /* The errno of the next call of the function with that name; of all, when it is `always`. */
    const char *failing;
    int code;
    bool always;
    bool remote; /* every file system belongs to another host */
    /* What was called, in order: O open kqueue, A add a file, W wait, L try a lock. */
    char log[256];
};
extern struct fake_kernel fake_kernel;

/* For the functions that the linker wraps: is this call to fail?  Then errno is set. */
bool fake_fails(const char *name);

#endif
