"""Trusted execution environments: one folder each, and what they have in common (`contract`).

    from donjon import tee
    snp = tee.load("snp")
    evidence, collateral = snp.parse(data)
    report = snp.verify(evidence, collateral, snp.vendor_roots(), now)

A new TEE is a new folder and one line in `ALL`; the service, the command line, the configuration and the contract tests
read it. A folder is imported when it is asked for, so nobody pays for what they do not use.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import cast

from donjon.errors import UsageError
from donjon.tee.backend import Backend
from donjon.tee.contract import Fetch, Tee

__all__ = ["ALL", "load", "load_backend", "load_fetch"]

# In the order in which they are listed to users.
ALL = (
    "snp",
    "tdx",
    "sgx",
    "cca",
    "kvm",
)


def load(name: str) -> Tee:
    """Import one TEE.

    Raises:
        UsageError: there is none of this name.
    """
    if name not in ALL:
        import difflib  # for people who type; in a guest there are none

        near = difflib.get_close_matches(name, ALL, 1)
        hint = f'did you mean "{near[0]}"?' if near else None
        raise UsageError(f'TEE "{name[:20]}": expected one of {", ".join(ALL)}', hint)
    return cast("Tee", import_module(f"donjon.tee.{name}"))


@cache
def load_fetch(name: str) -> Fetch | None:
    """What a TEE's vendor publishes, and how to read it; None where there is no such service.

    Raises:
        UsageError: there is no TEE of this name.
    """
    return cast("Fetch | None", _part(name, "fetch"))


def load_backend(name: str) -> Backend | None:
    """How its virtual machines are started and measured; None where it has none.

    Raises:
        UsageError: there is no TEE of this name.
    """
    return cast("Backend | None", _part(name, "backend"))


def _part(name: str, part: str) -> object | None:
    """A module that not every TEE has."""
    module = f"{load(name).__name__}.{part}"  # type: ignore[attr-defined] # a TEE is a package
    return import_module(module) if find_spec(module) else None
