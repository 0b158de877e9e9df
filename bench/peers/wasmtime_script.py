"""What one would write with the `wasmtime` package to run a WASI program: compile once, keep the code in a file.

python wasmtime_script.py MODULE CACHE [ARG...]
"""

import os
import sys

from wasmtime import Engine, ExitTrap, Linker, Module, Store, WasiConfig

path, cache = sys.argv[1:3]
engine = Engine()
if os.path.exists(cache):
    module = Module.deserialize_file(engine, cache)
else:
    module = Module.from_file(engine, path)
    with open(cache, "wb") as file:
        file.write(module.serialize())
wasi = WasiConfig()
wasi.argv = [path, *sys.argv[3:]]
wasi.inherit_stdin()
wasi.inherit_stdout()
wasi.inherit_stderr()
store = Store(engine)
store.set_wasi(wasi)
linker = Linker(engine)
linker.define_wasi()
start = linker.instantiate(store, module).exports(store)["_start"]
try:
    start(store)  # type: ignore[operator]
except ExitTrap as ended:
    sys.exit(ended.code)
