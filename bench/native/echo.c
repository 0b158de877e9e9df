/* The native peer of the echo service: one thread, one poll() loop, any number of connections.

     echo                      plain TCP
     echo CERTIFICATE KEY      TLS 1.3, when built with -DWITH_TLS

   It listens on a free port of 127.0.0.1 (with -DGUEST_PORT=N, inside a virtual machine, on that port of any address)
   and tells which one on stderr. Connections are blocking, as a WASI guest's are, except under TLS, where a slow
   handshake must not hold up the others. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#ifdef WITH_TLS
#include "openssl.h"
#endif

enum { MOST = 4096 };

static struct pollfd polled[MOST]; /* 0 is the listener */
static char buffer[65536];

static int open_listener(void) {
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t length = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
#ifdef GUEST_PORT
    address.sin_addr.s_addr = htonl(INADDR_ANY);
    address.sin_port = htons(GUEST_PORT);
#else
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
#endif
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 1024)
        || getsockname(listener, (struct sockaddr *)&address, &length)) {
        perror("native: listener");
        exit(1);
    }
    fprintf(stderr, "native: listening on 127.0.0.1:%d\n", ntohs(address.sin_port));
    return listener;
}

#ifdef WITH_TLS

static SSL *streams[MOST];
static SSL_CTX *context;

static void start(int argc, char **argv) {
    context = new_context(TLS_server_method());
    if (argc != 3 || SSL_CTX_use_certificate_chain_file(context, argv[1]) != 1
        || SSL_CTX_use_PrivateKey_file(context, argv[2], SSL_FILETYPE_PEM) != 1) {
        fprintf(stderr, "native: usage: echo CERTIFICATE KEY\n");
        exit(2);
    }
}

static void opened(int i) {
    fcntl(polled[i].fd, F_SETFL, O_NONBLOCK);
    streams[i] = SSL_new(context);
    SSL_set_fd(streams[i], polled[i].fd);
    SSL_set_accept_state(streams[i]);
}

static void closed(int i, int last) {
    SSL_shutdown(streams[i]);
    SSL_free(streams[i]);
    streams[i] = streams[last];
}

/* Writes everything, waiting while the peer does not read. Returns 0 when the connection is broken. */
static int write_all(int i, int count) {
    for (int done = 0; done < count;) {
        int n = SSL_write(streams[i], buffer + done, count - done);
        if (n > 0) {
            done += n;
        } else {
            int error = SSL_get_error(streams[i], n);
            struct pollfd one = {polled[i].fd, error == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT, 0};
            if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE) return 0;
            poll(&one, 1, -1);
        }
    }
    return 1;
}

/* Echoes all that has arrived; the handshake is done by the first reads. Returns 0 at the end of the connection. */
static int serve(int i) {
    do {
        ERR_clear_error();
        int n = SSL_read(streams[i], buffer, sizeof buffer);
        if (n <= 0) {
            int error = SSL_get_error(streams[i], n);
            return error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE;
        }
        if (!write_all(i, n)) return 0;
    } while (SSL_pending(streams[i]));
    return 1;
}

#else

static void start(int argc, char **argv) { (void)argc, (void)argv; }
static void opened(int i) { (void)i; }
static void closed(int i, int last) { (void)i, (void)last; }

static int serve(int i) {
    ssize_t n = recv(polled[i].fd, buffer, sizeof buffer, 0);
    for (ssize_t done = 0; n > 0 && done < n;) {
        ssize_t sent = send(polled[i].fd, buffer + done, n - done, 0);
        if (sent < 0) return 0;
        done += sent;
    }
    return n > 0;
}

#endif

int main(int argc, char **argv) {
    int used = 1, on = 1;
    signal(SIGPIPE, SIG_IGN);
    start(argc, argv);
    polled[0] = (struct pollfd){open_listener(), POLLIN, 0};
    while (poll(polled, used, -1) >= 0 || errno == EINTR) {
        for (int i = used - 1; i > 0; i--) {
            if (!polled[i].revents || serve(i)) continue;
            closed(i, used - 1);
            close(polled[i].fd);
            polled[i] = polled[--used];
        }
        if (polled[0].revents && used < MOST) {
            int fd = accept(polled[0].fd, NULL, NULL);
            if (fd < 0) continue;
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
            polled[used] = (struct pollfd){fd, POLLIN, 0};
            opened(used++);
        }
    }
    perror("native: poll");
    return 1;
}
