"""What `make demo` shows second: a Keep with simulated SNP evidence, a Steward that attests it, a client that checks.

    python examples/prove.py
    python examples/prove.py --backend kvm      the same in a virtual machine, whose image is measured beforehand

The commands that it runs are printed as one would type them. Everything stays on this machine's loopback and in a
folder that is removed at the end; but for the image, which is built where `donjon image build` keeps it. The exit code
is 0 if all of it went as the text says, or if this machine cannot do it, which it says; else 1.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import IO

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from donjon import verify

MODULE = Path(__file__).parent / "echo" / "wat" / "main.wat"
SECONDS = 60.0
"""The longest that anything here waits for anybody."""
UNABLE, REFUSED = 3, 4
"""Exit codes: this machine cannot do that; a peer is not what was demanded."""

POLICY = """\
accept_unattested = true     # simulated hardware passes: for development only
tees = ["snp"]

{measured}
[[workload]]
title = "echo"
digest = ["{workload}"]
names = ["echo.example.com"]
"""
ENARX_TOML = """\
steward = "{steward}"
steward_ca = "tls"

[roots]
tls = "tls.crt"

[[files]]
kind = "stdin"
[[files]]
kind = "stdout"
[[files]]
kind = "stderr"
[[files]]
kind = "listen"
name = "echo"
addr = "127.0.0.1"
port = {port}
"""


class DemoError(Exception):
    """Something is not as the transcript would say."""


class LeftOutError(Exception):
    """This machine cannot do it."""


def main() -> int:
    parser = argparse.ArgumentParser(description="A Keep that proves what it is.")
    parser.add_argument("--backend", choices=("nil", "kvm"), default="nil")
    machine = parser.parse_args().backend == "kvm"
    try:
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            show(machine)
    except LeftOutError as reason:
        print(f"\n  Left out: {reason}\n")
    except (DemoError, OSError, subprocess.SubprocessError) as error:
        print(f"\ndemo: error: {error}", file=sys.stderr)
        return 1
    return 0


def show(machine: bool) -> None:
    print(f"A Keep that proves what it is{', in a virtual machine' if machine else ''}\n")
    if machine:
        build_image()
    make_tls_files()
    say("A machine with simulated SNP hardware, whose roots are made on the spot:")
    donjon("sim", "init", "lab")
    measured = measured_before() if machine else measured_once()
    ports = free_port(), free_port()
    Path("Enarx.toml").write_text(ENARX_TOML.format(steward=f"https://127.0.0.1:{ports[0]}", port=ports[1]))
    say("What shall run has one digest: of the module, its Enarx.toml, and all that these name.")
    workload = donjon("workload", "digest", str(MODULE), "--wasmcfgfile", "Enarx.toml").strip()
    other = donjon("workload", "digest", str(MODULE), "--wasmcfgfile", "Enarx.toml", "--", "--surprise").strip()
    Path("steward.toml").write_text(POLICY.format(workload=workload, measured=measured))
    held = ("--backend", "kvm") if machine else ()
    with ExitStack() as stack:
        say("A Steward that gives certificates to this workload, in this guest, and to nothing else:")
        stack.enter_context(
            running(
                "on https",
                "steward", "serve", "--policy", "steward.toml", "--roots", "lab/roots.toml", "--addr", "127.0.0.1",
                "--port", str(ports[0]), "--admin-port", "0", "--tls-crt", "tls.crt", "--tls-key", "tls.key",
            )
        )  # fmt: skip
        if machine:
            say("A machine boots the image, and the simulated processor measures what it boots:")
        else:
            say("The Keep makes a key, gets evidence that binds it, and asks the Steward for a certificate:")
        words = (str(MODULE), "--wasmcfgfile", "Enarx.toml", *held, "--sim", "lab", "--attest", "snp")
        stack.enter_context(running('as "echo"', "run", *words))
        say("A client asks: is it this workload, in SNP, and does the Steward say so?")
        asked = (f"127.0.0.1:{ports[1]}", "--steward-root", "steward/root.crt", "--tee", "snp", "--accept-unattested")
        donjon("verify", *asked, "--workload", workload)
        say("Then it talks to it, over a connection that would have been refused otherwise:")
        talk(ports[1], workload)
        say("The same Keep, when another workload is demanded (one more argument is enough to make it another):")
        donjon("verify", *asked, "--workload", other, code=REFUSED)
        say("And without saying that simulated hardware is good enough:")
        donjon("verify", *asked[:-1], "--workload", workload, code=REFUSED)
    print(
        "\nThe hardware was simulated: formats, signatures, policy, certificates and refusals are the real ones, but\n"
        "who holds the files in `lab` can make such evidence too. So everybody had to say that they accept it.\n"
    )


def build_image() -> None:
    """The image that the machine boots, unless it is there."""
    if shutil.which("qemu-system-x86_64") is None:
        raise LeftOutError("there is no QEMU here. apt-get install qemu-system-x86, dnf install qemu-kvm")
    say("What the machine boots: a kernel, Python, the engine and Donjon. The first time, this takes a minute or two:")
    words = ("image", "build", "--variant", "simulated")
    show_command(words)
    code = subprocess.run([sys.executable, "-m", "donjon", *words], timeout=1800, check=False).returncode
    if code == UNABLE:
        raise LeftOutError("the image cannot be built here, for the reason above")
    check(code == 0, f"`donjon image build` ended with {code}")


def measured_before() -> str:
    """Lines of a policy for an image that has not run yet."""
    say("What hardware will report of it, anyone can compute; these lines go into the Steward's policy:")
    return donjon("image", "measure", "--tee", "snp", "--variant", "simulated", "--firmware", "lab/firmware.fd")


def measured_once() -> str:
    """The launch digest of the lab's guests, by which a policy names the code that runs a workload."""
    say("What its guests measure, evidence tells; a policy names that code:")
    donjon("sim", "evidence", "--report-data", "00" * 64, "guest.bin")
    words = ("verify", "guest.bin", "--roots", "lab/roots.toml", "--accept-unattested", "--json")
    show_command((*words, "|", "grep", "measurement"))
    done = subprocess.run(
        [sys.executable, "-m", "donjon", *words], capture_output=True, text=True, timeout=SECONDS, check=True
    )
    found: str = json.loads(done.stdout)["proof"]["measurement"]
    print(f'    "measurement": "{found}",', flush=True)
    return f'[snp]\nhash = ["{found}"]\n'


