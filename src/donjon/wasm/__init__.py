"""WebAssembly: `engine/` compiles, caches, links and runs modules; `wasi/` is what they can ask of the world.

Nothing here knows a TEE, a configuration file or TLS.
"""
