;; expect: the guest trapped: out of bounds memory access
;; frames: main
(module (memory (export "memory") 1) (func $main (export "_start") (i64.store offset=4294967295 (i32.const -1) (i64.const 1))))
