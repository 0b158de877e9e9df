/* Asks every clock and the random source, and tells whether what they say can be. */
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <wasi/api.h>

#include "errno_names.h"

static void try_clock(const char *name, __wasi_clockid_t id) {
    __wasi_timestamp_t first = 0, second = 0, resolution = 0;
    __wasi_errno_t error = __wasi_clock_time_get(id, 1, &first);
    if (error == 0)
        error = __wasi_clock_time_get(id, 1, &second);
    if (error == 0)
        error = __wasi_clock_res_get(id, &resolution);
    if (error != 0)
        printf("%s: %s\n", name, errno_name(error));
    else
        printf("%s: %s, resolution %s\n", name, second >= first ? "forward" : "BACKWARD",
               resolution > 0 && resolution <= 1000000000 ? "ok" : "WRONG");
}

int main(int argc, char *argv[]) {
    (void)argv;
    try_clock("realtime", __WASI_CLOCKID_REALTIME);
    try_clock("monotonic", __WASI_CLOCKID_MONOTONIC);
    if (argc > 1) { /* not every host has these */
        try_clock("process", 2);
        try_clock("thread", 3);
        try_clock("unknown", 77);
    }
    /* After 2023 and before the 32-bit seconds run out. */
    time_t now = time(NULL);
    printf("date: %s\n", now > 1700000000 && now < 4294967296 ? "ok" : "WRONG");
    unsigned char bytes[2][64] = {{0}};
    if (__wasi_random_get(bytes[0], 64) != 0 || __wasi_random_get(bytes[1], 64) != 0)
        return 1;
    printf("random: %s\n", memcmp(bytes[0], bytes[1], 64) != 0 ? "ok" : "THE SAME TWICE");
    printf("yield: %s\n", errno_name(__wasi_sched_yield()));
    return 0;
}
