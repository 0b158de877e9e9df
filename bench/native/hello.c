/* The smallest honest program: libc starts, one line is printed, libc ends. Built natively and for WASI. */
#include <stdio.h>

int main(void) {
    puts("Hello from C");
    return 0;
}
