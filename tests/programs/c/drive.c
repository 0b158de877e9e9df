/* Does what it is told on stdin, one command in a line, and prints one line for each: WASI's calls by hand.
 *
 *   accept FD [nonblock]      the new descriptor
 *   recv FD LENGTH [peek] [waitall]    how many bytes, and which; by sock_recv
 *   read FD LENGTH            the same by fd_read
 *   send FD TEXT              how many bytes; by sock_send
 *   write FD TEXT             the same by fd_write
 *   fill FD                   sends zeros until that fails: the error, and whether anything went out before
 *   sink FD                   receives until the end or an error: how many bytes that were, and the error
 *   shutdown FD rd|wr|rdwr
 *   mode FD block|nonblock
 *   stat FD                   type and flags
 *   poll MS FD:r FD:w ...     what is ready, in order of the descriptors asked for; MS may be -1
 *   close FD
 *   renumber FROM TO
 *   exit CODE
 *
 * Where a call fails, the line is the name of the error.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wasi/api.h>

#include "errno_names.h"

static uint8_t buffer[1 << 20];

static void print_bytes(size_t length) {
    printf("%zu \"", length);
    for (size_t i = 0; i < length && i < 200; i++)
        if (buffer[i] == '\n')
            printf("\\n");
        else if (buffer[i] >= ' ' && buffer[i] < 127)
            putchar(buffer[i]);
        else
            printf("\\x%02x", buffer[i]);
    printf("\"\n");
}

static void failed(__wasi_errno_t error) { printf("%s\n", errno_name(error)); }

static bool has(const char *words, const char *word) { return strstr(words, word) != NULL; }

static void do_poll(char *words) {
    __wasi_subscription_t wanted[64];
    __wasi_event_t events[64];
    const char *names[64];
    size_t count = 0, happened = 0;
    char *word = strtok(words, " ");
    long milliseconds = word != NULL ? atol(word) : -1;
    while (count < 63 && (word = strtok(NULL, " ")) != NULL) {
        int fd = atoi(word);
        bool write = has(word, ":w");
        names[count] = word;
        wanted[count] = (__wasi_subscription_t){.userdata = count,
                                                .u.tag = write ? __WASI_EVENTTYPE_FD_WRITE : __WASI_EVENTTYPE_FD_READ,
                                                .u.u.fd_read.file_descriptor = fd};
        count++;
    }
    if (milliseconds >= 0) {
        names[count] = "timeout";
        wanted[count] = (__wasi_subscription_t){
            .userdata = count,
            .u.tag = __WASI_EVENTTYPE_CLOCK,
            .u.u.clock = {.id = __WASI_CLOCKID_MONOTONIC, .timeout = (uint64_t)milliseconds * 1000000}};
        count++;
    }
    __wasi_errno_t error = __wasi_poll_oneoff(wanted, events, count, &happened);
    if (error != 0) {
        failed(error);
        return;
    }
    for (size_t asked = 0, printed = 0; asked < count; asked++)
        for (size_t i = 0; i < happened; i++)
            if (events[i].userdata == asked) {
                bool hangup = events[i].fd_readwrite.flags & __WASI_EVENTRWFLAGS_FD_READWRITE_HANGUP;
                printf("%s%s%s%s%s", printed++ > 0 ? " " : "", names[asked],
                       hangup && events[i].type != __WASI_EVENTTYPE_CLOCK ? ":hup" : "",
                       events[i].error != 0 ? ":" : "", events[i].error != 0 ? errno_name(events[i].error) : "");
            }
    printf("\n");
}

static void do_fill(int fd) {
    size_t total = 0;
    for (;;) {
        static const uint8_t zeros[1 << 16];
        __wasi_ciovec_t out = {.buf = zeros, .buf_len = sizeof zeros};
        size_t sent = 0;
        __wasi_errno_t error = __wasi_sock_send(fd, &out, 1, 0, &sent);
        if (error != 0) {
            printf("%s %s\n", errno_name(error), total > 0 ? "after some" : "at once");
            return;
        }
        total += sent;
    }
}

static void do_sink(int fd) {
    size_t total = 0, length = 0;
    __wasi_roflags_t flags;
    __wasi_iovec_t in = {.buf = buffer, .buf_len = sizeof buffer};
    __wasi_errno_t error;
    while ((error = __wasi_sock_recv(fd, &in, 1, 0, &length, &flags)) == 0 && length > 0)
        total += length;
    printf("%zu %s\n", total, error != 0 ? errno_name(error) : "end");
}

static void do_stat(int fd) {
    __wasi_fdstat_t stat;
    __wasi_errno_t error = __wasi_fd_fdstat_get(fd, &stat);
    if (error != 0)
        failed(error);
    else
        printf("type %u%s\n", stat.fs_filetype, stat.fs_flags & __WASI_FDFLAGS_NONBLOCK ? " nonblock" : "");
}

int main(void) {
    char line[4096];
    while (fgets(line, sizeof line, stdin) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        char *rest = line + strcspn(line, " ");
        if (*rest != '\0')
            *rest++ = '\0';
        char *second = rest + strcspn(rest, " ");
        if (*second != '\0')
            second++;
        int fd = atoi(rest), other = -1;
        size_t length = strtoul(second, NULL, 10), done = 0;
        __wasi_iovec_t in = {.buf = buffer, .buf_len = length < sizeof buffer ? length : sizeof buffer};
        __wasi_ciovec_t out = {.buf = (const uint8_t *)second, .buf_len = strlen(second)};
        __wasi_roflags_t flags = 0;
        __wasi_errno_t error = 0;

        if (strcmp(line, "accept") == 0) {
            error = __wasi_sock_accept(fd, has(second, "nonblock") ? __WASI_FDFLAGS_NONBLOCK : 0, &other);
            if (error == 0)
                printf("%d\n", other);
        } else if (strcmp(line, "recv") == 0) {
            uint16_t how = (has(second, "peek") ? __WASI_RIFLAGS_RECV_PEEK : 0) |
                           (has(second, "waitall") ? __WASI_RIFLAGS_RECV_WAITALL : 0);
            error = __wasi_sock_recv(fd, &in, 1, how, &done, &flags);
            if (error == 0)
                print_bytes(done);
        } else if (strcmp(line, "read") == 0) {
            error = __wasi_fd_read(fd, &in, 1, &done);
            if (error == 0)
                print_bytes(done);
        } else if (strcmp(line, "send") == 0) {
            error = __wasi_sock_send(fd, &out, 1, 0, &done);
            if (error == 0)
                printf("%zu\n", done);
        } else if (strcmp(line, "write") == 0) {
            error = __wasi_fd_write(fd, &out, 1, &done);
            if (error == 0)
                printf("%zu\n", done);
        } else if (strcmp(line, "fill") == 0) {
            do_fill(fd);
        } else if (strcmp(line, "sink") == 0) {
            do_sink(fd);
        } else if (strcmp(line, "shutdown") == 0) {
            error = __wasi_sock_shutdown(fd, (has(second, "rd") ? __WASI_SDFLAGS_RD : 0) |
                                                 (has(second, "wr") ? __WASI_SDFLAGS_WR : 0));
            if (error == 0)
                printf("OK\n");
        } else if (strcmp(line, "mode") == 0) {
            error = __wasi_fd_fdstat_set_flags(fd, has(second, "nonblock") ? __WASI_FDFLAGS_NONBLOCK : 0);
            if (error == 0)
                printf("OK\n");
        } else if (strcmp(line, "stat") == 0) {
            do_stat(fd);
        } else if (strcmp(line, "poll") == 0) {
            do_poll(rest);
        } else if (strcmp(line, "close") == 0) {
            error = __wasi_fd_close(fd);
            if (error == 0)
                printf("OK\n");
        } else if (strcmp(line, "renumber") == 0) {
            error = __wasi_fd_renumber(fd, atoi(second));
            if (error == 0)
                printf("OK\n");
        } else if (strcmp(line, "exit") == 0) {
            exit(fd);
        } else {
            printf("no such command\n");
        }
        if (error != 0)
            failed(error);
        fflush(stdout);
    }
    return 0;
}
