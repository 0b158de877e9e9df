/* The load generator: talks to an echo service on 127.0.0.1 and prints one JSON object. Linux (epoll).

     load echo  PORT SIZE CONNECTIONS SECONDS PID,...   every connection keeps one message of SIZE bytes in flight
     load churn PORT SIZE CONNECTIONS SECONDS PID,...   connect, (handshake,) echo one message, close; so many at once
     load hold  PORT SIZE CONNECTIONS                   open all, echo one message on each in turn, keep them open
                                                        until stdin ends

   echo and churn run for 0.2 s before they count. `cpu` is the CPU time in seconds that the processes PID,... used
   in the counted time, or -1 where the system does not tell. With -DWITH_TLS every connection is TLS 1.3, always with
   the same suite and group, so that all services do the same work; certificates are not verified: that is the
   client's work.
   Every byte that comes back is compared with what was sent. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#ifdef WITH_TLS
#include "openssl.h"
#endif

enum { CHUNK = 262144, LATENCIES = 1 << 21, MOST_PIDS = 64 };
static const double WARM_UP = 0.2;

struct connection {
    int fd;
    int ready;       /* the handshake is done */
    size_t out, in;  /* bytes of the current message sent, and come back */
    double begun;    /* when the current message (churn: the connection) began */
#ifdef WITH_TLS
    SSL *ssl;
#endif
};

static int port, poller;
static size_t size;
static char *message, received[CHUNK];
static clockid_t clocks[MOST_PIDS];
static int clock_count;
static float *latencies;
static long count, recorded;

static double seconds(clockid_t clock) {
    struct timespec now;
    if (clock_gettime(clock, &now)) return -1;
    return now.tv_sec + now.tv_nsec * 1e-9;
}

static double now(void) { return seconds(CLOCK_MONOTONIC); }

static void fail(const char *what) {
    fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void find_clocks(char *pids) {
    for (char *pid = strtok(pids, ","); pid && clock_count < MOST_PIDS; pid = strtok(NULL, ","))
        if (clock_getcpuclockid(atoi(pid), &clocks[clock_count]) == 0) clock_count++;
}

static double cpu_used(void) {
    double sum = clock_count ? 0 : -1;
    for (int i = 0; i < clock_count; i++) sum += seconds(clocks[i]);
    return sum;
}

static void open_socket(struct connection *c, int flags) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    int on = 1;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    c->begun = now();
    c->out = c->in = 0;
    c->fd = socket(AF_INET, SOCK_STREAM | flags, 0);
    if (c->fd < 0) fail("socket");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(c->fd, (struct sockaddr *)&address, sizeof address) && errno != EINPROGRESS) fail("connect");
}

/* handshake, put and get return what was moved, 0 for "not now"; they end the program on any error. */
#ifdef WITH_TLS

static SSL_CTX *context;

static void start_tls(void) {
    context = new_context(TLS_client_method());
    SSL_CTX_set_ciphersuites(context, "TLS_AES_256_GCM_SHA384");
    SSL_CTX_ctrl(context, SSL_CTRL_SET_GROUPS_LIST, 0, "X25519");
}

static void open_stream(struct connection *c) {
    c->ready = 0;
    c->ssl = SSL_new(context);
    SSL_set_fd(c->ssl, c->fd);
    SSL_set_connect_state(c->ssl);
}

static long moved(struct connection *c, int n, const char *what) {
    if (n > 0) return n;
    int error = SSL_get_error(c->ssl, n);
    if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE) fail(what);
    return 0;
}

static long handshake(struct connection *c) {
    ERR_clear_error();
    return moved(c, SSL_do_handshake(c->ssl), "TLS handshake");
}

static long put(struct connection *c, const char *from, size_t n) {
    return moved(c, SSL_write(c->ssl, from, (int)n), "TLS write");
}

static long get(struct connection *c) { return moved(c, SSL_read(c->ssl, received, CHUNK), "TLS read"); }

static void close_stream(struct connection *c) {
    SSL_shutdown(c->ssl);
    SSL_free(c->ssl);
    close(c->fd);
}

#else

static void start_tls(void) {}
static void open_stream(struct connection *c) { c->ready = 1; }
static long handshake(struct connection *c) { return c->ready; }
static void close_stream(struct connection *c) { close(c->fd); }

static long put(struct connection *c, const char *from, size_t n) {
    ssize_t k = send(c->fd, from, n, MSG_NOSIGNAL);
    if (k < 0 && errno != EAGAIN && errno != ENOTCONN) fail("send");
    return k < 0 ? 0 : k;
}

static long get(struct connection *c) {
    ssize_t k = recv(c->fd, received, CHUNK, 0);
    if (k == 0) errno = ECONNABORTED;
    if (k == 0 || (k < 0 && errno != EAGAIN && errno != ENOTCONN)) fail("recv");
    return k < 0 ? 0 : k;
}

