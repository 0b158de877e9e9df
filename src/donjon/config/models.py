"""What a workload asks for, as values that never change: `Config`, its `files` and its `limits`.

Every value is checked when it is made, by the same rules as a file, so one that exists is a valid one:

    Config(args=["7"], files=[Stdin(), Stdout(), Stderr(), Listen(name="web", prot="tcp", port=0)])

A constructor takes keywords only and raises `UsageError` with all that it found wrong. `replace` makes a changed copy.
Values compare by content, can be pickled, and print as the call that makes them.

Every start of a Keep imports this module, so it imports nothing; the rules are loaded for the first value that is
not one of the defaults.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, ClassVar, Literal, NoReturn, Self

    Protocol = Literal["tls", "tcp"]
    Mode = Literal["ro", "rw"]


class _Value:
    """A frozen record; its fields are its slots."""

    __slots__: tuple[str, ...] = ()
    _default: ClassVar[dict[str, object]] = {}

    def _fill(self, **fields: object) -> None:
        if fields == self._default:
            fields = self._default  # not the given ones: 4096.0 equals 4096, but is no integer
        else:
            from donjon.config._rules import checked

            fields = checked(type(self).__name__, fields)
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    def _fields(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}

    def replace(self, **changes: Any) -> Self:
        """Make a copy in which the fields named in `changes` have the values given there.

        Raises:
            UsageError: a new value is not valid, or does not fit the others.
        """
        return type(self)(**{**self._fields(), **changes})

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self._fields() == other._fields()

    def __hash__(self) -> int:
        return hash((type(self), *self._fields().values()))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self._fields().items())})"

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"{type(self).__name__}.{name} cannot be changed: use replace({name}=...)")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{type(self).__name__}.{name} cannot be deleted")

    def __reduce__(self) -> tuple[object, ...]:
        return _remade, (type(self), self._fields())


def _remade(kind: type[_Value], fields: dict[str, Any]) -> _Value:
    return kind(**fields)


class Null(_Value):
    """A descriptor that reads as empty and swallows what is written."""

    __slots__ = ("name",)
    _default: ClassVar[dict[str, object]] = {"name": "null"}
    kind: Literal["null"] = "null"
    name: str

    def __init__(self, *, name: str = "null") -> None:
        self._fill(name=name)


class Stdin(_Value):
    """The Keep's own standard input."""

    __slots__ = ("name",)
    _default: ClassVar[dict[str, object]] = {"name": "stdin"}
    kind: Literal["stdin"] = "stdin"
    name: str

    def __init__(self, *, name: str = "stdin") -> None:
        self._fill(name=name)


class Stdout(_Value):
    """The Keep's own standard output."""

    __slots__ = ("name",)
    _default: ClassVar[dict[str, object]] = {"name": "stdout"}
    kind: Literal["stdout"] = "stdout"
    name: str

    def __init__(self, *, name: str = "stdout") -> None:
        self._fill(name=name)


class Stderr(_Value):
    """The Keep's own standard error."""

    __slots__ = ("name",)
    _default: ClassVar[dict[str, object]] = {"name": "stderr"}
    kind: Literal["stderr"] = "stderr"
    name: str

    def __init__(self, *, name: str = "stderr") -> None:
        self._fill(name=name)


class Verify(_Value):
    """What a TLS peer must prove beside a certificate below the roots in `ca`: a Steward's judgement is in it.

    Of each list that is not empty one entry must fit; all that is demanded must hold.

    Args:
        workload: digests of the workloads that the peer may be, 64 hexadecimal digits each.
        names: DNS names or addresses, of which its certificate must have one.
        tee: what it may run in, such as "snp".
        measurement: what its TEE may have measured, 64, 96 or 128 hexadecimal digits each.
        max_age: how long ago it may have been judged, in seconds or like "24h"; None for as long as its certificate is
            valid.
        accept_unattested: whether simulated hardware will do, or evidence that proves nothing.
    """

    __slots__ = ("accept_unattested", "max_age", "measurement", "names", "tee", "workload")
    _default: ClassVar[dict[str, object]] = {
        "workload": (),
        "names": (),
        "tee": (),
        "measurement": (),
        "max_age": None,
        "accept_unattested": False,
    }
    workload: tuple[str, ...]
    names: tuple[str, ...]
    tee: tuple[str, ...]
    measurement: tuple[str, ...]
    max_age: int | None
    accept_unattested: bool

    def __init__(
        self,
        *,
        workload: Sequence[str] = (),
        names: Sequence[str] = (),
        tee: Sequence[str] = (),
        measurement: Sequence[str] = (),
        max_age: int | str | None = None,
        accept_unattested: bool = False,
    ) -> None:
        self._fill(
            workload=workload,
            names=names,
            tee=tee,
            measurement=measurement,
            max_age=max_age,
            accept_unattested=accept_unattested,
        )

    @property
    def identifies(self) -> bool:
        """Does it say who the peer must be, so that the host name need not?

        A measurement does not: it names the runtime, which anybody may start with a program of his own.
        """
        return bool(self.workload or self.names)


class Listen(_Value):
    """A socket that waits for connections; the guest accepts them from this descriptor.

    Args:
        name: what FD_NAMES calls it; without ":".
        prot: "tls", or "tcp" for plain bytes.
        addr: the local address or host name; "::" is every address, IPv4 too.
        port: 0 to 65535, 0 for any free one; without one, 443 for tls and 80 for tcp.
        ca: names in `roots`: a client must show a certificate that leads to one of them. None asks for no certificate.
        verify: what the client must prove beside that.
    """

    __slots__ = ("addr", "ca", "name", "port", "prot", "verify")
    kind: Literal["listen"] = "listen"
    prot: Protocol
    name: str
    addr: str
    port: int
    ca: tuple[str, ...] | None
    verify: Verify | None

    def __init__(
        self,
        *,
        name: str,
        prot: Protocol = "tls",
        addr: str = "::",
        port: int | None = None,
        ca: Sequence[str] | None = None,
        verify: Verify | None = None,
    ) -> None:
        self._fill(prot=prot, name=name, addr=addr, port=_port(prot) if port is None else port, ca=ca, verify=verify)


