"""Connections out: only to what Enarx.toml names, and by no name back to what this machine keeps for itself."""

from __future__ import annotations

import ipaddress
import os
import select
import socket
import time
from collections.abc import Callable, Iterator
from typing import cast

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from donjon import config
from donjon.config import Config
from donjon.errors import DonjonError, PlatformError, UsageError
from donjon.keep.vm import dial as module
from donjon.keep.vm.dial import Dialer, allowed, harmless, resolve
from donjon.keep.vm.loop import Loop
from donjon.sallyport.frames import Dial
from tests.keep.vm.yard import Yard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from donjon.keep.vm.dial import Address, Found
    from donjon.sallyport.machine import HostMachine

V4, V6 = socket.AF_INET, socket.AF_INET6


# ---- what is named


def test_what_may_be_reached_is_what_the_configuration_names() -> None:
    text = """
steward = "https://Steward.Example.com/path"
[[files]]
kind = "connect"
name = "db"
host = "db.example.com"
port = 5432
[[files]]
kind = "connect"
name = "other"
host = "::1"
port = 1
[[files]]
kind = "listen"
name = "web"
port = 80
"""
    assert allowed(config.parse(text)) == {("steward.example.com", 443), ("db.example.com", 5432), ("::1", 1)}
    assert allowed(Config(steward="https://[::1]:8443")) == {("::1", 8443)}
    assert allowed(Config()) == frozenset()


PUBLIC = ["192.0.2.1", "10.1.2.3", "192.168.0.1", "172.16.0.1", "100.64.0.1", "8.8.8.8", "2001:db8::1", "fd00::1"]
KEPT = [
    "127.0.0.1", "127.0.1.1", "127.255.255.254", "0.0.0.0", "0.1.2.3", "169.254.169.254", "224.0.0.1", "239.1.2.3",
    "255.255.255.255", "::1", "::", "fe80::1", "fe80::1%eth0", "fe80::1%2", "ff02::1", "ff02::1%eth0",
]  # fmt: skip
WRAPPED = [
    "::ffff:{v4}", "::{v4}", "::ffff:0:{v4}", "64:ff9b::{v4}", "64:ff9b:1::{v4}", "64:ff9b:1:2:3:4:{v4}",
    "2001:db8::5efe:{v4}", "2001:db8::200:5efe:{v4}", "2002:{hex}::", "2002:{hex}::1", "2001:0:{hex}::3fff:fdf8",
    "2001:0:102:304::{flipped}",
]  # fmt: skip


def wrapped(form: str, v4: str) -> str:
    number = int.from_bytes(socket.inet_aton(v4), "big")
    halves = f"{number >> 16:x}:{number & 0xFFFF:x}"
    flipped = f"{number >> 16 ^ 0xFFFF:x}:{number & 0xFFFF ^ 0xFFFF:x}"
    return form.format(v4=v4, hex=halves, flipped=flipped)


@pytest.mark.parametrize("address", PUBLIC)
def test_a_name_may_lead_to(address: str) -> None:
    assert harmless("example.com", address)


@pytest.mark.parametrize("address", KEPT)
def test_a_name_may_not_lead_to(address: str) -> None:
    assert not harmless("example.com", address)


@pytest.mark.parametrize("form", WRAPPED)
def test_an_address_within_an_address_counts(form: str) -> None:
    assert not harmless("example.com", wrapped(form, "127.0.0.1"))
    assert not harmless("example.com", wrapped(form, "169.254.169.254"))
    assert not harmless("example.com", wrapped(form, "0.0.0.0"))
    assert harmless("example.com", wrapped(form, "192.0.2.7"))


@pytest.mark.parametrize("address", ["127.0.0.1", "169.254.169.254", "::1", "fe80::1", "::ffff:127.0.0.1"])
def test_a_literal_address_means_itself_and_nothing_else(address: str) -> None:
    assert harmless(address, address)
    assert not harmless(address, "192.0.2.1")
    assert not harmless("192.0.2.1", address)


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "224.0.0.1", "ff02::1", "::ffff:0.0.0.0", "::ffff:224.0.0.1"])
def test_what_is_nobodys_address_is_not_reached_even_when_it_is_named(address: str) -> None:
    assert not harmless(address, address)


@pytest.mark.parametrize("named", ["localhost", "LOCALHOST", "localhost.", "LocalHost."])
def test_localhost_is_the_loopback_however_it_is_written(named: str) -> None:
    assert harmless(named, "127.0.0.1")
    assert harmless(named, "::1")
    assert not harmless(named, "192.0.2.1")


