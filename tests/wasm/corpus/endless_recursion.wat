;; expect: the guest trapped: call stack exhausted
;; frames: f, g, f, g, f, g, f, g, ..., f, g, f, g, f, g, f, g
(module (func $f (export "_start") (call $g)) (func $g (call $f)))
