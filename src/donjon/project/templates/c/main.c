/* {{name}}: greets each client and sends back what it says.
 *
 * The listener is open already: it is the fourth entry of Enarx.toml, hence descriptor 3. TLS happens outside.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { LISTENER = 3, MAX_CLIENTS = 255 };

static const char GREETING[] = "hello from {{name}}: say something\n";

/* Returns false when the client is gone. A client that takes nothing holds up the others. */
static bool send_all(int client, const char *bytes, size_t length) {
    while (length > 0) {
        ssize_t sent = send(client, bytes, length, 0);
        if (sent < 0)
            return false;
        bytes += sent;
        length -= (size_t)sent;
    }
    return true;
}

/* Returns false when the conversation is over. */
static bool serve(int client) {
    char said[4096];
    ssize_t length = recv(client, said, sizeof said, 0);
    return length > 0 && send_all(client, said, (size_t)length);
}

int main(void) {
    struct pollfd watched[1 + MAX_CLIENTS] = {{.fd = LISTENER, .events = POLLIN}};
    nfds_t count = 1;

    /* accept() shall not wait: a client that poll() saw coming may be gone again. */
    if (fcntl(LISTENER, F_SETFL, O_NONBLOCK) < 0) {
        perror("descriptor 3 is no listener");
        return 1;
    }
    for (;;) {
        if (poll(watched, count, -1) < 0) {
            perror("poll");
            return 1;
        }
        for (nfds_t i = count - 1; i > 0; i--) {
            if (watched[i].revents != 0 && !serve(watched[i].fd)) {
                close(watched[i].fd);
                watched[i] = watched[--count]; /* the last one fills the gap */
            }
        }
        if (watched[0].revents != 0) {
            struct sockaddr unused;
            socklen_t size = sizeof unused;
            int client = accept(LISTENER, &unused, &size);
            if (client < 0)
                continue;
            if (count == 1 + MAX_CLIENTS || !send_all(client, GREETING, strlen(GREETING)))
                close(client);
            else
                watched[count++] = (struct pollfd){.fd = client, .events = POLLIN};
        }
    }
}