@pytest.mark.parametrize(
    "named",
    ["127.1", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "127.0.0.1.", "x.localhost", "localhost..", "local"],
)
def test_what_only_looks_like_the_loopback_is_a_name_as_any(named: str) -> None:
    assert not harmless(named, "127.0.0.1")
    assert not harmless(named, "::1")


def test_zones_do_not_make_an_address_another() -> None:
    assert harmless("fe80::1%eth0", "fe80::1")
    assert not harmless("fe80::1%eth0", "fe80::2")


# ---- calls


class Names:
    """A resolver that says what the test wants, and when."""

    def __init__(self, answers: dict[str, list[str] | str] | None = None) -> None:
        self.answers = answers or {}
        self.asked: list[str] = []
        self.open: list[Names.Question] = []

    class Question:
        def __init__(self, names: Names, found: Found) -> None:
            self.names, self.found = names, found
            names.open.append(self)

        def answer(self, found: list[Address] | str) -> None:
            if self in self.names.open:
                self.found(found)

        def close(self) -> None:
            self.names.open.remove(self)

    def __call__(self, loop: Loop, host: str, _port: int, found: Found) -> Names.Question:
        self.asked.append(host)
        question = Names.Question(self, found)
        if host in self.answers:
            loop.after(0, lambda: question.answer(addresses(self.answers[host])))
        return question


def addresses(answer: list[str] | str) -> list[Address] | str:
    if isinstance(answer, str):
        return answer
    return [(int(V6 if ":" in one else V4), one, 0) for one in answer]


class Machine:
    """The part of a HostMachine that a Dialer speaks to."""

    def __init__(self) -> None:
        self.said: dict[int, int | DonjonError] = {}

    def dialed(self, number: int, port: int) -> None:
        assert number not in self.said
        self.said[number] = port

    def dial_failed(self, number: int, error: DonjonError) -> None:
        assert number not in self.said
        self.said[number] = error


class Caller:
    """A guest that dials."""

    def __init__(self, yard: Yard, names: Names | None, *targets: tuple[str, int]) -> None:
        self.yard = yard
        self.names = names
        self.machine = Machine()
        machine = cast("HostMachine", self.machine)
        self.dialer = Dialer(frozenset(targets), yard.loop, yard.relay, yard.door, machine, yard.said.logger, names)
        self.number = 0

    def ask(self, host: str, port: int) -> int:
        self.number += 1
        self.dialer.take(Dial(id=self.number, host=host, port=port))
        return self.number

    def answer(self, host: str, port: int) -> int | DonjonError:
        number = self.ask(host, port)
        self.yard.until(lambda: number in self.machine.said)
        return self.machine.said[number]

    def refused(self, host: str, port: int) -> DonjonError:
        answer = self.answer(host, port)
        assert isinstance(answer, DonjonError), answer
        return answer


Serve = Callable[..., tuple[socket.socket, int]]


@pytest.fixture
def serve() -> Iterator[Serve]:
    made: list[socket.socket] = []

    def begin(host: str = "127.0.0.1", port: int = 0) -> tuple[socket.socket, int]:
        try:
            server = socket.create_server((host, port), family=V6 if ":" in host else V4)
        except OSError:
            pytest.skip(f"this machine has no {host}")
        server.settimeout(20)
        made.append(server)
        return server, server.getsockname()[1]

    yield begin
    for server in made:
        server.close()


def joined(yard: Yard, answer: int | DonjonError, server: socket.socket) -> None:
    """See that the peer and the guest are connected."""
    assert isinstance(answer, int), answer
    inside = yard.inside()
    assert inside.getpeername()[1] == answer
    peer, _ = server.accept()
    with peer:
        peer.send(b"from the peer")
        inside.setblocking(False)
        assert yard.received(inside, 13) == b"from the peer"
        inside.send(b"from the guest")
        yard.until(lambda: select.select([peer], [], [], 0)[0])
        assert peer.recv(100) == b"from the guest"


def test_a_literal_address_is_reached_without_asking_anybody(yard: Yard, serve: Serve) -> None:
    server, port = serve()
    names = Names()
    caller = Caller(yard, names, ("127.0.0.1", port))
    joined(yard, caller.answer("127.0.0.1", port), server)
    assert names.asked == []


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("named", ["localhost", "Localhost."])
def test_localhost_is_reached_by_either_family_without_asking_anybody(
    named: str, address: str, yard: Yard, serve: Serve
) -> None:
    server, port = serve(address)
    names = Names()
    joined(yard, Caller(yard, names, (named, port)).answer(named, port), server)
    assert names.asked == []


