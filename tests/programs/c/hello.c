/* Prints its arguments, WHO from the environment, and the Fibonacci numbers for the indexes on stdin. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char *argv[]) {
    const char *who = getenv("WHO");
    printf("hello from C args=%d", argc - 1);
    for (int i = 1; i < argc; i++)
        printf(" %s", argv[i]);
    printf(" WHO=%s\n", who != NULL ? who : "nobody");
    unsigned index;
    while (scanf("%u", &index) == 1) {
        uint64_t a = 0, b = 1;
        for (unsigned i = 0; i < index; i++) {
            uint64_t sum = a + b;
            a = b;
            b = sum;
        }
        printf("fib(%u)=%" PRIu64 "\n", index, a);
    }
    return 0;
}
