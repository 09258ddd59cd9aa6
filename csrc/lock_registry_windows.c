/* The mutex of what this process remembers of its locks, Windows: see lock_gap.h.  A list of open
 * lock files, as on POSIX, is not needed, because there is no fork. */
#include "lock_windows.h"

static SRWLOCK registry = SRWLOCK_INIT;

void msalex__registry_enter(void) {
    AcquireSRWLockExclusive(&registry);
}

void msalex__registry_leave(void) {
    ReleaseSRWLockExclusive(&registry);
}
