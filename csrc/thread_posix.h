/*
 * Threads of the library's own, Linux and macOS.  Each waits for something that knows no deadline:
 * the keyring of the system, or a kernel lock.
 */
#ifndef MSALEX_THREAD_POSIX_H
#define MSALEX_THREAD_POSIX_H

#include <stddef.h>

/* Starts run(argument) in a thread that nobody joins, with a stack of so many bytes: 0 or an errno
 * value.  No signal handler of the program runs in it. */
int msalex__start_thread(void *(*run)(void *), void *argument, size_t stack);

#endif
