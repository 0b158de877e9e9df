"""Everything that reads bytes from outside, as functions that a fuzzer calls. Each opens with its invariant.

A target gets any bytes and returns, or raises AssertionError or whatever the parser should not have raised. `refused`
holds the invariant that most share: the input is taken, or refused with the parser's own error, whose message is short
and printable; no RecursionError, no UnicodeError, no crash. How long it took, `run` asks.

Bytes that come from outside seldom pass a signature, and what stands behind the signature would never be reached. So
where a name says `signed`, the input is what is signed, and the target signs it with the key of a simulated machine.
No input depends on these keys: the corpus stays good, whatever keys the next run makes.
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import json
import lzma
import os
import socket
import tempfile
from base64 import b64encode
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from donjon import config, tee
from donjon.cli import doctor as cli_doctor
from donjon.cli import image as image_pages
from donjon.cli import platform as cli_platform
from donjon.errors import ParseError, PlatformError, UsageError, VerifyError
from donjon.identity.certificate import self_signed
from donjon.identity.path import check_path as identity_check
from donjon.image import Image, cpio, elf, kernel, manifest, unpacking
from donjon.image import lock as image_locks
from donjon.keep import registry
from donjon.platform import backends, caching, choice, doctor, facts, kvm, qemu
from donjon.platform.machine import Recorded
from donjon.sallyport import frames, machine
from donjon.sim import firmware as simulated_firmware
from donjon.sim import port as simulated_port
from donjon.steward import app, authority, client, nonce, policy, record, result
from donjon.steward.app import ProblemError
from donjon.steward.files import Pile, read_roots, write_roots
from donjon.steward.procedure import Trust, decide
from donjon.steward.request import parse_bundle, parse_request
from donjon.steward.service import Service, Writer
from donjon.tee import cca, sgx, signatures, snp, tdx
from donjon.tee.cca import _cbor
from donjon.tee.cca.simulate import SimulatedRealm, collect, sign
from donjon.tee.contract import Demands, Roots, appraise
from donjon.tee.intel import collateral as lists
from donjon.tee.intel import pck, strictjson, x509
from donjon.tee.intel.simulate import TeeName, qe_identity, sgx_extension, tcb_info
from donjon.tee.sgx import sigstruct
from donjon.tee.simulated import Blobs
from donjon.tee.snp import certtable, idblock
from donjon.tee.snp import firmware as snp_firmware
from donjon.tee.snp import simulate as amd
from donjon.tee.snp.x509 import PSS_SHA384, read_certificate, read_crl
from donjon.tee.tdx import authenticode, eventlog
from donjon.tee.tdx import measure as tdx_measure
from donjon.tee.tdx.simulate import td_report
from donjon.verify import Demands as Peer
from donjon.verify import judge
from donjon.verify.policy import parse as demands_of
from donjon.wire import Cursor, der, pack, unpack
from donjon.wire.layout import table_of
from tests.clock import quickly
from tests.fuzz.mutate import MUTATORS
from tests.image import elves
from tests.image import packages as debs
from tests.platform import machines
from tests.sallyport.ends import SAMPLES, Ends
from tests.steward.asgi import Reply, call_async
from tests.steward.requests import KVM, new_key, request, spki
from tests.tee.cca import simulated as arm
from tests.tee.conftest import keys
from tests.tee.intel import simulated as intel
from tests.tee.simulated import NOW, World
from tests.tee.snp.machines import DAY

ROOT = Path(__file__).resolve().parent.parent.parent
VECTORS = ROOT / "tests" / "vectors"
KEPT = ROOT / ".build" / "fuzz"
MOST = 1.0
"""Seconds for one input, of this process's own time; several times what the largest good input takes."""
LONGEST = 4096
"""Characters of a message."""


@dataclass(frozen=True)
class Target:
    """One thing that reads bytes.

    Args:
        act: gets the bytes. form: how inputs are mutated, one of `mutate.MUTATORS`.
        seeds: good inputs, made when they are asked for. longest: bytes of an input.
    """

    name: str
    act: Callable[[bytes], object]
    form: str
    seeds: Callable[[], Iterable[bytes]]
    longest: int

    def run(self, data: bytes) -> None:
        """Try one input; raises when the invariant does not hold."""
        quickly(lambda: self.act(data), MOST)


TARGETS: dict[str, Target] = {}


def target(
    name: str, form: str = "bytes", seeds: Callable[[], Iterable[bytes]] = tuple, longest: int = 65536
) -> Callable[[Callable[[bytes], object]], Callable[[bytes], object]]:
    """Name a function as a target."""
    assert form in MUTATORS

    def add(act: Callable[[bytes], object]) -> Callable[[bytes], object]:
        TARGETS[name] = Target(name, act, form, seeds, longest)
        return act

    return add


def refused(act: Callable[[], Any]) -> Any:
    """What `act` gives, or None when it refuses as it may."""
    try:
        return act()
    except (ParseError, VerifyError) as error:
        message = str(error)
        assert len(message) < LONGEST, f"a message of {len(message)} characters"
        assert all(line.isprintable() for line in message.split("\n")), repr(message)
        return None


def files(*patterns: str, most: int = 65536) -> Callable[[], list[bytes]]:
    """Vectors as seeds."""

    def read() -> list[bytes]:
        found = [path.read_bytes() for pattern in patterns for path in sorted(VECTORS.glob(pattern))]
        return [data for data in dict.fromkeys(found) if len(data) <= most]

    return read


def text(data: bytes) -> str:
    """As files are read."""
    return data.decode("utf-8", "surrogateescape")


@cache
def world() -> World:
    """Simulated machines. The keys of AMD's roots take seconds to make and are kept for the next run."""
    KEPT.mkdir(parents=True, exist_ok=True)
    return World(amd.Vendor(keys(KEPT), NOW))


@cache
def evidence(name: str) -> bytes:
    """Good evidence."""
    maker = world().makers[name]
    return maker.make(bytes(64), bytes(maker.field))


# wire


