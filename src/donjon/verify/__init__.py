"""What a relying party does: judge a Keep from outside, by the certificates that it shows.

    from donjon.verify import Demands, judge
    proof = judge(chain, Demands(anchors=(root,), workloads=(digest,)), now)

`demands` says what can be asked, `certificates` reads a chain, `result` what a Steward says in it, `judgement` puts the
questions. All of them compute and nothing else: possession of the key is proven by TLS. `policy` reads demands from a
file. `connection` gets the chain of a live peer, `context` refuses such a peer within Python's `ssl`, `proxy` does that
for programs that are not ours.
"""

from __future__ import annotations

from donjon.verify.demands import Demands
from donjon.verify.judgement import Proof, RefusedError, judge

__all__ = ["Demands", "Proof", "RefusedError", "judge"]
