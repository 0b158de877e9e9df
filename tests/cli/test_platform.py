"""`platform info`: what is found here, what is printed of it, and that it never fails."""

from __future__ import annotations

import json
import os
import ssl
import sys
from typing import Any

import pytest

from donjon.cli import platform as command
from donjon.cli.main import main
from donjon.errors import PlatformError
from donjon.platform import facts
from donjon.platform.backends import Backend, Datum

Captured = pytest.CaptureFixture[str]


def sample(**changes: Any) -> facts.Facts:
    """Facts of a machine that is the same everywhere."""
    found: dict[str, Any] = {
        "version": "9.9.9",
        "system_info": "Linux 6.1 #1 SMP x86_64",
        "python": "cpython 3.11.7",
        "processors": 2,
        "engine": {"name": "wasmtime", "version": "50.0.1", "library": "/lib/_libwasmtime.so"},
        "tls": {
            "library": "OpenSSL 3.5.0",
            "version_1_3": True,
            "groups": ["X25519MLKEM768", "x25519"],
            "hybrid": ["X25519MLKEM768"],
        },
        "cache": "/home/ada/.cache/donjon/modules",
        "descriptors": {"soft": 1024, "hard": None, "open": 4},
        "backends": [
            Backend(
                "nil",
                (Datum("WebAssembly engine", True, "wasmtime 50.0.1"),),
                hardware=True,
                protects=False,
                mesg="nil protects nobody from the host.",
            )
        ],
        "confidential_vm": None,
        "confidential_vm_data": [],
        **changes,
    }
    return found  # type: ignore[return-value]


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")


def test_text_reads_as_agreed() -> None:
    assert command.as_text(sample()) == (
        "Donjon 9.9.9\n"
        "\n"
        "  System        Linux 6.1 #1 SMP x86_64\n"
        "  Processors    2\n"
        "  Python        cpython 3.11.7\n"
        "  Engine        wasmtime 50.0.1\n"
        "                /lib/_libwasmtime.so\n"
        "  TLS           OpenSSL 3.5.0, with TLS 1.3\n"
        "  Groups        X25519MLKEM768, x25519\n"
        "  Post-quantum  X25519MLKEM768\n"
        "  Cache         /home/ada/.cache/donjon/modules\n"
        "  Descriptors   1024, can be raised to any number\n"
        "\n"
        "✔ Backend: nil\n"
        "  ✔ WebAssembly engine: wasmtime 50.0.1\n"
        "\n"
        "  nil protects nobody from the host.\n"
        "\n"
        "This machine is no confidential VM\n"
    )


def test_text_shows_what_is_below_and_what_is_not_needed() -> None:
    below = Datum("API Version", True, "12"), Datum("MEMLOCK rlimit allows for", False, "~0 Keeps", needed=False)
    backend = Backend("kvm", (Datum("Driver", True, "/dev/kvm", data=below),), hardware=True, protects=False)
    guest = Datum("configfs-tsm", False, None, "Linux 6.7 and later has it.")
    text = command.as_text(sample(backends=[backend], confidential_vm="snp", confidential_vm_data=[guest]))
    assert text.endswith(
        "✔ Backend: kvm\n"
        "  ✔ Driver: /dev/kvm\n"
        "    ✔ API Version: 12\n"
        "    - MEMLOCK rlimit allows for: ~0 Keeps\n"
        "\n"
        "This machine is itself a confidential VM: snp\n"
        "  ✗ configfs-tsm\n"
        "\n"
        "  Linux 6.7 and later has it.\n"
    )


def test_text_tells_what_is_missing_and_what_to_do() -> None:
    datum = Datum("WebAssembly engine", False, None, "Install it.")
    text = command.as_text(
        sample(
            engine={"name": "wasmtime", "version": None, "library": None},
            tls={"library": "OpenSSL 3.0", "version_1_3": False, "groups": [], "hybrid": []},
            cache=None,
            descriptors={"soft": None, "hard": None, "open": None},
            backends=[Backend("nil", (datum,), hardware=True, protects=False)],
        )
    )
    for part in (
        "wasmtime is not installed",
        "no library for this machine",
        "OpenSSL 3.0, without TLS 1.3",
        "none (OpenSSL 3.5 brings them)",
        "none: this user has no home directory",
        "any number, can be raised to any number",
        "✗ Backend: nil\n  ✗ WebAssembly engine\n\n  Install it.\n",
    ):
        assert part in text


