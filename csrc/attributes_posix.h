/*
 * What a file carries beside its content: attributes_linux.c, attributes_macos.c.
 *
 * Functions that return an int return 0 or an errno value.
 */
#ifndef MSALEX_ATTRIBUTES_POSIX_H
#define MSALEX_ATTRIBUTES_POSIX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

int64_t msalex__mtime_ns(const struct stat *file);

/* Can others open this new file of mode 0600, or directory of mode 0700, because of a list that it
 * inherited?  (Linux: no, because there the mode is also the mask of the list.) */
bool msalex__is_open_to_others(int fd);

/* Removes the access list that a new file inherited from its directory.  0 also where there is
 * none, or where the file system has no lists. */
int msalex__remove_access_list(int fd);

/* Lets the mode decide about a new file of mode 0600, whatever list it inherited.  What the system
 * refuses stays as it is.  (Linux does so by itself: there the mode is also the mask of the
 * list.) */
void msalex__let_mode_decide(int fd);

/* Gives `to` the access list of `from`.  0 also when `from` has none.  Any errno value: the list
 * could not be copied, and the group bits of the mode may be the mask of the list. */
int msalex__copy_access_list(int from, int to);

/* Extended attributes.  The names follow each other, each with its null byte.  Returns how many
 * bytes they take; a negative number: there can be none here, or they take more room. */
ssize_t msalex__list_attributes(int fd, char *names, size_t room);

/* Does an attribute with that name belong to the user, and outlive a change of the content? */
bool msalex__keeps_attribute(const char *name);

/* Does nothing when the attribute has gone, or `value` has no room for it, or `to` cannot have
 * it. */
void msalex__copy_attribute(int from, int to, const char *name, void *value, size_t room);

#endif
