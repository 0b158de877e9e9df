;; expect: module is not a valid module: failed to parse WebAssembly module, memory size must be at most 0x10000 65536-byte pages (at offset 0x15)
;; hint: build the program for WASI preview 1 (wasm32-wasip1, wasm32-wasi, GOOS=wasip1)
(module (memory (export "memory") 65537) (func (export "_start")))
