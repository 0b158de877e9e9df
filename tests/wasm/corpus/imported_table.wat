;; expect: the module imports what Donjon does not have: env.__indirect_function_table
;; hint: Donjon offers WASI preview 1 (wasi_snapshot_preview1) and nothing else
(module (import "env" "__indirect_function_table" (table 1 funcref)) (func (export "_start")))
