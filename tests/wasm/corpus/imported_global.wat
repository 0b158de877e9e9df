;; expect: the module imports what Donjon does not have: wasi_snapshot_preview1.fd_read
;; hint: Donjon offers WASI preview 1 (wasi_snapshot_preview1) and nothing else
(module (import "wasi_snapshot_preview1" "fd_read" (global i32)) (func (export "_start")))
