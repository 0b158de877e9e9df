/* Copies stdin to stdout, byte for byte, in pieces of up to 64 KiB. */
#include <stdio.h>
#include <unistd.h>

static char buffer[64 * 1024];

int main(void) {
    ssize_t length;
    while ((length = read(STDIN_FILENO, buffer, sizeof buffer)) > 0)
        for (ssize_t done = 0; done < length;) {
            ssize_t written = write(STDOUT_FILENO, buffer + done, (size_t)(length - done));
            if (written < 0) {
                perror("write");
                return 1;
            }
            done += written;
        }
    if (length < 0) {
        perror("read");
        return 1;
    }
    return 0;
}
