/*
 * What Linux and macOS do differently, behind one set of functions: os_linux.c, os_macos.c.  The
 * POSIX files above them (place, temp, file, lock) do not ask which system it is.
 *
 * Functions that return an int return 0 or an errno value, unless their comment says otherwise.
 */
#ifndef MSALEX_OS_POSIX_H
#define MSALEX_OS_POSIX_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <time.h>

/* ---- directories and links ---- */

/* Opens the directory `name` in the directory `at`, for looking up names in it: a descriptor, or -1
 * with errno.  Search permission is enough.  ENOTDIR or ELOOP: it may be a symbolic link. */
int msalex__open_directory(int at, const char *name);

/* Opens the directory that a path of several parts names, a relative one from the directory `at`
 * (-1: the working directory): a descriptor, or -1 with errno.  ELOOP: a part of it is a symbolic
 * link, or this kernel cannot answer in one call; walk the path part by part. */
int msalex__open_directory_without_links(int at, const char *path);

/* Reads a symbolic link: its text, and the status of that same link.  EINVAL: not a link. */
int msalex__read_link(int directory, const char *name, struct stat *link, char text[PATH_MAX]);

/* Do the links in this directory lead elsewhere than their text says (/proc/<pid>/fd and the
 * like)? */
bool msalex__has_magic_links(int directory);

/* Does this number stand for all users that our user namespace cannot distinguish, including
 * root? */
bool msalex__is_unmapped(uid_t owner);

/* Does the file belong to another host, or to a program (FUSE)?  There kernel locks, inode numbers
 * and pids prove less.  True also when we cannot find it out. */
bool msalex__is_remote(int fd);

/* The same of the file that a path leads to. */
bool msalex__is_path_remote(const char *path);

/* ---- writing ---- */

/* Sends the file's content to the disk: 0 or errno.  `call`: by which call, for a message. */
int msalex__sync(int fd, const char **call);

/* Reserves room for `size` bytes without a change that a reader sees.  EOPNOTSUPP: the file system
 * cannot promise that. */
int msalex__reserve(int fd, off_t size);

/* Renames within a directory; EEXIST, and no change, when there is a `to` already.  EINVAL: the
 * file system has no such rename. */
int msalex__rename_new(int directory, const char *from, const char *to);

/* ---- lock files ---- */

/* Opens a new file without a name, mode 0600: a descriptor, or -1 with errno.  EOPNOTSUPP: there
 * are no such files here. */
int msalex__open_nameless(int directory);

/* Gives a file without a name one.  EEXIST, and no change, when the name is taken. */
int msalex__give_name(int fd, int directory, const char *name);

/* Opens a new file that has the name at once, mode 0600: a descriptor, or -1 with errno.  macOS
 * takes the flock right behind the creation.  EWOULDBLOCK: another process was still faster, and
 * the file is there.  (Linux takes no lock.) */
int msalex__open_named(int directory, const char *name);

/* Does this errno value of a kernel lock say that the file system has none? */
bool msalex__is_unsupported(int code);

/* Does this errno value of a read say that another open file has locked the content?  On SMB a
 * flock is such a lock, even for the process that has it. */
bool msalex__is_read_locked(int code);

/* Excludes peers that take fcntl locks (Java), beside the flock that the caller has.  EAGAIN: such
 * a peer has the file.  macOS: always 0, because a flock does that by itself. */
int msalex__exclude_fcntl(int fd);

/* Does another process have such a lock? */
bool msalex__is_fcntl_locked(int fd);

/* Announces that a process waits in flock for the file, withdraws that, and asks whether one does.
 * macOS has no announcements. */
void msalex__announce(int fd);
void msalex__withdraw(int fd);
bool msalex__is_announced(int fd);

/* Withdraws all these locks, and the flock if the open file has it.  Closing would not do: a child
 * forked just now may share the open file, and Linux reports IN_CLOSE before it drops a closed
 * file's locks. */
void msalex__unlock(int fd, bool has_flock);

/* Does a flock on the open file, on that device, exclude only processes of this machine that come
 * by the same mount (FUSE, 9p, and network file systems that were mounted with local locks)?  True
 * also when we cannot find it out. */
bool msalex__is_lock_local(int fd, dev_t device);

/* ---- locks on data files ----
 *
 * Other libraries, which lock data files with flock (.NET), do not see these locks.  Both end with
 * the process.  On Linux they are an OFD write lock on a byte far behind any content.  macOS keeps
 * all kinds of locks in one list: there the first is a flock that is as short as can be, and the
 * second is the flock of the directory. */

/* Shows that the writer of a temporary file lives, until the writer ends that, or dies. */
void msalex__show_life(int fd);
bool msalex__shows_life(int fd);
void msalex__end_life(int fd);

/* Tries to take the turn among all processes that replace this file under a lock.  0: `*holder` is
 * for msalex__end_turn.  EAGAIN: another process has it.  Another errno value: this file system has
 * no turns, and `*holder` is -1. */
int msalex__try_turn(int directory, int file, int *holder);

/* Ends a turn; -1 is fine. */
void msalex__end_turn(int file, int holder);

#endif
