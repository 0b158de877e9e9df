"""What a DER file of the public key world is, by its outermost tags; nothing in it is judged.

    shape(data) -> ("certificate", "1.2.840.113549.1.1.10")      kind, and the algorithm that it is signed with
    path(data)  -> (certificate, ...)                            of several certificates in one sequence

Kinds: "certificate", "crl", "request"; "" for everything else. A certificate begins with an explicit version, as all of
version 3 do; of a CRL and a request the version number tells.
"""

from __future__ import annotations

from donjon.errors import ParseError
from donjon.wire.der import INTEGER, SEQUENCE, Der, context

MAX_PATH = 16
"""Certificates in a PkiPath."""


def path(data: bytes) -> tuple[bytes, ...]:
    """The certificates of a PkiPath, as a Steward answers `POST /`: here the leaf first, there it is the last.

    Returns:
        Nothing when it is something else.
    """
    if data[:1] != bytes((SEQUENCE,)):
        return ()
    source = Der(data, "file")
    found: list[bytes] = []
    try:
        outer = source.sequence()
        source.end()
        while outer.left and len(found) < MAX_PATH:
            found.append(outer.whole(SEQUENCE, "certificate"))
        outer.end()
    except ParseError:
        return ()
    return tuple(reversed(found)) if all(shape(item)[0] == "certificate" for item in found) else ()


def shape(data: bytes) -> tuple[str, str]:
    """Look at the first tags; see the module."""
    if data[:1] != bytes((SEQUENCE,)):
        return "", ""
    try:
        outer = Der(data, "file").sequence()
        inner = outer.sequence()
        kind = ""
        if inner.tag == context(0):
            kind = "certificate"
        elif inner.tag == INTEGER:
            kind = {0: "request", 1: "crl"}.get(inner.integer("version"), "")
        return (kind, outer.sequence("algorithm").oid("algorithm")) if kind else ("", "")
    except ParseError:
        return "", ""
