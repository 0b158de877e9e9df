/* Works through the file functions of the C library in the directory that its argument names; one line a step.
 *
 * The directory has to be empty and writable. At the end it is empty again. Steps that must not succeed say so by the
 * name of their error, so that the whole output can be compared.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "errno_names.h"

static int check(const char *step, long result) {
    if (result < 0)
        printf("%s: %s\n", step, errno_name((unsigned)errno));
    else
        printf("%s: %ld\n", step, result);
    return (int)result;
}

/* As check, for calls that answer with a number nobody can know beforehand. */
static int opened(const char *step, int fd) {
    printf("%s: %s\n", step, fd < 0 ? errno_name((unsigned)errno) : "OK");
    return fd;
}

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static void list(const char *path) {
    char *names[1000];
    size_t count = 0;
    DIR *directory = opendir(path);
    if (directory == NULL) {
        printf("list %s: %s\n", path, errno_name((unsigned)errno));
        return;
    }
    for (struct dirent *entry; count < 1000 && (entry = readdir(directory)) != NULL;)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            char name[300];
            snprintf(name, sizeof name, "%s%s", entry->d_name, entry->d_type == DT_DIR ? "/" : entry->d_type == DT_LNK ? "@" : "");
            names[count++] = strdup(name);
        }
    closedir(directory);
    qsort(names, count, sizeof *names, by_name);
    printf("list %s:", path);
    if (count > 10)
        printf(" %zu entries from %.5s to %.5s", count, names[0], names[count - 1]);
    for (size_t i = 0; i < count; i++) {
        if (count <= 10)
            printf(" %s", names[i]);
        free(names[i]);
    }
    printf("\n");
}

static void print_stat(const char *step, const char *path, int result, const struct stat *status) {
    if (result < 0)
        printf("%s %s: %s\n", step, path, errno_name((unsigned)errno));
    else
        printf("%s %s: %s, %lld bytes, %llu links\n", step, path,
               S_ISDIR(status->st_mode)   ? "directory"
               : S_ISLNK(status->st_mode) ? "link"
               : S_ISREG(status->st_mode) ? "file"
                                          : "something else",
               S_ISREG(status->st_mode) ? (long long)status->st_size : 0,
               S_ISREG(status->st_mode) ? (unsigned long long)status->st_nlink : 1);
}

static void print_contents(const char *path) {
    char text[100];
    int fd = open(path, O_RDONLY);
    ssize_t length = fd < 0 ? -1 : read(fd, text, sizeof text);
    if (length < 0)
        printf("contents of %s: %s\n", path, errno_name((unsigned)errno));
    else
        printf("contents of %s: %.*s\n", path, (int)length, text);
    if (fd >= 0)
        close(fd);
}

static void read_and_write(void) {
    char text[32] = "";
    struct stat status;
    int fd = opened("create a", open("a", O_RDWR | O_CREAT | O_EXCL, 0666));
    check("write", write(fd, "hello, world", 12));
    check("seek to 7", lseek(fd, 7, SEEK_SET));
    check("read", read(fd, text, 5));
    printf("text: %s\n", text);
    check("read at the end", read(fd, text, 5));
    check("seek back 5 from the end", lseek(fd, -5, SEEK_END));
    check("seek before the start", lseek(fd, -1, SEEK_SET));
    check("tell", lseek(fd, 0, SEEK_CUR));
    check("pwrite at 20", pwrite(fd, "!", 1, 20));
    check("pread at 0", pread(fd, text, 5, 0));
    printf("text: %.5s\n", text);
    check("tell", lseek(fd, 0, SEEK_CUR));
    print_stat("fstat", "a", fstat(fd, &status), &status);
    check("truncate to 5", ftruncate(fd, 5));
    print_stat("fstat", "a", fstat(fd, &status), &status);
    check("sync", fsync(fd));
    check("datasync", fdatasync(fd));
    check("advise", posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL));
    struct timespec times[2] = {{.tv_sec = 1000000000}, {.tv_sec = 1234567890, .tv_nsec = 500000000}};
    check("set times", futimens(fd, times));
    fstat(fd, &status);
    printf("times: %lld %lld.%09ld\n", (long long)status.st_atim.tv_sec, (long long)status.st_mtim.tv_sec,
           status.st_mtim.tv_nsec);
    check("close", close(fd));
    check("close again", close(fd));
    check("write when closed", write(fd, "x", 1));

    fd = opened("open a to append", open("a", O_WRONLY | O_APPEND | O_TRUNC));
    check("write", write(fd, "one ", 4));
    check("seek to 0", lseek(fd, 0, SEEK_SET));
    check("write", write(fd, "two", 3));
    check("read from what is for writing", read(fd, text, 1));
    close(fd);
    print_contents("a");
    fd = opened("open a to read", open("a", O_RDONLY));
    check("write to what is for reading", write(fd, "x", 1));
    check("refused to truncate what is for reading", ftruncate(fd, 0) < 0);
    close(fd);
    opened("create a again", open("a", O_RDWR | O_CREAT | O_EXCL, 0666));
    opened("open a/", open("a/", O_RDONLY));
    opened("open a as a directory", open("a", O_RDONLY | O_DIRECTORY));
    opened("open what is not there", open("nothing", O_RDONLY));
    opened("create in what is not there", open("nothing/a", O_WRONLY | O_CREAT, 0666));
    opened("create below a file", open("a/b", O_WRONLY | O_CREAT, 0666));
}

