"""A WebAssembly module that times its own calls of WASI functions.

It needs three descriptors: 0 endless zeros (/dev/zero), 1 something that swallows (/dev/null), 2 where it reports:
one line per function, "NAME NANOSECONDS ERRNO", where NANOSECONDS is for all calls together and ERRNO is the bitwise
or of all results (0: every call succeeded). As it measures itself, it runs unchanged on every host.
"""

from __future__ import annotations

__all__ = ["CALLS", "module"]

CALLS = {
    "fd_write": ("i32 i32 i32 i32", "(i32.const 1) (i32.const 0) (i32.const 1) (i32.const 64)"),
    "fd_read": ("i32 i32 i32 i32", "(i32.const 0) (i32.const 0) (i32.const 1) (i32.const 64)"),
    "clock_time_get": ("i32 i64 i32", "(i32.const 1) (i64.const 1) (i32.const 72)"),
    "random_get": ("i32 i32", "(i32.const 512) (i32.const 16)"),
    "poll_oneoff": ("i32 i32 i32 i32", "(i32.const 128) (i32.const 192) (i32.const 1) (i32.const 64)"),
    "fd_fdstat_get": ("i32 i32", "(i32.const 1) (i32.const 96)"),
    "sched_yield": ("", ""),
}
"""Function to its parameters and to the arguments that it is called with (addresses: see the memory map below)."""

# Memory: 0 one iovec, 512 with 64 bytes; 64 a result of 4 bytes; 72 a clock's 8; 80 the iovec of reports; 96 an fdstat;
# 128 a subscription (userdata 0, tag 1 "fd_read" at 8, descriptor 0 at 16); 192 an event; 512 data; 1024 a line of a
# report, written backwards from its end at 1088; 2048 the functions' names.
HEAD = r"""
  (memory (export "memory") 1)
  (data (i32.const 0) "\00\02\00\00\40\00\00\00")
  (data (i32.const 136) "\01")
  (func $now (result i64)
    (drop (call $clock_time_get (i32.const 1) (i64.const 1) (i32.const 72)))
    (i64.load (i32.const 72)))
  (func $put (param $at i32) (param $byte i32) (result i32)
    (i32.store8 (i32.sub (local.get $at) (i32.const 1)) (local.get $byte))
    (i32.sub (local.get $at) (i32.const 1)))
  (func $digits (param $at i32) (param $n i64) (result i32)
    (loop $more
      (local.set $at (call $put (local.get $at)
        (i32.add (i32.const 48) (i32.wrap_i64 (i64.rem_u (local.get $n) (i64.const 10))))))
      (br_if $more (i64.ne (i64.const 0) (local.tee $n (i64.div_u (local.get $n) (i64.const 10))))))
    (local.get $at))
  (func $report (param $name i32) (param $length i32) (param $ns i64) (param $errno i32) (local $at i32)
    (local.set $at (call $put (i32.const 1088) (i32.const 10)))
    (local.set $at (call $digits (local.get $at) (i64.extend_i32_u (local.get $errno))))
    (local.set $at (call $put (local.get $at) (i32.const 32)))
    (local.set $at (call $digits (local.get $at) (local.get $ns)))
    (local.set $at (call $put (local.get $at) (i32.const 32)))
    (local.set $at (i32.sub (local.get $at) (local.get $length)))
    (memory.copy (local.get $at) (local.get $name) (local.get $length))
    (i32.store (i32.const 80) (local.get $at))
    (i32.store (i32.const 84) (i32.sub (i32.const 1088) (local.get $at)))
    (drop (call $fd_write (i32.const 2) (i32.const 80) (i32.const 1) (i32.const 64))))
"""


def module(count: int) -> str:
    """The module's text; each function is called `count` times, after a tenth as many that are not timed."""
    imports, loops, steps, names, at = [], [], [], [], 2048
    for name, (parameters, arguments) in CALLS.items():
        signature = f"(param {parameters}) (result i32)" if parameters else "(result i32)"
        imports.append(f'  (import "wasi_snapshot_preview1" "{name}" (func ${name} {signature}))')
        loops.append(
            f"  (func ${name}_loop (param $n i32) (result i32) (local $errno i32)\n"
            f"    (loop $more\n"
            f"      (local.set $errno (i32.or (local.get $errno) (call ${name} {arguments})))\n"
            f"      (br_if $more (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))\n"
            f"    (local.get $errno))"
        )
        steps.append(
            f"    (drop (call ${name}_loop (i32.const {max(1, count // 10)})))\n"
            f"    (local.set $began (call $now))\n"
            f"    (local.set $errno (call ${name}_loop (i32.const {count})))\n"
            f"    (call $report (i32.const {at}) (i32.const {len(name)}) "
            f"(i64.sub (call $now) (local.get $began)) (local.get $errno))"
        )
        names.append(f'  (data (i32.const {at}) "{name}")')
        at += len(name)
    start = ['  (func (export "_start") (local $began i64) (local $errno i32)', *steps, "  )"]
    return "\n".join(["(module", *imports, HEAD, *names, *loops, *start, ")"])
