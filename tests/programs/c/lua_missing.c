/* What Lua's library calls and WASI's C library does not have: nothing of it can work here. */
#include <errno.h>
#include <stdio.h>

FILE *tmpfile(void) {
    errno = ENOTSUP;
    return NULL;
}

int system(const char *command) {
    (void)command;
    return -1;
}
