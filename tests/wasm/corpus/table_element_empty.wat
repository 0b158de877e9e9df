;; expect: the guest trapped: uninitialized element
;; frames: main
(module (table 1 funcref) (func $main (export "_start") (call_indirect (i32.const 0))))
