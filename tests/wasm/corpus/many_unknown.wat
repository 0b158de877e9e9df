;; expect: the module imports what Donjon does not have: env.f0, env.f1, env.f2, env.f3, env.f4 and 3 more
;; hint: Donjon offers WASI preview 1 (wasi_snapshot_preview1) and nothing else
(module (import "env" "f0" (func)) (import "env" "f1" (func)) (import "env" "f2" (func)) (import "env" "f3" (func)) (import "env" "f4" (func)) (import "env" "f5" (func)) (import "env" "f6" (func)) (import "env" "f7" (func)) (func (export "_start")))