def test_what_is_not_named_is_refused_and_said(yard: Yard, serve: Serve) -> None:
    server, port = serve()
    names = Names()
    caller = Caller(yard, names, ("127.0.0.1", port), ("example.com", 443))
    for host, there in [
        ("127.0.0.1", port + 1), ("localhost", port), ("127.1", port), ("::ffff:127.0.0.1", port), ("example.com", 80),
        ("EXAMPLE.com", 443), ("example.com.", 443), (" 127.0.0.1", port), ("127.0.0.1 ", port), ("", port),
    ]:  # fmt: skip
        error = caller.refused(host, there)
        assert isinstance(error, UsageError)
        assert error.message == "Enarx.toml names no such peer"
    assert names.asked == []
    assert not select.select([server], [], [], 0.05)[0]
    lines = [text for _, text in yard.said.lines]
    assert len(lines) == module.MOST_COMPLAINTS, "a guest cannot fill the log"
    assert lines[0] == f"the guest asks for a connection to 127.0.0.1:{port + 1}: Enarx.toml names no such peer"
    assert lines[3] == f"the guest asks for a connection to [::ffff:127.0.0.1]:{port}: Enarx.toml names no such peer"


def test_a_guest_without_a_network_reaches_nothing(yard: Yard) -> None:
    machine = Machine()
    dialer = Dialer(frozenset(), yard.loop, yard.relay, None, cast("HostMachine", machine), yard.said.logger)
    dialer.take(Dial(id=1, host="127.0.0.1", port=1))
    assert isinstance(machine.said[1], UsageError)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "::ffff:127.0.0.1", "0.0.0.0", "127.0.0.53"])
def test_a_name_that_leads_to_the_loopback_is_refused(address: str, yard: Yard, serve: Serve) -> None:
    server, port = serve("::1" if address == "::1" else "127.0.0.1")
    error = Caller(yard, Names({"example.com": [address]}), ("example.com", port)).refused("example.com", port)
    assert isinstance(error, PlatformError)
    assert error.message == f"the name example.com leads to {address}, where this machine keeps what is its own"
    assert error.hint == "name the address itself in Enarx.toml, if that is meant"
    assert not select.select([server], [], [], 0.05)[0]


def test_of_several_addresses_only_those_that_may_be_are_tried(
    yard: Yard, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, port = serve()
    tried: list[str] = []

    class Noting(socket.socket):
        def connect_ex(self, at: tuple[str, int]) -> int:  # type: ignore[override]
            if at[1] == port:
                tried.append(at[0])
            return super().connect_ex(at)

    monkeypatch.setattr(socket, "socket", Noting)
    monkeypatch.setattr(module, "CONNECT_SECONDS", 0.1)
    names = Names({"example.com": ["127.0.0.1", "240.0.0.1", "::1", "fe80::1", "240.0.0.2"]})
    error = Caller(yard, names, ("example.com", port)).refused("example.com", port)
    assert tried == ["240.0.0.1", "240.0.0.2"]
    assert isinstance(error, PlatformError)
    assert not select.select([server], [], [], 0)[0]


def test_a_name_whose_address_changes_meanwhile_is_judged_by_what_is_connected_to(yard: Yard, serve: Serve) -> None:
    """A name that gives a public address first, and the loopback to whoever asks again."""
    server, port = serve()
    answers = Names({"rebind.example": ["240.0.0.1"]})
    caller = Caller(yard, answers, ("rebind.example", port))
    number = caller.ask("rebind.example", port)
    yard.settle(0.02)
    answers.answers["rebind.example"] = ["127.0.0.1"]
    yard.until(lambda: number in caller.machine.said)
    assert answers.asked == ["rebind.example"], "it is asked once"
    assert caller.refused("rebind.example", port).message.startswith("the name rebind.example leads to 127.0.0.1")
    assert not select.select([server], [], [], 0.05)[0]


@pytest.mark.parametrize("form", ["127.1", "2130706433", "0x7f000001", "0177.0.0.1"])
def test_unusual_forms_of_an_address_lead_through_no_back_door(form: str, yard: Yard, serve: Serve) -> None:
    """The system's own resolver takes these for 127.0.0.1."""
    server, port = serve()
    error = Caller(yard, None, (form, port)).refused(form, port)
    assert error.message == f"the name {form} leads to 127.0.0.1, where this machine keeps what is its own"
    assert not select.select([server], [], [], 0.05)[0]


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "255.255.255.255"])
def test_an_unspecified_address_is_not_the_loopback_by_another_name(address: str, yard: Yard, serve: Serve) -> None:
    server, port = serve()
    error = Caller(yard, Names(), (address, port)).refused(address, port)
    if address != "255.255.255.255":  # which the kernel refuses by itself
        assert error.message == f"{address} is nobody's address"
    assert not select.select([server], [], [], 0.05)[0]


