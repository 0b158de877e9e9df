"""A Steward for the bench, in a process of its own: `python -m bench.steward WORLD STATE`.

It is the service of `donjon steward serve`, with its record on disk, and with one difference: what it is sent comes
from simulated machines, and their roots are the only ones that it tries. Behind the vendors' own, as that command puts
them, every request would be judged twice, which no real one is.
"""

from __future__ import annotations

import pickle
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from donjon.log import QUIET
from donjon.steward import authority, serve
from donjon.steward.policy import parse
from donjon.steward.procedure import Trust
from donjon.steward.record import Record
from donjon.steward.service import Service, Writer
from donjon.tee.contract import Roots


def main(world: str, state: str) -> None:
    """Serve until a signal ends it.

    Args:
        world: a file of this bench's with the roots. state: a directory for authority and record; made anew.
    """
    anchors = pickle.loads(Path(world).read_bytes())
    trust = {name: Trust((Roots(found, simulated=True),)) for name, found in anchors.items()}
    made = authority.create(state, datetime.now(UTC))
    with (
        serve.listen("127.0.0.1", 0) as public,
        serve.listen("127.0.0.1", 0) as admin,
        closing(Writer(Record(str(Path(state) / "record.sqlite")))) as writer,
    ):
        service = Service(parse("accept_unattested = true\n"), trust, made, writer, QUIET)
        print(f"for operators: 127.0.0.1:{admin.getsockname()[1]}", file=sys.stderr)
        print(f"listening on 127.0.0.1:{public.getsockname()[1]}", file=sys.stderr, flush=True)
        serve.run(service, public, admin, QUIET)


if __name__ == "__main__":
    main(*sys.argv[1:])
