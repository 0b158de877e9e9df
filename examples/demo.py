"""What `make demo` shows: a TLS server in a Keep, three clients at once, and one who speaks no TLS.

    python examples/demo.py

Everything happens in this machine's memory and on its loopback. The exit code is 0 if all of it went as the text says,
else 1, with a message that says what was different.
"""

from __future__ import annotations

import hashlib
import io
import socket
import ssl
import sys
import textwrap
from contextlib import ExitStack
from pathlib import Path

from donjon import Config, Keep
from donjon.config import load
from donjon.errors import DonjonError, PlatformError
from donjon.project import build

EXAMPLES = Path(__file__).parent
SECONDS = 30.0
"""The longest that anything here waits for anybody."""
CLIENTS = {"Alice": "hello, is this thing on?", "Bob": "seven times seven is 49", "Chloé": "どんじょん"}


class DemoError(Exception):
    """Something is not as the transcript would say."""


def main() -> int:
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal without these letters shows question marks
    try:
        show()
    except (DemoError, OSError, DonjonError) as error:
        print(f"\ndemo: error: {error}", file=sys.stderr)
        if isinstance(error, DonjonError) and error.hint:
            print(f"demo: hint: {error.hint}", file=sys.stderr)
        return 1
    return 0


def show() -> None:
    module, source = guest()
    said = textwrap.fill(
        f"The guest is {source.relative_to(EXAMPLES.parent)}, {len(source.read_text().splitlines())} lines, as a "
        f"WebAssembly module of {module.stat().st_size:,} bytes. It accepts, reads and writes. It has no line of TLS "
        "code, no key and no certificate: those are the Keep's business, because its Enarx.toml says so.",
        width=100,
    )
    print(f"A TLS echo server in a Keep\n\n{said}\n")
    config = on_any_port(load(str(source.parent / "Enarx.toml")))
    with Keep.start(module, config=config, stdin="null") as keep:
        address = keep.listeners["echo"]
        step("Keep", f"started as process {keep.pid}, listens on {address[0]} port {address[1]}")
        talk(address)
        check(keep.poll() is None, "the Keep ended before it was told to")
        keep.stop()
        check(keep.wait() == 128 + 15, f"the Keep ended with {keep.wait()} when it was stopped, not with 143")
        step("Keep", "stopped by SIGTERM")
    print(
        "\nThis was the backend `nil`: the same guest and the same TLS as in a trusted execution environment, but it\n"
        "protects nobody from the host. Whoever owns this machine can read what the Keep holds, the key included.\n"
    )


def guest() -> tuple[Path, Path]:
    """The echo server's module and source: the one in C where there is a compiler, else the one that needs none."""
    folder = EXAMPLES / "echo" / "c"
    source, module = folder / "main.c", folder / "main.wasm"
    if not module.exists() or module.stat().st_mtime < source.stat().st_mtime:
        try:
            build(str(folder))
        except PlatformError:
            source = module = EXAMPLES / "echo" / "wat" / "main.wat"
    code = module.read_bytes().lower() if module.suffix == ".wasm" else without_comments(source)
    check(b"tls" not in code and b"ssl" not in code, f"{source} speaks of TLS")
    return module, source


def without_comments(source: Path) -> bytes:
    return b"\n".join(line.partition(b";;")[0] for line in source.read_bytes().lower().splitlines())


def on_any_port(config: Config) -> Config:
    """The configuration with a free port of this machine's own, so that nothing is in the way and nobody comes in."""
    files = [file.replace(addr="127.0.0.1", port=0) if file.kind == "listen" else file for file in config.files]
    return config.replace(files=files)


def talk(address: tuple[str, int]) -> None:
    """Three clients at once, then one that speaks no TLS, then one of the three again."""
    pem = ssl.get_server_certificate(address, timeout=SECONDS)
    shown = ssl.PEM_cert_to_DER_cert(pem)
    step("Keep", f"shows a certificate that it made for itself, SHA-256 {hashlib.sha256(shown).hexdigest()[:16]}…")
    trusting = ssl.create_default_context(cadata=pem)  # this certificate and no other; its name is checked too
    with ExitStack() as stack:
        clients = {}
        for name in CLIENTS:
            raw = stack.enter_context(socket.create_connection(address, SECONDS))
            client = stack.enter_context(trusting.wrap_socket(raw, server_hostname="localhost"))
            check(client.version() == "TLSv1.3", f"{name} got {client.version()}, not TLSv1.3")
            check(client.getpeercert(binary_form=True) == shown, f"{name} was shown another certificate")
            suite = (client.cipher() or ("no suite",))[0]
            step(name, f"connected with {client.version()} ({suite}), certificate verified")
            clients[name] = client
        for name, client in clients.items():
            step(name, f"says   {CLIENTS[name]}")
            client.sendall(CLIENTS[name].encode())
        for name, client in reversed(clients.items()):
            step(name, f"hears  {heard(client, CLIENTS[name])}")
        with socket.create_connection(address, SECONDS) as plain:
            step("Mallory", "says   GET / HTTP/1.0, without TLS")
            plain.sendall(b"GET / HTTP/1.0\r\n\r\n")
            step("Mallory", turned_away(plain))
        step("Alice", "says   still there?")
        clients["Alice"].sendall(b"still there?")
        step("Alice", f"hears  {heard(clients['Alice'], 'still there?')}")


def heard(client: ssl.SSLSocket, words: str) -> str:
    """What comes back, which must be what was said."""
    data, wanted = b"", words.encode()
    while len(data) < len(wanted) and (part := client.recv(4096)):
        data += part
    check(data == wanted, f"said {wanted!r}, heard {data!r}")
    return data.decode()


def turned_away(plain: socket.socket) -> str:
    try:
        answer = plain.recv(4096)
    except ConnectionResetError:
        answer = b""
    check(b"GET" not in answer, f"a client without TLS got an echo: {answer!r}")
    return "is turned away by the Keep; the guest never heard of it"


def step(who: str, what: str) -> None:
    print(f"  {who:8} {what}", flush=True)


def check(holds: bool, otherwise: str) -> None:
    if not holds:
        raise DemoError(otherwise)


if __name__ == "__main__":
    sys.exit(main())
