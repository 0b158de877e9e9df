;; Says hello. No compiler, no C library: this text is the whole program, and `donjon run hello.wat` runs it as it is.
(module
  ;; Everything a program wants from the outside is an import. This one writes a list of buffers to a descriptor:
  ;; (descriptor, address of the list, its length, address for the number of bytes written) -> 0 or an error number.
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))

  (memory (export "memory") 1)

  (data (i32.const 0) "\10\00\00\00")                    ;; the list's only entry: the buffer is at address 16 ...
  (data (i32.const 4) "\17\00\00\00")                    ;; ... and 23 bytes long (numbers are little-endian)
  (data (i32.const 16) "hello from WebAssembly\n")

  (func (export "_start")
    (if (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))
      (then (call $proc_exit (i32.const 1))))))
