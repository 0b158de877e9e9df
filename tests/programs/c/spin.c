/* Says that it spins, and spins; it makes no further call to its host. */
#include <stdio.h>

int main(void) {
    volatile unsigned turns = 0;
    printf("spinning\n");
    fflush(stdout);
    for (;;)
        turns++;
}
