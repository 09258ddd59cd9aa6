/* Access lists (acl(3) of macOS): see fake_files.c. */
#ifndef MSALEX_TEST_ACL_H
#define MSALEX_TEST_ACL_H

typedef struct _acl *acl_t;
typedef enum { ACL_TYPE_EXTENDED = 0x100 } acl_type_t;

acl_t acl_init(int count);
int acl_free(void *object);
acl_t acl_get_fd_np(int fd, acl_type_t type);
int acl_set_fd_np(int fd, acl_t list, acl_type_t type);

#endif
