/*
 * The branches of the Windows half that Wine does not take: each property makes a few calls of
 * Windows fail, or behave as they do on Windows (fake_api.h), and checks the result.  Each must
 * leave its directory empty.  Run by tests/windows/test_under_wine.py.
 */
#ifndef SEAM_H
#define SEAM_H

#include "check.h"
#include "fake_api.h"
#include "fake_files.h"
#include "internal.h"
#include "lock_windows.h"

enum {
    SOON_MS = 10000, /* for a step that takes no time: wrong code would take for ever */
    RETRY_MS = 2000  /* of csrc/place_windows.c: as long as a passing error is tried again */
};

extern const struct property byte_properties[], queue_properties[], lock_properties[],
    refusal_properties[], gap_properties[], file_properties[], save_properties[],
    system_properties[];
extern const size_t byte_property_count, queue_property_count, lock_property_count,
    refusal_property_count, gap_property_count, file_property_count, save_property_count,
    system_property_count;

extern char directory[1000]; /* of the running property */

/* All calls are real ones again. */
void passes_on(void);

/* A path in the directory of the running property.  Valid until the call after the next one. */
const char *path_of(const char *name);

bool exists(const char *path);

/* The path as the model of files knows it.  Valid until the call after the next one. */
const wchar_t *wide_of(const char *path);

/* Replaces the file. */
int put(const char *path, const char *text);

/* Is that its content? */
bool has(const char *path, const char *text);

/* Makes a record of this library, as another process may have left it. */
void put_record(const char *path, enum msalex__record_state state, int64_t when, uint64_t view);

msalex_lock *lock_for(const char *path);

/* Makes a lock file of this library that no process holds. */
void leave_behind(const char *path);

/* Locks bytes of the file, exclusively, through a handle of its own.  `code`: 0, or why not. */
HANDLE lock_range(const char *path, uint64_t first, uint64_t length, DWORD *code);

/* Waits for the end of the thread. */
void joined(HANDLE thread);

#endif
