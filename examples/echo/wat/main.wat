;; A TCP echo server by hand: whatever a client sends comes back, to 255 clients at the same time. No compiler needed.
;;
;; The program opens no socket: the listener is the fourth entry of Enarx.toml, hence descriptor 3. TLS happens outside.
;;
;; It waits for all its descriptors in one call of poll_oneoff, which takes a list of what to wait for (48 bytes an
;; entry: a number of ours at 0, the kind of event at 8, the descriptor at 16) and fills a list of what has happened
;; (32 bytes an entry, our number first: we take the descriptor for it). Entry 0 is for the listener. Those of the
;; clients follow without gaps and stay from one call to the next: they are the only list of clients there is.
;; Each imported function returns 0 or an error number.
;;
;; To keep it small: a client that does not take its echo holds up the others. examples/echo/c does that better.
(module
  (import "wasi_snapshot_preview1" "fd_fdstat_set_flags"
    (func $set_flags (param $fd i32) (param $flags i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff"
    (func $poll (param $wanted i32) (param $events i32) (param $count i32) (param $happened i32) (result i32)))
  (import "wasi_snapshot_preview1" "sock_accept"
    (func $sock_accept (param $fd i32) (param $flags i32) (param $client i32) (result i32)))
  (import "wasi_snapshot_preview1" "sock_recv"
    (func $recv (param $fd i32) (param $buffers i32) (param $count i32) (param $flags i32)
                (param $length i32) (param $out_flags i32) (result i32)))
  (import "wasi_snapshot_preview1" "sock_send"
    (func $send (param $fd i32) (param $buffers i32) (param $count i32) (param $flags i32)
                (param $length i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_close" (func $close (param $fd i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param $code i32)))

  ;; Memory, by address: 0 a list of one buffer (address, length), 8 how many events are left, 12 the result of
  ;; another call, 16 flags, 4096 what to wait for, 20480 what has happened, 65536 what a client said.
  (memory (export "memory") 2)
  (global $wanted i32 (i32.const 4096))
  (global $events i32 (i32.const 20480))
  (global $said i32 (i32.const 65536))

  (global $listener i32 (i32.const 3))
  (global $nonblock i32 (i32.const 4))
  (global $again i32 (i32.const 6))
  (global $count (mut i32) (i32.const 0))

  (func (export "_start") (local $event i32)
    ;; $sock_accept shall not wait: a client that $poll saw coming may be gone again.
    (if (call $set_flags (global.get $listener) (global.get $nonblock))
      (then (call $exit (i32.const 1))))
    (call $add (global.get $listener))
    (loop $forever
      (if (call $poll (global.get $wanted) (global.get $events) (global.get $count) (i32.const 8))
        (then (call $exit (i32.const 2))))
      (local.set $event (global.get $events))
      (loop $next
        (call $handle (i32.load (local.get $event)))
        (local.set $event (i32.add (local.get $event) (i32.const 32)))
        (i32.store (i32.const 8) (i32.sub (i32.load (i32.const 8)) (i32.const 1)))
        (br_if $next (i32.load (i32.const 8))))
      (br $forever)))

  (func $handle (param $fd i32)
    (if (i32.eq (local.get $fd) (global.get $listener))
      (then (call $accept))
      (else
        (if (i32.eqz (call $serve (local.get $fd)))
          (then (call $drop (local.get $fd)))))))

  (func $accept
    (br_if 0 (call $sock_accept (global.get $listener) (i32.const 0) (i32.const 12)))
    (if (i32.le_u (global.get $count) (i32.const 255))
      (then (call $add (i32.load (i32.const 12))))
      (else (drop (call $close (i32.load (i32.const 12)))))))

  ;; The address of an entry of the list of what to wait for.
  (func $entry (param $number i32) (result i32)
    (i32.add (global.get $wanted) (i32.mul (local.get $number) (i32.const 48))))

  (func $add (param $fd i32)
    (call $set (call $entry (global.get $count)) (local.get $fd))
    (global.set $count (i32.add (global.get $count) (i32.const 1))))

  (func $set (param $entry i32) (param $fd i32)
    (i64.store (local.get $entry) (i64.extend_i32_u (local.get $fd)))
    (i32.store8 offset=8 (local.get $entry) (i32.const 1)) ;; wait until there is something to read
    (i32.store offset=16 (local.get $entry) (local.get $fd)))

  (func $drop (param $fd i32) (local $number i32)
    (drop (call $close (local.get $fd)))
    (loop $search
      (local.set $number (i32.add (local.get $number) (i32.const 1)))
      (br_if $search (i32.ne (i32.load (call $entry (local.get $number))) (local.get $fd))))
    ;; The last client fills the gap.
    (global.set $count (i32.sub (global.get $count) (i32.const 1)))
    (call $set (call $entry (local.get $number)) (i32.load (call $entry (global.get $count)))))

  ;; Sends back what there is from a client. Returns 0 when the conversation is over.
  (func $serve (param $client i32) (result i32) (local $start i32) (local $end i32) (local $error i32)
    (call $buffer (global.get $said) (i32.const 65536))
    (local.set $error
      (call $recv (local.get $client) (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 12) (i32.const 16)))
    (if (local.get $error)
      (then (return (i32.eq (local.get $error) (global.get $again)))))
    (if (i32.eqz (i32.load (i32.const 12)))
      (then (return (i32.const 0))))
    (local.set $start (global.get $said))
    (local.set $end (i32.add (global.get $said) (i32.load (i32.const 12))))
    (loop $rest
      (call $buffer (local.get $start) (i32.sub (local.get $end) (local.get $start)))
      (if (call $send (local.get $client) (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 12))
        (then (return (i32.const 0))))
      (local.set $start (i32.add (local.get $start) (i32.load (i32.const 12))))
      (br_if $rest (i32.lt_u (local.get $start) (local.get $end))))
    (i32.const 1))

  ;; Writes the list of one buffer.
  (func $buffer (param $address i32) (param $length i32)
    (i32.store (i32.const 0) (local.get $address))
    (i32.store (i32.const 4) (local.get $length))))
