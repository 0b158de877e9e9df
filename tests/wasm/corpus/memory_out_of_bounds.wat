;; expect: the guest trapped: out of bounds memory access
;; frames: main
(module (memory (export "memory") 1) (func $main (export "_start") (drop (i32.load (i32.const 65533)))))