def talk(port: int, workload: str) -> None:
    context = verify.ssl_context(
        verify.expect(steward_root="steward/root.crt", workload=workload, accept_unattested=True)
    )
    with (
        socket.create_connection(("127.0.0.1", port), SECONDS) as raw,
        context.wrap_socket(raw, server_hostname="echo.example.com") as client,
    ):
        client.sendall(b"hello, proven Keep")
        heard = b""
        while len(heard) < 18 and (part := client.recv(100)):
            heard += part
    check(heard == b"hello, proven Keep", f"said hello, heard {heard!r}")
    print(f"    hears back: {heard.decode()}", flush=True)


def donjon(*words: str, code: int = 0) -> str:
    """Run a command to its end and show it with what it prints."""
    show_command(words)
    done = subprocess.run(
        [sys.executable, "-m", "donjon", *words], capture_output=True, text=True, timeout=SECONDS, check=False
    )
    for line in (done.stdout + done.stderr).splitlines():
        print(f"    {line}", flush=True)
    check(done.returncode == code, f"`donjon {words[0]}` ended with {done.returncode}, not with {code}")
    return done.stdout


@contextmanager
def running(until: str, *words: str) -> Iterator[None]:
    """Start a command, show what it says until a line contains `until`, and stop it at the end."""
    show_command((*words, "&"))
    with subprocess.Popen(
        [sys.executable, "-m", "donjon", *words], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stderr is not None
            wait_for(process.stderr, until)
            yield
        finally:
            process.send_signal(signal.SIGTERM)


def wait_for(stream: IO[str], until: str) -> None:
    for line in stream:
        print(f"    {line}", end="", flush=True)
        if until in line:
            return
    raise DemoError(f"it ended before it said {until!r}")


def make_tls_files() -> None:
    """A key and certificate for the Steward's https, as an operator would get them from a company's authority."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "demo")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .serial_number(x509.random_serial_number())
        .public_key(key.public_key())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    Path("tls.crt").write_bytes(certificate.public_bytes(Encoding.PEM))
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with open(os.open("tls.key", os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
        file.write(secret)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def show_command(words: tuple[str, ...]) -> None:
    shown = " ".join(re.sub(r"^/.*/(?=examples/)", "", word) for word in words)
    print(f"  $ donjon {shown}", flush=True)


def say(text: str) -> None:
    print(f"\n  {text}\n", flush=True)


def check(holds: bool, otherwise: str) -> None:
    if not holds:
        raise DemoError(otherwise)


if __name__ == "__main__":
    sys.exit(main())
