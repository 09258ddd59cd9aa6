/* Extended attributes (fgetxattr(2) of macOS), which zig's headers lack: see fake_files.c. */
#ifndef MSALEX_TEST_XATTR_H
#define MSALEX_TEST_XATTR_H

#include <stdint.h>
#include <sys/types.h>

ssize_t flistxattr(int fd, char *names, size_t size, int options);
ssize_t fgetxattr(int fd, const char *name, void *value, size_t size, uint32_t at, int options);
int fsetxattr(int fd, const char *name, const void *value, size_t size, uint32_t at, int options);

#endif
