;; expect: the module imports what Donjon does not have: env.emscripten_notify_memory_growth
;; hint: Donjon offers WASI preview 1 (wasi_snapshot_preview1) and nothing else
(module (import "env" "emscripten_notify_memory_growth" (func (param i32))) (func (export "_start")))