@target("wire.der", "der", files("snp/*/vcek.der", "snp/*/request.csr"))
def wire_der(data: bytes) -> None:
    """Any bytes are DER, or refused; what is read is written again in the same bytes; no value is read twice."""
    steps = 0
    todo = [der.Der(data, "fuzzed")]

    def walk(source: der.Der) -> None:
        nonlocal steps
        while source.left:
            steps += 1
            assert steps <= 2 * len(data) + 2
            tag, left = source.tag, source.left
            if tag & 0x20:
                todo.append(source.inside(tag))
            elif tag == der.INTEGER:
                value = source.integer("n")
                assert len(der.encode(tag, der.integer_content(value))) == left - source.left
            elif tag == der.OID:
                oid = source.oid("oid")
                assert len(der.encode(tag, der.oid_content(oid))) == left - source.left
            elif tag in (der.UTC_TIME, der.GENERALIZED_TIME):
                source.time("time")
            elif tag == der.BOOLEAN:
                source.boolean("boolean")
            elif tag == der.BIT_STRING:
                source.bits("bits")
            elif tag == der.NULL:
                source.null("null")
            elif tag in (der.UTF8_STRING, der.PRINTABLE_STRING, der.IA5_STRING):
                source.text(tag, "text")
            else:
                content = source.take(0, "any")
                assert len(der.encode(tag, content)) == left - source.left

    while todo:
        refused(partial(walk, todo.pop()))


TABLES = [
    item
    for module in ("snp", "sgx", "tdx", "intel")
    for item in vars(__import__(f"donjon.tee.{module}.layout", fromlist=["layout"])).values()
    if isinstance(item, type) and hasattr(item, "__layout__")
]


@target("wire.layout", seeds=lambda: [bytes([n]) + bytes(table_of(t).size) for n, t in enumerate(TABLES)], longest=2048)
def wire_layout(data: bytes) -> None:
    """Any bytes of the right length are a value of the table, or refused; a value is written in the same bytes."""
    table = TABLES[data[0] % len(TABLES)] if data else TABLES[0]
    value = refused(lambda: unpack(table, data[1:]))
    assert value is None or pack(value) == data[1:]


