/* One process, and the boot of the system: see darwin.h. */
#ifndef MSALEX_TEST_SYSCTL_H
#define MSALEX_TEST_SYSCTL_H

#include <stddef.h>
#include <sys/time.h>

enum { CTL_KERN = 1, KERN_PROC = 14, KERN_PROC_PID = 1, KERN_BOOTTIME = 21 };

struct kinfo_proc {
    struct {
        char p_stat;
        struct timeval p_starttime;
    } kp_proc;
};
int sysctl(int *name, unsigned count, void *old, size_t *old_size, void *new, size_t new_size);
int sysctlbyname(const char *name, void *old, size_t *old_size, void *new, size_t new_size);

#endif
