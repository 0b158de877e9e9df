;; expect: module is not a valid module: failed to parse WebAssembly module, threads must be enabled for shared memories (at offset 0x15)
;; hint: build the program for WASI preview 1 (wasm32-wasip1, wasm32-wasi, GOOS=wasip1)
(module (memory (export "memory") 1 2 shared) (func (export "_start")))
