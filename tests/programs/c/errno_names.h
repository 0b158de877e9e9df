/* The names of WASI's error numbers, in their order.   [WASI-P1 errno] */
#include <stddef.h>

static const char *errno_name(unsigned number) {
    static const char *const names[] = {
        "OK",        "E2BIG",       "EACCES",    "EADDRINUSE",   "EADDRNOTAVAIL", "EAFNOSUPPORT",   "EAGAIN",
        "EALREADY",  "EBADF",       "EBADMSG",   "EBUSY",        "ECANCELED",     "ECHILD",         "ECONNABORTED",
        "ECONNREFUSED", "ECONNRESET", "EDEADLK", "EDESTADDRREQ", "EDOM",          "EDQUOT",         "EEXIST",
        "EFAULT",    "EFBIG",       "EHOSTUNREACH", "EIDRM",     "EILSEQ",        "EINPROGRESS",    "EINTR",
        "EINVAL",    "EIO",         "EISCONN",   "EISDIR",       "ELOOP",         "EMFILE",         "EMLINK",
        "EMSGSIZE",  "EMULTIHOP",   "ENAMETOOLONG", "ENETDOWN",  "ENETRESET",     "ENETUNREACH",    "ENFILE",
        "ENOBUFS",   "ENODEV",      "ENOENT",    "ENOEXEC",      "ENOLCK",        "ENOLINK",        "ENOMEM",
        "ENOMSG",    "ENOPROTOOPT", "ENOSPC",    "ENOSYS",       "ENOTCONN",      "ENOTDIR",        "ENOTEMPTY",
        "ENOTRECOVERABLE", "ENOTSOCK", "ENOTSUP", "ENOTTY",      "ENXIO",         "EOVERFLOW",      "EOWNERDEAD",
        "EPERM",     "EPIPE",       "EPROTO",    "EPROTONOSUPPORT", "EPROTOTYPE", "ERANGE",         "EROFS",
        "ESPIPE",    "ESRCH",       "ESTALE",    "ETIMEDOUT",    "ETXTBSY",       "EXDEV",          "ENOTCAPABLE",
    };
    return number < sizeof names / sizeof *names ? names[number] : "E?";
}
