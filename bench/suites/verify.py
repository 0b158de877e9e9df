"""Evidence of real hardware, verified: parsed, found genuine, judged by a policy.

Rates are per second of CPU time. "The first" means that nothing is remembered: neither certificates nor lists. Intel's
are without a second opinion: the library that gives it stands beside, and a Steward needs both.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from importlib import import_module
from typing import Any

from bench import machine
from bench.floor import COLD, OPENSSL, WARM, Speed, speed, total
from bench.results import OURS, Row, Sample, Target
from bench.rounds import turned
from bench.setting import HERE, BenchError, Setting
from bench.suites.echo import places

__all__ = ["DCAP", "Case", "cases", "forget", "measure"]

DCAP = "dcap-qvl"
SAME = "its signatures alone"
"""The same operations by the library that Donjon calls, on the same CPU: what would be left if Python cost nothing."""
VECTORS = HERE.parent / "tests" / "vectors"
TITLES = {"snp": "SEV-SNP report", "sgx": "SGX quote", "tdx": "TDX quote", "cca": "CCA token"}


@dataclass(frozen=True)
class Case:
    """Evidence of one TEE.

    Args:
        judge: parses, verifies and judges it; gives a verdict.
        peer: the same by dcap-qvl, for Intel.
    """

    tee: str
    judge: Callable[[], Any]
    peer: Callable[[], Any] | None = None


def measure(setting: Setting) -> Sequence[Row]:
    """A row for each TEE, seen before and not; in each round OpenSSL is asked anew."""
    cpu = places(1)[0]
    seconds = 0.02 if setting.quick else 0.3
    if shutil.which("openssl") is None:
        setting.note("openssl is not installed: verification has no floor to be compared with")
    found: dict[str, dict[str, list[Sample]]] = {}
    for number in range(setting.rounds):
        known = speed(cpu)
        for case in cases():
            check(case)
            for title, operations, again in (
                (f"{TITLES[case.tee]}, verified", WARM[case.tee], True),
                (f"{TITLES[case.tee]}, verified, the first", COLD[case.tee], False),
            ):
                contenders: dict[str, Callable[[], Sample]] = {}
                if setting.donjon:
                    contenders[OURS] = partial(rate, case.judge, seconds, cpu, None if again else forget)
                if known is not None:
                    contenders[OPENSSL] = partial(floor_rate, operations, known)
                if again:
                    contenders[SAME] = partial(rate, signatures(operations), seconds, cpu)
                if case.peer is not None:
                    contenders[DCAP] = partial(rate, case.peer, seconds, cpu)
                samples = found.setdefault(title, {name: [] for name in contenders})
                for name in turned(list(contenders), number):
                    samples[name].append(contenders[name]())
    return [
        Row("verify", title, "1/s", "more", samples, [Target(0.6, OPENSSL)] if OPENSSL in samples else [])
        for title, samples in found.items()
    ]


def check(case: Case) -> None:
    verdict = case.judge()
    if not verdict.accepted:
        raise BenchError(f"{case.tee}: {verdict.failure}")


def rate(act: Callable[[], Any], seconds: float, cpu: int | None, before: Callable[[], None] | None = None) -> Sample:
    """How often it can be done in a second of CPU time.

    Args:
        before: to be done before each time, and not counted.
    """
    with machine.staying_on(cpu):
        if before is None:
            act()
        count, used = 0, 0.0
        while used < seconds:
            if before is not None:
                before()
            begun = time.process_time()
            for _ in range(1 if before else 10):
                act()
                count += 1
            used += time.process_time() - begun
    return Sample(count / used, used / count * 1e6)


def floor_rate(operations: Mapping[str, int], known: Speed) -> Sample:
    """The rate at which OpenSSL could do these operations and nothing else."""
    needed = total(operations, known)
    return Sample(1 / needed, needed * 1e6)


def signatures(operations: Mapping[str, int]) -> Callable[[], None]:
    """Verify so many signatures, and do nothing else."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    kinds: dict[str, tuple[Any, Any]] = {
        "verify P-256": (ec.SECP256R1(), hashes.SHA256()),
        "verify P-384": (ec.SECP384R1(), hashes.SHA384()),
    }
    made = []
    for name, count in operations.items():
        curve, digest = kinds[name]
        key, algorithm = ec.generate_private_key(curve), ec.ECDSA(digest)
        made += [(key.public_key().verify, key.sign(bytes(632), algorithm), algorithm)] * count

    def act() -> None:
        for verify, signature, algorithm in made:
            verify(signature, bytes(632), algorithm)

    return act


