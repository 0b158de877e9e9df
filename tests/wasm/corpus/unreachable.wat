;; expect: the guest trapped: unreachable
;; frames: deepest, deeper, main
(module (func $deepest unreachable) (func $deeper (call $deepest)) (func $main (export "_start") (call $deeper)))
