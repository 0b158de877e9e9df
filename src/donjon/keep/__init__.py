"""Keeps: a workload that runs, with its own memory, identity and life.

    with Keep.start("app.wasm", config="Enarx.toml") as keep:     # a process of its own
        host, port = keep.listeners["echo"]
        ...
    result = run("app.wasm", stdin=b"7\\n")                       # start, feed, wait, collect
    with WarmParent("app.wasm") as parent:                        # many of them, each a fork of one that is ready
        keep = parent.start(args=["7"])

`donjon run` uses the same parts, in its own process: `Launch` says what to run, `nil.run` runs it.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from donjon.keep.launch import Launch
    from donjon.keep.process import Keep, Result, WarmParent, run

__all__ = ["Keep", "Launch", "Result", "WarmParent", "run"]

_HOMES = {"Launch": "launch", "Keep": "process", "Result": "process", "WarmParent": "process", "run": "process"}


def __getattr__(name: str) -> object:
    """Import what is asked for when it is: `donjon run` needs only `launch` and `nil`."""
    if name in _HOMES:
        return getattr(__import__(f"donjon.keep.{_HOMES[name]}", fromlist=[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
