;; expect: the guest trapped: unreachable
;; frames: init
(module (func $init unreachable) (start $init) (func (export "_start")))
