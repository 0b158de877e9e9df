"""Collecting nothing."""

from __future__ import annotations

import pytest

from donjon.errors import UsageError
from donjon.tee import kvm
from donjon.tee.kvm.collect import collect


def test_gives_enarxs_empty_evidence() -> None:
    assert collect(kvm.key_binding(b"a key")) == b""
    kvm.parse(collect(b""))


def test_refuses_to_bind_anything() -> None:
    with pytest.raises(UsageError, match="expected none, as KVM binds nothing, got 64 bytes"):
        collect(bytes(64))
