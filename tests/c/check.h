/*
 * A small harness for the C tests: properties with a name each, and what they share.
 *
 * A property gets an empty directory as its working directory.  A CHECK that fails is printed
 * and counted, and the property goes on.  Each property must leave as many open descriptors as
 * it found.
 */
#ifndef MSALEX_CHECK_H
#define MSALEX_CHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "msalex.h"

struct property {
    const char *sentence;
    void (*run)(void);
};

#define CHECK(condition) check((condition), #condition, __FILE__, __LINE__)
#define CHECK_STATUS(call, expected) check_status((call), (expected), #call, __FILE__, __LINE__)

bool check(bool condition, const char *text, const char *file, int line);
bool check_status(int status, int expected, const char *text, const char *file, int line);

/* Ends the property with a note why it did not run. */
void skip(const char *reason);

/* The property may leave descriptors open: a library that it loaded keeps them. */
void may_keep_descriptors(void);

/* Runs all, printing a line for each; how many checks failed. */
int run_properties(const struct property *properties, size_t count);

extern const struct property lock_properties[], process_properties[], file_properties[],
    store_properties[], watch_properties[];
extern const size_t lock_property_count, process_property_count, file_property_count,
    store_property_count, watch_property_count;

/* The error of the last call; every call in the tests fills this one. */
extern _Thread_local msalex_error error;

int64_t now_ms(void);
void sleep_ms(int64_t ms);

/* A file with that text, made or replaced in place. */
void write_text(const char *path, const char *text);
bool file_exists(const char *path);
bool has_text(const char *path, const char *text);

/* Sets the modification time to so many seconds ago. */
void make_old(const char *path, time_t seconds);

/* Waits until it exited: its exit status, or -1 when a signal ended it or after 20 s. */
int wait_for_child(pid_t child);

#endif
