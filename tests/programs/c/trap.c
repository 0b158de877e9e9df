/* Traps in a function called `innermost`, called by `middle`, called by `outermost`, in the way the argument names. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

typedef int function(int);

static volatile int zero;
static volatile intptr_t far_away = 0x7ffffff0;
static function *volatile nowhere;

__attribute__((noinline)) static int innermost(const char *how) {
    if (strcmp(how, "unreachable") == 0)
        __builtin_trap();
    if (strcmp(how, "divide") == 0)
        return 7 / zero;
    if (strcmp(how, "memory") == 0)
        return *(volatile int *)far_away;
    if (strcmp(how, "null-call") == 0)
        return nowhere(1);
    return 0;
}

__attribute__((noinline)) static int middle(const char *how) { return 1 + innermost(how); }

__attribute__((noinline)) static int outermost(const char *how) { return 1 + middle(how); }

int main(int argc, char *argv[]) {
    printf("about to trap\n");
    fflush(stdout);
    return outermost(argc > 1 ? argv[1] : "unreachable") == 2 ? 0 : 1;
}
