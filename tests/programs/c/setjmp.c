/* Jumps out of nested calls with longjmp, a thousand times; needs exceptions in the engine. */
#include <setjmp.h>
#include <stdio.h>

static jmp_buf back;

__attribute__((noinline)) static void dive(int depth, int value) {
    if (depth == 0)
        longjmp(back, value);
    dive(depth - 1, value);
    printf("not reached\n");
}

int main(void) {
    volatile long sum = 0;
    for (volatile int i = 1; i <= 1000; i++) {
        int value = setjmp(back);
        if (value == 0)
            dive(i % 10, i);
        sum += value;
    }
    printf("sum %ld\n", sum);
    return 0;
}