class Connect(_Value):
    """A connection to a peer, made before the guest starts.

    Args:
        host: a host name or an address.
        prot: "tls", or "tcp" for plain bytes.
        name: what FD_NAMES calls it; without one, the host, or "connect" where the host contains ":".
        port: 1 to 65535; without one, 443 for tls and 80 for tcp.
        ca: names in `roots`: the peer's certificate must lead to one of them. None trusts the system's roots.
        verify: what the peer must prove beside that. If it says who the peer must be, its certificate need not carry
            `host`.
    """

    __slots__ = ("ca", "host", "name", "port", "prot", "verify")
    kind: Literal["connect"] = "connect"
    prot: Protocol
    name: str
    host: str
    port: int
    ca: tuple[str, ...] | None
    verify: Verify | None

    def __init__(
        self,
        *,
        host: str,
        prot: Protocol = "tls",
        name: str | None = None,
        port: int | None = None,
        ca: Sequence[str] | None = None,
        verify: Verify | None = None,
    ) -> None:
        self._fill(
            prot=prot,
            name=_name(host, "connect") if name is None else name,
            host=host,
            port=_port(prot) if port is None else port,
            ca=ca,
            verify=verify,
        )


class Dir(_Value):
    """A directory of the host that the guest sees under a path of its own.

    Args:
        host: the directory outside; `load` makes a relative one absolute, from where the file is.
        guest: the path inside, absolute or relative, without "..".
        name: what FD_NAMES calls it; without one, the guest path, or "dir" where that contains ":".
        mode: "ro" to read only, "rw" to write too.
    """

    __slots__ = ("guest", "host", "mode", "name")
    kind: Literal["dir"] = "dir"
    name: str
    host: str
    guest: str
    mode: Mode

    def __init__(self, *, host: str, guest: str, name: str | None = None, mode: Mode = "ro") -> None:
        self._fill(name=_name(guest, "dir") if name is None else name, host=host, guest=guest, mode=mode)


def _port(prot: object) -> int:
    return 80 if prot == "tcp" else 443


def _name(preferred: object, otherwise: str) -> str:
    """FD_NAMES joins the names with ":", so none may contain one."""
    return preferred if isinstance(preferred, str) and ":" not in preferred else otherwise


File = Null | Stdin | Stdout | Stderr | Listen | Connect | Dir

STDIO: tuple[File, ...] = (Stdin(), Stdout(), Stderr())


class Limits(_Value):
    """What one Keep may use.

    Args:
        memory: the guest's linear memory in bytes, or as "256 MiB"; None for as much as the module declares.
        descriptors: how many may be open at one time, `files` included.
        connections: how many sockets may be open at one time.
        cpu: seconds of processor time; None for no limit.
    """

    __slots__ = ("connections", "cpu", "descriptors", "memory")
    _default: ClassVar[dict[str, object]] = {"memory": None, "descriptors": 4096, "connections": 4096, "cpu": None}
    memory: int | None
    descriptors: int
    connections: int
    cpu: float | None

    def __init__(
        self,
        *,
        memory: int | str | None = None,
        descriptors: int = 4096,
        connections: int = 4096,
        cpu: float | None = None,
    ) -> None:
        self._fill(memory=memory, descriptors=descriptors, connections=connections, cpu=cpu)


_NO_LIMITS = Limits()


class Config(_Value):
    """Everything an Enarx.toml can say.

    Args:
        args: the guest's arguments after argv[0], which is always "main.wasm".
        env: the guest's variables beside FD_COUNT and FD_NAMES, which the Keep sets; nothing is inherited.
        steward: the https URL of the service that certifies the Keep; None for a self-signed certificate.
        steward_ca: a name in `roots`, to be trusted for TLS with the Steward instead of the system's roots.
        roots: certificates to trust: a name of one's own -> the path of a PEM file, or its text. A Keep reads the files
            when it starts (`donjon.config.roots`).
        files: what the guest finds open; the index is the descriptor's number.
        limits: what the Keep may use.
    """

    __slots__ = ("args", "env", "files", "limits", "roots", "steward", "steward_ca")
    _default: ClassVar[dict[str, object]] = {
        "args": (),
        "env": {},
        "steward": None,
        "steward_ca": None,
        "roots": {},
        "files": STDIO,
        "limits": _NO_LIMITS,
    }
    args: tuple[str, ...]
    env: dict[str, str]
    steward: str | None
    steward_ca: str | None
    roots: dict[str, str]
    files: tuple[File, ...]
    limits: Limits

    def __init__(
        self,
        *,
        args: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        steward: str | None = None,
        steward_ca: str | None = None,
        roots: Mapping[str, str] | None = None,
        files: Sequence[File] = STDIO,
        limits: Limits = _NO_LIMITS,
    ) -> None:
        self._fill(
            args=args,
            env={} if env is None else env,
            steward=steward,
            steward_ca=steward_ca,
            roots={} if roots is None else roots,
            files=files,
            limits=limits,
        )
        object.__setattr__(self, "env", dict(self.env))  # dictionaries of its own, not the shared defaults
        object.__setattr__(self, "roots", dict(self.roots))
