;; expect: the guest trapped: out of bounds table access
;; frames: main
(module (table 1 funcref) (func $main (export "_start") (call_indirect (i32.const 1))))
