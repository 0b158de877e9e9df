/* Process 1 of the bare virtual machine that a VM Keep's network is compared with: loads the network card's modules,
   gives it the address that a Keep has, tells through the virtio-serial port that it is there, and becomes /echo. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static int port = -1;

static void fail(const char *what) {
    dprintf(port, "%s failed: %m\n", what);
    sleep(1); /* the port is read from outside; an end of process 1 is a panic, and that ends the machine */
    _exit(1);
}

static void load(const char *path) {
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0 || syscall(SYS_finit_module, file, "", 0)) fail(path);
    close(file);
}

static void configure(const char *name, const char *address, const char *mask) {
    struct ifreq wanted = {0};
    struct sockaddr_in *in = (struct sockaddr_in *)&wanted.ifr_addr;
    int any = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    strcpy(wanted.ifr_name, name);
    in->sin_family = AF_INET;
    in->sin_addr.s_addr = inet_addr(address);
    for (int tries = 0; ioctl(any, SIOCSIFADDR, &wanted); tries++) { /* the card appears a little later */
        if (tries == 1000) fail(name);
        usleep(2000);
    }
    in->sin_addr.s_addr = inet_addr(mask);
    if (ioctl(any, SIOCSIFNETMASK, &wanted)) fail(name);
    wanted.ifr_flags = IFF_UP;
    if (ioctl(any, SIOCSIFFLAGS, &wanted)) fail(name);
    close(any);
}

int main(void) {
    char *words[] = {"/echo", "/certificate.pem", "/key.pem", NULL};
    mount("dev", "/dev", "devtmpfs", 0, NULL);
    while (open("/dev/null", O_RDWR) < 2);
    for (int tries = 0; (port = open("/dev/vport0p1", O_RDWR)) < 0 && tries < 1000; tries++) usleep(2000);
    load("/failover.ko");
    load("/net_failover.ko");
    load("/virtio_net.ko");
    configure("lo", "127.0.0.1", "255.0.0.0");
    configure("eth0", "10.0.2.15", "255.255.255.0");
    dup2(port, 2); /* where the server says that it listens */
    if (access(words[2], R_OK)) words[1] = NULL;
    execv(words[0], words);
    fail(words[0]);
    return 1;
}
