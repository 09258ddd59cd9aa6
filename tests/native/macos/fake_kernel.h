/*
 * A Darwin kernel on Linux, as far as our lock, our watch (fake_kernel.c, fake_flock.c,
 * fake_clocks.c) and our files (fake_files.c) ask it: see darwin.h.
 *
 * Without a script it is live: files and flock are Linux's own, and a kqueue looks at its files
 * every other millisecond and reports deletions, renames, changes and unlocks as Darwin does.
 *
 * A test may give it a script: the events during a wait, a clock of the test's own, and a call
 * that fails.
 */
#ifndef MSALEX_TEST_FAKE_KERNEL_H
#define MSALEX_TEST_FAKE_KERNEL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

struct fake_kernel {
    /* Replaces a wait of at most timeout_ms: returns 1 for an event of the file `told`, 0 when time
     * is up, or -1 with errno. */
    int (*wait)(int queue, int64_t timeout_ms);
    int told;
    /* Just before a file is added to a kqueue. */
    void (*adding)(int fd);
    /* Just before flock is tried. */
    void (*trying)(int fd);
    /* Just before any function that can fail. */
    void (*before)(const char *name);
    /* The function that fails next, or `always`; its errno; how many calls succeed before. */
    const char *failing;
    int code;
    bool always;
    int after;
    int rename_code;         /* not 0: the errno of every exclusive rename */
    int link_code;           /* not 0: the errno of every link */
    int64_t slept_ms;        /* how long the machine has slept, after all processes started */
    int64_t set_back_s;      /* how far the clock was set back after all processes started */
    int64_t booted;          /* not 0: the time of the start of the system; else the real one */
    bool remote;             /* every file system belongs to another host */
    bool unstable;           /* each look at a path sees another inode number */
    int macos;               /* not 0: the version of macOS; we build for 11 and later */
    const char *file_system; /* not NULL: its name */
    bool with_barriers;      /* it can keep the order of writes */
    bool without_lists;      /* it has no access lists */
    bool without_attributes; /* it has no extended attributes */
    bool quiet_renames;      /* a rename does not change the times of the file (HFS+) */
    bool long_links;         /* the text of a link fills every buffer */
    const char *inherited;   /* not NULL: new files inherit this list from every directory... */
    ino_t emptied;           /* ...but this one, whose own list the library has emptied */
    int made;                /* how many new files were made */
    uint32_t added;          /* the events that the library asked for when it added the last file */
    /* The calls during a script: O open a kqueue, A add a file, W wait, L try a lock, U unlock, u
     * unlock what was not locked. */
    char log[256];
};
extern struct fake_kernel fake_kernel;

/* Is this call to fail?  Then errno is set. */
bool fake_fails(const char *name);

/* Writes into the log of a script. */
void fake_note(char what);

/* How often processes have unlocked and locked the file so far, and whether it is locked now. */
struct fake_unlocks {
    uint32_t unlocks, locks;
    bool is_locked;
};
struct fake_unlocks fake_unlocks_of(const struct stat *file);

/* How often any process has unlocked what it had not locked: each time wakes all waiters for
 * nothing. */
unsigned fake_idle_unlocks(void);

/* The access list of a file: none (NULL), one without entries (""), or its entries. */
void fake_give_list(const char *path, const char *text);
const char *fake_list_of(const char *path);

#endif
