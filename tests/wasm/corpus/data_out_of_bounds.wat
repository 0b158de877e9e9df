;; expect: the guest trapped: out of bounds memory access
(module (memory (export "memory") 1) (data (i32.const 65536) "x") (func (export "_start")))
