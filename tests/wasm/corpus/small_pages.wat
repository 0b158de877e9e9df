;; expect: module is not a valid module: failed to parse WebAssembly module, the custom page sizes proposal must be enabled to customize a memory's page size (at offset 0x15)
;; hint: build the program for WASI preview 1 (wasm32-wasip1, wasm32-wasi, GOOS=wasip1)
(module (memory (export "memory") 1 (pagesize 1)) (func (export "_start")))
