/*
 * The parts of the lock, Windows: lock_file_windows.c (one lock file), lock_wait_windows.c (waiting
 * with a deadline) and lock_peer_windows.c (other libraries' files), for lock_windows.c (the
 * protocol).
 *
 * Codes are GetLastError's; 0 is success.
 */
#ifndef MSALEX_LOCK_WINDOWS_H
#define MSALEX_LOCK_WINDOWS_H

#include "lock_gap.h"
#include "lock_record.h"
#include "os_windows.h"

/* One open lock file: both handles, and the locked byte (see lock_windows.c).  While a request is
 * out, the system writes to `request`, so until it ends the file neither moves nor is freed. */
struct msalex__lock_file {
    HANDLE waiting; /* INVALID_HANDLE_VALUE: not open */
    HANDLE holding; /* INVALID_HANDLE_VALUE: not claimed */
    OVERLAPPED request;
    bool asked;                       /* a request for the byte is out */
    bool queues;                      /* a request was seen to wait: this system has a queue */
    bool locked;                      /* the byte is ours */
    bool remote;                      /* on a file server */
    struct msalex__identity identity; /* of the file that both handles have */
    uint64_t nonce;                   /* of its record, as we read or wrote it; 0: a peer's file */
    uint64_t key;                     /* of lock_gap.c */
    struct msalex__gap gap;           /* what its record says */
    int64_t since;                    /* when this process began to hold it */
    int64_t until;                    /* the end of a gap that its record told of, or 0 */
    char *program;                    /* the holder's name, for people */
    wchar_t path[];
};

/* ---- lock_file_windows.c ---- */

/* Makes one with copies of both texts, and no file open.  NULL: out of memory or events. */
struct msalex__lock_file *msalex__lock_file_new(const wchar_t *path, const char *program,
                                                uint64_t key);

/* Opens the file that has the name, and finds out which one it is.  MSALEX__IS_LINK: a link. */
enum { MSALEX__IS_LINK = 681 /* ERROR_STOPPED_ON_SYMLINK, which old headers lack */ };
DWORD msalex__lock_file_open(struct msalex__lock_file *file);

/* Reads the start of the content; `size`: how many bytes there are.  ERROR_LOCK_VIOLATION: another
 * process keeps it locked, and it is no file of ours.  Of a file that cannot be read nothing is
 * known, neither that it is empty nor that it is stale. */
DWORD msalex__lock_file_read(const struct msalex__lock_file *file, char bytes[MSALEX__RECORD_SIZE],
                             size_t *size);

/* The same of the file that has the name now. */
DWORD msalex__lock_file_read_named(const struct msalex__lock_file *file,
                                   char bytes[MSALEX__RECORD_SIZE], size_t *size);

/* Is this the content of a file whose byte decides?  A peer's is not, nor one that another system
 * with locks of its own has made (WSL).  Remembers the nonce of any file of ours, and what it says
 * about gaps. */
bool msalex__lock_file_is_ours(struct msalex__lock_file *file, const char *bytes, size_t size);

/* Is the open file still the one that has the name?  ERROR_FILE_NOT_FOUND: it is not. */
DWORD msalex__lock_file_check(const struct msalex__lock_file *file);

/* Makes the file with its name, locked and filled.  ERROR_FILE_EXISTS: there is one;
 * ERROR_LOCK_VIOLATION and ERROR_SHARING_VIOLATION: a peer caught it before we had locked it, and
 * has it from now on.  `said`: see msalex__gap_of_new_file. */
DWORD msalex__lock_file_publish(struct msalex__lock_file *file, struct msalex__gap said);

/* Reads what a file of ours, which may have lost its name, says to the processes that waited for
 * it: fills `gap` and `until`. */
void msalex__lock_file_read_farewell(struct msalex__lock_file *file);

/* Opens the file, of which we have the byte, for writing.  ERROR_FILE_NOT_FOUND: it has lost its
 * name; ERROR_SHARING_VIOLATION and ERROR_LOCK_VIOLATION: a peer is inside. */
DWORD msalex__lock_file_claim(struct msalex__lock_file *file);

/* Makes the lock of this process of a file that was claimed, and that the caller has judged. */
DWORD msalex__lock_file_take_over(struct msalex__lock_file *file);

/* Gives a lock back that we hold: removes its name.  ERROR_FILE_NOT_FOUND: the name was not ours
 * any more.  The byte stays locked until the file is closed. */
DWORD msalex__lock_file_give_back(struct msalex__lock_file *file);

/* The same for a byte that nobody took over, because its wait was given up; then closes.  If the
 * file is not one of ours any more, it only closes it. */
void msalex__lock_file_turn_down(struct msalex__lock_file *file);

/* Withdraws all locks and requests, closes and frees; NULL is fine. */
void msalex__lock_file_close(struct msalex__lock_file *file);

/* Asks for the byte.  0: it is ours now; ERROR_IO_PENDING: the request is out;
 * ERROR_LOCK_VIOLATION: another has it, and the request does not wait; else the reason why not. */
DWORD msalex__lock_file_request(struct msalex__lock_file *file, DWORD flags);

/* The result of the request, after its event was signalled. */
DWORD msalex__lock_file_answer(struct msalex__lock_file *file);

/* Takes the request back.  0: it was granted just before; ERROR_OPERATION_ABORTED: it was waiting;
 * ERROR_LOCK_VIOLATION: it never was. */
DWORD msalex__lock_file_withdraw(struct msalex__lock_file *file);

/* Asks for the byte once.  0: it is ours now; ERROR_LOCK_VIOLATION: another has it; else the reason
 * why not. */
DWORD msalex__lock_file_try(struct msalex__lock_file *file);

/* ---- lock_wait_windows.c ---- */

/* Asks for the byte of an open file, with a request that waits. */
void msalex__lock_wait_join(struct msalex__lock_file *file);

/* Waits for the byte.  0: it is ours; ERROR_LOCK_VIOLATION: the time is over, and the request stays
 * out if this system has a queue; else the reason why we cannot get it. */
DWORD msalex__lock_wait_for(struct msalex__lock_file *file, int64_t timeout_ms);

/* Stops waiting; if the byte has come meanwhile, it is given back.  Frees the file; NULL is
 * fine. */
void msalex__lock_wait_leave(struct msalex__lock_file *file);

/* ---- lock_peer_windows.c ---- */

/* Has the peer that made this file died without removing it?  `content` is its start. */
bool msalex__lock_peer_is_gone(const struct msalex__lock_file *file, const char *content,
                               size_t size);

/* A watch for names that come and go in the directory of `path`, or INVALID_HANDLE_VALUE. */
HANDLE msalex__lock_peer_watch(const wchar_t *path);

/* Waits until a name may have come or gone, at most 250 ms: nothing wakes us for other ways in
 * which a lock becomes free, so the caller has to look again.  Then the watch listens for the next
 * change. */
void msalex__lock_peer_wait(HANDLE watch, int64_t timeout_ms);

#endif