def test_text_escapes_what_the_machine_says() -> None:
    assert "\x1b" not in command.as_text(sample(system_info="\x1b[2J", cache="/home/\x1b[2J"))


def test_json_keeps_the_keys_of_enarx_and_uses_null() -> None:
    found = json.loads(command.as_json(sample()))
    assert found["backends"][0] == {
        "backend": "nil",
        "pass": True,
        "hardware": True,
        "protects": False,
        "runs": True,
        "mesg": "nil protects nobody from the host.",
        "data": [
            {
                "name": "WebAssembly engine",
                "pass": True,
                "needed": True,
                "info": "wasmtime 50.0.1",
                "mesg": None,
                "command": None,
                "data": [],
            }
        ],
    }
    assert (found["version"], found["system_info"]) == ("9.9.9", "Linux 6.1 #1 SMP x86_64")
    assert found["descriptors"] == {"soft": 1024, "hard": None, "open": 4}


def test_json_of_this_machine_has_its_shape(capfd: Captured) -> None:
    assert main(["platform", "info", "--json"]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    found = json.loads(out)
    assert _fits(found, SCHEMA) is None
    assert [backend["backend"] for backend in found["backends"]] == ["nil", "kvm", "snp", "tdx", "sgx"]
    assert "secret" not in out


def test_text_of_this_machine_says_that_nil_protects_nobody(capfd: Captured) -> None:
    assert main(["platform", "info"]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    assert "nil protects nobody from the host" in out.replace("\n  ", " ")


def test_facts_are_those_of_this_process() -> None:
    found = facts.find()
    assert found["system_info"].startswith(os.uname().sysname)
    assert os.uname().nodename not in found["system_info"].split()
    assert found["python"].endswith(sys.version.split()[0])
    assert found["tls"]["library"] == ssl.OPENSSL_VERSION
    assert {"x25519", "secp256r1", "secp384r1"} <= set(found["tls"]["groups"])
    assert bool(found["tls"]["hybrid"]) == (ssl.OPENSSL_VERSION_INFO >= (3, 5))
    assert found["backends"][0].passed
    count = found["descriptors"]["open"]
    assert count is not None
    assert count >= 3


def test_no_engine_is_a_fact_too(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib import metadata

    from donjon.wasm.engine import _capi

    def no_version(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    def no_library() -> str:
        raise PlatformError("none")

    monkeypatch.setattr(metadata, "version", no_version)
    monkeypatch.setattr(_capi, "library_path", no_library)
    found = facts.find()
    assert found["engine"] == {"name": "wasmtime", "version": None, "library": None}
    assert not found["backends"][0].passed
    mesg = found["backends"][0].data[0].mesg
    assert mesg == "Install the Python package wasmtime into the Python that runs donjon."


def test_a_broken_engine_is_a_fact_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    from donjon.wasm.engine import _capi

    broken = tmp_path / "_libwasmtime.so"
    broken.write_bytes(b"\x7fELF")
    monkeypatch.setattr(_capi, "library_path", lambda: str(broken))
    engine = facts.find()["backends"][0].data[0]
    assert not engine.passed
    assert str(engine.mesg).startswith("Reinstall the Python package wasmtime: ")


def test_no_tls_13_is_a_fact_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssl, "HAS_TLSv1_3", False)
    nil = facts.find()["backends"][0]
    assert not nil.passed
    assert nil.data[1].mesg == "Use a Python whose OpenSSL has TLS 1.3."


def test_no_descriptor_list_and_no_limit_are_facts_too(monkeypatch: pytest.MonkeyPatch) -> None:
    import resource

    def gone(_path: str) -> list[str]:
        raise FileNotFoundError

    monkeypatch.setattr(resource, "getrlimit", lambda _which: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    monkeypatch.setattr(os, "listdir", gone)
    assert facts._descriptors() == {"soft": None, "hard": None, "open": None}


def hello(extensions: bytes, session: bytes = b"s" * 32) -> bytes:
    """A ClientHello with these extensions, in one record."""
    body = b"\x03\x03" + b"r" * 32 + bytes([len(session)]) + session + b"\0\2\x13\1" + b"\1\0"
    body += len(extensions).to_bytes(2, "big") + extensions
    message = b"\1" + len(body).to_bytes(3, "big") + body
    return b"\x16\x03\x01" + len(message).to_bytes(2, "big") + message


GROUPS = b"\0\x0a\0\6\0\4\x11\xec\0\x1d"
OTHER = b"\0\x2b\0\3\2\3\4"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(hello(GROUPS), [0x11EC, 0x1D], id="groups alone"),
        pytest.param(
            hello(OTHER + GROUPS, session=b""), [0x11EC, 0x1D], id="groups after another extension, without a session"
        ),
        pytest.param(hello(OTHER), [], id="no groups"),
        pytest.param(hello(b""), [], id="no extensions"),
        pytest.param(b"", [], id="nothing"),
        pytest.param(b"GET / HTTP/1.1\r\n", [], id="not TLS"),
        pytest.param(hello(GROUPS)[:40], [], id="cut in the random"),
        pytest.param(b"\x16\x03\x01\0\x04\2\0\0\0", [], id="a ServerHello"),
    ],
)
def test_reads_the_groups_of_a_client_hello(data: bytes, expected: list[int]) -> None:
    assert facts.client_groups(data) == expected


def test_reads_a_client_hello_in_several_records() -> None:
    whole = hello(GROUPS)[5:]
    pieces = [whole[i : i + 20] for i in range(0, len(whole), 20)]
    assert facts.client_groups(b"".join(b"\x16\3\1" + len(p).to_bytes(2, "big") + p for p in pieces)) == [0x11EC, 0x1D]


def test_reading_a_client_hello_never_fails_wherever_it_is_cut() -> None:
    whole = hello(OTHER + GROUPS)
    for size in range(len(whole)):
        assert set(facts.client_groups(whole[:size])) <= {0x11EC, 0x1D}


TEXT, COUNT, FLAG, NONE = str, int, bool, type(None)
DATUM: dict[str, Any] = {
    "name": (TEXT,), "pass": (FLAG,), "needed": (FLAG,), "info": (TEXT, NONE), "mesg": (TEXT, NONE),
    "command": (TEXT, NONE),
}  # fmt: skip
DATUM["data"] = [DATUM]
SCHEMA = {
    "version": (TEXT,),
    "system_info": (TEXT,),
    "python": (TEXT,),
    "processors": (COUNT,),
    "cache": (TEXT, NONE),
    "engine": {"name": (TEXT,), "version": (TEXT, NONE), "library": (TEXT, NONE)},
    "tls": {"library": (TEXT,), "version_1_3": (FLAG,), "groups": [(TEXT,)], "hybrid": [(TEXT,)]},
    "descriptors": {"soft": (COUNT, NONE), "hard": (COUNT, NONE), "open": (COUNT, NONE)},
    "backends": [
        {
            "backend": (TEXT,), "pass": (FLAG,), "hardware": (FLAG,), "protects": (FLAG,), "runs": (FLAG,),
            "mesg": (TEXT, NONE), "data": [DATUM],
        }
    ],
    "confidential_vm": (TEXT, NONE),
    "confidential_vm_data": [DATUM],
}  # fmt: skip


def _fits(value: Any, schema: Any, where: str = "") -> str | None:
    """Where the value is not as the schema has it: exactly these keys, each of one of these types."""
    if isinstance(schema, dict):
        if not isinstance(value, dict) or value.keys() != schema.keys():
            return f"{where}: {value!r}"
        below = [_fits(value[key], schema[key], f"{where}.{key}") for key in schema]
    elif isinstance(schema, list):
        below = [_fits(item, schema[0], f"{where}[]") for item in value]
    else:
        below = [None if type(value) in schema else f"{where}: {value!r}"]
    return next((problem for problem in below if problem), None)
