"""Runs one module in this process: `run_module.py [--dir HOST::GUEST]... [--env N=V]... MODULE ARG...`

Not by `donjon run`: a Keep adds FD_COUNT and FD_NAMES to the environment, and the suite counts the variables.
The exit code is the module's own; a trap is 134, and any other end is a traceback on standard error and 70.
"""

import argparse
import os
import sys
import traceback

from donjon.errors import TrapError
from donjon.wasm.engine import HostFunction, Instance, load, read
from donjon.wasm.engine.cache import Cache
from donjon.wasm.wasi.descriptors.directory import preopen
from donjon.wasm.wasi.descriptors.stdio import Stdio
from donjon.wasm.wasi.p1 import MODULE, bind, lookup
from donjon.wasm.wasi.p1.guest import Exit, Guest


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--dir", action="append", default=[])
    parser.add_argument("--env", action="append", default=[])
    parser.add_argument("module")
    parser.add_argument("args", nargs=argparse.REMAINDER)
    options = parser.parse_args()

    guest = Guest([os.path.basename(options.module), *options.args], options.env)
    for host in range(3):
        guest.add(Stdio(host, host > 0, guest.reactor))
    for entry in options.dir:
        outside, _, inside = entry.partition("::")
        guest.add(preopen(outside, inside, writable=True))

    def resolve(space: str, name: str) -> HostFunction | None:
        function = lookup(name) if space == MODULE else None
        return None if function is None else HostFunction(function.params, function.results, bind(function, guest))

    instance = Instance(load(read(options.module), Cache.of_user(), options.module), resolve)
    try:
        instance.call("_start")
    except TrapError as error:
        if isinstance(guest.pending, Exit):
            return guest.pending.code
        if guest.pending is not None:
            traceback.print_exception(guest.pending)
            return 70
        sys.stderr.write("\n  ".join([str(error), *error.frames]) + "\n")
        return 134
    finally:
        guest.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
