/*
 * Lock files of other libraries, macOS: has their holder died?
 * Who they are and what they write: CONTRIBUTING.md.
 */
#define _DARWIN_C_SOURCE /* sysctl */
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <sys/param.h>
#include <sys/proc.h>
#include <sys/stat.h>
#include <sys/sysctl.h>
#include <time.h>
#include <unistd.h>

#include "internal.h"
#include "lock_macos.h"
#include "os_posix.h"

enum {
    STALE_WITHOUT_PID_S = 5, /* as long as 1.3.1 waits before it gives up */
    STALE_ELSEWHERE_S = 60,  /* where a pid tells nothing: longer than any peer waits */
    START_SLACK_S = 2        /* start times and file times come from different clocks */
};

/* A zombie is dead, and so is a pid that was given away again after the file was written. */
static bool is_alive(int64_t pid, time_t written) {
    int name[] = {CTL_KERN, KERN_PROC, KERN_PROC_PID, (int)pid};
    struct kinfo_proc process;
    size_t size = sizeof process;

    if (sysctl(name, 4, &process, &size, NULL, 0) != 0)
        return kill((pid_t)pid, 0) == 0 || errno != ESRCH; /* in a sandbox */
    return size > 0 && process.kp_proc.p_stat != SZOMB &&
           process.kp_proc.p_starttime.tv_sec <= written + START_SLACK_S;
}

bool msalex__peer_is_gone(const struct msalex__lock_file *file, const char *content,
                          size_t size) {
    int64_t pid = msalex__record_pid(content, size);
    struct stat written;
    time_t age;
    int code;

    if (fstat(file->fd, &written) != 0)
        return false;
    age = time(NULL) - written.st_mtime;
    if (pid <= 0) {
        if (age < STALE_WITHOUT_PID_S)
            return false;
    } else if (is_alive(pid, written.st_mtime) ||
               (age < STALE_ELSEWHERE_S && msalex__is_remote(file->fd))) {
        return false; /* on another host's file system pids are not this machine's */
    }
    /* Last, because trying a peer's lock can make its own try fail.  A flock meets fcntl locks
     * too here (xnu keeps all kinds in one list). */
    code = msalex__lock_file_try(file);
    return code == 0 || msalex__is_unsupported(code);
}
