"""Preview 1 as data, written down from the specification (typenames.witx, wasi_snapshot_preview1.witx).

It says the same as the declarations in `donjon.wasm.wasi.p1`, in another way and by another hand: tests compare them.
"""

from __future__ import annotations

# fmt: off
SIGNATURES: dict[str, tuple[str, str]] = {  # core parameters and results; i: i32, I: i64
    "args_get":                 ("ii", "i"),
    "args_sizes_get":           ("ii", "i"),
    "environ_get":              ("ii", "i"),
    "environ_sizes_get":        ("ii", "i"),
    "clock_res_get":            ("ii", "i"),
    "clock_time_get":           ("iIi", "i"),
    "fd_advise":                ("iIIi", "i"),
    "fd_allocate":              ("iII", "i"),
    "fd_close":                 ("i", "i"),
    "fd_datasync":              ("i", "i"),
    "fd_fdstat_get":            ("ii", "i"),
    "fd_fdstat_set_flags":      ("ii", "i"),
    "fd_fdstat_set_rights":     ("iII", "i"),
    "fd_filestat_get":          ("ii", "i"),
    "fd_filestat_set_size":     ("iI", "i"),
    "fd_filestat_set_times":    ("iIIi", "i"),
    "fd_pread":                 ("iiiIi", "i"),
    "fd_prestat_get":           ("ii", "i"),
    "fd_prestat_dir_name":      ("iii", "i"),
    "fd_pwrite":                ("iiiIi", "i"),
    "fd_read":                  ("iiii", "i"),
    "fd_readdir":               ("iiiIi", "i"),
    "fd_renumber":              ("ii", "i"),
    "fd_seek":                  ("iIii", "i"),
    "fd_sync":                  ("i", "i"),
    "fd_tell":                  ("ii", "i"),
    "fd_write":                 ("iiii", "i"),
    "path_create_directory":    ("iii", "i"),
    "path_filestat_get":        ("iiiii", "i"),
    "path_filestat_set_times":  ("iiiiIIi", "i"),
    "path_link":                ("iiiiiii", "i"),
    "path_open":                ("iiiiiIIii", "i"),
    "path_readlink":            ("iiiiii", "i"),
    "path_remove_directory":    ("iii", "i"),
    "path_rename":              ("iiiiii", "i"),
    "path_symlink":             ("iiiii", "i"),
    "path_unlink_file":         ("iii", "i"),
    "poll_oneoff":              ("iiii", "i"),
    "proc_exit":                ("i", ""),
    "proc_raise":               ("i", "i"),
    "random_get":               ("ii", "i"),
    "sched_yield":              ("", "i"),
    "sock_accept":              ("iii", "i"),
    "sock_recv":                ("iiiiii", "i"),
    "sock_send":                ("iiiii", "i"),
    "sock_shutdown":            ("ii", "i"),
}

RESULTS: dict[str, tuple[tuple[int, int], ...]] = {  # where results go: (index of the pointer, bytes)
    "args_sizes_get":       ((0, 4), (1, 4)),
    "environ_sizes_get":    ((0, 4), (1, 4)),
    "clock_res_get":        ((1, 8),),
    "clock_time_get":       ((2, 8),),
    "fd_fdstat_get":        ((1, 24),),
    "fd_filestat_get":      ((1, 64),),
    "fd_pread":             ((4, 4),),
    "fd_prestat_get":       ((1, 8),),
    "fd_pwrite":            ((4, 4),),
    "fd_read":              ((3, 4),),
    "fd_readdir":           ((4, 4),),
    "fd_seek":              ((3, 8),),
    "fd_tell":              ((1, 8),),
    "fd_write":             ((3, 4),),
    "path_filestat_get":    ((4, 64),),
    "path_open":            ((8, 4),),
    "path_readlink":        ((5, 4),),
    "poll_oneoff":          ((3, 4),),
    "sock_accept":          ((2, 4),),
    "sock_recv":            ((4, 4), (5, 2)),
    "sock_send":            ((4, 4),),
}

ALIGNMENT = {4: 4, 2: 2, 8: 8, 24: 8, 64: 8}  # of a result by its size; prestat, with 8 bytes, is aligned to 4

BUFFERS: dict[str, tuple[int, int]] = {  # a buffer that is filled: the indices of its address and its length
    "fd_prestat_dir_name":  (1, 2),
    "fd_readdir":           (1, 2),
    "path_readlink":        (3, 4),
    "random_get":           (0, 1),
}
FILLED_ARRAYS = {"fd_read": 1, "fd_pread": 1, "sock_recv": 1}     # the index of the array of buffers that are filled
READ_ARRAYS = {"fd_write": 1, "fd_pwrite": 1, "sock_send": 1}     # ... that are read
PATHS: dict[str, tuple[tuple[int, int], ...]] = {  # strings: the indices of address and length
    "path_create_directory":    ((1, 2),),
    "path_filestat_get":        ((2, 3),),
    "path_filestat_set_times":  ((2, 3),),
    "path_link":                ((2, 3), (5, 6)),
    "path_open":                ((2, 3),),
    "path_readlink":            ((1, 2),),
    "path_remove_directory":    ((1, 2),),
    "path_rename":              ((1, 2), (4, 5)),
    "path_symlink":             ((0, 1), (3, 4)),
    "path_unlink_file":         ((1, 2),),
}
DESCRIPTORS: dict[str, tuple[int, ...]] = {  # the parameters that are descriptors
    **{name: (0,) for name in SIGNATURES if name.startswith(("fd_", "path_", "sock_"))},
    "fd_renumber": (0, 1), "path_link": (0, 4), "path_rename": (0, 3), "path_symlink": (2,),
}
# fmt: on

ERRNO = {
    name: number
    for number, name in enumerate(
        (
            "success 2big acces addrinuse addrnotavail afnosupport again already badf badmsg busy canceled child "
            "connaborted connrefused connreset deadlk destaddrreq dom dquot exist fault fbig hostunreach idrm ilseq "
            "inprogress intr inval io isconn isdir loop mfile mlink msgsize multihop nametoolong netdown netreset "
            "netunreach nfile nobufs nodev noent noexec nolck nolink nomem nomsg noprotoopt nospc nosys notconn notdir "
            "notempty notrecoverable notsock notsup notty nxio overflow ownerdead perm pipe proto protonosupport "
            "prototype range rofs spipe srch stale timedout txtbsy xdev notcapable"
        ).split()
    )
}
"""Error numbers by name."""

RIGHTS = {
    name: 1 << bit
    for bit, name in enumerate(
        (
            "fd_datasync fd_read fd_seek fd_fdstat_set_flags fd_sync fd_tell fd_write fd_advise fd_allocate "
            "path_create_directory path_create_file path_link_source path_link_target path_open fd_readdir "
            "path_readlink path_rename_source path_rename_target path_filestat_get path_filestat_set_size "
            "path_filestat_set_times fd_filestat_get fd_filestat_set_size fd_filestat_set_times path_symlink "
            "path_remove_directory path_unlink_file poll_fd_readwrite sock_shutdown sock_accept"
        ).split()
    )
}
"""Rights by name."""
