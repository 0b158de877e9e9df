"""Runs a module on the engine's own WASI with /dev/zero as descriptor 0, /dev/null as 1 and a file as 2.

python wasmtime_calls.py MODULE REPORT

Files, not inherited descriptors: that is the form in which the engine's WASI is fastest.
"""

import sys

from wasmtime import Engine, Linker, Module, Store, WasiConfig

engine = Engine()
wasi = WasiConfig()
wasi.stdin_file = "/dev/zero"
wasi.stdout_file = "/dev/null"
wasi.stderr_file = sys.argv[2]
store = Store(engine)
store.set_wasi(wasi)
linker = Linker(engine)
linker.define_wasi()
start = linker.instantiate(store, Module.from_file(engine, sys.argv[1])).exports(store)["_start"]
start(store)  # type: ignore[operator]
