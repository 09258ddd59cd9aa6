/*
 * A model of LockFileEx: byte ranges of files, and requests that wait for them.  Wine 8 has no
 * queue of requests, so a test that needs one uses this model instead.  It is a model within one
 * process: its threads play the processes, because a lock belongs to a handle.  Each rule names
 * its source in fake_locks.c.
 */
#ifndef FAKE_LOCKS_H
#define FAKE_LOCKS_H

#define WIN32_LEAN_AND_MEAN
#include <windows.h>

#include <stdbool.h>

/* What Windows leaves open, or what only some systems do. */
struct fake_rules {
    /* Which of the requests that wait is granted first?  Windows does not say. */
    enum { FAKE_FIFO, FAKE_LIFO, FAKE_RANDOM } order;
    /* Each request on an overlapped handle is pending at first, also one that shall fail
     * immediately, and its answer comes so many milliseconds later. */
    bool late;
    DWORD late_ms;
    bool no_queue;         /* Wine: a request that has to wait is pending, and that is all */
    bool refuses;          /* a request that has to wait is told "locked" */
    bool grants_on_cancel; /* a request is granted at the moment it is taken back */
    bool ignores_cancel;   /* a request that is taken back stays pending: a broken driver */
    bool no_far_bytes;     /* no lock behind byte 2^63: "invalid parameter" */
};

/* From now on the model answers.  It forgets the locks that it had. */
void fake_model_locks(struct fake_rules rules);

/* From now on Wine answers. */
void fake_pass_locks_on(void);

/* How many handles wait, and how many have locks, in all files. */
int fake_waiting(void);
int fake_locked(void);

/* Waits until so many handles wait.  False: that does not happen in ten seconds. */
bool fake_wait_for_waiting(int count);

/* Ends the requests that wait, as the end of their threads would. */
void fake_end_requests(void);

/* The handle is about to be closed. */
void fake_locks_close(HANDLE handle);

/* May this handle read, or write, these bytes of its file?  Otherwise the code that says no. */
DWORD fake_check_range(HANDLE file, bool writes, const OVERLAPPED *where, DWORD size);

BOOL WINAPI fake_LockFileEx(HANDLE, DWORD, DWORD, DWORD, DWORD, LPOVERLAPPED);
BOOL WINAPI fake_UnlockFileEx(HANDLE, DWORD, DWORD, DWORD, LPOVERLAPPED);
BOOL WINAPI fake_CancelIoEx(HANDLE, LPOVERLAPPED);
BOOL WINAPI fake_GetOverlappedResult(HANDLE, LPOVERLAPPED, LPDWORD, BOOL);

#ifndef FAKE_API_ITSELF
#define LockFileEx fake_LockFileEx
#define UnlockFileEx fake_UnlockFileEx
#define CancelIoEx fake_CancelIoEx
#define GetOverlappedResult fake_GetOverlappedResult
#endif

#endif
