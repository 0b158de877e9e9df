"""A real Steward over TLS with an authority that no system knows, for Keeps of simulated hardware."""

from __future__ import annotations

import re
import signal
import ssl
import subprocess
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509

from donjon import sim
from tests.system.command import command, environment
from tests.system.tls import Authority

POLICY = "accept_unattested = true\n[collateral]\noffline = true\n"
"""Simulated evidence may pass, and no vendor is asked for anything."""


class Steward:
    """`donjon steward serve` that believes a lab's roots.

    Attributes:
        url: where it is. ca: PEM file of the authority behind its TLS. root: PEM file of its own.
    """

    def __init__(self, folder: Path, lab: str, policy: str = POLICY, more: Sequence[str] = ()) -> None:
        folder.mkdir()
        (folder / "steward.toml").write_text(policy)
        authority = Authority(folder)
        authority.server("127.0.0.1")
        self.ca = authority.path
        self.root = folder / "state" / "root.crt"
        words = ["--policy", "steward.toml", "--state", "state", "--roots", f"{lab}/roots.toml", "--addr", "127.0.0.1"]
        words += ["--port", "0", "--admin-port", "0", "--tls-crt", "server.pem", "--tls-key", "server.pem"]
        self.process = subprocess.Popen(
            [*command(), "steward", "serve", *words, *more],
            cwd=folder,
            env=environment(),
            stderr=subprocess.PIPE,
            text=True,
        )
        self.said: list[str] = []
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said.append(line)
            if found := re.search(r"listening on (https://127\.0\.0\.1:\d+)\n", line):
                self.url = found[1]
                break
        else:
            self.process.wait()
            self.process.stderr.close()
            raise AssertionError("".join(self.said))
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        self.said += self.process.stderr

    def reload(self, policy: str) -> None:
        """Have it read another policy."""
        (self.ca.parent / "steward.toml").write_text(policy)
        self.process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + 20
        while not any("read anew" in line for line in self.said):
            assert time.monotonic() < deadline, "".join(self.said)
            time.sleep(0.02)

    def close(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(20)
        self._reader.join()
        assert self.process.stderr is not None
        self.process.stderr.close()

    def toml(self) -> str:
        """What Enarx.toml says of it."""
        return f'steward = "{self.url}"\nsteward_ca = "company"\n'

    def roots(self) -> str:
        """The same, below the files."""
        return f'[roots]\ncompany = "{self.ca}"\n'

    def client(self) -> ssl.SSLContext:
        """A client that trusts this Steward's root. What a Keep is called, the policy says; here it has no names."""
        context = ssl.create_default_context(cafile=str(self.root))
        context.check_hostname = False
        return context


def lab_in(folder: Path) -> str:
    return sim.create(str(folder), datetime.now(UTC)).directory


def leaf_of(connection: ssl.SSLSocket) -> x509.Certificate:
    der = connection.getpeercert(binary_form=True)
    assert der is not None
    return x509.load_der_x509_certificate(der)
