;; expect: the module exports no _start: there is nothing to run
;; hint: build a command (a program with main), not a library
(module (memory (export "_start") 1))
