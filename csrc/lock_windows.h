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

/* A LockFileEx on `waiting`.  While it is out, the system may write to `it`. */
struct msalex__lock_request {
    OVERLAPPED it;
    bool out;
    bool stuck; /* the system keeps it, although we took it back */
};

/* Do requests wait in a queue here?  Not under Wine, and possibly not on every file server. */
enum msalex__lock_queue { MSALEX__QUEUE_UNKNOWN, MSALEX__HAS_QUEUE, MSALEX__NO_QUEUE };

/* One open lock file: both handles, and the locked bytes (see lock_windows.c).  It never moves, and
 * it is not freed while a request is out. */
struct msalex__lock_file {
    HANDLE waiting;                      /* INVALID_HANDLE_VALUE: not open */
    HANDLE holding;                      /* INVALID_HANDLE_VALUE: not claimed */
    struct msalex__lock_request request; /* for the locked byte */
    struct msalex__lock_request aside;   /* for the announcement, and for the probe */
    enum msalex__lock_queue queue;
    bool locked;                      /* the locked byte is ours */
    bool announced;                   /* we have announced that we wait */
    bool handed_over;                 /* we left the file to a waiter */
    bool remote;                      /* on a file server */
    bool distrusted;                  /* its numbers changed from look to look */
    struct msalex__identity identity; /* of the file that both handles have */
    uint64_t nonce;                   /* of its record, as we read or wrote it; 0: a peer's file */
    unsigned turn;                    /* the same */
    uint64_t key;                     /* of lock_gap.c */
    struct msalex__gap gap;           /* what its record says */
    int64_t since;                    /* when this process began to hold it */
    int64_t until;                    /* the end of a gap that its record told of, or 0 */
    int64_t looked;                   /* when we looked last whether it has its name */
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

/* Gives a lock back that we hold: leaves the file to a waiter, or removes its name.
 * ERROR_FILE_NOT_FOUND: the name was not ours any more.  The byte stays locked until the file is
 * closed. */
DWORD msalex__lock_file_give_back(struct msalex__lock_file *file);

/* The same for a byte that nobody took over, because its wait was given up; then closes.  If the
 * file is not one of ours any more, it only closes it. */
void msalex__lock_file_turn_down(struct msalex__lock_file *file);

/* Withdraws all locks and requests, closes and frees; NULL is fine.  After a hand-over it sees to
 * it that a waiter takes the file. */
void msalex__lock_file_close(struct msalex__lock_file *file);

/* ---- lock_byte_windows.c ----
 *
 * Functions that return a code return 0 or a GetLastError code.  ERROR_LOCK_VIOLATION: another
 * handle has the byte.  WAIT_TIMEOUT: there was no answer in time. */

/* Makes the two requests, none of them out.  False: no events left. */
bool msalex__lock_requests_new(struct msalex__lock_file *file);
void msalex__lock_requests_free(struct msalex__lock_file *file);

/* Takes back what is out.  False: the system keeps a request. */
bool msalex__lock_requests_end(struct msalex__lock_file *file);

/* Asks for the locked byte, and is ready to wait.  ERROR_IO_PENDING: the request is out;
 * ERROR_LOCK_VIOLATION: another has it, and the request does not wait. */
DWORD msalex__lock_file_request(struct msalex__lock_file *file);

/* Waits so long for the answer to the request that is out.  WAIT_TIMEOUT: it is still out. */
DWORD msalex__lock_file_answer(struct msalex__lock_file *file, DWORD ms);

/* Takes the request back.  0: it was granted just before; ERROR_OPERATION_ABORTED: it was waiting;
 * ERROR_LOCK_VIOLATION: it never was. */
DWORD msalex__lock_file_withdraw(struct msalex__lock_file *file);

/* Asks for the locked byte once. */
DWORD msalex__lock_file_try(struct msalex__lock_file *file);

/* Finds out whether the request that is out waits in a queue: makes a second one, and takes that
 * back.  So the first one keeps its place.  Without a queue the request is withdrawn.  It may get
 * the byte. */
void msalex__lock_file_probe(struct msalex__lock_file *file);

/* Unlocks the locked byte if it is ours: the next request in the queue gets it. */
void msalex__lock_file_unlock(struct msalex__lock_file *file);

/* Announces that we wait, by a shared lock.  ERROR_LOCK_VIOLATION: a holder looks right now. */
DWORD msalex__lock_file_announce(struct msalex__lock_file *file);
void msalex__lock_file_unannounce(struct msalex__lock_file *file);

/* Has another process announced that it waits?  Our own announcement must be gone. */
bool msalex__lock_file_is_awaited(struct msalex__lock_file *file);

/* ---- lock_wait_windows.c ---- */

/* Announces that we wait for an open file, and asks for its byte, with a request that waits.
 * False: a holder looks right now whether somebody waits, so the caller must look again. */
bool msalex__lock_wait_join(struct msalex__lock_file *file);

/* Waits for the byte.  0: it is ours; ERROR_LOCK_VIOLATION: the time is over, and the request stays
 * out if this system has a queue; ERROR_FILE_NOT_FOUND: the file has lost its name; else the reason
 * why we cannot get it. */
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
