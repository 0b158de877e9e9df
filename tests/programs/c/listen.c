/* A server of three connections in a row, three echoed lines each, as Enarx's test of this name.
 *
 * Its listener is called "ingest". If there is a connection called "ping", whoever is at its other end knows by it
 * that we are up. The first two connections are accepted with the listener blocking, the third one without.
 */
#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "stream.h"

static bool serve(int listener) {
    struct sockaddr unused;
    socklen_t size = sizeof unused;
    int fd;
    do
        fd = accept(listener, &unused, &size);
    while (fd < 0 && errno == EAGAIN);
    if (fd < 0) {
        perror("accept");
        return false;
    }
    bool good = echo_line(fd) && set_blocking(fd, true) && echo_line(fd) && set_blocking(fd, false) && echo_line(fd);
    return close(fd) == 0 && good;
}

int main(void) {
    print_descriptors();
    int listener = find_descriptor("ingest");
    if (listener < 0) {
        printf("no such descriptor\n");
        return 1;
    }
    return set_blocking(listener, true) && serve(listener) && serve(listener) && set_blocking(listener, false) &&
                   serve(listener)
               ? 0
               : 1;
}
