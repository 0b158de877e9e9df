/* Allocates 1, 2, 4 ... 32 MiB, then a hundred times 32 MiB, then down again. As Enarx's memory_stress_test. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

static bool allocate(size_t size) {
    volatile char *memory = malloc(size);
    if (memory == NULL) {
        printf("no memory for %zu bytes\n", size);
        return false;
    }
    for (size_t i = 0; i < size; i += 4096)
        memory[i] = (char)i;
    bool same = memory[size / 4096 / 2 * 4096] == 0;
    free((void *)memory);
    return same;
}

int main(void) {
    const size_t mebibyte = 1 << 20, most = 32 * mebibyte;
    unsigned count = 0;
    for (size_t size = mebibyte; size <= most; size *= 2, count++)
        if (!allocate(size))
            return 1;
    for (int i = 0; i < 100; i++, count++)
        if (!allocate(most))
            return 1;
    for (size_t size = most / 2; size > 0; size /= 2, count++)
        if (!allocate(size))
            return 1;
    printf("%u allocations\n", count);
    return 0;
}
