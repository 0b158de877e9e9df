/* Sleeps for as many milliseconds as its argument says, and tells whether the clock agrees. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static int64_t milliseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int main(int argc, char *argv[]) {
    long wanted = argc > 1 ? atol(argv[1]) : 100;
    printf("sleeping\n");
    fflush(stdout);
    int64_t start = milliseconds();
    nanosleep(&(struct timespec){.tv_sec = wanted / 1000, .tv_nsec = wanted % 1000 * 1000000}, NULL);
    int64_t slept = milliseconds() - start;
    if (slept < wanted) {
        printf("woke up after %lld ms\n", (long long)slept);
        return 1;
    }
    printf("slept\n");
    return 0;
}
