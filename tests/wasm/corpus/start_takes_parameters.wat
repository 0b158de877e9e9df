;; expect: function "_start": expected no parameters, got 2
(module (func (export "_start") (param i32 i32)))
