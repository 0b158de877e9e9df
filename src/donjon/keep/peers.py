"""What `verify` demands of a TLS peer, put to it.

OpenSSL has verified by then that the peer's chain leads to a root in `ca`, and that the peer has the key. What is left
is `donjon.verify`'s business: that the certificate holds a Steward's judgement, and that this is what was demanded.

That module and the libraries under it take time and memory to load, so only who demands something loads them: when the
socket is opened, not while a peer waits.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from donjon import tee
from donjon.errors import DonjonError, VerifyError
from donjon.verify import Demands, judge
from donjon.verify.certificates import read_certificate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Literal

    from donjon.config.models import Verify
    from donjon.tls.streams import Judge

__all__ = ["judge_of"]


def judge_of(
    verify: Verify,
    anchors: tuple[bytes, ...],
    purpose: Literal["client", "server"],
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Judge:
    """Make what a listener or a connection asks about each peer.

    Args:
        anchors: the certificates in `ca`, DER.
        purpose: what the peer is.
    Returns:
        A function that takes a peer's chain and raises VerifyError unless the peer is what is demanded. It raises
        nothing else: whatever a peer sends, the Keep goes on.
    Raises:
        ParseError: an anchor is not well formed.
    """
    for name in tee.ALL:
        tee.load(name)  # the peer says which; by then this process may be one that opens no files any more
    for number, anchor in enumerate(anchors, 1):
        read_certificate(anchor, f"certificate {number} in `ca`")
    demands = Demands(
        anchors=anchors,
        tees=verify.tee,
        measurements=tuple(map(bytes.fromhex, verify.measurement)),
        workloads=tuple(map(bytes.fromhex, verify.workload)),
        names=verify.names,
        max_age=None if verify.max_age is None else timedelta(seconds=verify.max_age),
        accept_unattested=verify.accept_unattested,
        purpose=purpose,
    )

    def ask(chain: tuple[bytes, ...]) -> None:
        try:
            judge(chain, demands, clock())
        except VerifyError:
            raise
        except DonjonError as error:
            raise VerifyError(f"peer cannot be judged: {error.message}", error.hint) from error
        except Exception as error:  # our mistake; it must cost the peer its connection, and nobody else anything
            raise VerifyError(f"peer cannot be judged: internal error: {type(error).__name__}") from error

    return ask
