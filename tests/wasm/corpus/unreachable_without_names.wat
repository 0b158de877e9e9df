;; expect: the guest trapped: unreachable
;; frames: function 0, function 1
(module (func unreachable) (func (export "_start") (call 0)))
