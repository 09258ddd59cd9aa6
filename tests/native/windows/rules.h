/*
 * Which rules of Windows does this system show?
 *
 * The fakes of the tests model rules of Windows that Wine does not have.  This program asks the
 * real calls of the system on which it runs, be it a Wine or a Windows.  So it tells which fakes a
 * Wine still needs, and on a Windows whether the fakes model what is true.
 *
 *     rules          in a directory in which it may make files; it removes them
 *
 * It prints a line for each rule: "RULE: shown (code N)" or "RULE: not shown (code N)".  N is the
 * error of the last call that the rule is about, 0 where that call succeeded.  The status is 0,
 * whatever came of the rules.  Every wait has a bound.
 *
 * Each function below is a rule.  It finds two new files, and returns whether the rule is shown.
 */
#ifndef RULES_H
#define RULES_H

#define WIN32_LEAN_AND_MEAN
#include <windows.h>

#include <stdbool.h>
#include <wchar.h>

enum {
    PATIENCE_MS = 2000, /* for what comes at once */
    A_WHILE_MS = 200,   /* for what must not come */
    ALL = FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE
};

extern DWORD code;                  /* of the last call that the rule is about */
extern wchar_t directory[MAX_PATH]; /* of the running program, without a slash at its end */
extern const wchar_t *const FILE_NAME, *const OTHER_NAME; /* their texts: "file", "other" */

/* Keeps the error of a call, and returns whether it succeeded. */
bool said(BOOL succeeded);

HANDLE open_file(const wchar_t *name, DWORD access, DWORD sharing, DWORD how, DWORD flags);
bool can_open(const wchar_t *name);

/* Closes a handle that may be NULL or INVALID_HANDLE_VALUE. */
void close_file(HANDLE file);

/* Removes a file, read-only or not. */
void take_away(const wchar_t *name);

/* A function of a loaded library into the pointer at `function`; NULL if it is too old for it. */
void find_function(const wchar_t *library, const char *name, void *function);

/* rules_lock.c */
bool a_lock_is_refused(void);
bool a_shared_lock_excludes(void);
bool a_lock_ends_with_its_handle(void);
bool a_locked_byte_is_not_read(void);
bool a_far_byte_can_be_locked(void);
bool a_request_waits(void);
bool a_request_is_granted(void);
bool a_request_is_taken_back(void);
bool requests_are_granted_in_order(void);
bool a_request_ends_with_its_thread(void);
bool a_lock_outlives_its_thread(void);

/* rules_file.c */
bool a_deleted_file_is_not_opened(void);
bool a_deleted_files_name_is_taken(void);
bool the_status_tells_a_deletion(void);
bool a_posix_deletion_frees_the_name(void);
bool a_move_replaces_no_open_file(void);
bool a_posix_rename_replaces_an_open_file(void);
bool nt_renames_so_too(void);
bool a_posix_rename_needs_shared_deletion(void);
bool a_move_replaces_no_read_only_file(void);
bool a_posix_rename_replaces_no_read_only_file(void);
bool a_rename_is_told(void);
bool a_long_path_needs_its_prefix(void);
bool a_file_has_an_id_of_128_bits(void);
bool a_file_is_looked_at_by_name(void);
bool a_time_is_kept_to_100_ns(void);
bool a_link_can_be_made(void);

/* rules_system.c */
bool sleep_waits_for_a_tick(void);
bool a_timer_is_finer_than_a_tick(void);
bool a_new_file_has_the_list_it_was_given(void);
bool a_list_refuses_writing(void);
bool the_effective_token_needs_no_opening(void);
bool a_changed_secret_is_noticed(void);
bool memory_is_sealed(void);

#endif
