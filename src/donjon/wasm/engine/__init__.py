"""The engine: wasmtime's library, driven through the few C functions of it that a Keep needs.

module = load(read("app.wasm"), Cache.of_user())
instance = Instance(module, resolve)
instance.call("_start")
"""

from donjon.wasm.engine.instance import HostFunction, Instance
from donjon.wasm.engine.module import Module, from_text, load, read

__all__ = ["HostFunction", "Instance", "Module", "from_text", "load", "read"]
