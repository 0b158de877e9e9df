;; expect: the guest trapped: integer divide by zero
;; frames: half, main
(module (func $half (param i32) (result i32) (i32.div_u (i32.const 1) (local.get 0)))
 (func $main (export "_start") (drop (call $half (i32.const 0)))))
