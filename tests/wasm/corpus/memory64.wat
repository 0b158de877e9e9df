;; expect: module is not a valid module: failed to parse WebAssembly module, memory64 must be enabled for 64-bit memories (at offset 0x15)
;; hint: build the program for WASI preview 1 (wasm32-wasip1, wasm32-wasi, GOOS=wasip1)
(module (memory (export "memory") i64 1) (func (export "_start")))
