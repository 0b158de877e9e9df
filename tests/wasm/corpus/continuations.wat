;; expect: module is not a valid module: failed to parse WebAssembly module, cannot define continuation types when stack switching is disabled (at offset 0xe)
;; hint: build the program for WASI preview 1 (wasm32-wasip1, wasm32-wasi, GOOS=wasip1)
(module (type $f (func)) (type $c (cont $f)) (func (export "_start")))
