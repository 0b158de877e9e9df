/* Calls itself without end. */
#include <stdio.h>

static volatile unsigned limit = 0; /* never reached, but the compiler cannot know */

__attribute__((noinline)) static unsigned deeper(volatile unsigned depth) {
    return depth == limit ? 0 : deeper(depth + 1) + depth;
}

int main(void) {
    printf("down we go\n");
    fflush(stdout);
    return (int)deeper(1);
}
