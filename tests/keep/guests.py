"""Small guests in WebAssembly text, for what no compiler is needed.

Each is `PRELUDE` and a body. `$read` and `$write` wait by asking again where a descriptor is non-blocking; a call that
fails ends the guest with 100 plus the errno, so a test that expects 0 says what went wrong. `$serve` echoes what each
connection of a listener sends, one after another, until its end or until it breaks.
"""

from __future__ import annotations

PRELUDE = """
(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (import "wasi_snapshot_preview1" "args_get" (func $args_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $args_sizes_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_get" (func $environ_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_sizes_get" (func $environ_sizes_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_close" (func $fd_close (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_fdstat_set_flags" (func $set_flags (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "sock_accept" (func $sock_accept (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "sock_shutdown" (func $sock_shutdown (param i32 i32) (result i32)))
  (memory (export "memory") 4)
  (func $check (param $errno i32)
    (if (local.get $errno) (then (call $exit (i32.add (i32.const 100) (local.get $errno))))))
  (func $read (param $fd i32) (param $at i32) (param $size i32) (result i32) (local $errno i32)
    (i32.store (i32.const 0) (local.get $at))
    (i32.store (i32.const 4) (local.get $size))
    (loop $again
      (local.set $errno (call $fd_read (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8)))
      (br_if $again (i32.eq (local.get $errno) (i32.const 6))))
    (call $check (local.get $errno))
    (i32.load (i32.const 8)))
  (func $write (param $fd i32) (param $at i32) (param $size i32) (local $errno i32)
    (loop $more
      (i32.store (i32.const 0) (local.get $at))
      (i32.store (i32.const 4) (local.get $size))
      (local.set $errno (call $fd_write (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8)))
      (br_if $more (i32.eq (local.get $errno) (i32.const 6)))
      (call $check (local.get $errno))
      (local.set $at (i32.add (local.get $at) (i32.load (i32.const 8))))
      (local.set $size (i32.sub (local.get $size) (i32.load (i32.const 8))))
      (br_if $more (local.get $size))))
  (func $accept (param $fd i32) (param $flags i32) (result i32) (local $errno i32)
    (loop $again
      (local.set $errno (call $sock_accept (local.get $fd) (local.get $flags) (i32.const 8)))
      (br_if $again (i32.eq (local.get $errno) (i32.const 6))))
    (call $check (local.get $errno))
    (i32.load (i32.const 8)))
  (func $copy (param $from i32) (param $to i32) (local $size i32)
    (loop $more
      (if (local.tee $size (call $read (local.get $from) (i32.const 65536) (i32.const 65536)))
        (then (call $write (local.get $to) (i32.const 65536) (local.get $size)) (br $more)))))
  (func $line (param $fd i32) (local $size i32) (local $have i32)
    (loop $more
      (local.set $size (call $read (local.get $fd) (i32.add (i32.const 4096) (local.get $have)) (i32.const 4096)))
      (if (i32.eqz (local.get $size)) (then (call $exit (i32.const 99))))
      (local.set $have (i32.add (local.get $have) (local.get $size)))
      (br_if $more (i32.ne (i32.load8_u (i32.add (i32.const 4095) (local.get $have))) (i32.const 10))))
    (call $write (local.get $fd) (i32.const 4096) (local.get $have)))
  (func $lines (param $fd i32)
    (call $line (local.get $fd))
    (call $check (call $set_flags (local.get $fd) (i32.const 0)))
    (call $line (local.get $fd))
    (call $check (call $set_flags (local.get $fd) (i32.const 4)))
    (call $line (local.get $fd)))
  (func $serve (param $from i32) (local $fd i32)
    (loop $next
      (local.set $fd (call $accept (local.get $from) (i32.const 0)))
      (loop $more
        (i32.store (i32.const 0) (i32.const 65536))
        (i32.store (i32.const 4) (i32.const 65536))
        (if (i32.eqz (call $fd_read (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8)))
          (then (if (i32.load (i32.const 8))
            (then
              (i32.store (i32.const 4) (i32.load (i32.const 8)))
              (br_if $more (i32.eqz (call $fd_write (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8)))))))))
      (call $check (call $fd_close (local.get $fd)))
      (br $next)))
  (func $show_arguments
    (call $check (call $args_sizes_get (i32.const 16) (i32.const 20)))
    (call $check (call $args_get (i32.const 1024) (i32.const 65536)))
    (call $write (i32.const 1) (i32.const 65536) (i32.load (i32.const 20))))
  (func $show_environment
    (call $check (call $environ_sizes_get (i32.const 16) (i32.const 20)))
    (call $check (call $environ_get (i32.const 1024) (i32.const 65536)))
    (call $write (i32.const 1) (i32.const 65536) (i32.load (i32.const 20))))
"""


def guest(start: str, rest: str = "") -> bytes:
    """A command whose `_start` is `start`; `rest` holds further definitions."""
    return f'{PRELUDE}{rest}\n  (func (export "_start") {start}))\n'.encode()


def exits(code: int) -> bytes:
    return guest(f"(call $exit (i32.const {code}))")


