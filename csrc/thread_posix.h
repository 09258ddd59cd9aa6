/* Threads of the library's own, Linux and macOS. */
#ifndef MSALEX_THREAD_POSIX_H
#define MSALEX_THREAD_POSIX_H

#include <stddef.h>

/* Starts run(argument) in a thread that nobody joins, with a stack of so many bytes: 0 or an errno
 * value.  No signal handler of the program runs in it.  It is for what knows no deadline: the
 * keyring of the system, or a kernel lock. */
int msalex__start_thread(void *(*run)(void *), void *argument, size_t stack);

/* The same, but returns when run(argument) has ended.  It is for what changes the thread: the
 * caller's own must stay as it is. */
int msalex__run_in_thread(void *(*run)(void *), void *argument, size_t stack);

#endif
