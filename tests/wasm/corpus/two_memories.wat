;; expect: module is not a valid module: failed to parse WebAssembly module, multiple memories (at offset 0x14)
;; hint: build the program for WASI preview 1 (wasm32-wasip1, wasm32-wasi, GOOS=wasip1)
(module (memory (export "memory") 1) (memory 1) (func (export "_start")))