def test_a_zone_that_this_machine_does_not_have_is_an_error(yard: Yard) -> None:
    error = Caller(yard, Names(), ("fe80::1%nosuch0", 1)).refused("fe80::1%nosuch0", 1)
    assert isinstance(error, PlatformError)


def test_the_next_address_is_tried(yard: Yard, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "harmless", lambda _named, _address: True)
    server, port = serve("127.0.0.1")
    names = Names({"example.com": ["127.0.0.9", "::1", "127.0.0.1"]})  # nobody listens at the first two
    joined(yard, Caller(yard, names, ("example.com", port)).answer("example.com", port), server)


def test_a_peer_that_refuses_is_said(yard: Yard, serve: Serve) -> None:
    server, port = serve()
    server.close()
    error = Caller(yard, Names(), ("127.0.0.1", port)).refused("127.0.0.1", port)
    assert error.message == "connection refused"
    assert error.hint == "start the peer first: a Keep connects before its guest runs"
    assert yard.open == 0


def test_a_peer_that_does_not_answer_is_given_up(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CONNECT_SECONDS", 0.05)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        port = full.getsockname()[1]
        ahead = [socket.socket() for _ in range(3)]
        for one in ahead:
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        assert Caller(yard, Names(), ("127.0.0.1", port)).refused("127.0.0.1", port).message == "timed out"
        for one in ahead:
            one.close()


def test_a_name_that_cannot_be_resolved_is_said(yard: Yard) -> None:
    names = Names({"example.com": "name or service not known"})
    error = Caller(yard, names, ("example.com", 1)).refused("example.com", 1)
    assert error.message == "the name example.com cannot be resolved: name or service not known"
    assert names.open == []


def test_a_name_without_an_address_is_said(yard: Yard) -> None:
    assert (
        Caller(yard, Names({"example.com": []}), ("example.com", 1)).refused("example.com", 1).message == "no address"
    )


def test_few_names_are_asked_for_at_one_time(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RESOLVE_SECONDS", 0.3)
    names = Names()
    caller = Caller(yard, names, *((f"{number}.example", 1) for number in range(10)))
    for number in range(10):
        caller.ask(f"{number}.example", 1)
    assert len(names.open) == module.MOST_RESOLVERS
    names.open[0].found("not today")
    assert names.asked == [f"{number}.example" for number in range(5)]
    yard.until(lambda: len(caller.machine.said) == 10)
    texts = [str(error) for error in caller.machine.said.values()]
    assert texts[0] == "the name 0.example cannot be resolved: not today"
    assert {text.partition(": ")[2] for text in texts[1:]} == {"nobody answered in time"}
    assert names.open == []


def test_no_more_connections_than_there_may_be(yard: Yard, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    _, port = serve()
    monkeypatch.setattr(yard.relay, "_most", 3)
    caller = Caller(yard, Names(), ("127.0.0.1", port))
    answers = [caller.answer("127.0.0.1", port) for _ in range(2)]
    asked = [caller.ask("127.0.0.1", port) for _ in range(8)]  # one of them will have a place
    yard.until(lambda: len(yard.relay._callers) + len(caller.machine.said) >= 10)
    assert yard.open == 3
    errors = [one for one in caller.machine.said.values() if isinstance(one, DonjonError)]
    assert {str(error) for error in errors} == {"too many connections are open"}
    assert len(errors) == 7
    assert len(answers) + len(asked) == 10
    assert str(caller.answer("127.0.0.1", port)) == "too many connections are open"


def test_what_is_under_way_is_given_up_at_the_end(yard: Yard) -> None:
    names = Names()
    caller = Caller(yard, names, *((f"{number}.example", 1) for number in range(9)), ("240.0.0.1", 1))
    for number in range(9):
        caller.ask(f"{number}.example", 1)
    caller.ask("240.0.0.1", 1)
    caller.dialer.close()
    assert names.open == []
    yard.settle(0.02)
    assert {number: str(said) for number, said in caller.machine.said.items() if number < 10} == {}


# ---- the fork that asks


def test_a_name_is_resolved_in_a_fork(yard: Yard) -> None:
    found: list[list[Address] | str] = []
    question = resolve(yard.loop, "localhost", 80, found.append)
    yard.until(lambda: found)
    question.close()
    assert (int(V4), "127.0.0.1", 0) in found[0]


def test_an_unknown_name_is_words(yard: Yard) -> None:
    found: list[list[Address] | str] = []
    resolve(yard.loop, "no-such-name.invalid", 80, found.append)
    yard.until(lambda: found)
    assert isinstance(found[0], str)
    assert found[0]
    resolve(yard.loop, "a" * 70 + ".example", 80, found.append)
    yard.until(lambda: found[1:])
    assert isinstance(found[1], str)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name service that does not answer."""
    real = socket.getaddrinfo

    def getaddrinfo(host: str, *words: object, **more: object) -> object:
        if host == "example.com":
            time.sleep(600)
        return real(host, *words, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


def test_a_fork_that_breaks_off_is_said(yard: Yard, slow: None) -> None:
    found: list[list[Address] | str] = []
    question = resolve(yard.loop, "example.com", 80, found.append)
    os.kill(question.pid, 9)
    yard.until(lambda: found)
    assert found == ["the resolver broke off"]


def test_no_fork_to_be_had_is_said(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    def fork() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", fork)
    caller = Caller(yard, None, *((f"{number}.example", 1) for number in range(9)))
    for number in range(9):
        error = caller.refused(f"{number}.example", 1)
        assert error.message.endswith("cannot be resolved: resource temporarily unavailable")


# ---- whatever a guest asks for


HOSTS = st.one_of(
    st.sampled_from(["example.com", "127.0.0.1", "localhost", "::1", "other.example", "127.1", "0.0.0.0", "::"]),
    st.text(max_size=20),
    st.ip_addresses().map(str),
)
ASKED = st.tuples(HOSTS, st.integers(1, 65535) | st.sampled_from([1, 443]))
ANSWER = st.lists(
    st.ip_addresses().map(str)
    | st.sampled_from([*KEPT[:12], *PUBLIC])
    | st.builds(wrapped, st.sampled_from(WRAPPED), st.sampled_from(["127.0.0.1", "10.0.0.1", "169.254.169.254"])),
    max_size=4,
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(named=[("example.com", 443)], asked=[("example.com", 443)], answer=["127.0.0.1", "8.8.8.8"])
@example(named=[("::A", 1)], asked=[], answer=[])
@example(named=[("127.0.0.1", 1)], asked=[("127.0.0.1", 1), ("localhost", 1)], answer=[])
@given(named=st.lists(ASKED, max_size=3), asked=st.lists(ASKED, max_size=6), answer=ANSWER)
def test_whatever_a_guest_asks_for_only_what_is_named_is_connected_to(
    named: list[tuple[str, int]], asked: list[tuple[str, int]], answer: list[str]
) -> None:
    """No connection is made: what would be connected to is written down."""
    yard = Yard()
    connected: list[tuple[str, int]] = []

    class Noting(socket.socket):
        def connect_ex(self, at: tuple[str, int]) -> int:  # type: ignore[override]
            connected.append(at[:2])
            return 111

    class Everywhere(Names):
        def __call__(self, loop: Loop, host: str, port: int, found: Found) -> Names.Question:
            assert (host, port) in named
            self.answers[host] = answer
            return super().__call__(loop, host, port, found)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(socket, "socket", Noting)
        caller = Caller(yard, Everywhere(), *named)
        for host, port in [*asked, *named]:
            caller.ask(host, port)
        yard.until(lambda: len(caller.machine.said) == len(asked) + len(named))
    yard.close()
    for address, port in connected:
        hosts = [host for host, there in named if there == port]
        if any(same(host, address) for host in hosts):
            continue  # the very address that is named
        if any(host.lower().removesuffix(".") == "localhost" for host in hosts) and address in ("127.0.0.1", "::1"):
            continue
        assert address in answer, "what a name leads to"
        assert address not in KEPT
        ip = ipaddress.ip_address(address)
        assert not any((ip.is_loopback, ip.is_link_local, ip.is_unspecified, ip.is_multicast))


def same(host: str, address: str) -> bool:
    try:
        return ipaddress.ip_address(host.partition("%")[0]) == ipaddress.ip_address(address)
    except ValueError:
        return False
