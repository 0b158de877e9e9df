;; expect: the guest exited with code 256: expected -128 to 255, which a process can have
(module (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32))) (memory (export "memory") 1) (func $main (export "_start") (call $exit (i32.const 256))))
