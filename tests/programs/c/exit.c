/* Ends as its first argument says: "return N", "exit N" (after printing), "_exit N" (what was printed is lost), "abort". */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char *argv[]) {
    const char *how = argc > 1 ? argv[1] : "return";
    int code = argc > 2 ? atoi(argv[2]) : 0;
    printf("leaving by %s", how); /* no newline: it stays in stdio's buffer until somebody flushes it */
    if (strcmp(how, "exit") == 0)
        exit(code);
    if (strcmp(how, "_exit") == 0)
        _exit(code);
    if (strcmp(how, "abort") == 0)
        abort();
    return code;
}
