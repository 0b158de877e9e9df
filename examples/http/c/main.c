/* A small HTTP/1.1 server: a few pages, GET and HEAD, connections that stay open. One poll() loop for all clients.
 *
 * The program opens no socket and knows no TLS: it finds the listener that Enarx.toml calls "http" already open.
 *
 * How it works: each client is in one of three states. It is READING until the buffer holds a whole request, then
 * WRITING until the response is out, and then either READING again or, after a last response, CLOSING: it has been
 * told the end, and what it still sends is thrown away until it hangs up too. (Closing at once would make the peer's
 * system discard the response that it has not read yet.) Who does nothing for a while is dropped in any state.
 *
 * Not here: request bodies, ranges, conditional requests, compression.   [RFC 9110, RFC 9112]
 */
#define _GNU_SOURCE /* accept4 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    MAX_CLIENTS = 255,
    MAX_REQUEST = 8192,  /* bytes of a request line and all headers; more is answered with 431 */
    MAX_RESPONSE = 2048, /* headers and body; the pages below are small */
    MAX_IDLE = 30,       /* seconds */
};

struct page {
    const char *path, *type, *body;
};

static const struct page pages[] = {
    {"/", "text/html; charset=utf-8",
     "<!doctype html>\n"
     "<title>A Keep</title>\n"
     "<h1>Hello from a Keep</h1>\n"
     "<p>This page came from a WebAssembly program that knows nothing of TLS.\n"
     "<p>There is also <a href=\"/about.txt\">some text</a>.\n"},
    {"/about.txt", "text/plain; charset=utf-8",
     "A small HTTP server in C, compiled to WebAssembly, in a Keep.\n"},
};

enum state { READING, WRITING, CLOSING };

struct client {
    enum state state;
    bool last;       /* close after this response */
    time_t deadline; /* drop the client then, if nothing happens before */
    size_t received;
    size_t sent, length; /* of the response */
    char request[MAX_REQUEST];
    char response[MAX_RESPONSE];
};

/* Entry 0 is for the listener, the others are clients, without gaps; watched[i] belongs to clients[i]. */
static struct pollfd watched[1 + MAX_CLIENTS];
static struct client *clients[1 + MAX_CLIENTS];
static nfds_t count;

/* -- requests ------------------------------------------------------------------------------------------------- */

/* What a request asks for, or the status that says what is wrong with it. */
struct request {
    int status; /* 200: nothing wrong so far */
    bool head;  /* only the headers are wanted */
    bool last;  /* the client wants no further request, or we cannot tell where the next one would begin */
    char *path;
};

/* Characters of which names of methods and headers are made. */
static bool is_token(const char *text) {
    if (*text == '\0')
        return false;
    for (; *text != '\0'; text++)
        if (strchr("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", *text) == NULL)
            return false;
    return true;
}

static bool has_word(const char *list, const char *word) {
    for (;;) {
        list += strspn(list, ", \t");
        size_t length = strcspn(list, ", \t");
        if (length == 0)
            return false;
        if (length == strlen(word) && strncasecmp(list, word, length) == 0)
            return true;
        list += length;
    }
}

/* Cuts the text off at the next end of line, and returns what follows; NULL when there is no further line. */
static char *cut_line(char *text) {
    char *end = strstr(text, "\r\n");
    if (end == NULL)
        return NULL;
    *end = '\0';
    return end + 2;
}

