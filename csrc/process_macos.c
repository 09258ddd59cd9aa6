/* This boot and its processes, macOS.  The promises are in process_posix.h.  Twin:
 * process_linux.c. */
#define _DARWIN_C_SOURCE /* struct kinfo_proc */
#include "process_posix.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/proc.h>
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
                process.kp_proc.p_starttime.tv_sec <= written + MSALEX__REUSE_S &&
                boot_time() <= written + MSALEX__BOOT_S;
    return alive ? MSALEX__ALIVE : MSALEX__DEAD;
}
