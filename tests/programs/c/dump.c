/* Prints its arguments and its environment, in their order, one in a line; FD_COUNT and FD_NAMES are left out. */
#include <stdio.h>
#include <string.h>

extern char **environ;

int main(int argc, char *argv[]) {
    for (int i = 0; i < argc; i++)
        printf("argv[%d]=%s\n", i, argv[i]);
    for (char **variable = environ; *variable != NULL; variable++)
        if (strncmp(*variable, "FD_", 3) != 0)
            printf("%s\n", *variable);
    return 0;
}
