/* What the kernel has measured of a process: see fake_clocks.c. */
#ifndef MSALEX_TEST_LIBPROC_H
#define MSALEX_TEST_LIBPROC_H

#include <stdint.h>

enum { RUSAGE_INFO_V0 };
typedef void *rusage_info_t;
struct rusage_info_v0 {
    uint64_t ri_proc_start_abstime;
};

int proc_pid_rusage(int pid, int flavor, rusage_info_t *usage);

#endif