EXITS_WITH_THE_LENGTH_OF_ITS_ARGUMENT = guest(
    """(call $check (call $args_sizes_get (i32.const 16) (i32.const 20)))
       (call $exit (i32.sub (i32.load (i32.const 20)) (i32.const 11)))"""  # without main.wasm and two NULs
)


def says(text: str, descriptor: int = 1) -> bytes:
    escaped = "".join(f"\\{byte:02x}" for byte in text.encode())
    size = len(text.encode())
    return guest(
        f"(call $write (i32.const {descriptor}) (i32.const 2048) (i32.const {size}))",
        f'(data (i32.const 2048) "{escaped}")',
    )


RETURNS = guest("")
SPINS = b'(module (func (export "_start") (loop br 0)))'
TRAPS = b'(module (func $inner unreachable) (func $outer call $inner) (func (export "_start") call $outer))'
SPINS_BEFORE_ITS_START = b'(module (func $lay_out (loop br 0)) (start $lay_out) (func (export "_start")))'
EXITS_BEFORE_ITS_START = guest("", "(func $lay_out (call $exit (i32.const 3))) (start $lay_out)")
RECURS = b'(module (func $f (export "_start") call $f))'
CAT = guest("(call $copy (i32.const 0) (i32.const 1))")
ARGUMENTS = guest("(call $show_arguments)")
ENVIRONMENT = guest("(call $show_environment)")
READS = guest("(drop (call $read (i32.const 0) (i32.const 4096) (i32.const 1)))")
ACCEPTS = guest("(drop (call $accept (i32.const 3) (i32.const 0)))")
SLEEPS = guest(  # one relative clock, an hour
    """(i64.store (i32.const 4096) (i64.const 1))
       (i32.store (i32.const 4112) (i32.const 1))
       (i64.store (i32.const 4120) (i64.const 3600000000000))
       (call $check (call $poll (i32.const 4096) (i32.const 8192) (i32.const 1) (i32.const 8)))"""
)
SPAWNS_CALLS = guest("(loop (drop (call $fd_close (i32.const 99))) (br 0))")  # each fails, which is logged at trace
CONNECTS = guest("(call $show_environment) (call $lines (i32.const 3))")
LISTENS = guest(  # three connections: two accepted blocking, one not
    """(local $fd i32)
       (call $show_environment)
       (local.set $fd (call $accept (i32.const 3) (i32.const 0)))
       (call $lines (local.get $fd)) (call $check (call $fd_close (local.get $fd)))
       (call $check (call $set_flags (i32.const 3) (i32.const 0)))
       (local.set $fd (call $accept (i32.const 3) (i32.const 0)))
       (call $lines (local.get $fd)) (call $check (call $fd_close (local.get $fd)))
       (call $check (call $set_flags (i32.const 3) (i32.const 4)))
       (local.set $fd (call $accept (i32.const 3) (i32.const 4)))
       (call $lines (local.get $fd))"""
)
SERVES = guest("(call $serve (i32.const 3))")
ALTERNATES = guest(  # echoes four bytes of its first connection, greets a next one with them, and so on
    """
    (local $first i32) (local $next i32)
    (local.set $first (call $accept (i32.const 3) (i32.const 0)))
    (loop $again
      (drop (call $read (local.get $first) (i32.const 4096) (i32.const 4)))
      (call $write (local.get $first) (i32.const 4096) (i32.const 4))
      (local.set $next (call $accept (i32.const 3) (i32.const 0)))
      (call $write (local.get $next) (i32.const 4096) (i32.const 4))
      (call $check (call $fd_close (local.get $next)))
      (br $again))"""
)
ANSWERS_AT_THE_END = guest(  # reads one connection to its end, and only then writes: what half-close is for
    """(local $fd i32) (local $size i32) (local $have i32)
       (local.set $fd (call $accept (i32.const 3) (i32.const 0)))
       (loop $more
         (local.set $size (call $read (local.get $fd) (i32.add (i32.const 4096) (local.get $have)) (i32.const 4096)))
         (local.set $have (i32.add (local.get $have) (local.get $size)))
         (br_if $more (local.get $size)))
       (call $write (local.get $fd) (i32.const 4096) (local.get $have))"""
)
SPEAKS_THEN_LISTENS = guest(  # ends its own direction first, then reads the peer's to the end and shows it
    """(local $fd i32)
       (local.set $fd (call $accept (i32.const 3) (i32.const 0)))
       (call $write (local.get $fd) (i32.const 2048) (i32.const 4))
       (call $check (call $sock_shutdown (local.get $fd) (i32.const 2)))
       (call $copy (local.get $fd) (i32.const 1))""",
    '(data (i32.const 2048) "done")',
)
TAKES = guest(  # holds every connection it accepts, until it cannot; its exit code says why
    "(loop (drop (call $accept (i32.const 3) (i32.const 0))) (br 0))"
)
GROWS = (  # memory by 64 KiB at a time, until there is no more; exits with how many pages it got
    b'(module (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32))) (memory (export "memory") 1) '
    b'(func (export "_start") (loop (br_if 0 (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))) '
    b"(call $exit (memory.size))))"
)
