"""`donjon platform snp | sgx ...`, `update-cache`, `initialize`: collateral of this machine, from its vendor."""

from __future__ import annotations

from donjon.cli import tui
from donjon.platform.caching import Cache, vendor_of
from donjon.platform.machine import Machine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from donjon.cli.parse import Options

__all__ = [
    "amd_lists",
    "initialize",
    "intel_lists",
    "intel_pck",
    "intel_tcb",
    "register",
    "update",
    "update_vcek",
    "vcek",
]


def amd_lists(options: Options) -> int:
    """AMD's revocation lists."""
    _cache(options).amd_lists()
    return 0


def update_vcek(options: Options) -> int:
    """The VCEK of this chip at its TCB."""
    _cache(options).vcek()
    return 0


def vcek(options: Options) -> int:
    """Print the VCEK that is kept, in DER as AMD gives it; or where it is."""
    path = _cache(options).vcek_file()
    if options.file:
        tui.write(f"{path}\n")
        return 0
    import os

    data = Machine().data(path) or b""
    while data:
        data = data[os.write(tui.STDOUT, data) :]
    return 0


def intel_lists(options: Options) -> int:
    """Intel's revocation lists."""
    _cache(options).intel_lists()
    return 0


def intel_pck(options: Options) -> int:
    """Which kind of machine this is, from its PCK certificate."""
    _cache(options).pck()
    return 0


def intel_tcb(options: Options) -> int:
    """TCB info of this kind of machine, for SGX and TDX."""
    _cache(options).intel_tcb()
    return 0


def register(options: Options) -> int:
    """Send Intel the machine's manifest."""
    _cache(options).register()
    return 0


def update(options: Options) -> int:
    """What ends and has to be fetched again."""
    cache = _cache(options)
    if vendor_of(cache.machine) == "amd":
        cache.amd_lists()
    else:
        cache.intel_lists()
        cache.intel_tcb()
    return 0


def initialize(options: Options) -> int:
    """What has to be done once."""
    cache = _cache(options)
    if vendor_of(cache.machine) == "amd":
        cache.vcek()
    else:
        cache.register()
    return 0


def _cache(options: Options) -> Cache:
    addresses = {} if options["from"] is None else {"amd": options["from"], "intel": options["from"]}
    return Cache(Machine(), lambda text: tui.write(f"{text}\n"), options.cache, addresses)
