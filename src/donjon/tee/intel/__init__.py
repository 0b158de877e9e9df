"""What Intel's two TEEs share: the PCK and its chain, CRLs, TCB info, QE and TDX module identities, quotes' signatures.

`donjon.tee.sgx` and `donjon.tee.tdx` are the faces; here is what both are made of. README.md of each says what is
checked and what nobody can check.
"""

from __future__ import annotations

from functools import cache

from donjon.tee.contract import Roots

__all__ = ["vendor_roots"]


@cache
def vendor_roots() -> Roots:
    """Intel's root, which signs for SGX and TDX alike.

    Its SHA-256 is 44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3; a test compares it.
    """
    with open(f"{__path__[0]}/sgx_root_ca.der", "rb") as file:
        return Roots({"SGX Root CA": file.read()})
