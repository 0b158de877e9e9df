/* Grows its memory page by page, and each time lets the host write into the new page and read it back.
 *
 * The argument is the number of pages to add at most; it stops earlier when it is refused one. Ends with 0 when every
 * page that it got held what was put there.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PAGE = 65536 };

static bool usable(char *page) {
    /* At the very end of the memory, where a host that remembers an old size would refuse. */
    char *random = page + PAGE - 32;
    char zeros[32] = {0};
    return getentropy(random, 32) == 0 && memcmp(random, zeros, sizeof zeros) != 0;
}

int main(int argc, char *argv[]) {
    unsigned long wanted = argc > 1 ? strtoul(argv[1], NULL, 10) : 16, got = 0;
    while (got < wanted) {
        size_t before = __builtin_wasm_memory_grow(0, 1);
        if (before == (size_t)-1)
            break;
        if (!usable((char *)(before * PAGE))) {
            printf("page %zu is no good\n", before);
            return 1;
        }
        got++;
    }
    printf("grew by %lu pages%s\n", got, got < wanted ? ", then was refused" : "");
    return 0;
}