/* "METHOD path HTTP/1.x". The target may be a whole URL, as a proxy sends it; what counts is its path. */
static void parse_request_line(char *line, struct request *request, bool *http_1_1) {
    char *target = strchr(line, ' ');
    char *version = target != NULL ? strchr(target + 1, ' ') : NULL;
    request->status = 400;
    if (version == NULL)
        return;
    *target++ = '\0';
    *version++ = '\0';
    if (!is_token(line) || strncmp(version, "HTTP/", 5) != 0)
        return;
    *http_1_1 = strcmp(version, "HTTP/1.1") == 0;
    if (!*http_1_1 && strcmp(version, "HTTP/1.0") != 0) {
        request->status = 505;
        return;
    }
    request->head = strcmp(line, "HEAD") == 0;
    if (!request->head && strcmp(line, "GET") != 0) {
        request->status = 405;
        return;
    }
    if (strncasecmp(target, "http://", 7) == 0 || strncasecmp(target, "https://", 8) == 0) {
        target = strstr(target, "//") + 2;
        target += strcspn(target, "/?");
    }
    if (*target != '/')
        return;
    target[strcspn(target, "?")] = '\0';
    request->path = target;
    request->status = 200;
}

/* Reads the request in `text`, which ends with its empty line cut off, and cuts it into pieces. */
static struct request parse(char *text) {
    struct request request = {0};
    bool http_1_1 = false;
    int hosts = 0;
    char *next = cut_line(text);
    parse_request_line(text, &request, &http_1_1);
    if (request.status != 200) {
        request.last = true; /* no telling what else it means by what it sends */
        return request;
    }
    request.last = !http_1_1;
    for (char *line = next; line != NULL; line = next) {
        next = cut_line(line);
        char *value = strchr(line, ':');
        if (value == NULL || strchr(line, '\r') != NULL || strchr(line, '\n') != NULL) {
            request.status = 400;
            break;
        }
        *value++ = '\0';
        if (!is_token(line)) {
            request.status = 400;
            break;
        }
        value += strspn(value, " \t");
        if (strcasecmp(line, "Host") == 0)
            hosts++;
        else if (strcasecmp(line, "Connection") == 0)
            request.last |= has_word(value, "close");
        else if (strcasecmp(line, "Transfer-Encoding") == 0 ||
                 (strcasecmp(line, "Content-Length") == 0 && strcmp(value, "0") != 0))
            request.last = true; /* a body follows, and we read none */
    }
    if (hosts > 1 || (hosts == 0 && http_1_1))
        request.status = 400;
    request.last |= request.status != 200;
    return request;
}

/* -- responses ------------------------------------------------------------------------------------------------ */

static const char *reason(int status) {
    switch (status) {
    case 200: return "OK";
    case 400: return "Bad Request";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 431: return "Request Header Fields Too Large";
    default: return "HTTP Version Not Supported";
    }
}

static void respond(struct client *client, const struct request *request) {
    const struct page *page = NULL;
    int status = request->status;
    char date[64], problem[64];
    if (status == 200) {
        for (size_t i = 0; i < sizeof pages / sizeof *pages; i++)
            if (strcmp(pages[i].path, request->path) == 0)
                page = &pages[i];
        if (page == NULL)
            status = 404;
    }
    snprintf(problem, sizeof problem, "%d %s\n", status, reason(status));
    const char *body = page != NULL ? page->body : problem;
    time_t now = time(NULL);
    strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S GMT", gmtime(&now));
    int length = snprintf(client->response, MAX_RESPONSE,
                          "HTTP/1.1 %d %s\r\n"
                          "Date: %s\r\n"
                          "Content-Type: %s\r\n"
                          "Content-Length: %zu\r\n"
                          "%s%s\r\n"
                          "%s",
                          status, reason(status), date, page != NULL ? page->type : "text/plain; charset=utf-8",
                          strlen(body), status == 405 ? "Allow: GET, HEAD\r\n" : "",
                          request->last ? "Connection: close\r\n" : "", request->head ? "" : body);
    client->sent = 0;
    client->length = (size_t)length;
    client->last = request->last;
    client->state = WRITING;
}

/* -- clients -------------------------------------------------------------------------------------------------- */

static time_t seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec;
}

