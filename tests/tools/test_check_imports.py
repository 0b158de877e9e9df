"""tools/check_imports.py: what it refuses, what it lets pass, and that the project keeps to it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.check_imports import LAYERS, NEVER, PURE, ROOT, SIDEWAYS, check, main, place

REFUSED = {
    "a config that imports the command line": (
        "config/rules.py",
        "from donjon.cli import tui",
        "donjon.config.rules imports donjon.cli, which stands above it",
    ),
    "an import inside a function": (
        "wasm/engine.py",
        "def f():\n    import donjon.keep",
        "donjon.wasm.engine imports donjon.keep: an engine can be used without a Keep",
    ),
    "wasm that knows TLS": (
        "wasm/engine.py",
        "from donjon.tls.pipe import TlsPipe",
        "donjon.wasm.engine imports donjon.tls.pipe: a guest never sees TLS",
    ),
    "wasm that knows the configuration": (
        "wasm/engine.py",
        "from donjon.config.models import Config",
        "donjon.wasm.engine imports donjon.config.models: what a guest gets is handed over by the Keep",
    ),
    "an import for types only": (
        "wasm/engine.py",
        "TYPE_CHECKING = False\nif TYPE_CHECKING:\n    from donjon.tls.pipe import TlsPipe",
        "donjon.wasm.engine imports donjon.tls.pipe: a guest never sees TLS",
    ),
    "a neighbour": (
        "identity/key.py",
        "from donjon.wasm import engine",
        "donjon.identity.key imports donjon.wasm.engine, which stands beside it",
    ),
    "a stream that goes past the base of descriptors": (
        "tls/streams.py",
        "import donjon.wasm.engine",
        "donjon.tls.streams imports donjon.wasm.engine, which stands beside it",
    ),
    "a relative import": (
        "wire/cursor.py",
        "from ..keep import Keep",
        "donjon.wire.cursor imports donjon.keep, which stands above it",
    ),
    "an import by a string": (
        "config/rules.py",
        "import importlib\nimportlib.import_module('donjon.keep')",
        "donjon.config.rules imports donjon.keep, which stands above it",
    ),
    "the library's face": (
        "keep/nil.py",
        "from donjon import Keep",
        "donjon.keep.nil imports donjon, which stands above it",
    ),
    "a package whose own __init__ loads what stands higher": (
        "tls/__init__.py",
        "from donjon.tls.streams import TlsStream",
        "donjon.tls imports donjon.tls.streams, which stands above it",
    ),
    "a module without a place": ("kitchen.py", "import donjon.errors", "donjon.kitchen stands in no layer"),
    "a socket in a pipe without I/O": (
        "tls/pipe.py",
        "import socket",
        "donjon.tls.pipe imports socket: it has to stay free of sockets, files, clock and randomness",
    ),
    "the clock, inside a function": (
        "wire/cursor.py",
        "def f():\n    from time import monotonic",
        "donjon.wire.cursor imports time: it has to stay free",
    ),
    "the clock in a TEE": (
        "tee/snp/verify.py",
        "import time",
        "donjon.tee.snp.verify imports time: it has to stay free",
    ),
    "a TEE that imports another": (
        "tee/snp/verify.py",
        "from donjon.tee.cca import layout",
        "donjon.tee.snp.verify imports donjon.tee.cca, which stands beside it",
    ),
    "a verifier that imports simulated hardware": (
        "tee/snp/verify.py",
        "from donjon.tee.snp import simulate",
        "donjon.tee.snp.verify imports donjon.tee.snp.simulate, which stands above it",
    ),
    "a contract that knows a TEE": (
        "tee/contract.py",
        "import donjon.tee.snp",
        "donjon.tee.contract imports donjon.tee.snp, which stands above it",
    ),
    "a part of os": ("errors.py", "import os.path", "donjon.errors imports os: it has to stay free"),
}

ALLOWED = {
    "the layer below": ("cli/run.py", "from donjon.keep import Keep"),
    "several layers below": ("cli/run.py", "from donjon.errors import UsageError"),
    "its own unit": ("wasm/engine.py", "from donjon.wasm.wasi import p1"),
    "its own unit, relatively": ("wasm/engine.py", "from .wasi import p1"),
    "the base of descriptors, from the streams": ("tls/streams.py", "from donjon.wasm.wasi import Descriptor"),
    "code that TEEs of one vendor share": ("tee/sgx/verify.py", "from donjon.tee.intel import layout"),
    "what all TEEs share": (
        "tee/snp/verify.py",
        "from donjon.tee.contract import Checks\nfrom donjon.wire import layout",
    ),
    "randomness in simulated hardware": ("tee/snp/simulate.py", "import secrets\nfrom donjon.tee.snp import layout"),
    "what only computes in a pure module": ("tee/snp/verify.py", "from urllib.parse import unquote"),
    "the version": ("cli/main.py", "from donjon import __version__"),
    "a module through the package": ("keep/nil.py", "from donjon import errors"),
    "other libraries": ("wasm/engine.py", "import os\nimport wasmtime"),
    "types of the clock in a pure module": (
        "tls/pipe.py",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import time",
    ),
    "a face that offers its own on request": ("tls/__init__.py", "def f():\n    from donjon.tls import streams"),
    "the same words in a docstring": ("errors.py", '"""Not here: import socket; from donjon.cli import tui."""'),
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A source tree with the packages that the cases speak of, all of them empty."""
    names = (
        "cli/run cli/tui keep/nil wasm/engine wasm/wasi tls/pipe tls/streams config/models config/rules identity/key "
        "wire/layout tee/contract tee/snp/layout tee/snp/simulate tee/snp/verify tee/cca/layout tee/intel/layout "
        "tee/sgx/verify"
    )
    for name in names.split():
        path = tmp_path / "donjon" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        (path.parent / "__init__.py").touch()
    for name in ("__init__", "errors"):
        (tmp_path / "donjon" / f"{name}.py").touch()
    return tmp_path


def write(tree: Path, name: str, text: str) -> Path:
    path = tree / "donjon" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


@pytest.mark.parametrize("case", REFUSED)
def test_refuses(case: str, tree: Path) -> None:
    name, text, expected = REFUSED[case]
    path = write(tree, name, text)
    found = list(check(tree))
    assert any(expected in finding for finding in found), found
    assert all(finding.startswith(f"{path}:") for finding in found)


@pytest.mark.parametrize("case", ALLOWED)
def test_lets_pass(case: str, tree: Path) -> None:
    name, text = ALLOWED[case]
    write(tree, name, text)
    assert list(check(tree)) == []


def test_tells_the_line_and_ends_with_1(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tree, "config/rules.py", "import json\n\nimport donjon.keep\n")
    assert main([str(tree)]) == 1
    printed = capsys.readouterr()
    assert printed.out.startswith(f"{path}:3: donjon.config.rules imports donjon.keep")
    assert "1 imports point the wrong way" in printed.err


def test_the_project_keeps_to_it() -> None:
    assert list(check(ROOT / "src")) == []


def test_every_rule_has_its_reason() -> None:
    assert all(layer.reason for layer in LAYERS)
    assert all(reason for *_, reason in (*SIDEWAYS, *NEVER))


def test_every_name_in_the_rules_has_a_place() -> None:
    rules = [name for *names, _ in (*SIDEWAYS, *NEVER) for name in names]
    assert [name for name in (*rules, *PURE) if place(name)[0] is None] == []


def test_no_unit_stands_in_two_layers() -> None:
    units = [unit for layer in LAYERS for unit in layer.modules]
    assert len(units) == len(set(units))
