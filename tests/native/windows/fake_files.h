/*
 * A model of the files of Windows, where Wine differs: links, the POSIX rename, files that are
 * being deleted, access lists, and the limit of 260 characters.  It stands between the C files and
 * Wine's own files: fake_api.c hands over the calls.  Each rule has its source in fake_files.c.
 */
#ifndef FAKE_FILES_H
#define FAKE_FILES_H

#define WIN32_LEAN_AND_MEAN
#include <windows.h>

#include <stdbool.h>
#include <stdint.h>

/* ---- for tests ---- */

/* The file system has the POSIX rename (0), or refuses it with that code, or is as Wine's. */
enum { FAKE_RENAME_AS_WINE = -1, FAKE_RENAME_POSIX = 0 };
void fake_set_rename(int code);

/* The path is a link: a junction, or (`relative`) a symbolic link.  Something has to have that
 * name.  `owner`: a SID. */
void fake_make_link(const wchar_t *path, const wchar_t *target, bool relative,
                    const wchar_t *owner);

/* The owner and the access list of a file, as a security descriptor in SDDL. */
void fake_set_security(const wchar_t *path, const wchar_t *sddl);

/* The access list of the path, or of what is in it, does not grant these rights. */
void fake_forbid(const wchar_t *path, DWORD rights);

/* Files that are deleted are gone when their last handle is closed, and not before. */
void fake_set_slow_deletion(bool slow);

/* A directory on the way is exchanged for another one when its file is opened next. */
void fake_exchange(const wchar_t *path, const wchar_t *with);

/* Windows has GetFileInformationByName. */
void fake_set_by_name(bool has);

/* The thread acts for a client with that SID; NULL: for itself. */
void fake_impersonate(const wchar_t *sid);

/* The list that the last new file got, in SDDL; "" if it inherits. */
const wchar_t *fake_last_list(void);
DWORD fake_last_attributes(void);

/* How many files and timers are open; how many handles were opened so far. */
int fake_open_files(void);
int fake_opened(void);

/* No more of all that. */
void fake_forget_files(void);

/* ---- for fake_api.c ---- */

bool fake_is_too_long(const wchar_t *path, bool directory);
HANDLE fake_files_open(const wchar_t *path, DWORD access, DWORD sharing,
                       SECURITY_ATTRIBUTES *security, DWORD how, DWORD flags, LONG *status);
LONG fake_files_nt_open(HANDLE *file, DWORD access, void *object, void *result, DWORD attributes,
                        DWORD sharing, DWORD how, DWORD options);
LONG fake_files_nt_set(HANDLE file, void *result, void *information, DWORD size, DWORD kind);
void fake_files_note(HANDLE handle); /* any handle that has to be closed */
void fake_files_close(HANDLE file);
bool fake_files_delete(HANDLE file, bool posix, bool *handled);
bool fake_files_tag(HANDLE file, DWORD tag[2]);
bool fake_files_read_link(HANDLE file, void *data, DWORD size);
bool fake_files_security(HANDLE file, const wchar_t **sddl);
const wchar_t *fake_files_client(void);
bool fake_files_by_name(const wchar_t *path, void *found);
bool fake_files_has_by_name(void);

#endif
