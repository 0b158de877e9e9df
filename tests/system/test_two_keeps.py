"""The whole way: two Keeps on simulated hardware get their certificates from a Steward, and trust each other by them.

The client demands the server's workload, the server the name that the Steward gives to the client's. The other way
round is not possible at the same time: each workload's digest covers the digests that its own Enarx.toml demands.
"""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from donjon import Keep, sim
from donjon.config import Config, Connect, Listen, Stderr, Stdin, Stdout, Verify
from donjon.errors import VerifyError
from donjon.identity import self_signed
from donjon.keep.launch import Launch
from donjon.keep.nil import prepare
from donjon.log import QUIET, Logger
from tests.keep import guests
from tests.system.command import command, environment
from tests.system.said import Said

pytestmark = pytest.mark.slow

SHOP, BANK = "shop.example.com", "bank.example.com"
POLICY = "accept_unattested = true\n[collateral]\noffline = true\n"
SPEAKS = guests.guest(  # says hello to its peer, and prints what comes back
    """(call $write (i32.const 3) (i32.const 2048) (i32.const 5))
       (call $write (i32.const 1) (i32.const 4096) (call $read (i32.const 3) (i32.const 4096) (i32.const 5)))""",
    '(data (i32.const 2048) "hello")',
)


def free_port() -> int:
    """One that nobody listens on; digests cover configurations, so that ports must be known beforehand."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


class World:
    """A lab, a Steward with a policy, and the two workloads: the bank listens, the shop connects to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lab = folder / "lab"
        sim.create(str(self.lab), datetime.now(UTC))
        tls = self_signed()
        (folder / "tls.pem").write_bytes(tls.chain_pem())
        key = folder / "tls.key"
        key.touch(0o600)
        key.write_bytes(tls.key_pem())
        self.steward_port, self.bank_port = free_port(), free_port()
        self.state = folder / "steward"
        self.start_steward(POLICY)
        self.bank = self.config(
            Listen(
                name="bank",
                addr="127.0.0.1",
                port=self.bank_port,
                ca=["keeps"],
                verify=Verify(names=[SHOP], accept_unattested=True),
            )
        )
        self.shop = self.shop_that_demands(workload(guests.SERVES, self.bank))
        self.end_steward()
        self.start_steward(
            POLICY
            + "".join(
                f'[[workload]]\ndigest = ["{digest.hex()}"]\nnames = ["{name}"]\n'
                for digest, name in (
                    (workload(guests.SERVES, self.bank), BANK),
                    (workload(SPEAKS, self.shop), SHOP),
                    (workload(SPEAKS, self.shop_that_demands(bytes([7] * 32))), SHOP),
                    (workload(guests.CONNECTS, self.shop), "thief.example.com"),
                )
            )
        )

    def config(self, entry: Listen | Connect) -> Config:
        return Config(
            steward=f"https://localhost:{self.steward_port}",
            steward_ca="company",
            roots={"company": str(self.folder / "tls.pem"), "keeps": str(self.state / "root.crt")},
            files=[Stdin(), Stdout(), Stderr(), entry],
        )

    def shop_that_demands(self, digest: bytes) -> Config:
        verify = Verify(workload=[digest.hex()], tee=["snp"], max_age="1h", accept_unattested=True)
        return self.config(Connect(name="bank", host="localhost", port=self.bank_port, ca=["keeps"], verify=verify))

    def start_steward(self, policy: str) -> None:
        (self.folder / "steward.toml").write_text(policy)
        words = ["--policy", "steward.toml", "--state", "steward", "--roots", str(self.lab / "roots.toml")]
        words += ["--addr", "127.0.0.1", "--port", str(self.steward_port), "--admin-port", "0"]
        words += ["--tls-crt", "tls.pem", "--tls-key", "tls.key"]
        path = self.folder / "steward.log"
        with path.open("wb") as log:
            self.process = subprocess.Popen(
                [*command(), "steward", "serve", *words], cwd=self.folder, env=environment(), stderr=log
            )
        while "listening on https://" not in (said := path.read_text()):
            assert self.process.poll() is None, said
            time.sleep(0.05)

    def end_steward(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(20)

    def start(self, module: bytes, config: Config, log: Logger = QUIET) -> Keep:
        return Keep.start(module, config, sim=self.lab, log=log)


def workload(module: bytes, config: Config) -> bytes:
    """The digest that a Steward will see."""
    launch = Launch(module, config)
    prepare(launch, None, describe=True)
    return launch.describe().digest()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("world"))
    yield made
    made.end_steward()


def test_two_keeps_that_a_steward_has_judged_talk_to_each_other(world: World) -> None:
    with world.start(guests.SERVES, world.bank):
        for _ in range(2):
            with world.start(SPEAKS, world.shop) as shop:
                assert shop.stdout is not None
                assert (shop.wait(20), shop.stdout.read()) == (0, b"hello")


def test_the_shop_does_not_start_where_the_bank_is_another_workload(world: World) -> None:
    with world.start(guests.SERVES, world.bank):
        with pytest.raises(VerifyError, match=r"for \"bank\": peer refused: .*demand\.workload") as caught:
            world.start(SPEAKS, world.shop_that_demands(bytes([7] * 32)))
        assert caught.value.exit_code == 4


def test_the_bank_refuses_another_workload_although_the_steward_has_judged_it(world: World) -> None:
    said = Said()
    with world.start(guests.SERVES, world.bank, said.logger) as bank:
        with world.start(guests.CONNECTS, world.shop) as thief:
            assert thief.wait(20) == 100 + 29, "its first read fails: io"
        _, line = said.waited(bank, "refused: ")
    assert "demand.name" in line
    assert "thief.example.com" in line


def test_the_bank_refuses_a_keep_that_no_steward_has_judged(world: World) -> None:
    said = Said()
    config = world.shop.replace(steward=None, steward_ca=None)
    with world.start(guests.SERVES, world.bank, said.logger) as bank:
        with world.start(SPEAKS, config) as alone:
            assert alone.wait(20) == 100 + 29
        assert "certificate verify failed: self-signed certificate" in said.waited(bank, "refused: ")[1]
