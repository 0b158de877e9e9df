;; expect: the guest trapped: indirect call type mismatch
;; frames: main
(module (table funcref (elem $f)) (func $f (param i32)) (func $main (export "_start") (call_indirect (i32.const 0))))
