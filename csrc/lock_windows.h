/*
 * What the pieces of the Windows lock share: lock_windows.c (the protocol), lock_file_windows.c
 * (one lock file), lock_wait_windows.c (waiting with a deadline) and lock_peer_windows.c (other
 * libraries' files).
 *
 * Codes are GetLastError's; 0 is success.
 */
#ifndef MSALEX_LOCK_WINDOWS_H
#define MSALEX_LOCK_WINDOWS_H

#include "lock_gap.h"
#include "lock_record.h"
#include "os_windows.h"

/* One open lock file: both handles, and the locked byte (see lock_windows.c).  The system writes to
 * `request` while a request is out, so the file neither moves nor is freed before that ends. */
struct msalex__lock_file {
    HANDLE waiting; /* INVALID_HANDLE_VALUE: not open */
    HANDLE holding; /* INVALID_HANDLE_VALUE: not claimed */
    OVERLAPPED request;
    bool asked;  /* a request for the byte is out */
    bool queues; /* requests were seen to wait: this system has a queue */
    bool locked; /* the byte is ours */
    bool remote; /* on a file server */
    struct msalex__identity identity; /* of the file that both handles have */
    uint64_t nonce;                   /* of its record, as we read or wrote it; 0: a peer's file */
    uint64_t key;                     /* of lock_gap.c */
    struct msalex__gap gap;           /* what its record says */
    int64_t since;                    /* it is held */
    int64_t until;                    /* a gap that its record told of lasts, or 0 */
    char *program;                    /* the holder's name, for people */
    wchar_t path[];
};

/* ---- lock_file_windows.c ---- */

/* With copies of both texts, and no file open.  NULL when out of memory or events. */
struct msalex__lock_file *msalex__lock_file_new(const wchar_t *path, const char *program,
                                                uint64_t key);

/* Opens what has the name, and looks which file that is.  MSALEX__IS_LINK: it is no file. */
enum { MSALEX__IS_LINK = 681 /* ERROR_STOPPED_ON_SYMLINK, which old headers lack */ };
DWORD msalex__lock_file_open(struct msalex__lock_file *file);

/* The start of the content, and how many bytes there are of it.  ERROR_LOCK_VIOLATION: another
 * process keeps it locked, and it is not one of ours.  A file that cannot be read says nothing: it
 * is neither empty nor stale. */
DWORD msalex__lock_file_read(const struct msalex__lock_file *file, char bytes[MSALEX__RECORD_SIZE],
                             size_t *size);

/* The same of whatever has the name now. */
DWORD msalex__lock_file_read_named(const struct msalex__lock_file *file,
                                   char bytes[MSALEX__RECORD_SIZE], size_t *size);

/* Is this content of a file whose byte decides?  Not of a peer's, and not of one that another
 * system with locks of its own has made (WSL).  Remembers the nonce of any of ours, and
 * what it says about gaps. */
bool msalex__lock_file_is_ours(struct msalex__lock_file *file, const char *bytes, size_t size);

/* Is the open file still the one that has the name?  ERROR_FILE_NOT_FOUND: it is not. */
DWORD msalex__lock_file_check(const struct msalex__lock_file *file);

/* Makes the file with its name, locked and filled.  ERROR_FILE_EXISTS: there is one;
 * ERROR_LOCK_VIOLATION and ERROR_SHARING_VIOLATION: a peer caught it before it was locked, and has
 * it from now on.  `said`: see msalex__gap_of_new_file. */
DWORD msalex__lock_file_publish(struct msalex__lock_file *file, struct msalex__gap said);

/* A file of ours, which may have lost its name: what does it say to those that waited for it?
 * Fills `gap` and `until`. */
void msalex__lock_file_read_farewell(struct msalex__lock_file *file);

/* Opens the file, whose byte is ours, to write to it.  ERROR_FILE_NOT_FOUND: it does not have its
 * name any more; ERROR_SHARING_VIOLATION and ERROR_LOCK_VIOLATION: a peer is inside. */
DWORD msalex__lock_file_claim(struct msalex__lock_file *file);

/* Makes a file that was claimed, and that is nobody else's, the lock of this process. */
DWORD msalex__lock_file_take_over(struct msalex__lock_file *file);

/* Gives the name of a lock that we hold back: removes it.  ERROR_FILE_NOT_FOUND: it was not ours
 * any more.  The byte stays locked until the file is closed. */
DWORD msalex__lock_file_give_back(struct msalex__lock_file *file);

/* The same for a byte that nobody took over, because its wait was given up, and closes.  A file
 * that is not one of ours any more is only closed. */
void msalex__lock_file_turn_down(struct msalex__lock_file *file);

/* Withdraws all locks and requests, closes and frees; NULL is fine. */
void msalex__lock_file_close(struct msalex__lock_file *file);

/* Asks for the byte: 0 when it is ours now, ERROR_IO_PENDING when the request is out,
 * ERROR_LOCK_VIOLATION, or why not. */
DWORD msalex__lock_file_request(struct msalex__lock_file *file, DWORD flags);

/* What became of the request, whose event was signalled. */
DWORD msalex__lock_file_answer(struct msalex__lock_file *file);

/* Takes the request back: 0 when it was granted just before, ERROR_OPERATION_ABORTED when it was
 * waiting, ERROR_LOCK_VIOLATION when it never was. */
DWORD msalex__lock_file_withdraw(struct msalex__lock_file *file);

/* Asks for the byte once: 0 when it is ours now, ERROR_LOCK_VIOLATION, or why not. */
DWORD msalex__lock_file_try(struct msalex__lock_file *file);

/* ---- lock_wait_windows.c ---- */

/* Queues for the byte of an open file. */
void msalex__lock_wait_join(struct msalex__lock_file *file);

/* Waits for the byte: 0 when it is ours; ERROR_LOCK_VIOLATION: the time is over, and it has kept
 * its place in the queue; or why it cannot be had. */
DWORD msalex__lock_wait_for(struct msalex__lock_file *file, int64_t timeout_ms);

/* Leaves the queue; a lock that came all the same is given back.  Frees the file; NULL is fine. */
void msalex__lock_wait_leave(struct msalex__lock_file *file);

/* ---- lock_peer_windows.c ---- */

/* Has the peer that made this file died without removing it?  `content` is its start. */
bool msalex__lock_peer_is_gone(const struct msalex__lock_file *file, const char *content,
                               size_t size);

/* A watch for names that come and go in the directory of `path`, or INVALID_HANDLE_VALUE. */
HANDLE msalex__lock_peer_watch(const wchar_t *path);

/* Waits until one may have come or gone, for 250 ms at most: what else could free the lock is seen
 * by looking again.  Then waits for the next. */
void msalex__lock_peer_wait(HANDLE watch, int64_t timeout_ms);

#endif
