"""What process 1 asks of a kernel, played by stand-ins: the kernel's side of these calls is in `test_boot`."""

from __future__ import annotations

import errno

import pytest

from donjon import linux
from donjon.guest import init


@pytest.mark.parametrize("tee", [None, "snp"])
def test_elsewhere_the_evidence_says_what_a_machine_was_started_for(tee: str | None) -> None:
    assert init._named(tee) == (None, None)


def test_a_td_takes_the_modules_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linux, "td_config", lambda: bytes(48))
    assert init._named("tdx") == (bytes(48), None)


def test_a_td_that_cannot_ask_starts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> bytes:
        raise FileNotFoundError(errno.ENOENT, "No such file or directory")

    monkeypatch.setattr(linux, "td_config", missing)
    named, problem = init._named("tdx")
    assert named is None
    assert problem == "the TDX module does not say what this machine was started for: No such file or directory"
