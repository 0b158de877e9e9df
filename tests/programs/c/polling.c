/* Calls poll_oneoff in every way that needs no socket; one line a case. Wants "x\n" and then the end on stdin. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <wasi/api.h>

#include "errno_names.h"

enum { MOST = 8 };
static const uint64_t MILLISECOND = 1000000;

static __wasi_subscription_t wanted[MOST];
static size_t count;

static void readable(uint64_t userdata, int fd) {
    wanted[count++] = (__wasi_subscription_t){
        .userdata = userdata, .u.tag = __WASI_EVENTTYPE_FD_READ, .u.u.fd_read.file_descriptor = fd};
}

static void writable(uint64_t userdata, int fd) {
    wanted[count++] = (__wasi_subscription_t){
        .userdata = userdata, .u.tag = __WASI_EVENTTYPE_FD_WRITE, .u.u.fd_write.file_descriptor = fd};
}

static void timer(uint64_t userdata, uint32_t clock, uint64_t timeout, uint16_t flags) {
    wanted[count++] = (__wasi_subscription_t){
        .userdata = userdata,
        .u.tag = __WASI_EVENTTYPE_CLOCK,
        .u.u.clock = {.id = clock, .timeout = timeout, .flags = flags}};
}

static uint64_t now(__wasi_clockid_t clock) {
    __wasi_timestamp_t time = 0;
    return __wasi_clock_time_get(clock, 1, &time) == 0 ? time : 0;
}

/* Polls for what has been collected, and prints the events. `least` is the time in ms that this has to take. */
static void run(const char *title, uint64_t least) {
    static const char *const types[] = {"clock", "read", "write"};
    __wasi_event_t events[MOST];
    size_t happened = 0;
    uint64_t start = now(__WASI_CLOCKID_MONOTONIC);
    __wasi_errno_t error = __wasi_poll_oneoff(wanted, events, count, &happened);
    uint64_t took = (now(__WASI_CLOCKID_MONOTONIC) - start) / MILLISECOND;
    printf("%s:", title);
    if (error != 0)
        printf(" %s", errno_name(error));
    for (size_t i = 0; error == 0 && i < happened; i++) {
        printf(" %s %" PRIx64, events[i].type < 3 ? types[events[i].type] : "?", events[i].userdata);
        if (events[i].error != 0)
            printf(" %s", errno_name(events[i].error));
    }
    if (took < least)
        printf(" after %" PRIu64 " ms, too early", took);
    if (least == 0 && took > 2000)
        printf(" after %" PRIu64 " ms, too late", took);
    printf("\n");
    count = 0;
}

int main(void) {
    enum { ABSOLUTE = __WASI_SUBCLOCKFLAGS_SUBSCRIPTION_CLOCK_ABSTIME };
    const uint64_t far = 60 * 1000 * MILLISECOND;
    char byte[2];

    timer(1, __WASI_CLOCKID_MONOTONIC, 20 * MILLISECOND, 0);
    run("monotonic, in 20 ms", 20);
    timer(2, __WASI_CLOCKID_REALTIME, 20 * MILLISECOND, 0);
    run("realtime, in 20 ms", 20);
    timer(3, __WASI_CLOCKID_MONOTONIC, now(__WASI_CLOCKID_MONOTONIC) + 20 * MILLISECOND, ABSOLUTE);
    run("monotonic, at a time", 19);
    timer(4, __WASI_CLOCKID_REALTIME, now(__WASI_CLOCKID_REALTIME) + 20 * MILLISECOND, ABSOLUTE);
    run("realtime, at a time", 19);
    timer(5, __WASI_CLOCKID_MONOTONIC, 1, ABSOLUTE);
    run("monotonic, long ago", 0);
    timer(6, __WASI_CLOCKID_MONOTONIC, 0, 0);
    run("at once", 0);
    timer(7, __WASI_CLOCKID_MONOTONIC, far, 0);
    timer(8, __WASI_CLOCKID_MONOTONIC, 20 * MILLISECOND, 0);
    run("the earlier of two", 20);

    readable(0xfedcba9876543210, 0);
    run("stdin with data", 0);
    readable(9, 0);
    timer(10, __WASI_CLOCKID_MONOTONIC, far, 0);
    run("stdin with data, or much later", 0);
    writable(11, 1);
    run("stdout", 0);
    writable(12, 1);
    writable(13, 2);
    run("stdout and stderr", 0);
    readable(14, 0);
    readable(15, 0);
    run("stdin twice", 0);

    __wasi_iovec_t buffer = {.buf = (uint8_t *)byte, .buf_len = sizeof byte};
    size_t length = 0;
    if (__wasi_fd_read(0, &buffer, 1, &length) != 0)
        return 1;
    readable(16, 0);
    run("stdin at its end", 0);

    run("nothing", 0);
    /* The call may fail, or tell of the error in an event. */
    __wasi_event_t event = {0};
    readable(17, 1000);
    __wasi_errno_t error = __wasi_poll_oneoff(wanted, &event, 1, &length);
    printf("a descriptor that is not open: %s\n", errno_name(error != 0 ? error : event.error));
    return 0;
}