#endif

/* Moves what can be moved now. Returns 1 when the message has come back whole. */
static int advance(struct connection *c) {
    for (;;) {
        long progress = 0;
        if (!c->ready && !(c->ready = handshake(c) > 0)) return 0;
        if (c->out < size) {
            progress = put(c, message + c->out, size - c->out);
            c->out += progress;
        }
        if (c->in < size) {
            long n = get(c);
            if (c->in + n > c->out || memcmp(received, message + c->in, n)) {
                fprintf(stderr, "load: what came back is not what was sent\n");
                exit(1);
            }
            c->in += n;
            progress += n;
        }
        if (c->in == size) return 1;
        if (!progress) return 0;
    }
}

static void watch(struct connection *c) {
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = c};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &event)) fail("epoll_ctl");
}

static void reopen(struct connection *c) {
    open_socket(c, SOCK_NONBLOCK);
    open_stream(c);
    watch(c);
}

static void finished(double began) {
    if (recorded < LATENCIES) latencies[recorded++] = (float)((now() - began) * 1e6);
    count++;
}

static int ascending(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static void report(double elapsed, double cpu) {
    qsort(latencies, recorded, sizeof *latencies, ascending);
    printf("{\"count\": %ld, \"seconds\": %.6f, \"cpu\": %.6f, ", count, elapsed, cpu);
    printf("\"p50_us\": %.1f, \"p99_us\": %.1f}\n", recorded ? latencies[recorded / 2] : -1,
           recorded ? latencies[recorded * 99 / 100] : -1);
}

static void run(struct connection *all, int connections, double duration, int churn) {
    double start = now() + WARM_UP, end = start + duration, cpu = -1;
    struct epoll_event events[256];
    int counting = 0;
    for (;;) {
        int n = epoll_wait(poller, events, 256, 1000);
        double moment = now();
        if (n <= 0 && moment > end + 5) {
            fprintf(stderr, "load: no answer for more than 5 s\n");
            exit(1);
        }
        if (!counting && moment >= start) {
            counting = 1;
            count = recorded = 0;
            cpu = cpu_used();
            start = now();
        }
        if (counting && moment >= end) break;
        for (int i = 0; i < n; i++) {
            struct connection *c = events[i].data.ptr;
            while (advance(c)) {
                finished(c->begun);
                if (churn) {
                    close_stream(c);
                    reopen(c);
                    break; /* its first event starts it */
                }
                c->in = c->out = 0;
                c->begun = now();
            }
        }
    }
    report(now() - start, cpu < 0 ? -1 : cpu_used() - cpu);
    if (!churn)
        for (int i = 0; i < connections; i++) close_stream(&all[i]);
}

int main(int argc, char **argv) {
    if (argc < 5 || (strcmp(argv[1], "hold") && argc != 7)) {
        fprintf(stderr, "load: usage: load echo|churn|hold PORT SIZE CONNECTIONS [SECONDS PID,...]\n");
        return 2;
    }
    int connections = atoi(argv[4]), churn = !strcmp(argv[1], "churn"), hold = !strcmp(argv[1], "hold");
    struct connection *all = calloc(connections, sizeof *all);
    port = atoi(argv[2]);
    size = atol(argv[3]);
    message = malloc(size);
    latencies = malloc(LATENCIES * sizeof *latencies);
    for (size_t i = 0; i < size; i++) message[i] = (char)(i * 131 + i / 251);
    signal(SIGPIPE, SIG_IGN);
    start_tls();
    poller = epoll_create1(0);
    double began = now();
    for (int i = 0; i < connections; i++) {
        struct connection *c = &all[i];
        if (churn) {
            reopen(c);
            continue;
        }
        open_socket(c, 0);
        open_stream(c);
        if (handshake(c) <= 0) fail("handshake");
        c->ready = 1;
    }
    if (hold) {
        double opened = now() - began;
        began = now();
        for (int i = 0; i < connections; i++) { /* still blocking: put and get wait */
            all[i].begun = now();
            while (!advance(&all[i])) {}
            finished(all[i].begun);
        }
        report(now() - began, -1);
        fprintf(stderr, "load: opened %d connections in %.3f s\n", connections, opened);
        fflush(stdout);
        while (read(0, received, CHUNK) > 0) {}
        return 0;
    }
    if (!churn)
        for (int i = 0; i < connections; i++) {
            fcntl(all[i].fd, F_SETFL, O_NONBLOCK);
            all[i].begun = now();
            watch(&all[i]);
        }
    find_clocks(argv[6]);
    run(all, connections, atof(argv[5]), churn);
    return 0;
}
