;; expect: the guest trapped: integer overflow
;; frames: main
(module (func $main (export "_start") (drop (i32.div_s (i32.const -2147483648) (i32.const -1)))))
