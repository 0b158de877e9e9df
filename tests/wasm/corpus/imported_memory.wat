;; expect: the module imports what Donjon does not have: env.memory
;; hint: Donjon offers WASI preview 1 (wasi_snapshot_preview1) and nothing else
(module (import "env" "memory" (memory 1)) (func (export "_start")))
