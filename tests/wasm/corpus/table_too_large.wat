;; expect: the module cannot be linked: table minimum size of 4000000000 elements exceeds table limits
(module (table 4000000000 funcref) (func (export "_start")))
