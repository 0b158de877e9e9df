;; expect: the guest was stopped: GC heap out of memory: no capacity for allocation of 32 bytes
;; frames: main
;; memory: 1048576
(module (type $node (struct (field (ref null $node))))
 (func $main (export "_start") (local $list (ref null $node))
  (loop $again (local.set $list (struct.new $node (local.get $list))) (br $again))))
