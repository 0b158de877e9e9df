"""Invariant: any bytes are parsed, or refused with ParseError; what was parsed is judged, or refused as evidence.

Bytes alone hardly get past the first head, so evidence and lists are also made from good ones: changed bytes, changed
JSON values at any depth, signed again, and certificates of every strange form.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from donjon import tee
from donjon.errors import ParseError
from donjon.tee import sgx, tdx
from donjon.tee.contract import EvidenceError
from donjon.tee.intel import collateral as lists
from donjon.tee.intel import pck, strictjson, x509
from donjon.tee.intel.simulate import qe_identity, sgx_extension, tcb_info
from donjon.tee.tdx import eventlog
from tests.clock import quickly
from tests.tee.intel.simulated import NOW, intel, platform, quote
from tests.tee.intel.test_verify import exchanged
from tests.tee.intel.vectors import named

MOST = 0.5  # seconds for one input; signatures take some 2 ms, all the rest less
GOOD = {"sgx": intel().collateral(platform(), "sgx", NOW), "tdx": intel().collateral(platform(), "tdx", NOW)}


def judged(act: Callable[[], object]) -> None:
    def message_of() -> str:
        try:
            act()
        except (ParseError, EvidenceError) as error:
            return str(error)
        return ""

    message = quickly(message_of, MOST)
    assert len(message) < 4096
    assert message.isprintable()


def whole(name: str, data: bytes, collateral: lists.Collateral | None = None) -> object:
    """All three steps."""
    module: Any = tee.load(name)
    evidence, came = module.parse(data)
    used = collateral or lists.join(came, GOOD[name])
    return module.judge(module.verify(evidence, used, intel().roots(), NOW), module.Policy())


PARSERS: dict[str, Callable[[bytes], object]] = {
    "sgx.parse": lambda data: whole("sgx", data),
    "tdx.parse": lambda data: whole("tdx", data),
    "collateral.from_json": lists.from_json,
    "strictjson.read": lambda data: strictjson.read(data, "JSON"),
    "strictjson.split": lambda data: strictjson.split(data, "tcbInfo", "JSON"),
    "eventlog.parse": eventlog.parse,
    "pck.parse": pck.parse,
    "x509.certificates": lambda data: x509.certificates(data, "PEM"),
    "x509.certificate": x509.certificate,
    "x509.crl": x509.crl,
}


def samples() -> dict[str, list[bytes]]:
    """Good inputs for each parser."""
    log = named("tdx/lunal-v4-with-event-log").read("ccel_match")[:2200]
    chain = platform().pck.chain
    info = GOOD["tdx"].tcb_info
    assert info
    signed = b'{"tcbInfo":%s,"signature":"%s"}' % (info.body, info.signature.hex().encode())
    return {
        "sgx.parse": [quote("sgx"), sgx.wrap(quote("sgx"), GOOD["sgx"])],
        "tdx.parse": [quote("tdx"), tdx.wrap(quote("tdx"), GOOD["tdx"], log)],
        "collateral.from_json": [lists.to_json(GOOD["sgx"], chain).encode()],
        "strictjson.read": [info.body],
        "strictjson.split": [signed],
        "eventlog.parse": [log],
        "pck.parse": [sgx_extension(platform().numbers)],
        "x509.certificates": [x509.pem(chain).encode()],
        "x509.certificate": list(chain),
        "x509.crl": list(GOOD["sgx"].crls),
    }


SAMPLES = samples()


@pytest.mark.parametrize("name", PARSERS)
def test_good_samples_are_taken(name: str) -> None:
    for sample in SAMPLES[name]:
        if name != "tdx.parse" or sample[:1] != b"\x30":  # the log is another machine's, which the policy notices
            PARSERS[name](sample)


@pytest.mark.parametrize("name", PARSERS)
@settings(max_examples=100)
@given(data=st.binary(max_size=600))
def test_takes_any_bytes(name: str, data: bytes) -> None:
    judged(lambda: PARSERS[name](data))


@pytest.mark.parametrize("name", PARSERS)
@settings(max_examples=150)
@given(data=st.data())
def test_takes_good_samples_with_changed_bytes(name: str, data: st.DataObject) -> None:
    sample = data.draw(st.sampled_from(SAMPLES[name]))
    at = data.draw(st.integers(0, len(sample)))
    new = data.draw(st.binary(max_size=9))
    gone = data.draw(st.integers(0, 9))
    judged(lambda: PARSERS[name](sample[:at] + new + sample[at + gone :]))


@pytest.mark.parametrize("name", PARSERS)
@settings(max_examples=50)
@given(data=st.data())
def test_takes_good_samples_that_are_cut_or_go_on(name: str, data: st.DataObject) -> None:
    sample = data.draw(st.sampled_from(SAMPLES[name]))
    cut = data.draw(st.integers(0, len(sample)))
    judged(lambda: PARSERS[name](sample[:cut]))
    judged(lambda: PARSERS[name](sample + data.draw(st.binary(min_size=1, max_size=40))))


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from(["", "00", "UpToDate", "Revoked", "NotSupported", "2026-11-23T12:00:00Z", "TDX_01", "F" * 96]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def places(value: object, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where something can be changed."""
    found = [path]
    if isinstance(value, dict):
        for key, item in value.items():
            found += places(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            found += places(item, (*path, index))
    return found


def changed(value: Any, path: tuple[Any, ...], new: object) -> Any:
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = changed(value[path[0]], path[1:], new)
    return copy


START = NOW - timedelta(days=1)
INFO = tcb_info(platform().numbers, "tdx", START)
IDENTITY = qe_identity("tdx", START)


@pytest.mark.parametrize("piece", ["tcb_info", "qe_identity"])
@settings(max_examples=300)
@given(data=st.data())
def test_takes_signed_lists_with_changed_values(piece: str, data: st.DataObject) -> None:
    good = INFO if piece == "tcb_info" else IDENTITY
    body = changed(good, data.draw(st.sampled_from(places(good))), data.draw(VALUES))
    text = json.dumps(body).encode()
    collateral = exchanged(GOOD["tdx"], piece, intel().sign(text))
    judged(lambda: whole("tdx", quote("tdx"), collateral))


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("strictjson.read", b"[" * 200_000),
        ("strictjson.read", b'{"a":' * 40_000),
        ("strictjson.read", b"[]," * 80_000),
        ("strictjson.read", b'"' + b'\\"' * 130_000),
        ("strictjson.read", b'"' + b'\\"' * 130_000 + b"\\"),
        ("strictjson.read", b"[" + b'"a",' * 65_000),
        ("strictjson.read", b"{" + b",".join(b'"%d":0' % i for i in range(25_000)) + b',"1":0}'),
        ("strictjson.read", b"1" * 200_000),
        ("strictjson.read", b"-0." + b"1" * 200_000),
        ("x509.certificates", b"-----BEGIN CERTIFICATE-----" * 9_000),
        ("x509.certificates", (b"-----BEGIN CERTIFICATE-----AAAA-----END CERTIFICATE-----" * 5_000)[:250_000]),
        ("x509.certificates", b"-----BEGIN CERTIFICATE-----" + b"A" * 250_000),
        ("collateral.from_json", b'{"pck_crl":"' + b"00" * 1_000_000 + b'"}'),
        ("collateral.from_json", b'{"tcb_info":"' + b"x" * 5_000_000 + b'"}'),
        ("eventlog.parse", SAMPLES["eventlog.parse"][0][:65] + bytes(250_000)),
        ("eventlog.parse", SAMPLES["eventlog.parse"][0][:65] + (bytes(12) + b"\1") * 20_000),
        ("eventlog.parse", SAMPLES["eventlog.parse"][0][:65] + (bytes(8) + b"\1\0\0\0\x0c\0" + bytes(52)) * 3_900),
        ("pck.parse", b"\x30\x83\x03\x00\x00" + b"\x30\x00" * 98_304),
        ("sgx.parse", b"\x30\x83\x03\x0d\x40" + b"\x04\x00" * 100_000),
        ("tdx.parse", quote("tdx")[:636] + b"\xff\xff\xff\x7f" + bytes(20_000)),
    ],
    ids=lambda value: value[:24].decode("latin-1") if isinstance(value, bytes) else value,
)
def test_hostile_input_takes_no_time(name: str, data: bytes) -> None:
    judged(lambda: PARSERS[name](data))