static void directories_and_links(void) {
    struct stat status;
    char text[100];
    check("mkdir d", mkdir("d", 0777));
    check("mkdir d again", mkdir("d", 0777));
    check("mkdir d/e", mkdir("d/e", 0777));
    opened("open d to write", open("d", O_WRONLY));
    int d = opened("open d", open("d", O_RDONLY | O_DIRECTORY));
    check("refused to read d", read(d, text, 1) < 0);
    int f = opened("create f in d", openat(d, "f", O_WRONLY | O_CREAT, 0666));
    check("write", write(f, "below", 5));
    close(f);
    close(d);
    list("d");
    check("rename d/f to d/e/g", rename("d/f", "d/e/g"));
    check("rename d/e/g to a", rename("d/e/g", "a"));
    print_contents("a");
    check("rename a to d", rename("a", "d"));
    check("rename d into itself", rename("d", "d/e/d"));
    check("link a b", link("a", "b"));
    check("link a b again", link("a", "b"));
    print_stat("stat", "b", stat("b", &status), &status);
    check("symlink a to s", symlink("a", "s"));
    check("symlink d/e to t", symlink("d/e", "t"));
    check("symlink loop to loop", symlink("loop", "loop"));
    ssize_t length = readlink("s", text, sizeof text);
    printf("readlink s: %.*s\n", (int)length, text);
    check("readlink a", readlink("a", text, sizeof text));
    check("readlink into 1 byte", readlink("t", text, 1));
    print_stat("stat", "s", stat("s", &status), &status);
    print_stat("lstat", "s", lstat("s", &status), &status);
    print_contents("s");
    opened("open s, no link", open("s", O_RDONLY | O_NOFOLLOW));
    opened("open loop", open("loop", O_RDONLY));
    check("mkdir t/u", mkdir("t/u", 0777));
    list("d/e");
    list(".");
    check("unlink t", unlink("t"));
    check("refused to unlink d", unlink("d") < 0);
    check("rmdir d", rmdir("d"));
    check("rmdir a", rmdir("a"));
    check("rmdir d/e/u", rmdir("d/e/u"));
    check("rmdir d/e", rmdir("d/e"));
    check("unlink a", unlink("a"));
    print_contents("s");
    print_stat("stat", "b", stat("b", &status), &status);
    check("unlink what is not there", unlink("nothing"));
    check("unlink loop", unlink("loop"));
    check("unlink s", unlink("s"));

    f = opened("open b", open("b", O_RDONLY));
    check("unlink b while it is open", unlink("b"));
    length = read(f, text, sizeof text);
    printf("still there: %.*s\n", (int)length, text);
    close(f);
    list(".");
}

/* More entries than fit into one answer of fd_readdir. */
static void many_entries(void) {
    char name[300];
    int good = 0;
    for (int i = 0; i < 300; i++) {
        snprintf(name, sizeof name, "d/%03d-%0*d", i, i % 200 + 1, 0);
        int fd = open(name, O_WRONLY | O_CREAT | O_EXCL, 0666);
        good += fd >= 0 && close(fd) == 0;
    }
    printf("created: %d\n", good);
    list("d");
    for (int i = 0; i < 300; i++) {
        snprintf(name, sizeof name, "d/%03d-%0*d", i, i % 200 + 1, 0);
        good -= unlink(name) == 0;
    }
    printf("left: %d\n", good);
    check("rmdir d", rmdir("d"));
    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    opened("create a name of 299 letters", open(name, O_WRONLY | O_CREAT, 0666));
}

/* The host's own files, by every way that leads up. */
static void ways_out(void) {
    struct stat status;
    const char *const paths[] = {"..", "../x", "../../../../../../etc/passwd", "d/../../x", "/etc/passwd", "/"};
    mkdir("d", 0777);
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
        printf("stat %s: %s\n", paths[i], stat(paths[i], &status) == 0 ? "FOUND" : "refused");
    symlink("/etc", "out"); /* may be refused at once */
    printf("symlink to /etc: %s\n", open("out/passwd", O_RDONLY) < 0 ? "refused" : "OPENED");
    unlink("out");
    symlink("../..", "d/up");
    printf("symlink to ../..: %s\n", open("d/up/etc/passwd", O_RDONLY) < 0 ? "refused" : "OPENED");
    unlink("d/up");
    printf("rename out: %s\n", rename("d", "../d") < 0 ? "refused" : "MOVED");
    printf("in and out again: %s\n", stat("d/../d/./../d", &status) == 0 ? "found" : "refused");
    check("rmdir d", rmdir("d"));
}

int main(int argc, char *argv[]) {
    setvbuf(stdout, NULL, _IONBF, 0);
    if (argc != 2 || chdir(argv[1]) < 0) {
        printf("usage: files DIRECTORY\n");
        return 2;
    }
    read_and_write();
    directories_and_links();
    mkdir("d", 0777);
    many_entries();
    ways_out();
    list(".");
    return 0;
}
