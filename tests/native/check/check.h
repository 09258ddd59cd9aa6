/*
 * The harness of the C tests, on all systems: properties, each with a sentence, and checks.
 *
 *     run_properties(properties, COUNT(properties));     as often as there are lists
 *     return end_of_properties();                        prints "N properties, M checks failed"
 *
 * A property starts in an empty directory of its own, below TMPDIR, or on Windows below the
 * directory in which the program was started.  A CHECK that fails is printed and counted, and the
 * property goes on.  On POSIX each property must leave as many open descriptors as it found.
 *
 * check.c is the same everywhere; a program is linked with check_posix.c or check_windows.c, too.
 */
#ifndef MSALEX_CHECK_H
#define MSALEX_CHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "msalex.h"

struct property {
    const char *sentence;
    void (*run)(void);
};

#define COUNT(array) (sizeof(array) / sizeof(array)[0])
#define CHECK(condition) check((condition), #condition, __FILE__, __LINE__)
#define CHECK_STATUS(call, expected) check_status((call), (expected), #call, __FILE__, __LINE__)

bool check(bool condition, const char *text, const char *file, int line);

/* The status is the expected one, and `error` says something exactly when it is not MSALEX_OK. */
bool check_status(int status, int expected, const char *text, const char *file, int line);

/* The error of the last call; every call in the tests fills this one. */
extern _Thread_local msalex_error error;

/* Ends the property with a note why it did not run. */
void skip(const char *reason);

/* The property may leave descriptors open: a library that it loaded keeps them. */
void may_keep_descriptors(void);

/* From now on `before` is called at the start of each property, in its directory, and `after` at
 * its end. */
void around_each_property(void (*before)(void), void (*after)(void));

/* Runs all, printing a line for each. */
void run_properties(const struct property *properties, size_t count);

/* Prints how many ran and how many checks failed; 0 or 1, which main returns. */
int end_of_properties(void);

/* How many files and directories are in it; a negative number if it cannot be read. */
int count_entries(const char *directory);

/* Sets the modification time to so many seconds ago. */
void make_old(const char *path, int64_t seconds);

/* ---- what check.c needs of each system ---- */

/* Makes a new empty directory and enters it; its path is in `path`, until that is removed. */
bool enter_new_directory(char *path, size_t size);
void leave_and_remove_directory(const char *path);
int count_descriptors(void);
void sleep_ms(int64_t ms);

/* ---- on POSIX only ---- */

int64_t now_ms(void);

/* A file with that text, made or replaced in place. */
void write_text(const char *path, const char *text);
bool file_exists(const char *path);
bool has_text(const char *path, const char *text);

/* The permissions of the file or link itself; 0 if there is none. */
unsigned mode_of(const char *path);

/* The pid of a process that has ended. */
int dead_pid(void);

/* Waits until it exited: its exit status, or -1 when a signal ended it or after 20 s. */
int wait_for_child(int child);

#endif
