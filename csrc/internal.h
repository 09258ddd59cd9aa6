/*
 * What the .c files share with each other and with nobody else.
 * Naming: msalex_ is public, msalex__ is between .c files, statics are bare.
 */
#ifndef MSALEX_INTERNAL_H
#define MSALEX_INTERNAL_H

#include "msalex.h"

/* ---- error.c ---- */

/* Empties the error and returns MSALEX_OK, so `return msalex__ok(error)` ends a function. */
int msalex__ok(msalex_error *error);

/* Fills the error and returns `status`; texts that are too long are cut. */
int msalex__fail(msalex_error *error, int status, int64_t code, const char *call,
                 const char *message);

/* The same for an errno value, with the system's words and the status from error.c's table.
 * Takes the value, not errno, because cleaning up in between changes errno. */
int msalex__fail_errno(msalex_error *error, int code, const char *call);
int msalex__status_of_errno(int code);

/* ---- buffer.c ---- */

/* Overwrites memory in a way the compiler must not remove. */
void msalex__wipe(void *memory, size_t size);

/* Copies `size` bytes into a new buffer. MSALEX_OK or, out of memory, MSALEX_OS_ERROR. */
int msalex__buffer_copy(msalex_buffer *buffer, const void *data, size_t size,
                        msalex_error *error);

/* ---- nonce.c ---- */

/* A number that no other call on this machine returns: unique, but no secret. */
uint64_t msalex__nonce(void);

/* A number by which to know these bytes again.  Others may have the same; no secret either. */
uint64_t msalex__hash(const char *bytes, size_t size);

/* ---- clock.c ---- */

/* The end of a time that begins now; a negative time, and one too long to count, never end. */
int64_t msalex__deadline(int64_t timeout_ms);

/* Milliseconds until then: 0 when it is over, a negative number when it never is. */
int64_t msalex__time_left(int64_t deadline);

/* ---- clock_<platform>.c ---- */

/* Milliseconds, and microseconds, on a clock that never jumps. */
int64_t msalex__now_ms(void);
int64_t msalex__now_us(void);

/* What tells this call from all others, of this and other processes; not yet mixed. */
uint64_t msalex__moment(void);

#endif
