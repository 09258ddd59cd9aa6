/*
 * What our macOS sources use of Darwin's C library and Linux lacks: to compile them unchanged on
 * Linux (gcc -include darwin.h -I linux), over fake_kernel.c.  Numbers are Darwin's.
 */
#ifndef MSALEX_TEST_DARWIN_H
#define MSALEX_TEST_DARWIN_H

#define F_BARRIERFSYNC 85
#define O_EVTONLY O_RDONLY
#define st_ctimespec st_ctim
#define st_mtimespec st_mtim
#define RENAME_EXCL 4
#define MNT_LOCAL 0x1000
#define SZOMB 5

#define renamex_np fake_renamex_np
#define fstatfs fake_fstatfs
#define flock fake_flock
#define close fake_close
int fake_close(int fd);
int fake_renamex_np(const char *from, const char *to, unsigned flags);
int fake_flock(int fd, int operation);

#endif