@target("wire.cursor", longest=512)
def wire_cursor(data: bytes) -> None:
    """Any reads of any bytes give what is there, or are refused; a cursor never goes back or past the end."""
    cursor = Cursor(data[16:], "fuzzed")
    for step in data[:16]:
        before = cursor.left
        match step % 6:
            case 0:
                refused(lambda: cursor.number(1 + step // 6 % 8, "n"))  # noqa: B023 - called at once
            case 1:
                refused(lambda: cursor.take(cursor.u16("length"), "bytes"))
            case 2:
                inner = refused(lambda: cursor.nested(cursor.u8("length"), "inner"))
                assert inner is None or inner.left < 256
            case 3:
                cursor.peek(step)
            case 4:
                refused(cursor.end)
            case _:
                refused(lambda: cursor.zeros("zeros", step))  # noqa: B023 - called at once
        assert 0 <= cursor.left <= before


# sallyport. The first byte says how far the session is, in the ordinary way; the rest is what then comes.


REACHED = tuple(state for state in machine.STATES if state not in (machine.State.ENDED, machine.State.BROKEN))


def session(side: str, reached: machine.State) -> Any:
    """One end of a session, with questions that are open."""
    ends = Ends(most_files=3, most_bytes=1 << 20).reach(reached)
    if side == "guest" and reached in (machine.State.STARTING, machine.State.RUNNING):
        for _ in range(3):
            ends.guest.dial("h", 1)
            ends.guest.collateral("r")
            ends.guest.listening("n", "tcp", "", 0, 1)
        ends.guest.take(1 << 20)
    return getattr(ends, side)


def heard(end: Any, pieces: Iterable[bytes]) -> list[str]:
    """What an end says of bytes; that it holds no more than it may."""
    found: list[Any] = []
    problem = ""
    for piece in pieces:
        try:
            found += end.feed(piece)
        except machine.Violation as error:
            problem, found = error.message, [*found, *error.events]
            break
        assert len(end._in) <= frames.HEADER + frames.MAX_PAYLOAD
        assert end.backlog <= 1 << 16
        assert all(stream.held <= stream.window for stream in end._streams)
    assert len(problem) < LONGEST
    assert problem.isprintable(), repr(problem)
    assert (end.state is machine.State.BROKEN) == bool(problem)
    found += end.eof()
    return [*(f"{type(event).__name__} {vars(event)}" for event in found), problem]


def sallyport_end(side: str, data: bytes) -> None:
    """Feed it whole, and byte by byte: the same is heard."""
    reached = REACHED[data[0] % len(REACHED)] if data else REACHED[0]
    whole = heard(session(side, reached), [data[1:]])
    assert whole == heard(session(side, reached), (data[at : at + 1] for at in range(1, len(data))))


def spoken(side: str) -> list[bytes]:
    """A session's bytes of one end, from each state on; and every frame in the states that have most."""
    made = []
    samples = b"".join(SAMPLES[kind] for kind in SAMPLES if kind not in machine.LAST)
    for number, state in enumerate(REACHED):
        table = machine.HOST if side == "guest" else machine.GUEST
        made += [bytes([number]) + SAMPLES[kind] for kind in table[state]]
    return [*made, bytes([len(REACHED) - 1]) + samples]


@target("sallyport.host", seeds=lambda: spoken("host"), longest=4096)
def sallyport_host(data: bytes) -> None:
    """Any bytes of a guest are events or a violation, the same however they are cut; nothing grows."""
    sallyport_end("host", data)


@target("sallyport.guest", seeds=lambda: spoken("guest"), longest=4096)
def sallyport_guest(data: bytes) -> None:
    """Any bytes of a host are events or a violation, the same however they are cut; nothing grows."""
    sallyport_end("guest", data)


def entries() -> list[bytes]:
    """Of Keeps with and without listeners."""
    listeners = [("echo", "::", 10_000), ("", "127.0.0.1", 1)]
    made = (registry.Entry("web", 4711, "x:1", "nil", "ab" * 32, some, 1, True) for some in ((), listeners))
    return [json.dumps(entry.fields()).encode() for entry in made]


@target("registry.entry", seeds=entries, longest=4096)
def registry_entry(data: bytes) -> None:
    """Any bytes are an entry, which is written as it was read, or refused."""
    entry = refused(lambda: registry.parse(data))
    if entry is not None:
        assert registry.parse(json.dumps(entry.fields()).encode()).fields() == entry.fields()
        assert "/" not in entry.name


# steward


def requests() -> list[bytes]:
    """One of each kind."""
    return [request((KVM, b"")), *(made_request(name) for name in world().makers)]


@cache
def key() -> Any:
    """Of all requests."""
    return new_key()


def made_request(name: str) -> bytes:
    """A request that is granted."""
    maker = world().makers[name]
    value = maker.make(maker.kind.key_binding(spki(key())), bytes(maker.field))
    return request((maker.kind.OID, value), key=key())


@target("steward.request", "der", lambda: [*requests(), *files("*/*/request.csr")()])
def steward_request(data: bytes) -> None:
    """Any bytes are a request, or refused; its signature can be asked for."""
    found = refused(lambda: parse_request(data))
    if found is not None:
        refused(found.is_signed)
        assert all(part in data for part in (found.spki, found.signed))


@target("steward.bundle", "der", lambda: [der.encode(der.SEQUENCE, *[request((KVM, b""))] * 3)])
def steward_bundle(data: bytes) -> None:
    """Any bytes are a bundle, or refused; its parts are those bytes."""
    parts = refused(lambda: parse_bundle(data))
    assert parts is None or der.encode(der.SEQUENCE, *parts) == data


JSONS = (b'{"request": "MIIB", "nonce": "AQ"}', b'{"a": [1, 2.5e3, -0, true, null, "\\u00e9\\ud83d\\ude00"]}')


@target("steward.json", "json", lambda: JSONS)
def steward_json(data: bytes) -> None:
    """Any bytes are JSON without a name twice, or refused with 400; what is taken can be written again."""
    try:
        found = app.read_json(data)
    except ProblemError as problem:
        if problem.status != 400:
            raise
    else:
        json.dumps(found)


def results() -> list[bytes]:
    """Judgements as certificates have them."""
    claims = {"eat_profile": result.PROFILE, "iat": 1, "ear_verifier_id": {}, "submods": {"snp": {"ear_status": "x"}}}
    return [result.write_cmw(claims), result.write_markers(("simulated", "unprotected"))]


@target("steward.result", "der", results)
def steward_result(data: bytes) -> None:
    """Any bytes are a judgement, or refused; the same for markers."""
    found = refused(lambda: result.read_cmw(data))
    assert found is None or isinstance(found, dict)
    words = refused(lambda: result.read_markers(data))
    assert words is None or result.write_markers(words) == data


@target("steward.signed_result", "json", lambda: [json.dumps({"eat_profile": result.PROFILE, "iat": 1}).encode()])
def steward_signed_result(data: bytes) -> None:
    """Any claims in a certificate are read, or refused."""
    value = json.dumps([result.MEDIA_TYPE, b64encode(data, b"-_").decode().rstrip("="), 8]).encode()
    refused(lambda: result.read_cmw(der.encode(der.UTF8_STRING, value)))


def policies() -> list[bytes]:
    """What `steward init` writes, with everything in it switched on, and one of each TEE."""
    from donjon.steward._template import TEMPLATE

    lines = [line.removeprefix("# ") if "=" in line or "[" in line else line for line in TEMPLATE.splitlines()]
    small = '[snp]\nhash = ["' + "00" * 48 + '"]\nabi = ">=1.51"\n[snp.minimum_tcb.Genoa]\nsnp = 1\n'
    work = f'lifetime = "1h"\n[[workload]]\ndigest = ["{"ab" * 32}"]\nnames = ["a.example"]\n'
    return [TEMPLATE.encode(), "\n".join(lines).encode(), small.encode(), work.encode()]


@target("steward.policy", "text", policies)
def steward_policy(data: bytes) -> None:
    """Any text is a policy, or refused with the place of each mistake."""
    refused(lambda: policy.parse(text(data)))


@target("steward.roots", "text", lambda: [write_roots({"sgx": intel.intel().roots()}).encode()])
def steward_roots(data: bytes) -> None:
    """Any text is a file of roots, or refused; so is any as anchors of Arm platforms."""
    found = refused(lambda: read_roots(text(data)))
    assert found is None or all(isinstance(item, Roots) for item, _ in found.values())
    refused(lambda: cca.read_anchors(text(data)))


@target(
    "steward.pile", "any", files("*/*/report.bin", "*/*/vcek.der", "*/*/crl.der", "*/*/request.csr", "*/*/quote.bin")
)
def steward_pile(data: bytes) -> None:
    """Any file is sorted in, or refused; what is to be judged is judged, or refused."""
    pile = Pile()
    refused(lambda: pile.add("file", data))
    trust = pile.trust()
    for subject in pile.subjects:
        if subject.tee:
            kind = tee.load(subject.tee)
            own = trust[subject.tee]

            def verify(kind: Any = kind, own: Any = own, data: bytes = subject.data) -> Any:
                evidence, collateral = kind.parse(data)
                return kind.verify(evidence, own.complete(evidence, collateral), own.roots[0], NOW)

            appraise(kind, verify, kind.Policy(), Demands())


@target("steward.nonce", seeds=lambda: [nonce.make(bytes(32), NOW, bytes(16))], longest=256)
def steward_nonce(data: bytes) -> None:
    """Any bytes are a nonce, genuine or not; none but ours is genuine."""
    age = nonce.read(bytes(32), data)
    assert not age.genuine or nonce.make(bytes(32), age.issued, data[9:25]) == data


@target("steward.record", "json", lambda: [b'{"seq":1,"at":"2026-06-01T12:00:00Z","reasons":["a"]}'])
def steward_record(data: bytes) -> None:
    """Any text may stand in the record: its fields are an object, or nothing."""
    assert isinstance(record.Entry(1, data.decode(errors="replace"), bytes(32)).fields, dict)


@target(
    "config.toml", "text", lambda: [config.TEMPLATE.encode(), b'steward = "https://a"\n[[files]]\nkind = "listen"\n']
)
def config_toml(data: bytes) -> None:
    """Any text is a configuration, or refused with the place of each mistake."""
    refused(lambda: config.parse(text(data)))


# Evidence as it comes


def judged(name: str, data: bytes) -> None:
    """All three steps end in a verdict."""
    maker = world().makers[name]
    verdict = maker.judge(data, Demands(bytes(64), True))
    assert verdict.checks
    assert all(len(str(check)) < LONGEST for check in verdict.checks)


@target("snp.evidence", "der", lambda: [evidence("snp")])
def snp_evidence(data: bytes) -> None:
    """Any evidence of SNP is accepted or refused, with a verdict."""
    judged("snp", data)


@target("snp.certificate", "der", files("snp/*/*.der"))
def snp_certificate(data: bytes) -> None:
    """Any bytes are a certificate as AMD's, a revocation list, a key's certificate; or refused."""
    refused(lambda: read_certificate(data))
    refused(lambda: read_crl(data))
    refused(lambda: snp.vek.read_vek(data))


class FixedHardware:
    """What stands behind the port of a simulated confidential VM."""

    tee = "snp"

    def blobs(self, report_data: bytes, privlevel: int | None = None) -> Blobs:
        return Blobs(report_data + bytes([privlevel or 0]))


def port_requests() -> list[bytes]:
    made = [
        pack(
            simulated_port.Request(
                magic=simulated_port.MAGIC, version=1, kind=kind, privlevel=level, report_data=bytes(64)
            )
        )
        for kind in simulated_port.Kind
        for level in (0, simulated_port.NO_LEVEL)
    ]
    return [*made, b"".join(made)]


@target("sim.port", "bytes", port_requests, longest=400)
def sim_port(data: bytes) -> None:
    """What a guest sends to the simulated processor is answered, whole or byte by byte alike, or refused."""

    def whole() -> bytes:
        return simulated_port.Device(FixedHardware()).feed(data)

    def pieces() -> bytes:
        device = simulated_port.Device(FixedHardware())
        return b"".join(device.feed(data[at : at + 1]) for at in range(len(data)))

    answers = [refused(whole), refused(pieces)]
    assert answers[0] == answers[1]


def port_answers() -> list[bytes]:
    """What a guest hears: who that is, and three reports."""
    device = simulated_port.Device(FixedHardware())
    who, report = (device.feed(one) for one in (port_requests()[0], port_requests()[2]))
    longest = simulated_port._packed(0, Blobs(bytes(1000), bytes(1000)))
    broken = simulated_port._packed(5, Blobs(b""))
    return [who + report + broken + report, who + longest + report, who, report]


@target("sim.answer", "bytes", port_answers, longest=3000)
def sim_answer(data: bytes) -> None:
    """What a host sends to a guest that asks for reports is one of its errors, or no longer than a kernel's reports."""
    here, there = socket.socketpair()
    with here, there:
        there.sendall(data)
        there.shutdown(socket.SHUT_WR)
        far: simulated_port.Far | None = None
        problem = broken = 0
        for _ in range(4):
            blobs = Blobs(b"")
            try:
                far = far or simulated_port.Far(here.fileno(), seconds=MOST)
                blobs = far.blobs(bytes(64))
                assert not broken, "it believes what comes after an answer that broke off"
            except OSError as error:
                problem = error.errno or 0
                broken = problem if far is None or far._dead else broken
            assert problem in (0, errno.EIO, errno.EPROTO, errno.ENOTTY), errno.errorcode[problem]
            if far is None:
                return
            assert far.tee.isalpha()
            assert len(blobs.report) + len(blobs.auxiliary) <= len(data)
            assert max(map(len, (blobs.report, blobs.auxiliary))) <= simulated_port.MAX_BLOB


@target("snp.report", "bytes", files("snp/*/report.bin"), longest=1200)
def snp_report(data: bytes) -> None:
    """Any report is put together with a certificate, and judged."""
    refused(lambda: snp.assemble(data, [world().chip.vek]))
    refused(lambda: snp.parse(data))


@target("snp.certtable", seeds=lambda: [certtable.write_table({"VCEK": world().chip.vek, "CRL": world().amd_crl})])
def snp_certtable(data: bytes) -> None:
    """Any bytes are the table of certificates that a host hands over, or refused; what is read is in them."""
    found = refused(lambda: certtable.read_table(data))
    assert found is None or all(certificate in data for certificate in found.values())


@target("sgx.evidence", "der", lambda: [evidence("sgx"), *files("sgx/*/quote.bin")()])
def sgx_evidence(data: bytes) -> None:
    """Any evidence of SGX is accepted or refused, with a verdict."""
    judged("sgx", data)


@target("tdx.evidence", "der", lambda: [evidence("tdx"), *files("tdx/*/quote.bin")()])
def tdx_evidence(data: bytes) -> None:
    """Any evidence of TDX is accepted or refused, with a verdict."""
    judged("tdx", data)


@target("tdx.eventlog", seeds=lambda: [data[:3000] for data in files("tdx/*/ccel_match.bin", most=1 << 20)()])
def tdx_eventlog(data: bytes) -> None:
    """Any bytes are a log of events, or refused; a log can be replayed."""
    events = refused(lambda: eventlog.parse(data))
    assert events is None or len(eventlog.replay(events)) == 4


@cache
def good(name: TeeName) -> lists.Collateral:
    """Intel's lists for the simulated machine."""
    return intel.intel().collateral(intel.platform(), name, NOW)


@target("intel.collateral", "json", files("*/*/collateral.json"))
def intel_collateral(data: bytes) -> None:
    """Any bytes are collateral in JSON, or refused."""
    refused(lambda: lists.from_json(data))


@target("intel.json", "json", lambda: [*JSONS, b'{"tcbInfo":{"a":"\\\\"},"signature":"' + b"00" * 64 + b'"}'])
def intel_json(data: bytes) -> None:
    """Any bytes are JSON, or refused; what is cut out of it stands in it."""
    refused(lambda: strictjson.read(data, "JSON"))
    found = refused(lambda: strictjson.split(data, "tcbInfo", "JSON"))
    assert found is None or (found[0] in data and len(found[1]) == 64)


@target("intel.certificate", "der", lambda: [*intel.platform().pck.chain, *good("sgx").crls])
def intel_certificate(data: bytes) -> None:
    """Any bytes are a certificate as Intel's, a revocation list; or refused."""
    refused(lambda: x509.certificate(data))
    refused(lambda: pck.platform(data))
    refused(lambda: x509.crl(data))
    refused(lambda: x509.chain((data, *intel.platform().pck.chain[1:])))


@target("intel.pem", "text", lambda: [x509.pem(intel.platform().pck.chain).encode()])
def intel_pem(data: bytes) -> None:
    """Any text is a chain in PEM, or refused."""
    refused(lambda: x509.certificates(data, "PEM"))


@target("intel.pck", "der", lambda: [sgx_extension(intel.platform().numbers)])
def intel_pck(data: bytes) -> None:
    """Any bytes are the extension with a platform's numbers, or refused."""
    refused(lambda: pck.parse(data))


@target("cca.evidence", "cbor", lambda: [evidence("cca"), *files("cca/*.cbor")()], longest=32768)
def cca_evidence(data: bytes) -> None:
    """Any token is accepted or refused, with a verdict."""
    judged("cca", data)
    refused(lambda: _cbor.read(data, "CBOR", (399, 907, 18)))


@target("kvm.evidence", longest=64)
def kvm_evidence(data: bytes) -> None:
    """Nothing but nothing is evidence of KVM."""
    assert (refused(lambda: tee.load("kvm").parse(data)) is not None) is (data == b"")


# Evidence that is signed


@target("snp.signed_report", seeds=lambda: [world().chip.report(version=n)[:672] for n in (2, 3, 4, 5)], longest=672)
def snp_signed_report(data: bytes) -> None:
    """Whatever a chip signs is accepted or refused, with a verdict."""
    signed = data[:672].ljust(672, b"\0")
    report = signed + world().chip.signature(signed)
    judged("snp", snp.encode(report, world().chip.vek, [("", world().amd_crl)]))


def inner(signed: bytes) -> bytes:
    """The part of a certificate or list that is signed."""
    return der.Der(signed, "signed").sequence().whole(der.SEQUENCE, "tbs")


@target("snp.signed_certificate", "der", lambda: [inner(world().chip.vek)], longest=4096)
def snp_signed_certificate(data: bytes) -> None:
    """Whatever AMD signs as a key's certificate, the report below it is accepted or refused, with a verdict."""
    vek = amd.sign(data, PSS_SHA384, world().vendor.keys["ASK"])
    judged("snp", snp.encode(world().chip.report(), vek, [("", world().amd_crl)]))


@target("snp.signed_crl", "der", lambda: [inner(world().amd_crl)], longest=4096)
def snp_signed_crl(data: bytes) -> None:
    """Whatever AMD signs as a revocation list, evidence is accepted or refused, with a verdict."""
    crl = amd.sign(data, PSS_SHA384, world().vendor.keys["ARK"])
    judged("snp", snp.encode(world().chip.report(), world().chip.vek, [("", crl)]))


@target("sgx.signed_quote", seeds=lambda: [sgx.parse(intel.quote("sgx"))[0].signed], longest=432)
def sgx_signed_quote(data: bytes) -> None:
    """Whatever a quoting enclave signs is accepted or refused, with a verdict."""
    quote = intel.platform().quote("sgx", data[:432].ljust(432, b"\0"), wrapped=False)
    judged("sgx", sgx.wrap(quote, good("sgx")))


def tds() -> list[bytes]:
    """Header and body of versions 5 and 4."""
    quotes = [intel.platform().tdx_quote(td_report()), intel.platform().tdx_quote(td_report(newer=False), 4)]
    return [tdx.parse(quote)[0].signed for quote in quotes]


@target("tdx.signed_quote", seeds=tds, longest=702)
def tdx_signed_quote(data: bytes) -> None:
    """Whatever a quoting enclave signs is accepted or refused, with a verdict."""
    judged("tdx", tdx.wrap(intel.platform().quote("tdx", data, wrapped=True), good("tdx")))


START = NOW - DAY


def tcb_infos() -> list[bytes]:
    """For SGX and TDX."""
    numbers = intel.platform().numbers
    return [json.dumps(tcb_info(numbers, "sgx", START)).encode(), json.dumps(tcb_info(numbers, "tdx", START)).encode()]


@target("intel.signed_tcb_info", "json", tcb_infos)
def intel_signed_tcb_info(data: bytes) -> None:
    """Whatever Intel signs as TCB info, evidence is accepted or refused, with a verdict."""
    judge_with("tcb_info", data)


def identities() -> list[bytes]:
    """For SGX and TDX."""
    return [json.dumps(qe_identity("sgx", START)).encode(), json.dumps(qe_identity("tdx", START)).encode()]


@target("intel.signed_qe_identity", "json", identities)
def intel_signed_qe_identity(data: bytes) -> None:
    """Whatever Intel signs as QE identity, evidence is accepted or refused, with a verdict."""
    judge_with("qe_identity", data)


def judge_with(piece: str, data: bytes) -> None:
    """Both TEEs, with one list exchanged."""
    signed: Any = {piece: intel.intel().sign(data)}
    quotes: dict[TeeName, bytes] = {"sgx": intel.quote("sgx"), "tdx": intel.quote("tdx")}
    for name, quote in quotes.items():
        kind: Any = tee.load(name)
        collateral = replace(good(name), **signed)

        def verify(kind: Any = kind, quote: Any = quote, collateral: Any = collateral) -> Any:
            return kind.verify(kind.parse(quote)[0], collateral, intel.intel().roots(), NOW)

        assert appraise(kind, verify, kind.Policy(), Demands(accept_unattested=True)).checks


def claims() -> list[bytes]:
    """Of platform and realm, each with its length before it."""
    realm = SimulatedRealm(arm.RIM, bytes(64))
    found = cca.parse(arm.platform().token(realm, bytes(64)))[0]
    return [len(found.platform.payload).to_bytes(2, "big") + found.platform.payload + found.realm.payload]


@target("cca.signed_claims", "bytes", claims, longest=8192)
def cca_signed_claims(data: bytes) -> None:
    """Whatever a platform and a realm sign is accepted or refused, with a verdict."""
    size = 2 + int.from_bytes(data[:2], "big")
    judged("cca", cca.wrap(collect(sign(data[2:size], arm.platform().cpak), sign(data[size:], arm.platform().rak))))


# What a Keep and a relying party are told


@target("identity.path", "der", lambda: [inner(chain()[0]), inner(chain()[1])])
def identity_path(data: bytes) -> None:
    """Whatever a Steward signs as this Keep's certificate is one for its key, or refused."""
    signed = der.encode(
        der.SEQUENCE, data, ECDSA_SHA256, der.encode(der.BIT_STRING, b"\0", issuing_key().sign(data, ES256))
    )
    for first in (data, signed):
        refused(lambda: identity_check((first, *chain()[1:]), spki(key()), bytes(32), NOW))  # noqa: B023


@target("client.answer", "any", lambda: [der.encode(der.SEQUENCE, *reversed(chain())), *answers()])
def client_answer(data: bytes) -> None:
    """Whatever a Steward answers is a chain, a nonce, a problem, or refused."""
    refused(lambda: client._pki_path(data))
    refused(lambda: client._chain(data))
    refused(lambda: client._nonce_in(data))
    said = client._problem(app.PROBLEM, data)
    assert len(said) < 16 * LONGEST
    assert said.replace("\n", "").isprintable()


@target("verify.chain", "der", lambda: [chain()[0], proven()])
def verify_chain(data: bytes) -> None:
    """Any certificate that a peer shows is believed or refused, with a Steward's root and without one."""
    refused(lambda: judge((data, *chain()[1:]), Peer(anchors=(chain()[-1],), accept_unattested=True), NOW))
    roots = {"cca": Trust((world().makers["cca"].roots,))}
    refused(lambda: judge((data,), Peer(roots=roots, accept_unattested=True), NOW))


@target("verify.signed_chain", "der", lambda: [inner(chain()[0])], longest=16384)
def verify_signed_chain(data: bytes) -> None:
    """Whatever a Steward signs as a peer's certificate is believed or refused."""
    leaf = der.encode(
        der.SEQUENCE, data, ECDSA_SHA256, der.encode(der.BIT_STRING, b"\0", issuing_key().sign(data, ES256))
    )
    refused(lambda: judge((leaf, *chain()[1:]), Peer(anchors=(chain()[-1],), accept_unattested=True), NOW))


@target("verify.policy", "text", lambda: [b'workload = ["' + b"ab" * 32 + b'"]\nmax_age = "24h"\n[tcb.snp]\nsnp = 1\n'])
def verify_policy(data: bytes) -> None:
    """Any text is what a relying party demands, or refused with the place of each mistake."""
    refused(lambda: demands_of(text(data)))


ECDSA_SHA256 = der.encode(der.SEQUENCE, der.encode(der.OID, der.oid_content("1.2.840.10045.4.3.2")))
ES256 = ec.ECDSA(SHA256())


def chain() -> tuple[bytes, ...]:
    """A certificate for the key of all requests, and those above it."""
    return made_chain()[0]


def issuing_key() -> ec.EllipticCurvePrivateKey:
    """Of the one above."""
    return made_chain()[1]


@cache
def made_chain() -> tuple[tuple[bytes, ...], ec.EllipticCurvePrivateKey]:
    """From a Steward that knows simulated hardware."""
    trust = {name: Trust((maker.roots,)) for name, maker in world().makers.items()}
    grant = decide(made_request("cca"), trust, policy.parse("accept_unattested = true\n"), NOW).require()
    with tempfile.TemporaryDirectory(prefix="donjon-fuzz-") as folder:
        ca = authority.create(f"{folder}/ca", NOW)
        issued = ca.issue(grant, NOW)
        above = tuple(item.public_bytes(Encoding.DER) for item in ca.chain)
        signer = load_pem_private_key(Path(f"{folder}/ca/issuing.pem").read_bytes(), None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    return (issued.der, *above), signer


def proven() -> bytes:
    """A certificate of a Keep without a Steward, with evidence in it."""
    own = new_key()
    maker = world().makers["cca"]
    value = maker.make(maker.kind.key_binding(spki(own)), bytes(maker.field))
    return self_signed(["localhost"], NOW, own, (maker.kind.OID, value)).certificate


def answers() -> list[bytes]:
    """Of a Steward, in JSON."""
    found = [{"chain": [b64encode(one).decode() for one in chain()]}, {"nonce": "AQ" * 38}]
    return [json.dumps(item).encode() for item in (*found, {"type": "/v1/problems/refused", "detail": "no"})]


# The service


@dataclass
class Live:
    """A Steward in this process, with a record on disk."""

    application: Any
    service: Service
    loop: asyncio.AbstractEventLoop
    folder: tempfile.TemporaryDirectory[str] = field(repr=False)

    def post(self, target: str, body: bytes, kind: str) -> Reply:
        """Send a body and see that the answer is one."""
        reply = self.loop.run_until_complete(call_async(self.application, "POST", target, body, kind=kind))
        assert 200 <= reply.status < 500, (reply.status, reply.body[:500])
        if reply.status == 200:
            assert reply.body
        else:
            assert reply.headers["content-type"] == app.PROBLEM
            found = reply.json
            assert found["status"] == reply.status
            assert found["type"].rpartition("/")[2] in app.PROBLEMS
            assert 0 < len(found["detail"]) < LONGEST
        assert b"Traceback" not in reply.body
        return reply

    def close(self) -> None:
        """End the thread that writes the record."""
        self.service.writer.close()
        self.loop.close()
        self.folder.cleanup()


LIVE: list[Live] = []


def live() -> Live:
    """The Steward of this process, made when it is first asked for: a fork has no threads."""
    if not LIVE:
        quick = Path("/dev/shm")
        folder = tempfile.TemporaryDirectory(prefix="donjon-fuzz-", dir=quick if os.access(quick, os.W_OK) else None)
        trust = {name: Trust((maker.roots,)) for name, maker in world().makers.items()} | {"kvm": Trust((Roots({}),))}
        ca = authority.create(f"{folder.name}/ca", NOW)
        writer = Writer(record.Record(f"{folder.name}/record.sqlite"))
        service = Service(policy.parse("accept_unattested = true\n"), trust, ca, writer, clock=lambda: NOW)
        LIVE.append(Live(app.public(service), service, asyncio.new_event_loop(), folder))
    return LIVE[0]


@target("steward.post", "der", requests)
def steward_post(data: bytes) -> None:
    """`POST /` of any bytes is answered with a certificate, or with 4xx and the reason."""
    live().post("/", data, app.PKCS10)


@target("steward.post_bundle", "der", lambda: [der.encode(der.SEQUENCE, *requests()[:2])])
def steward_post_bundle(data: bytes) -> None:
    """`POST /` of any bytes as a bundle is answered with certificates, or with 4xx and the reason."""
    live().post("/", data, app.BUNDLE)


@target(
    "steward.attest", "json", lambda: [json.dumps({"request": b64encode(one).decode()}).encode() for one in requests()]
)
def steward_attest(data: bytes) -> None:
    """`POST /v1/attest` and `/v1/verdict` of any bytes are answered as they say, or with 4xx and the reason."""
    live().post("/v1/attest", data, "application/json")
    live().post("/v1/verdict", data, "application/json")


def values() -> list[bytes]:
    """Evidence behind a byte that says of which TEE."""
    return [bytes([number]) + evidence(name) for number, name in enumerate(world().makers)]


@target("steward.signed_post", "bytes", values)
def steward_signed_post(data: bytes) -> None:
    """`POST /` of a good request with any evidence is answered with a certificate, or with 4xx and the reason."""
    names = [*world().makers, "kvm"]
    kind = tee.load(names[data[0] % len(names)] if data else "kvm")
    live().post("/", request((kind.OID, data[1:]), key=key()), app.PKCS10)


def small_firmware() -> list[bytes]:
    """Simulated firmware, as small as it gets."""
    return [simulated_firmware.write(size=0x8000), simulated_firmware.write(size=0x8000, kernel_hashes=False)]


@target("snp.firmware", seeds=small_firmware)
def snp_firmware_file(data: bytes) -> None:
    """Any file is firmware whose sections are few, small and apart, or is refused."""
    found = refused(lambda: snp_firmware.parse(data))
    if found is not None:
        assert sum(item.size for item in found.sections) <= snp_firmware.MAX_MEMORY
        assert len({item.gpa for item in found.sections if item.size}) == sum(1 for item in found.sections if item.size)


@target("tdx.firmware", seeds=small_firmware)
def tdx_firmware_file(data: bytes) -> None:
    """Any file is firmware that has an MRTD, or is refused."""
    found = refused(lambda: tdx_measure.mrtd(data))
    assert found is None or len(found) == 48


def programs() -> list[bytes]:
    from tests.tee.tdx.test_measure import program

    return [program(), program((b"a" * 512, b"b" * 512), b"s" * 64)]


@target("tdx.program", seeds=programs, longest=4096)
def tdx_program(data: bytes) -> None:
    """Any file is a program that has a hash, or is refused; what follows its sections is hashed too."""
    found = refused(lambda: authenticode.image_hash(data))
    assert found is None or len(found) == 48


@target("snp.id_block", seeds=lambda: [b"".join(files("enarx/id-*.bin")()[::-1])], longest=4192)
def snp_id_block(data: bytes) -> None:
    """Any bytes are an ID block that the firmware would take, or are refused."""
    refused(lambda: idblock.check(data[:96], data[96:]))


@target("sgx.sigstruct", seeds=files("enarx/sigstruct.bin"), longest=1808)
def sgx_sigstruct(data: bytes) -> None:
    """Any bytes are a SIGSTRUCT that the processor would take, or are refused."""
    refused(lambda: sigstruct.check(data))


def signature_files() -> list[bytes]:
    blob = (VECTORS / "enarx" / "sigstruct.bin").read_bytes()
    return [signatures.write("0.1.0", sgx=blob), signatures.write("0.1.0", (bytes(96), bytes(4096)))]


@target("signatures", seeds=signature_files, longest=32768)
def signatures_file(data: bytes) -> None:
    """Any file is one of signatures whose parts have their sizes, or is refused."""
    found = refused(lambda: signatures.parse(data))
    if found is not None and found.sev is not None:
        assert len(bytes(found.sev.id_block) + bytes(found.sev.id_auth)) == 4192


def archives() -> list[bytes]:
    tree = {
        "init": cpio.file(b"#!/x\n", executable=True),
        "lib64": cpio.link("usr"),
        "dev/null": cpio.node(1, 3, 0o666),
    }
    return [cpio.write(tree).rstrip(b"\0"), cpio.write({}).rstrip(b"\0") + bytes(8) + cpio.write({"a": cpio.file(b"")})]


@target("image.cpio", seeds=archives, longest=4096)
def image_cpio(data: bytes) -> None:
    """Any bytes are archives whose entries lie inside them, or are refused; what was written is read as it was."""
    found = refused(lambda: list(cpio.read(data)))
    if found is not None:
        assert sum(len(entry.data) for _, entry in found) <= len(data)
        tree = {str(index): entry for index, (_, entry) in enumerate(found)}
        again = dict(cpio.read(cpio.write(tree)))
        assert all(again[path].data == entry.data for path, entry in tree.items())


@target(
    "image.elf", seeds=lambda: [elves.library(("libc.so.6", "libm.so.6")), elves.module(("depends=a",))], longest=4096
)
def image_elf(data: bytes) -> None:
    """Any file is one whose parts lie inside it, or is refused; what is cut is a part of it that needs the same."""
    cut = refused(lambda: elf.cut(data, "x"))
    needs = refused(lambda: elf.needed(data, "x"))
    if cut is not None:
        assert len(cut) <= len(data)
        again = refused(lambda: elf.needed(cut, "x"))
        assert again is None or needs is None or again == needs
    for key, value in refused(lambda: elf.modinfo(data, "x")) or ():
        assert isinstance(key + value, str)


@target("image.kernel", seeds=lambda: [elves.module(("depends=b,c", "name=a"))], longest=4096)
def image_kernel(data: bytes) -> None:
    """Whatever a kernel module says it depends on, an order is found, or it is refused."""
    good = elves.module(("depends=",))
    found = refused(lambda: kernel.load_order(["a"], {"a": data, "b": good, "c": data}.get))
    assert found is None or found[-1][0] == "a"
    packed = refused(lambda: kernel.payload(data, "x"))
    assert packed is None or packed in data


@target("image.lock", "json", lambda: [(ROOT / "src/donjon/image/lock.json").read_bytes()])
def image_lock(data: bytes) -> None:
    """Any text is a lock whose files stay where they are put, or is refused."""
    found = refused(lambda: image_locks.parse(data))
    for package in found.packages if found is not None else ():
        assert "/" not in package.file
        assert package.file not in (".", "..")
        assert not package.name.startswith("-")


def told() -> list[bytes]:
    content = dict.fromkeys(manifest.FILES, b"x")
    entries = {"base": {"init": cpio.file(b"x")}}
    rows: list[dict[str, object]] = [{"name": "libc6", "version": "2", "use": "image"}]
    share: dict[str, object] = {"purpose": "TLS", "raw": 1, "zstd": 1}
    made = manifest.make(
        "debug", "quiet", "0" * 64, content, entries, {"base": b"x"}, {"base": b"x"}, {"init": "donjon"}, rows, [share]
    )
    return [manifest.canonical(made)]


@target("image.manifest", "json", told, longest=16384)
def image_manifest(data: bytes) -> None:
    """Any text is a manifest that can be shown, or is refused."""
    found = refused(lambda: manifest.parse(data, "manifest.json"))
    if found is not None:
        shown = image_pages.as_text(Image("/x", found, "0" * 64), checked=False)
        assert all(line.isprintable() for line in shown.split("\n"))


@target("image.deb", seeds=lambda: [debs.deb({"usr/bin/x": b"program", "lib/y.so": "y.so.1"})], longest=4096)
def image_deb(data: bytes) -> None:
    """Any file is a package whose files stay below where it is unpacked, or is refused."""
    stays(lambda: list(unpacking.deb(data, "x.deb")))


@target("image.tar", seeds=lambda: [lzma.decompress(debs.tar({"usr/x": b"program", "y": "x"}))], longest=12288)
def image_tar(data: bytes) -> None:
    """As for a package, behind what compresses it."""
    stays(lambda: list(unpacking.deb(debs.ar({"data.tar": data}), "x.deb")))


@target("image.wheel", seeds=lambda: [debs.wheel({"a/__init__.py": b"x = 1", "b.so": b"\x7fELF" * 9})], longest=4096)
def image_wheel(data: bytes) -> None:
    """As for a package."""
    stays(lambda: list(unpacking.wheel(data, "x.whl")))


def stays(act: Callable[[], list[unpacking.Item]]) -> None:
    for item in refused(act) or ():
        assert not item.path.startswith("/")
        assert ".." not in item.path.split("/")


# platform


def records() -> list[bytes]:
    """The documents of recorded machines, each with its leaves and files."""
    return [machines.document(name)[0] for name in machines.MACHINES]


@target("platform.record", "json", records, longest=16384)
def platform_record(data: bytes) -> None:
    """Any record is of a machine that is judged without a fault, and shown without what terminals obey; or refused."""
    folder = KEPT / "record"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "machine.json").write_bytes(data)
    found = refused(lambda: Recorded(str(folder)))
    if found is not None:
        shown(found)


def shown(found: Recorded) -> None:
    """Judge a machine in every way that there is, and look at what is said."""
    judged = doctor.examine(backends.find(found))
    guest = backends.inside(found)[0]
    texts = cli_doctor.as_text(judged, guest) + cli_doctor.as_json(judged, guest)
    for backend in backends.find(found):
        texts += "".join(cli_platform._lines(datum, 1) for datum in backend.data)
        texts += json.dumps(cli_platform.backend_to_json(backend))
    for word, demand in itertools.product(("auto", "nil", "snp", "tdx"), (None, "tee", "snp", "sgx")):
        try:
            chosen = choice.choose(word, demand, None, found, provider=lambda: guest, can=("nil", "kvm", "snp", "tdx"))
        except (PlatformError, UsageError) as error:
            texts += error.message
        else:
            assert demand in (None, "tee", chosen.tee)
            assert demand is None or chosen.tee is not None
    assert all(line.isprintable() for line in texts.split("\n"))


class Strange(Recorded):
    """A good machine on which every file and directory is strange."""

    content = b""

    def data(self, path: str, most: int = 1 << 22) -> bytes | None:
        if path.endswith("machine.json"):
            return super(Recorded, self).data(path, most)
        return self.content[:most]

    def names(self, _path: str) -> tuple[str, ...]:
        return tuple(os.fsdecode(name) for name in self.content.split(b"\n"))


@cache
def strange(name: str) -> Strange:
    folder = KEPT / "strange" / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "machine.json").write_bytes(machines.document(name)[0])
    return Strange(str(folder))


def small_files() -> list[bytes]:
    entry = der.encode(der.SEQUENCE, der.encode(der.UTF8_STRING, b"https://example.com"), der.encode(der.SEQUENCE))
    lists = der.encode(der.SEQUENCE, der.encode(der.SEQUENCE, entry))
    return [b"Y\n", b"00606a000000", b"Raspberry Pi 4 Model B\0", lists]


@target("platform.files", seeds=small_files, longest=4096)
def platform_files(data: bytes) -> None:
    """Whatever the files of a machine hold (of the kernel, of the caches), it is judged without a fault."""
    for name in ("snp-host", "sgx-host", "tdx-host", "raspberry-pi"):
        machine = strange(name)
        machine.content = data
        shown(machine)


@target("platform.lists", "der", small_files, longest=65536)
def platform_lists(data: bytes) -> None:
    """Any file holds lists that end some day, or is refused."""
    found = refused(lambda: caching.read_lists(data))
    if found is not None:
        assert len(found) <= caching.MAX_LISTS
        refused(lambda: caching.ends(data))


def trials() -> list[bytes]:
    good = {"step": "done", "api": 12, "seconds": 0.0004}
    kept = {"key": "k", "state": "works", "problem": "", "hint": None, "modules": ["kvm_amd"], "remembered": False}
    return [json.dumps(good).encode(), json.dumps({**kept, "api": 12, "seconds": 0.1}).encode()]


@target("platform.kvm", "json", trials, longest=4096)
def platform_kvm(data: bytes) -> None:
    """Whatever a trial prints or a memory holds, KVM works or it is said why not; nothing else is let out."""
    found = kvm._judge(data)
    assert found.works == (found.problem == "")
    assert found.problem.isprintable()
    KEPT.mkdir(parents=True, exist_ok=True)
    (KEPT / "kvm.json").write_bytes(data)
    kept = kvm._recall(str(KEPT / "kvm.json"), "k")
    assert kept is None or all(isinstance(part, str) for part in (kept.state, kept.problem, kept.hint or ""))


@target("platform.release", seeds=lambda: [b'ID=debian\nID_LIKE="a b"\n', b"ID=opensuse-leap"], longest=4096)
def platform_release(data: bytes) -> None:
    """Any os-release names a command that we know, or none."""
    pairs = (line.partition("=") for line in text(data).splitlines())
    how = qemu.how_to_get({name.strip(): value.strip() for name, _, value in pairs})
    assert how in qemu.PACKAGES.values() or how.startswith("install QEMU ")


@target("platform.hello", longest=4096)
def platform_hello(data: bytes) -> None:
    """Whatever is taken for a ClientHello, what is read is code points."""
    assert all(0 <= code < 65536 for code in facts.client_groups(data))
