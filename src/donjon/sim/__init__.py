"""Simulated hardware: TEEs that sign real formats under roots of their own, for development and tests.

    lab = sim.create("lab", now)                     keys and roots, made on the spot and kept in a directory
    guest = sim.load("lab").guest("snp", workload)   a source of evidence, as hardware is one
    guest.collect(report_data)                       what a certificate request carries

It drives the very same code as the real thing and proves nothing: whoever judges its evidence has to be told to believe
`lab/roots.toml` and to accept what is unattested, and the verdict says that it was simulated.
"""

from importlib import import_module

TYPE_CHECKING = False
if TYPE_CHECKING:
    from donjon.sim._request import request
    from donjon.sim.lab import Guest, Lab, create, load, words

__all__ = ["Guest", "Lab", "create", "load", "request", "words"]

# Loaded when they are asked for: in a guest there are only those modules that it needs.
_WHERE = {**dict.fromkeys(("Guest", "Lab", "create", "load", "words"), "lab"), "request": "_request"}


def __getattr__(name: str) -> object:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