def forget() -> None:
    """Empty everything in which verification remembers what it has seen."""
    for name, module in list(sys.modules.items()):
        if name.startswith("donjon.tee."):
            for value in vars(module).values():
                if hasattr(value, "cache_clear"):
                    value.cache_clear()


def cases() -> Sequence[Case]:
    """Evidence from tests/vectors, each judged at its own time by a policy that it satisfies."""
    from donjon.tee import cca, sgx, snp, tdx

    return [
        snp_case(snp),
        intel_case(
            sgx,
            "sgx",
            "automata-icelake",
            sgx.Policy.read({"allowed_statuses": ["SWHardeningNeeded"], "second_opinion": False}, "[sgx]"),
        ),
        intel_case(tdx, "tdx", "phala-v4-b0c06f", tdx.Policy(second_opinion=False)),
        cca_case(cca),
    ]


def appraised(tee: Any, data: bytes, roots: Any, now: datetime, policy: Any) -> Callable[[], Any]:
    from donjon.tee.contract import Demands, appraise

    demands = Demands()
    return lambda: appraise(tee, lambda: tee.verify(*tee.parse(data), roots, now), policy, demands)


def snp_case(snp: Any) -> Case:
    folder = VECTORS / "snp" / "steward-milan-v2"
    report, vcek, crl = ((folder / name).read_bytes() for name in ("report.bin", "vcek.der", "crl.der"))
    data = snp.encode(report, vcek, [("", crl)])
    policy = snp.Policy.read({"products": ["Milan"], "tcb_floor": "none"}, "[snp]")
    now = datetime.fromisoformat(entry("snp", "steward-milan-v2")["judge_at"])
    return Case("snp", appraised(snp, data, snp.vendor_roots(), now, policy))


def intel_case(tee: Any, name: str, vector: str, policy: Any) -> Case:
    from donjon.tee.intel import vendor_roots
    from donjon.tee.intel.collateral import from_json
    from donjon.tee.intel.evidence import encode_evidence

    folder = VECTORS / name / vector
    quote, text = (folder / "quote.bin").read_bytes(), (folder / "collateral.json").read_bytes()
    now = datetime.fromisoformat(entry(name, vector)["judge_at"])
    data = encode_evidence(quote, from_json(text))
    try:
        library: Any = import_module("dcap_qvl")
    except ImportError:
        return Case(name, appraised(tee, data, vendor_roots(), now, policy))
    collateral = library.QuoteCollateralV3.from_json(text.decode())
    at = int(now.timestamp())
    judge = appraised(tee, data, vendor_roots(), now, policy)
    return Case(name, judge, lambda: library.verify(quote, collateral, at))


def cca_case(cca: Any) -> Case:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

    from donjon.tee.cca.collateral import anchor_name
    from donjon.tee.contract import Roots

    found = entry("cca", "veraison-ffm00")
    platform = found["facts"]["platform"]
    key = load_pem_public_key((VECTORS / "cca" / found["cpak"]).read_bytes())
    name = anchor_name(bytes.fromhex(platform["implementation_id"]), bytes.fromhex(platform["instance_id"]))
    roots = Roots({name: key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)})
    token = (VECTORS / "cca" / "veraison-ffm00.cbor").read_bytes()
    return Case("cca", appraised(cca, token, roots, datetime(2026, 1, 1, tzinfo=UTC), cca.Policy()))


def entry(tee: str, name: str) -> dict[str, Any]:
    vectors = json.loads((VECTORS / tee / "expected.json").read_text())["vectors"]
    found: dict[str, Any] = next(each for each in vectors if each["id"].rpartition("/")[2] == name)
    return found
