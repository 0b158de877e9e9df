/* Asks for 16 million bytes at once and touches a byte of each page. As Enarx's test of this name. */
#include <stdio.h>
#include <stdlib.h>

int main(void) {
    enum { SIZE = 16000000 };
    volatile char *memory = malloc(SIZE);
    if (memory == NULL) {
        printf("no memory\n");
        return 1;
    }
    for (size_t i = 0; i < SIZE; i += 4096)
        memory[i] = 1;
    printf("%d bytes\n", SIZE);
    return 0;
}
