"""A program in QEMU's place, for what a real machine is slow or unwilling to do: it takes QEMU's words and is a guest.

    env = standin(tmp_path, "agent()")              the real agent, as an ordinary process: the workload runs
    env = standin(tmp_path, "say(b'no frame')")     or whatever a guest, or a QEMU, may do
    donjon_run("run", "--backend", "kvm", module, env=env)

What it does is a text of Python that knows the functions below; its number and words are in `pid(tmp_path)` and
`words(tmp_path)`.
"""

from __future__ import annotations

import json
import os
import select
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path

from tests.image.test_store import make

SCRIPT = """#!{python} -IS
import sys
if sys.argv[1:] == ["--version"]:
    print("QEMU emulator version {version} (stand-in)")
    sys.exit()
sys.path[:] = {path}
from tests.keep.vm.standin import *
begin({directory})
{body}
"""


def standin(directory: Path, body: str, version: str = "10.2.0", variant: str = "production") -> dict[str, str]:
    """Make one; the variables with which `donjon` takes it, and an image that nobody boots."""
    folder = directory / "bin"
    folder.mkdir()
    path = folder / "qemu-system-x86_64"
    path.write_text(
        SCRIPT.format(
            python=sys.executable, version=version, path=repr(sys.path), directory=repr(str(directory)), body=body
        )
    )
    path.chmod(0o755)
    make(directory / "image", variant)
    return {"PATH": f"{folder}:{os.environ['PATH']}", "DONJON_IMAGE": str(directory / "image"), "DONJON_ACCEL": "tcg"}


def pid(directory: Path, seconds: float = 20.0) -> int:
    """The stand-in's process, as soon as there is one."""
    end = time.monotonic() + seconds
    while not (directory / "pid").exists():
        assert time.monotonic() < end, "it was not started"
        time.sleep(0.01)
    return int((directory / "pid").read_text())


def words(directory: Path) -> list[str]:
    """What it was started with."""
    found: list[str] = json.loads((directory / "words").read_text())
    return found


def gone(number: int, seconds: float = 10.0) -> bool:
    """Whether a process ends in time."""
    end = time.monotonic() + seconds
    while Path(f"/proc/{number}").exists():
        state = Path(f"/proc/{number}/stat").read_text().rpartition(") ")[2][:1]
        if state == "Z":
            return True
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


# ---- inside


def begin(directory: str) -> None:
    """Leave number and words for the test."""
    Path(directory, "words").write_text(json.dumps(sys.argv[1:]))
    draft = Path(directory, "pid.new")
    draft.write_text(str(os.getpid()))
    draft.rename(Path(directory, "pid"))


def wire(name: str) -> int:
    """The descriptor of a virtio port, or of another chardev."""
    tag = next((word.partition("chardev=")[2].partition(",")[0] for word in sys.argv if f"name={name}" in word), name)
    return next(int(word.rpartition("fd=")[2]) for word in sys.argv if word.startswith(f"socket,id={tag},"))


def agent() -> None:
    """Be the real one, with what it hands over run in this process's forks."""
    from donjon.guest.agent import Agent, Place

    rules = [word for part in sys.argv if "hostfwd" in part for word in part.split(",") if word.startswith("hostfwd=")]
    place = Place()
    if rules:
        number = os.getpid()
        address = f"127.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255 or 1}"
        place = Place(network=True, address=address)
        for rule in rules:
            ours, theirs = rule.removeprefix("hostfwd=tcp:127.0.0.1:").split("-10.0.2.15:")
            forward(int(ours), (address, int(theirs)))
    Agent(wire("donjon.sallyport"), place).run()


def forward(port: int, to: tuple[str, int]) -> None:
    """Carry connections, as QEMU's user network does, in a process of its own."""
    listener = socket.create_server(("127.0.0.1", port))
    parent = os.getpid()
    if os.fork():
        listener.close()
        return
    for name in os.listdir("/proc/self/fd"):  # QEMU's end of the sallyport is to close with the parent
        if int(name) not in (2, listener.fileno()):
            with suppress(OSError):
                os.close(int(name))
    peers: dict[socket.socket, socket.socket] = {}
    while os.getppid() == parent:
        for one in select.select([listener, *peers], [], [], 0.1)[0]:
            if one is listener:
                near = listener.accept()[0]
                far = socket.create_connection(to)
                peers[near], peers[far] = far, near
                continue
            with suppress(OSError):
                data = one.recv(65536)
                if data:
                    peers[one].sendall(data)
                    continue
            other = peers.pop(one)
            with suppress(OSError):
                other.shutdown(socket.SHUT_WR)
    os._exit(0)


def hello() -> None:
    """Greet as an agent does."""
    from donjon.sallyport.frames import VERSION, Hello

    say(Hello(versions=(VERSION,), variant="production", image=bytes(32)).encode())


def say(data: bytes) -> None:
    """Send it to the host."""
    os.write(wire("donjon.sallyport"), data)


def hear(seconds: float = 10.0) -> bytes:
    """What comes from the host until nothing does for a while."""
    found = b""
    while select.select([wire("donjon.sallyport")], [], [], seconds)[0]:
        data = os.read(wire("donjon.sallyport"), 65536)
        if not data:
            break
        found += data
        seconds = 0.2
    return found


def tell(reason: str) -> None:
    """Say over the monitor why the machine has ended, as QEMU does."""
    event = {"event": "SHUTDOWN", "data": {"guest": True, "reason": reason}, "timestamp": {"seconds": 1}}
    with socket.socket(fileno=os.dup(wire("monitor"))) as monitor:
        monitor.sendall(b'{"QMP": {}}\r\n{"return": {}}\r\n' + json.dumps(event).encode() + b"\r\n")
