/* A TCP echo server: whatever a client sends comes back. One thread, one poll() loop, a thousand clients.
 *
 * The program opens no socket. Donjon opens what Enarx.toml lists and hands it over as descriptors, so this file
 * accepts, receives and sends; whether the wire speaks TLS is none of its business.
 */
#define _GNU_SOURCE /* accept4 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MAX_CLIENTS = 1023 };

/* What a client has been sent too fast to take: we read no more from it until this has gone out. */
struct backlog {
    char *bytes; /* NULL: nothing waits */
    size_t start, end;
};

/* Entry 0 is for the listener, the others are clients, without gaps; watched[i] and backlogs[i] belong together. */
static struct pollfd watched[1 + MAX_CLIENTS];
static struct backlog backlogs[1 + MAX_CLIENTS];
static nfds_t count;

static char buffer[64 * 1024];

/* FD_NAMES holds the names of all descriptors in order, joined by ':'. Without it the listener is descriptor 3. */
static int find_descriptor(const char *name) {
    const char *names = getenv("FD_NAMES");
    if (names == NULL)
        return 3;
    for (int fd = 0;; fd++) {
        size_t length = strcspn(names, ":");
        if (length == strlen(name) && memcmp(names, name, length) == 0)
            return fd;
        if (names[length] == '\0')
            return -1;
        names += length + 1;
    }
}

static void accept_clients(int listener) {
    while (count < 1 + MAX_CLIENTS) {
        struct sockaddr unused; /* WASI's C library wants both, although it knows no addresses */
        socklen_t size = sizeof unused;
        int fd = accept4(listener, &unused, &size, SOCK_NONBLOCK);
        if (fd < 0)
            return; /* EAGAIN: nobody else waits. Anything else is that client's misfortune, and poll() calls again. */
        watched[count] = (struct pollfd){.fd = fd, .events = POLLIN};
        backlogs[count] = (struct backlog){0};
        count++;
    }
}

/* Sends what it can. Returns how much that was, or -1 when the client is gone. */
static ssize_t send_some(int fd, const char *bytes, size_t length) {
    size_t sent = 0;
    while (sent < length) {
        ssize_t n = send(fd, bytes + sent, length - sent, 0);
        if (n >= 0)
            sent += (size_t)n;
        else if (errno == EAGAIN)
            break;
        else if (errno != EINTR)
            return -1;
    }
    return (ssize_t)sent;
}

/* Returns false when the conversation is over. */
static bool receive(nfds_t i) {
    ssize_t received = recv(watched[i].fd, buffer, sizeof buffer, 0);
    if (received < 0)
        return errno == EAGAIN || errno == EINTR;
    if (received == 0)
        return false; /* the client has said all it wanted, and has been sent all of it */
    ssize_t sent = send_some(watched[i].fd, buffer, (size_t)received);
    if (sent < 0)
        return false;
    if (sent < received) {
        size_t rest = (size_t)(received - sent);
        char *bytes = malloc(rest);
        if (bytes == NULL)
            return false;
        memcpy(bytes, buffer + sent, rest);
        backlogs[i] = (struct backlog){.bytes = bytes, .end = rest};
        watched[i].events = POLLOUT;
    }
    return true;
}

static bool drain(nfds_t i) {
    struct backlog *b = &backlogs[i];
    ssize_t sent = send_some(watched[i].fd, b->bytes + b->start, b->end - b->start);
    if (sent < 0)
        return false;
    b->start += (size_t)sent;
    if (b->start == b->end) {
        free(b->bytes);
        *b = (struct backlog){0};
        watched[i].events = POLLIN;
    }
    return true;
}

static void drop(nfds_t i) {
    close(watched[i].fd);
    free(backlogs[i].bytes);
    count--;
    watched[i] = watched[count];
    backlogs[i] = backlogs[count];
}

int main(void) {
    int listener = find_descriptor("echo");
    if (listener < 0 || fcntl(listener, F_SETFL, O_NONBLOCK) < 0) {
        fprintf(stderr, "echo: no listener named \"echo\": does Enarx.toml have one?\n");
        return 1;
    }
    count = 1;
    for (;;) {
        /* poll() passes over a negative descriptor: when we are full, newcomers wait in the listener's queue. */
        watched[0] = (struct pollfd){.fd = count < 1 + MAX_CLIENTS ? listener : -1, .events = POLLIN};
        if (poll(watched, count, -1) < 0) {
            if (errno == EINTR)
                continue;
            perror("echo: poll");
            return 1;
        }
        /* Backwards, because drop() moves the last client into the gap. New clients come last, for the same reason. */
        for (nfds_t i = count - 1; i > 0; i--)
            if (watched[i].revents != 0 && !(backlogs[i].bytes != NULL ? drain(i) : receive(i)))
                drop(i);
        if (watched[0].revents != 0)
            accept_clients(listener);
    }
}
