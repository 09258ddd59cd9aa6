/* Threads of the library's own, Linux and macOS: see thread_posix.h. */
#define _POSIX_C_SOURCE 200809L /* pthread_sigmask */
#include "thread_posix.h"

#include <pthread.h>
#include <signal.h>

static int start(pthread_t *thread, int detached, void *(*run)(void *), void *argument,
                 size_t stack) {
    pthread_attr_t attributes;
    sigset_t all, before;
    int code;

    if ((code = pthread_attr_init(&attributes)) != 0)
        return code;
    (void)pthread_attr_setdetachstate(&attributes, detached);
    (void)pthread_attr_setstacksize(&attributes, stack);
    /* The thread inherits this mask: the program's signals must go to the program's threads. */
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    code = pthread_create(thread, &attributes, run, argument);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    (void)pthread_attr_destroy(&attributes);
    return code;
}

int msalex__start_thread(void *(*run)(void *), void *argument, size_t stack) {
    pthread_t thread;
    return start(&thread, PTHREAD_CREATE_DETACHED, run, argument, stack);
}

int msalex__run_in_thread(void *(*run)(void *), void *argument, size_t stack) {
    pthread_t thread;
    const int code = start(&thread, PTHREAD_CREATE_JOINABLE, run, argument, stack);
    return code != 0 ? code : pthread_join(thread, NULL);
}
