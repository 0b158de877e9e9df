/* Prints Fibonacci numbers: of the indexes in its arguments, or of one that it asks for. */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LAST = 93 }; /* the next one does not fit into 64 bits */

static uint64_t fibonacci(unsigned index) {
    uint64_t a = 0, b = 1;
    while (index-- > 0) {
        uint64_t sum = a + b;
        a = b;
        b = sum;
    }
    return a;
}

/* Reads a whole number from 0 to LAST with nothing behind it but space. */
static bool parse(const char *text, unsigned *index) {
    char *end;
    while (isspace((unsigned char)*text))
        text++;
    if (!isdigit((unsigned char)*text))
        return false; /* strtoul would take a sign */
    errno = 0;
    unsigned long value = strtoul(text, &end, 10);
    *index = (unsigned)value;
    return errno == 0 && value <= LAST && end[strspn(end, " \t\r\n")] == '\0';
}

static int answer(const char *text) {
    unsigned index;
    if (!parse(text, &index)) {
        fprintf(stderr, "expected a number from 0 to %d, got \"%.*s\"\n", LAST, (int)strcspn(text, "\r\n"), text);
        return 1;
    }
    printf("Fibonacci sequence number at index %u is %" PRIu64 "\n", index, fibonacci(index));
    return 0;
}

int main(int argc, char *argv[]) {
    printf("C - Fibonacci sequence example\n");
    if (argc < 2) {
        char line[64] = "";
        printf("Enter a non-negative number:\n");
        fflush(stdout);
        fgets(line, sizeof line, stdin);
        return answer(line);
    }
    for (int i = 1; i < argc; i++)
        if (answer(argv[i]) != 0)
            return 1;
    return 0;
}
