;; expect: the module wants more memory than it may have: memory minimum size of 17 pages exceeds memory limits
;; hint: raise `memory` in [limits] of Enarx.toml
;; memory: 1048576
(module (memory (export "memory") 17) (func (export "_start")))
