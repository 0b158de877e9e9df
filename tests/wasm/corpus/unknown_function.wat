;; expect: the module imports what Donjon does not have: wasi_snapshot_preview1.fd_frobnicate
;; hint: Donjon offers WASI preview 1 (wasi_snapshot_preview1) and nothing else
(module (import "wasi_snapshot_preview1" "fd_frobnicate" (func)) (func (export "_start")))
