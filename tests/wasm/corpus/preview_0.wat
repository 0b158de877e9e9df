;; expect: the module imports what Donjon does not have: wasi_unstable.proc_exit
;; hint: Donjon offers WASI preview 1 (wasi_snapshot_preview1) and nothing else
(module (import "wasi_unstable" "proc_exit" (func (param i32))) (func (export "_start")))
