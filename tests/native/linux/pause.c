/*
 * Makes a program stand still at one system call of its save, while a test does something.
 *
 *     LD_PRELOAD=pause.so PAUSE_TELL=<fd> PAUSE_WAIT=<fd> program
 *
 * The program sets PAUSE in its own environment, to "sync" or to "rename".  Its next call of that
 * kind removes PAUSE, writes a byte to PAUSE_TELL, and then waits for a byte from PAUSE_WAIT or, if
 * PAUSE_MS is set, for that number of milliseconds.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static void pause_at(const char *call) {
    const char *wanted = getenv("PAUSE"), *tell = getenv("PAUSE_TELL");
    const char *wait = getenv("PAUSE_WAIT"), *milliseconds = getenv("PAUSE_MS");
    char byte = '!';

    if (wanted == NULL || strcmp(wanted, call) != 0 || tell == NULL || wait == NULL)
        return;
    (void)unsetenv("PAUSE");
    if (write(atoi(tell), &byte, 1) != 1)
        abort();
    if (milliseconds != NULL) {
        const struct timespec time = {.tv_nsec = atol(milliseconds) * 1000000};
        (void)nanosleep(&time, NULL);
    } else if (read(atoi(wait), &byte, 1) != 1) {
        abort();
    }
}

int fdatasync(int fd) {
    pause_at("sync");
    return REAL(fdatasync)(fd);
}

int rename(const char *from, const char *to) {
    pause_at("rename");
    return REAL(rename)(from, to);
}

int renameat(int from_directory, const char *from, int to_directory, const char *to) {
    pause_at("rename");
    return REAL(renameat)(from_directory, from, to_directory, to);
}

/* The C library may be older than renameat2, so the library under test calls it by its number. */
long syscall(long number, ...) {
    va_list list;
    long a[6];

    va_start(list, number);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(list, long);
    va_end(list);
    if (number == SYS_renameat2)
        pause_at("rename");
    return REAL(syscall)(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
