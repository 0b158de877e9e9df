;; expect: the module cannot be linked: incompatible import type for `wasi_snapshot_preview1::proc_exit`, types incompatible: expected type `(func (param i64))`, found type `(func (param i32))`
(module (import "wasi_snapshot_preview1" "proc_exit" (func (param i64))) (func (export "_start")))
