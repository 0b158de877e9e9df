;; {{name}}: greets each client and sends back what it says; one client at a time, the others wait in the queue.
;;
;; The listener is open already: it is the fourth entry of Enarx.toml, hence descriptor 3. TLS happens outside.
;; Each imported function returns 0, or an error number.
(module
  (import "wasi_snapshot_preview1" "fd_fdstat_set_flags" (func $set_flags (param $fd i32) (param $flags i32) (result i32)))
  (import "wasi_snapshot_preview1" "sock_accept"
    (func $accept (param $fd i32) (param $flags i32) (param $client i32) (result i32)))
  (import "wasi_snapshot_preview1" "sock_recv"
    (func $recv (param $fd i32) (param $buffers i32) (param $count i32) (param $flags i32)
                (param $length i32) (param $out_flags i32) (result i32)))
  (import "wasi_snapshot_preview1" "sock_send"
    (func $send (param $fd i32) (param $buffers i32) (param $count i32) (param $flags i32)
                (param $length i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_close" (func $close (param $fd i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param $code i32)))

  (memory (export "memory") 2)
  ;; Where things are: a list of one buffer (its address at 0, its length at 4), the result of a call at 8,
  ;; flags at 12, the greeting at 16, what a client says from 65536 on: the second page.
  (data (i32.const 16) "hello from {{name}}: say something\n\00")

  (func (export "_start") (local $client i32)
    ;; Wait in $accept for a client, whatever the listener's mode was before.
    (if (call $set_flags (i32.const 3) (i32.const 0))
      (then (call $exit (i32.const 1))))
    (loop $next_client
      (if (i32.eqz (call $accept (i32.const 3) (i32.const 0) (i32.const 8)))
        (then
          (local.set $client (i32.load (i32.const 8)))
          (call $serve (local.get $client))
          (drop (call $close (local.get $client)))))
      (br $next_client)))

  ;; Greet the client, then send back what it says until it falls silent.
  (func $serve (param $client i32)
    (br_if 0 (i32.eqz (call $send_all (local.get $client) (i32.const 16) (call $length (i32.const 16)))))
    (loop $more
      (i32.store (i32.const 0) (i32.const 65536))
      (i32.store (i32.const 4) (i32.const 65536))
      (br_if 1 (call $recv (local.get $client) (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 8) (i32.const 12)))
      (br_if 1 (i32.eqz (i32.load (i32.const 8))))
      (br_if $more (call $send_all (local.get $client) (i32.const 65536) (i32.load (i32.const 8))))))

  ;; Send all the bytes, however many calls that takes. Returns 0 when the client is gone.
  (func $send_all (param $client i32) (param $bytes i32) (param $length i32) (result i32)
    (loop $rest
      (i32.store (i32.const 0) (local.get $bytes))
      (i32.store (i32.const 4) (local.get $length))
      (if (call $send (local.get $client) (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 8))
        (then (return (i32.const 0))))
      (local.set $bytes (i32.add (local.get $bytes) (i32.load (i32.const 8))))
      (local.set $length (i32.sub (local.get $length) (i32.load (i32.const 8))))
      (br_if $rest (local.get $length)))
    (i32.const 1))

  ;; How many bytes there are before the next zero.
  (func $length (param $text i32) (result i32) (local $end i32)
    (local.set $end (local.get $text))
    (loop $next
      (if (i32.load8_u (local.get $end))
        (then
          (local.set $end (i32.add (local.get $end) (i32.const 1)))
          (br $next))))
    (i32.sub (local.get $end) (local.get $text))))
