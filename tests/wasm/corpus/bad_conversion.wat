;; expect: the guest trapped: invalid conversion to integer
;; frames: main
(module (func $main (export "_start") (drop (i32.trunc_f32_s (f32.const nan)))))
