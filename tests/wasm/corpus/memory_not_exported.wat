;; expect: the module uses WASI but exports no memory called "memory"
;; hint: build it as a WASI command or reactor
(module (import "wasi_snapshot_preview1" "args_sizes_get" (func $f (param i32 i32) (result i32)))
 (memory 1)
 (func $main (export "_start") (drop (call $f (i32.const 0) (i32.const 0)))))
