"""Error numbers of preview 1, and how the host's own become them.   [WASI-P1 errno]"""

import errno as host

__all__ = ["BY_HOST", "Errno", "WasiError", "from_os_error", "name_of"]


# fmt: off
class Errno:
    """The numbers, by the specification's names. A plain class: `enum` costs 2.5 ms of a start."""

    SUCCESS = 0; TOOBIG = 1; ACCES = 2; ADDRINUSE = 3; ADDRNOTAVAIL = 4; AFNOSUPPORT = 5; AGAIN = 6; ALREADY = 7
    BADF = 8; BADMSG = 9; BUSY = 10; CANCELED = 11; CHILD = 12; CONNABORTED = 13; CONNREFUSED = 14; CONNRESET = 15
    DEADLK = 16; DESTADDRREQ = 17; DOM = 18; DQUOT = 19; EXIST = 20; FAULT = 21; FBIG = 22; HOSTUNREACH = 23
    IDRM = 24; ILSEQ = 25; INPROGRESS = 26; INTR = 27; INVAL = 28; IO = 29; ISCONN = 30; ISDIR = 31
    LOOP = 32; MFILE = 33; MLINK = 34; MSGSIZE = 35; MULTIHOP = 36; NAMETOOLONG = 37; NETDOWN = 38; NETRESET = 39
    NETUNREACH = 40; NFILE = 41; NOBUFS = 42; NODEV = 43; NOENT = 44; NOEXEC = 45; NOLCK = 46; NOLINK = 47
    NOMEM = 48; NOMSG = 49; NOPROTOOPT = 50; NOSPC = 51; NOSYS = 52; NOTCONN = 53; NOTDIR = 54; NOTEMPTY = 55
    NOTRECOVERABLE = 56; NOTSOCK = 57; NOTSUP = 58; NOTTY = 59; NXIO = 60; OVERFLOW = 61; OWNERDEAD = 62; PERM = 63
    PIPE = 64; PROTO = 65; PROTONOSUPPORT = 66; PROTOTYPE = 67; RANGE = 68; ROFS = 69; SPIPE = 70; SRCH = 71
    STALE = 72; TIMEDOUT = 73; TXTBSY = 74; XDEV = 75; NOTCAPABLE = 76
# fmt: on


class WasiError(Exception):
    """A call of the guest that fails: it gets `errno`; `message` is for the log."""

    def __init__(self, errno: int, message: str = "") -> None:
        super().__init__(errno, message)
        self.errno = errno
        self.message = message

    def __str__(self) -> str:
        return self.message


def _table() -> dict[int, int]:
    spelled = {"OPNOTSUPP": Errno.NOTSUP, "WOULDBLOCK": Errno.AGAIN, "2BIG": Errno.TOOBIG, "SHUTDOWN": Errno.PIPE}
    names = {name: value for name, value in vars(Errno).items() if name.isupper()} | spelled
    return {getattr(host, "E" + name): value for name, value in names.items() if hasattr(host, "E" + name)}


BY_HOST = _table()
"""Host errno -> preview 1 errno, for the names both have."""


def name_of(number: int) -> str:
    """An errno as the specification spells it, in lower case."""
    return next((name.lower() for name, value in vars(Errno).items() if value == number), str(number))


def from_os_error(error: OSError) -> int:
    """The preview 1 errno of a host error; `io` for what preview 1 has no name for."""
    return BY_HOST.get(error.errno or 0, Errno.IO)
