/* kqueue(2), as far as files are concerned: see darwin.h. */
#ifndef MSALEX_TEST_EVENT_H
#define MSALEX_TEST_EVENT_H

#include <stdint.h>
#include <time.h>

struct kevent {
    uintptr_t ident;
    int16_t filter;
    uint16_t flags;
    uint32_t fflags;
    intptr_t data;
    void *udata;
};

enum {
    EVFILT_VNODE = -4,
    EV_ADD = 0x1,
    EV_CLEAR = 0x20,
    NOTE_DELETE = 0x1,
    NOTE_WRITE = 0x2,
    NOTE_EXTEND = 0x4,
    NOTE_ATTRIB = 0x8,
    NOTE_LINK = 0x10,
    NOTE_RENAME = 0x20,
    NOTE_REVOKE = 0x40,
    NOTE_FUNLOCK = 0x100
};

#define EV_SET(event, a, b, c, d, e, f)                                                            \
    (*(event) = (struct kevent){                                                                   \
         .ident = (a), .filter = (b), .flags = (c), .fflags = (d), .data = (e), .udata = (f)})

int kqueue(void);
int kevent(int queue, const struct kevent *changes, int change_count, struct kevent *events,
           int event_count, const struct timespec *timeout);

#endif
