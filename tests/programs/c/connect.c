/* A client: echoes three lines of the connection named in its argument (default: the last descriptor).
 *
 * As Enarx's test of this name: one line in the mode the stream came in, one with it blocking, one with it not
 * blocking; and never does it read on past a line's end.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "stream.h"

int main(int argc, char *argv[]) {
    print_descriptors();
    int fd = argc > 1 ? find_descriptor(argv[1]) : atoi(getenv("FD_COUNT")) - 1;
    if (fd < 0) {
        printf("no such descriptor\n");
        return 1;
    }
    return echo_line(fd) && set_blocking(fd, true) && echo_line(fd) && set_blocking(fd, false) && echo_line(fd) ? 0 : 1;
}
