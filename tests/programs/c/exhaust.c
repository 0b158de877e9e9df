/* Opens the file that its argument names until there is no descriptor left, closes all, and opens it once more. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "errno_names.h"

int main(int argc, char *argv[]) {
    if (argc != 2)
        return 2;
    int first = -1, last = -1, fd;
    unsigned count = 0;
    while (count < 1000000 && (fd = open(argv[1], O_RDONLY)) >= 0) {
        first = first < 0 ? fd : first;
        last = fd;
        count++;
    }
    printf("opened %u, then %s\n", count, errno_name((unsigned)errno));
    for (fd = first; fd <= last; fd++)
        close(fd);
    fd = open(argv[1], O_RDONLY);
    printf("again: %s\n", fd < 0 ? errno_name((unsigned)errno) : "OK");
    return 0;
}
