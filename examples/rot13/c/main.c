/* ROT13: every letter moves thirteen places on in the alphabet, so that doing it twice gives the text back.
 *
 * With a listener named "rot13" this is a server: what a client sends comes back turned. Without one it is a filter
 * from stdin to stdout. Which of the two is for Enarx.toml to say.
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

enum { MAX_CLIENTS = 255, CHUNK = 4096 };

/* What a client said and has not been sent back yet. While there is some, we read no more from this client. */
struct chunk {
    char bytes[CHUNK];
    size_t start, end;
};

/* Entry 0 is for the listener, the others are clients, without gaps. */
static struct pollfd watched[1 + MAX_CLIENTS];
static struct chunk chunks[1 + MAX_CLIENTS];
static nfds_t count;

static void turn(char *bytes, size_t length) {
    for (size_t i = 0; i < length; i++) {
        char c = bytes[i];
        if (c >= 'a' && c <= 'z')
            bytes[i] = (char)('a' + (c - 'a' + 13) % 26);
        else if (c >= 'A' && c <= 'Z')
            bytes[i] = (char)('A' + (c - 'A' + 13) % 26);
    }
}

/* FD_NAMES holds the names of all descriptors in order, joined by ':'. */
static int find_descriptor(const char *name) {
    const char *names = getenv("FD_NAMES");
    if (names == NULL)
        return -1;
    for (int fd = 0;; fd++) {
        size_t length = strcspn(names, ":");
        if (length == strlen(name) && memcmp(names, name, length) == 0)
            return fd;
        if (names[length] == '\0')
            return -1;
        names += length + 1;
    }
}

static int filter(void) {
    char bytes[CHUNK];
    size_t length;
    while ((length = fread(bytes, 1, sizeof bytes, stdin)) > 0) {
        turn(bytes, length);
        fwrite(bytes, 1, length, stdout);
    }
    return ferror(stdin) || fflush(stdout) != 0;
}

static bool try_again(void) { return errno == EAGAIN || errno == EINTR; }

/* Moves one client on by what can be done without waiting. Returns false when the conversation is over. */
static bool serve(nfds_t i) {
    struct chunk *chunk = &chunks[i];
    if (chunk->start == chunk->end) {
        ssize_t received = recv(watched[i].fd, chunk->bytes, CHUNK, 0);
        if (received <= 0)
            return received < 0 && try_again();
        turn(chunk->bytes, (size_t)received);
        chunk->start = 0;
        chunk->end = (size_t)received;
    }
    ssize_t sent = send(watched[i].fd, chunk->bytes + chunk->start, chunk->end - chunk->start, 0);
    if (sent < 0 && !try_again())
        return false;
    if (sent > 0)
        chunk->start += (size_t)sent;
    watched[i].events = chunk->start == chunk->end ? POLLIN : POLLOUT;
    return true;
}

static void accept_clients(int listener) {
    while (count < 1 + MAX_CLIENTS) {
        struct sockaddr unused; /* WASI's C library wants both, although it knows no addresses */
        socklen_t size = sizeof unused;
        int fd = accept4(listener, &unused, &size, SOCK_NONBLOCK);
        if (fd < 0)
            return;
        watched[count] = (struct pollfd){.fd = fd, .events = POLLIN};
        chunks[count].start = chunks[count].end = 0;
        count++;
    }
}

static void drop(nfds_t i) {
    close(watched[i].fd);
    count--;
    watched[i] = watched[count];
    chunks[i] = chunks[count];
}

static int serve_all(int listener) {
    if (fcntl(listener, F_SETFL, O_NONBLOCK) < 0) {
        perror("rot13: listener");
        return 1;
    }
    count = 1;
    for (;;) {
        /* poll() passes over a negative descriptor: when we are full, newcomers wait in the listener's queue. */
        watched[0] = (struct pollfd){.fd = count < 1 + MAX_CLIENTS ? listener : -1, .events = POLLIN};
        if (poll(watched, count, -1) < 0) {
            if (errno == EINTR)
                continue;
            perror("rot13: poll");
            return 1;
        }
        /* Backwards, because drop() moves the last client into the gap. */
        for (nfds_t i = count - 1; i > 0; i--)
            if (watched[i].revents != 0 && !serve(i))
                drop(i);
        if (watched[0].revents != 0)
            accept_clients(listener);
    }
}

int main(void) {
    int listener = find_descriptor("rot13");
    return listener < 0 ? filter() : serve_all(listener);
}