/* Answers the first request in the buffer, if it is there as a whole. */
static void try_to_answer(struct client *client) {
    /* A client may end its last request with a line too many. */
    size_t blank = 0;
    while (client->received - blank >= 2 && memcmp(client->request + blank, "\r\n", 2) == 0)
        blank += 2;
    client->received -= blank;
    memmove(client->request, client->request + blank, client->received);

    char *end = memmem(client->request, client->received, "\r\n\r\n", 4);
    if (end == NULL) {
        if (client->received == MAX_REQUEST)
            respond(client, &(struct request){.status = 431, .last = true});
        return;
    }
    size_t length = (size_t)(end - client->request);
    if (memchr(client->request, '\0', length) != NULL) {
        respond(client, &(struct request){.status = 400, .last = true});
        return;
    }
    *end = '\0';
    struct request request = parse(client->request);
    respond(client, &request);
    client->received -= length + 4; /* what is left is the beginning of the next request */
    memmove(client->request, end + 4, client->received);
}

/* Moves a client on until it would have to wait. Returns false when it is finished with. */
static bool serve(int fd, struct client *client) {
    static char rubbish[4096];
    ssize_t n;
    client->deadline = seconds() + MAX_IDLE;
    for (;;) {
        switch (client->state) {
        case READING:
            n = recv(fd, client->request + client->received, MAX_REQUEST - client->received, 0);
            if (n > 0) {
                client->received += (size_t)n;
                try_to_answer(client);
            }
            break;
        case WRITING:
            n = send(fd, client->response + client->sent, client->length - client->sent, 0);
            if (n > 0)
                client->sent += (size_t)n;
            if (client->sent < client->length)
                break;
            if (client->last) {
                client->state = CLOSING;
                if (shutdown(fd, SHUT_WR) < 0)
                    return false;
            } else {
                client->state = READING;
                try_to_answer(client); /* the client may have sent several requests at once */
            }
            break;
        default:
            n = recv(fd, rubbish, sizeof rubbish, 0);
            break;
        }
        if (n == 0)
            return false;
        if (n < 0 && errno != EINTR)
            return errno == EAGAIN;
    }
}

static void accept_clients(int listener) {
    while (count < 1 + MAX_CLIENTS) {
        struct sockaddr unused; /* WASI's C library wants both, although it knows no addresses */
        socklen_t size = sizeof unused;
        int fd = accept4(listener, &unused, &size, SOCK_NONBLOCK);
        if (fd < 0)
            return;
        struct client *client = malloc(sizeof *client);
        if (client == NULL) {
            close(fd);
            return;
        }
        client->state = READING;
        client->received = 0;
        client->deadline = seconds() + MAX_IDLE;
        watched[count] = (struct pollfd){.fd = fd};
        clients[count++] = client;
    }
}

static void drop(nfds_t i) {
    close(watched[i].fd);
    free(clients[i]);
    count--;
    watched[i] = watched[count];
    clients[i] = clients[count];
}

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

int main(void) {
    int listener = find_descriptor("http");
    if (listener < 0 || fcntl(listener, F_SETFL, O_NONBLOCK) < 0) {
        fprintf(stderr, "http: no listener named \"http\": does Enarx.toml have one?\n");
        return 1;
    }
    count = 1;
    for (;;) {
        /* poll() passes over a negative descriptor: when we are full, newcomers wait in the listener's queue. */
        watched[0] = (struct pollfd){.fd = count < 1 + MAX_CLIENTS ? listener : -1, .events = POLLIN};
        for (nfds_t i = 1; i < count; i++)
            watched[i].events = clients[i]->state == WRITING ? POLLOUT : POLLIN;
        if (poll(watched, count, count > 1 ? 1000 : -1) < 0 && errno != EINTR) {
            perror("http: poll");
            return 1;
        }
        /* Backwards, because drop() moves the last client into the gap. */
        time_t now = seconds();
        for (nfds_t i = count - 1; i > 0; i--)
            if (watched[i].revents != 0 ? !serve(watched[i].fd, clients[i]) : now >= clients[i]->deadline)
                drop(i);
        if (watched[0].revents != 0)
            accept_clients(listener);
    }
}
