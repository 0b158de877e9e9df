/* What connect.c and listen.c share. */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void print_descriptors(void) {
    printf("FD_COUNT=%s\nFD_NAMES=%s\n", getenv("FD_COUNT"), getenv("FD_NAMES"));
    fflush(stdout);
}

static int find_descriptor(const char *name) {
    const char *names = getenv("FD_NAMES");
    for (int fd = 0; names != NULL; fd++) {
        size_t length = strcspn(names, ":");
        if (length == strlen(name) && memcmp(names, name, length) == 0)
            return fd;
        names = names[length] == ':' ? names + length + 1 : NULL;
    }
    return -1;
}

static bool set_blocking(int fd, bool blocking) {
    if (fcntl(fd, F_SETFL, blocking ? 0 : O_NONBLOCK) == 0)
        return true;
    perror("fcntl");
    return false;
}

/* Reads up to the end of a line and sends the line back; where the stream would block it tries again and again. */
static bool echo_line(int fd) {
    char line[256];
    size_t length = 0;
    while (length == 0 || line[length - 1] != '\n') {
        ssize_t n = read(fd, line + length, 1);
        if (n == 1 && ++length < sizeof line)
            continue;
        if (n < 0 && errno == EAGAIN)
            continue;
        if (n < 0)
            perror("read");
        else
            printf("the line has no end\n");
        return false;
    }
    for (size_t sent = 0; sent < length;) {
        ssize_t n = write(fd, line + sent, length - sent);
        if (n > 0)
            sent += (size_t)n;
        else if (n == 0 || errno != EAGAIN) {
            perror("write");
            return false;
        }
    }
    return true;
}
