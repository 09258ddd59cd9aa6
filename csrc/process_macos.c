/* This boot and its processes, macOS.  The promises are in process_posix.h.  Twin:
 * process_linux.c. */
#define _DARWIN_C_SOURCE /* struct kinfo_proc */
#include "process_posix.h"

#include <errno.h>
#include <libproc.h>
#include <mach/mach_time.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/proc.h>
#include <sys/resource.h>
#include <sys/sysctl.h>

size_t msalex__read_boot_id(char *id, size_t room) {
    return sysctlbyname("kern.bootsessionuuid", id, &room, NULL, 0) == 0 ? room : 0;
}

/* When the system was started, by the clock of today; 0: we cannot find it out. */
static time_t boot_time(void) {
    int name[] = {CTL_KERN, KERN_BOOTTIME};
    struct timeval booted;
    size_t size = sizeof booted;

    return sysctl(name, 2, &booted, &size, NULL, 0) == 0 ? booted.tv_sec : 0;
}

/* Seconds since the start of the process in which the machine was awake; negative: we cannot find
 * it out (the process belongs to another user, or we are in a sandbox). */
static int64_t awake_for(pid_t pid) {
    struct rusage_info_v0 usage;
    mach_timebase_info_data_t base;

    if (proc_pid_rusage(pid, RUSAGE_INFO_V0, (rusage_info_t *)&usage) != 0 ||
        mach_timebase_info(&base) != 0)
        return -1;
    return (int64_t)((mach_absolute_time() - usage.ri_proc_start_abstime) * base.numer /
                     base.denom / 1000000000);
}

/* The start of the process, by the clock of today; or a time before it.  `noted` is what the clock
 * showed then (p_starttime), and somebody may have set the clock back since, so that a living
 * process looks younger than the file that it wrote.  It cannot have started later than the time
 * for which it has been awake; but earlier, because that clock stands still in sleep. */
static time_t earliest_start(pid_t pid, time_t noted) {
    const time_t now = time(NULL);
    const int64_t awake = awake_for(pid);
    const time_t latest = awake < 0 ? now : now - (time_t)awake;

    if (noted <= latest)
        return noted;
    return awake < 0 ? 0 : latest;
}

/* A zombie is dead.  A sandbox hides other processes: then at least ask whether there is one. */
enum msalex__life msalex__life_of(int64_t pid, time_t written) {
    int name[] = {CTL_KERN, KERN_PROC, KERN_PROC_PID, (int)pid};
    struct kinfo_proc process;
    size_t size = sizeof process;
    bool alive;

    if (sysctl(name, 4, &process, &size, NULL, 0) != 0)
        alive = kill((pid_t)pid, 0) == 0 || errno != ESRCH;
    else
        alive = size > 0 && process.kp_proc.p_stat != SZOMB &&
                earliest_start((pid_t)pid, process.kp_proc.p_starttime.tv_sec) <=
                    written + MSALEX__REUSE_S &&
                boot_time() <= written + MSALEX__BOOT_S;
    return alive ? MSALEX__ALIVE : MSALEX__DEAD;
}
