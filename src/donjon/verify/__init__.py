"""What a relying party does: judge a Keep from outside, by the certificates that it shows.

    from donjon.verify import Demands, judge
    proof = judge(chain, Demands(anchors=(root,), workloads=(digest,)), now)

`demands` says what can be asked, `certificates` reads a chain, `result` what a Steward says in it, `judgement` puts the
questions. All of them compute and nothing else: possession of the key is proven by TLS. `policy` reads demands from
text, `files` from words and files. `connection` gets the chain of a live peer, `context` refuses such a peer within
Python's `ssl`, `proxy` does that for programs that are not ours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from donjon.verify.demands import Demands
from donjon.verify.judgement import Proof, RefusedError, judge

if TYPE_CHECKING:
    from donjon.verify.context import PeerRefusedError, ssl_context
    from donjon.verify.files import expect

__all__ = ["Demands", "PeerRefusedError", "Proof", "RefusedError", "expect", "judge", "ssl_context"]


def __getattr__(name: str) -> Any:
    """What touches sockets and files is loaded when somebody asks for it."""
    if name in ("PeerRefusedError", "ssl_context"):
        from donjon.verify import context

        return getattr(context, name)
    if name == "expect":
        from donjon.verify.files import expect

        return expect
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
