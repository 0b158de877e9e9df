"""Donjon runs WebAssembly applications inside Keeps, and lets anybody prove from outside what runs there.

from donjon import Keep

with Keep.start("app.wasm", config="Enarx.toml") as keep:
    host, port = keep.listeners["web"]
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from donjon.config import Config
    from donjon.keep import Keep, Result, WarmParent, run

__all__ = ["Config", "Keep", "Result", "WarmParent", "__version__", "run"]

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """Import what is asked for when it is: the command line needs none of it."""
    home = {"Config": "donjon.config", "Keep": "donjon.keep", "Result": "donjon.keep", "WarmParent": "donjon.keep"}
    home["run"] = "donjon.keep"
    if name in home:
        return getattr(__import__(home[name], fromlist=[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
