;; expect: the module cannot be linked: incompatible import type for `wasi_snapshot_preview1::sched_yield`, types incompatible: expected type `(func)`, found type `(func (result i32))`
(module (import "wasi_snapshot_preview1" "sched_yield" (func)) (func (export "_start")))
