/* Prints its arguments and its environment, in their order, one in a line. */
#include <stdio.h>

extern char **environ;

int main(int argc, char *argv[]) {
    for (int i = 0; i < argc; i++)
        printf("argv[%d]=%s\n", i, argv[i]);
    for (char **variable = environ; *variable != NULL; variable++)
        printf("%s\n", *variable);
    return 0;
}
