/*
 * The clocks, the boot and the processes of a Mac: see fake_kernel.h.  The rules are those of
 * Apple's sources: Libc (gen/clock_gettime.c) and xnu-11417 (bsd/kern unless another directory is
 * named).
 */
#include <errno.h>
#include <libproc.h>
#include <mach/mach_time.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysctl.h>
#include <time.h>
#include <unistd.h>

#include "fake_kernel.h"

#undef clock_gettime
int clock_gettime(clockid_t clock, struct timespec *now);

/* ---- clocks ---- */

static int64_t ns_of(clockid_t clock) {
    struct timespec now;
    (void)clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* The time of day, and CLOCK_MONOTONIC, which is that without the time of the boot, come in
 * microseconds.  Both run on in sleep; mach_absolute_time, which is CLOCK_UPTIME_RAW, does not. */
uint64_t clock_gettime_nsec_np(clockid_t clock) {
    const int64_t slept = fake_kernel.slept_ms * 1000000;

    if (clock == CLOCK_UPTIME_RAW)
        return (uint64_t)ns_of(CLOCK_MONOTONIC); /* Linux's stands still in sleep, too */
    if (clock == CLOCK_MONOTONIC || clock == CLOCK_REALTIME)
        return (uint64_t)((ns_of(clock) + slept) / 1000 * 1000);
    abort();
}

int fake_clock_gettime(clockid_t clock, struct timespec *now) {
    const uint64_t ns = clock_gettime_nsec_np(clock);

    *now =
        (struct timespec){.tv_sec = (time_t)(ns / 1000000000), .tv_nsec = (long)(ns % 1000000000)};
    return 0;
}

/* ---- the boot and processes ---- */

/* By the clock of today.  What the machine has slept comes to what it was awake. */
static time_t boot_time(void) {
    struct timespec now, since_boot;

    (void)clock_gettime(CLOCK_REALTIME, &now);
    (void)clock_gettime(CLOCK_BOOTTIME, &since_boot);
    return now.tv_sec - since_boot.tv_sec - (time_t)(fake_kernel.slept_ms / 1000);
}

/* Reads proc_pid_stat(5): 'Z' is a zombie, and the start is in ticks since the boot. */
static bool read_process(int pid, char *state, int64_t *start_ns) {
    char path[64], text[1024], *fields;
    unsigned long long ticks;
    size_t length;
    FILE *file;

    (void)snprintf(path, sizeof path, "/proc/%d/stat", pid);
    if ((file = fopen(path, "re")) == NULL)
        return false;
    length = fread(text, 1, sizeof text - 1, file);
    (void)fclose(file);
    text[length] = '\0';
    if ((fields = strrchr(text, ')')) == NULL ||
        sscanf(fields + 1,
               " %c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %llu",
               state, &ticks) != 2)
        return false;
    *start_ns = (int64_t)ticks * (1000000000 / sysconf(_SC_CLK_TCK));
    return true;
}

/* If there is no such process, the call succeeds with size 0.  p_starttime is what the clock showed
 * at the start (forkproc, kern_fork.c); later changes of the clock do not change it. */
static void find_process(int pid, struct kinfo_proc *process, size_t *size) {
    int64_t start_ns;
    char state;

    *size = 0;
    if (!read_process(pid, &state, &start_ns))
        return;
    *process = (struct kinfo_proc){0};
    process->kp_proc.p_stat = state == 'Z' ? SZOMB : 2;
    process->kp_proc.p_starttime.tv_sec =
        boot_time() + (time_t)(start_ns / 1000000000) + fake_kernel.set_back_s;
    *size = sizeof *process;
}

/* ---- what the kernel measures in ticks: 24 MHz, as on Apple's own processors ---- */

enum { TICK_NUMER = 125, TICK_DENOM = 3 };

static uint64_t ticks_of(int64_t ns) {
    return (uint64_t)ns * TICK_DENOM / TICK_NUMER;
}

int mach_timebase_info(mach_timebase_info_data_t *info) {
    *info = (mach_timebase_info_data_t){.numer = TICK_NUMER, .denom = TICK_DENOM};
    return 0;
}

uint64_t mach_absolute_time(void) {
    return ticks_of(ns_of(CLOCK_MONOTONIC));
}

/* The start by that clock (proc_pidrusage, proc_info.c), of the user's own processes only. */
int proc_pid_rusage(int pid, int flavor, rusage_info_t *usage) {
    struct rusage_info_v0 found = {0};
    int64_t start_ns;
    char state;

    if (flavor != RUSAGE_INFO_V0)
        abort();
    errno = ESRCH;
    if (fake_fails("proc_pid_rusage") || !read_process(pid, &state, &start_ns))
        return -1;
    found.ri_proc_start_abstime = ticks_of(start_ns);
    memcpy(usage, &found, sizeof found);
    return 0;
}

/* ---- sysctl ---- */

/* KERN_PROC_PID and KERN_BOOTTIME. */
int sysctl(int *name, unsigned count, void *old, size_t *old_size, void *new, size_t new_size) {
    if (name[0] != CTL_KERN || new != NULL || new_size != 0)
        abort();
    if (fake_fails("sysctl"))
        return -1;
    if (count == 4 && name[1] == KERN_PROC && name[2] == KERN_PROC_PID &&
        *old_size == sizeof(struct kinfo_proc)) {
        find_process(name[3], old, old_size);
    } else if (count == 2 && name[1] == KERN_BOOTTIME && *old_size == sizeof(struct timeval)) {
        const int64_t booted = fake_kernel.booted != 0 ? fake_kernel.booted : boot_time();
        *(struct timeval *)old = (struct timeval){.tv_sec = booted};
    } else {
        abort();
    }
    return 0;
}

int sysctlbyname(const char *name, void *old, size_t *old_size, void *new, size_t new_size) {
    static const char BOOT[] = "01234567-89AB-CDEF-0123-456789ABCDEF";

    if (strcmp(name, "kern.bootsessionuuid") != 0 || *old_size < sizeof BOOT || new != NULL ||
        new_size != 0)
        abort();
    if (fake_fails("sysctlbyname"))
        return -1;
    memcpy(old, BOOT, sizeof BOOT);
    *old_size = sizeof BOOT;
    return 0;
}
