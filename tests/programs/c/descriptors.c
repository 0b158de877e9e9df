/* Says what each open descriptor is: number, name as FD_NAMES has it, type, flags, and what may be done with it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wasi/api.h>

#include "errno_names.h"

static const char *type(__wasi_filetype_t filetype) {
    static const char *const names[] = {"unknown",      "block device",    "character device", "directory",
                                        "regular file", "datagram socket", "stream socket",    "symbolic link"};
    return filetype < sizeof names / sizeof *names ? names[filetype] : "?";
}

int main(void) {
    const char *names = getenv("FD_NAMES");
    printf("FD_COUNT=%s\n", getenv("FD_COUNT") != NULL ? getenv("FD_COUNT") : "(not set)");
    for (int fd = 0; fd < 64; fd++) {
        size_t length = names != NULL ? strcspn(names, ":") : 0;
        __wasi_fdstat_t stat;
        __wasi_errno_t error = __wasi_fd_fdstat_get(fd, &stat);
        if (error == 0) {
            printf("%d %.*s: %s%s%s", fd, (int)length, names != NULL ? names : "", type(stat.fs_filetype),
                   stat.fs_flags & __WASI_FDFLAGS_NONBLOCK ? ", nonblock" : "",
                   stat.fs_flags & __WASI_FDFLAGS_APPEND ? ", append" : "");
            __wasi_prestat_t prestat;
            if (__wasi_fd_prestat_get(fd, &prestat) == 0) {
                char path[256] = "";
                if (prestat.u.dir.pr_name_len < sizeof path &&
                    __wasi_fd_prestat_dir_name(fd, (uint8_t *)path, prestat.u.dir.pr_name_len) == 0)
                    printf(", preopened as %s", path);
            }
            printf("\n");
        } else if (error != __WASI_ERRNO_BADF) {
            printf("%d: %s\n", fd, errno_name(error));
        }
        if (names != NULL)
            names = names[length] == ':' ? names + length + 1 : NULL;
    }
    return 0;
}
