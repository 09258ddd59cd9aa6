/*
 * What the C files share with each other; no caller of the library needs it.  Names: msalex_ is
 * public, msalex__ is shared between C files, static functions have no prefix.
 */
#ifndef MSALEX_INTERNAL_H
#define MSALEX_INTERNAL_H

#include "msalex.h"

/* ---- error.c ---- */

/* Empties the error and returns MSALEX_OK, so `return msalex__ok(error)` ends a function. */
int msalex__ok(msalex_error *error);

/* Fills the error and returns `status`.  Texts that are too long are cut. */
int msalex__fail(msalex_error *error, int status, int64_t code, const char *call,
                 const char *message);

/* The same for an errno value, with the system's words and the status from error.c's table.  It
 * takes the value and does not read errno, because a clean-up before this call may change errno. */
int msalex__fail_errno(msalex_error *error, int code, const char *call);
int msalex__status_of_errno(int code);

/* ---- buffer.c ---- */

/* Overwrites memory with zeros, in a way that the compiler must not remove. */
void msalex__wipe(void *memory, size_t size);

/* Copies `size` bytes into a new buffer.  MSALEX_OS_ERROR when memory runs out. */
int msalex__buffer_copy(msalex_buffer *buffer, const void *data, size_t size, msalex_error *error);

/* ---- nonce.c ---- */

/* A number that in practice no other call on this machine returns.  It is no secret. */
uint64_t msalex__nonce(void);

/* A number that these bytes always give.  Other bytes may give the same one.  It is no secret. */
uint64_t msalex__hash(const char *bytes, size_t size);

/* ---- clock.c ---- */

/* The moment at which a time that begins now is over.  A negative time, or one that is too long to
 * count, never ends. */
int64_t msalex__deadline(int64_t timeout_ms);

/* Milliseconds until the deadline: 0 when it is over, a negative number when it never comes. */
int64_t msalex__time_left(int64_t deadline);

/* ---- clock_<platform>.c ---- */

/* Milliseconds, and microseconds, on a clock that never jumps.  All processes since the start of
 * the system share it.  On POSIX it stands still while the machine sleeps. */
int64_t msalex__now_ms(void);
int64_t msalex__now_us(void);

/* The raw material of a nonce: it differs in practice between any two calls, in this process or in
 * others, but perhaps in a few bits only. */
uint64_t msalex__moment(void);

#endif
