"""The trampolines of preview 1, written by `python tools/trampolines.py`: change the declarations, not this.

A file, since compiling the text of those that a module needs took 4 ms of every start. A test compares it with its
source.
"""

from donjon.wasm.wasi.p1.errno import WasiError, from_os_error


def args_get(guest, body, fds, mem, known, views, new_view, log_error):
    def trampoline(env, caller, a):
        v = views.get(a) or new_view(a)
        try:
            argv = v[0]
            if not mem.size: mem.reaches(0, caller)
            argv_buf = v[4]
            if not mem.size: mem.reaches(0, caller)
            body(guest, argv, argv_buf)
            v[0] = 0
        except WasiError as error:
            v[0] = error.errno; log_error('args_get', error)
        except OSError as error:
            v[0] = from_os_error(error); log_error('args_get', error)
        except BaseException as error:
            return guest.trap(error)
        return 0
    return trampoline


def args_sizes_get(guest, body, fds, mem, known, views, new_view, log_error):
    def trampoline(env, caller, a):
        v = views.get(a) or new_view(a)
        try:
            o0 = v[0]
            if o0 & 3: v[0] = 28; return 0
            if o0 + 4 > mem.size and not mem.reaches(o0 + 4, caller): v[0] = 21; return 0
            o1 = v[4]
            if o1 & 3: v[0] = 28; return 0
            if o1 + 4 > mem.size and not mem.reaches(o1 + 4, caller): v[0] = 21; return 0
            mem.u32[o0 >> 2], mem.u32[o1 >> 2] = body(guest)
            v[0] = 0
        except WasiError as error:
            v[0] = error.errno; log_error('args_sizes_get', error)
        except OSError as error:
            v[0] = from_os_error(error); log_error('args_sizes_get', error)
        except BaseException as error:
            return guest.trap(error)
        return 0
    return trampoline


def clock_res_get(guest, body, fds, mem, known, views, new_view, log_error):
    def trampoline(env, caller, a):
        v = views.get(a) or new_view(a)
        try:
            o0 = v[4]
            if o0 & 7: v[0] = 28; return 0
            if o0 + 8 > mem.size and not mem.reaches(o0 + 8, caller): v[0] = 21; return 0
            id = v[0]
            if id >= 4: v[0] = 28; return 0
            mem.u64[o0 >> 3] = body(guest, id)
            v[0] = 0
        except WasiError as error:
            v[0] = error.errno; log_error('clock_res_get', error)
        except OSError as error:
            v[0] = from_os_error(error); log_error('clock_res_get', error)
        except BaseException as error:
            return guest.trap(error)
        return 0
    return trampoline


def clock_time_get(guest, body, fds, mem, known, views, new_view, log_error):
    def trampoline(env, caller, a):
        v = views.get(a) or new_view(a)
        try:
            o0 = v[8]
            if o0 & 7: v[0] = 28; return 0
            if o0 + 8 > mem.size and not mem.reaches(o0 + 8, caller): v[0] = 21; return 0
            id = v[0]
            if id >= 4: v[0] = 28; return 0
            precision = v[4] | v[4 + 1] << 32
            mem.u64[o0 >> 3] = body(guest, id, precision)
            v[0] = 0
        except WasiError as error:
            v[0] = error.errno; log_error('clock_time_get', error)
        except OSError as error:
            v[0] = from_os_error(error); log_error('clock_time_get', error)
        except BaseException as error:
            return guest.trap(error)
        return 0
    return trampoline


def environ_get(guest, body, fds, mem, known, views, new_view, log_error):
    def trampoline(env, caller, a):
        v = views.get(a) or new_view(a)
        try:
            environ = v[0]
            if not mem.size: mem.reaches(0, caller)
            environ_buf = v[4]
            if not mem.size: mem.reaches(0, caller)
            body(guest, environ, environ_buf)
            v[0] = 0
        except WasiError as error:
            v[0] = error.errno; log_error('environ_get', error)
        except OSError as error:
            v[0] = from_os_error(error); log_error('environ_get', error)
        except BaseException as error:
            return guest.trap(error)
        return 0
    return trampoline


def environ_sizes_get(guest, body, fds, mem, known, views, new_view, log_error):
    def trampoline(env, caller, a):
        v = views.get(a) or new_view(a)
        try:
            o0 = v[0]
            if o0 & 3: v[0] = 28; return 0
            if o0 + 4 > mem.size and not mem.reaches(o0 + 4, caller): v[0] = 21; return 0
            o1 = v[4]
            if o1 & 3: v[0] = 28; return 0
            if o1 + 4 > mem.size and not mem.reaches(o1 + 4, caller): v[0] = 21; return 0
            mem.u32[o0 >> 2], mem.u32[o1 >> 2] = body(guest)
            v[0] = 0
        except WasiError as error:
            v[0] = error.errno; log_error('environ_sizes_get', error)
        except OSError as error:
            v[0] = from_os_error(error); log_error('environ_sizes_get', error)
        except BaseException as error:
            return guest.trap(error)
        return 0
    return trampoline


def fd_advise(guest, body, fds, mem, known, views, new_view, log_error):
    def trampoline(env, caller, a):
        v = views.get(a) or new_view(a)
        try:
            fd = fds.get(v[0])
            if fd is None: v[0] = 8; return 0
            offset = v[4] | v[4 + 1] << 32
            len = v[8] | v[8 + 1] << 32
            advice = v[12]
            if advice >= 6: v[0] = 28; return 0
            body(guest, fd, offset, len, advice)
            v[0] = 0
        except WasiError as error:
            v[0] = error.errno; log_error('fd_advise', error)
        except OSError as error:
            v[0] = from_os_error(error); log_error('fd_advise', error)
        except BaseException as error:
            return guest.trap(error)
        return 0
    return trampoline


def fd_allocate(guest, body, fds, mem, known, views, new_view, log_error):
    def trampoline(env, caller, a):
        v = views.get(a) or new_view(a)
        try:
            fd = fds.get(v[0])
            if fd is None: v[0] = 8; return 0
            offset = v[4] | v[4 + 1] << 32
            len = v[8] | v[8 + 1] << 32
            body(guest, fd, offset, len)
            v[0] = 0
        except WasiError as error:
            v[0] = error.errno; log_error('fd_allocate', error)
        except OSError as error:
            v[0] = from_os_error(error); log_error('fd_allocate', error)
        except BaseException as error:
            return guest.trap(error)
        return 0
    return trampoline


def fd_close(guest, body, fds, mem, known, views, new_view, log_error):
    def trampoline(env, caller, a):
        v = views.get(a) or new_view(a)
        try:
            fd = v[0]
            body(guest, fd)
            v[0] = 0
        except WasiError as error:
            v[0] = error.errno; log_error('fd_close', error)
        except OSError as error:
            v[0] = from_os_error(error); log_error('fd_close', error)
        except BaseException as error:
            return guest.trap(error)
        return 0
    return trampoline


def fd_datasync(guest, body, fds, mem, known, views, new_view, log_error):
    def trampoline(env, caller, a):
        v = views.get(a) or new_view(a)
        try:
            fd = fds.get(v[0])
            if fd is None: v[0] = 8; return 0
            if not fd.rights & 1: v[0] = 76; return 0
            body(guest, fd)
            v[0] = 0
        except WasiError as error:
            v[0] = error.errno; log_error('fd_datasync', error)
        except OSError as error:
            v[0] = from_os_error(error); log_error('fd_datasync', error)
        except BaseException as error:
            return guest.trap(error)
        return 0
    return trampoline


def fd_fdstat_get(guest, body, fds, mem, known, views, new_view, log_error):
    def trampoline(env, caller, a):
        v = views.get(a) or new_view(a)
        try:
            o0 = v[4]
            if o0 & 7: v[0] = 28; return 0
            if o0 + 24 > mem.size and not mem.reaches(o0 + 24, caller): v[0] = 21; return 0
            fd = fds.get(v[0])
            if fd is None: v[0] = 8; return 0
            mem.u8[o0:o0 + 24] = body(guest, fd)
            v[0] = 0
        except WasiError as error:
            v[0] = error.errno; log_error('fd_fdstat_get', error)
        except OSError as error:
            v[0] = from_os_error(error); log_error('fd_fdstat_get', error)
        except BaseException as error:
            return guest.trap(error)
        return 0
    return trampoline


def fd_fdstat_set_flags(guest, body, fds, mem, known, views, new_view, log_error):
    def trampoline(env, caller, a):
        v = views.get(a) or new_view(a)
        try:
            fd = fds.get(v[0])
            if fd is None: v[0] = 8; return 0
            if not fd.rights & 8: v[0] = 76; return 0
            flags = v[4]
            if flags & ~31: v[0] = 28; return 0
            body(guest, fd, flags)
            v[0] = 0
        except WasiError as error:
            v[0] = error.errno; log_error('fd_fdstat_set_flags', error)
        except OSError as error:
            v[0] = from_os_error(error); log_error('fd_fdstat_set_flags', error)
        except BaseException as error:
            return guest.trap(error)
        return 0
    return trampoline


def fd_fdstat_set_rights(guest, body, fds, mem, known, views, new_view, log_error):
    def trampoline(env, caller, a):
        v = views.get(a) or new_view(a)
        try:
            fd = fds.get(v[0])
            if fd is None: v[0] = 8; return 0
            fs_rights_base = v[4] | v[4 + 1] << 32
            fs_rights_inheriting = v[8] | v[8 + 1] << 32
            body(guest, fd, fs_rights_base, fs_rights_inheriting)
            v[0] = 0
        except WasiError as error:
            v[0] = error.errno; log_error('fd_fdstat_set_rights', error)
        except OSError as error:
            v[0] = from_os_error(error); log_error('fd_fdstat_set_rights', error)
        except BaseException as error:
            return guest.trap(error)
        return 0
    return trampoline


def fd_filestat_get(guest, body, fds, mem, known, views, new_view, log_error):
    def trampoline(env, caller, a):
        v = views.get(a) or new_view(a)
        try:
            o0 = v[4]
            if o0 & 7: v[0] = 28; return 0
            if o0 + 64 > mem.size and not mem.reaches(o0 + 64, caller): v[0] = 21; return 0
            fd = fds.get(v[0])
            if fd is None: v[0] = 8; return 0
            if not fd.rights & 2097152: v[0] = 76; return 0
            mem.u8[o0:o0 + 64] = body(guest, fd)
            v[0] = 0
        except WasiError as error:
            v[0] = error.errno; log_error('fd_filestat_get', error)
        except OSError as error:
            v[0] = from_os_error(error); log_error('fd_filestat_get', error)
        except BaseException as error:
            return guest.trap(error)
        return 0
    return trampoline


def fd_filestat_set_size(guest, body, fds, mem, known, views, new_view, log_error):
    def trampoline(env, caller, a):
        v = views.get(a) or new_view(a)
        try:
            fd = fds.get(v[0])
            if fd is None: v[0] = 8; return 0
            if not fd.rights & 4194304: v[0] = 76; return 0
            size = v[4] | v[4 + 1] << 32
            body(guest, fd, size)
            v[0] = 0
        except WasiError as error:
            v[0] = error.errno; log_error('fd_filestat_set_size', error)
        except OSError as error:
            v[0] = from_os_error(error); log_error('fd_filestat_set_size', error)
        except BaseException as error:
            return guest.trap(error)
        return 0
    return trampoline


def fd_filestat_set_times(guest, body, fds, mem, known, views, new_view, log_error):
    def trampoline(env, caller, a):
        v = views.get(a) or new_view(a)
        try:
            fd = fds.get(v[0])
            if fd is None: v[0] = 8; return 0
            if not fd.rights & 8388608: v[0] = 76; return 0
            atim = v[4] | v[4 + 1] << 32
            mtim = v[8] | v[8 + 1] << 32
            fst_flags = v[12]
            if fst_flags & ~15: v[0] = 28; return 0
            body(guest, fd, atim, mtim, fst_flags)
            v[0] = 0
        except WasiError as error:
            v[0] = error.errno; log_error('fd_filestat_set_times', error)
        except OSError as error:
            v[0] = from_os_error(error); log_error('fd_filestat_set_times', error)
        except BaseException as error:
            return guest.trap(error)
        return 0
    return trampoline


def fd_pread(guest, body, fds, mem, known, views, new_view, log_error):
    def trampoline(env, caller, a):
        v = views.get(a) or new_view(a)
        try:
            o0 = v[16]
            if o0 & 3: v[0] = 28; return 0
            if o0 + 4 > mem.size and not mem.reaches(o0 + 4, caller): v[0] = 21; return 0
            fd = fds.get(v[0])
            if fd is None: v[0] = 8; return 0
            if not fd.rights & 2: v[0] = 76; return 0
            p = v[4]
            if v[8] == 1 and not p & 7 and p + 8 <= mem.size:
                p >>= 3; iovs = known(mem.u64[p]) or mem.learn(p, caller)
            else: iovs = mem.buffers(p, v[8], caller)
            offset = v[12] | v[12 + 1] << 32
            mem.u32[o0 >> 2] = body(guest, fd, iovs, offset)
            v[0] = 0
        except WasiError as error:
            v[0] = error.errno; log_error('fd_pread', error)
        except OSError as error:
            v[0] = from_os_error(error); log_error('fd_pread', error)
        except BaseException as error:
            return guest.trap(error)
        return 0
    return trampoline


def fd_prestat_dir_name(guest, body, fds, mem, known, views, new_view, log_error):
    def trampoline(env, caller, a):
        v = views.get(a) or new_view(a)
        try:
            fd = fds.get(v[0])
            if fd is None: v[0] = 8; return 0
            path = mem.span(v[4], v[8], caller)
            body(guest, fd, path)
            v[0] = 0
        except WasiError as error:
            v[0] = error.errno; log_error('fd_prestat_dir_name', error)
        except OSError as error:
            v[0] = from_os_error(error); log_error('fd_prestat_dir_name', error)
        except BaseException as error:
            return guest.trap(error)
        return 0
    return trampoline


def fd_prestat_get(guest, body, fds, mem, known, views, new_view, log_error):
    def trampoline(env, caller, a):
        v = views.get(a) or new_view(a)
        try:
            o0 = v[4]
            if o0 & 3: v[0] = 28; return 0
            if o0 + 8 > mem.size and not mem.reaches(o0 + 8, caller): v[0] = 21; return 0
            fd = fds.get(v[0])
            if fd is None: v[0] = 8; return 0
            mem.u8[o0:o0 + 8] = body(guest, fd)
            v[0] = 0
        except WasiError as error:
            v[0] = error.errno; log_error('fd_prestat_get', error)
        except OSError as error:
            v[0] = from_os_error(error); log_error('fd_prestat_get', error)
        except BaseException as error:
            return guest.trap(error)
        return 0
    return trampoline


def fd_pwrite(guest, body, fds, mem, known, views, new_view, log_error):
    def trampoline(env, caller, a):
        v = views.get(a) or new_view(a)
        try:
            o0 = v[16]
            if o0 & 3: v[0] = 28; return 0
            if o0 + 4 > mem.size and not mem.reaches(o0 + 4, caller): v[0] = 21; return 0
            fd = fds.get(v[0])
            if fd is None: v[0] = 8; return 0
            if not fd.rights & 64: v[0] = 76; return 0
            p = v[4]
            if v[8] == 1 and not p & 7 and p + 8 <= mem.size:
                p >>= 3; iovs = known(mem.u64[p]) or mem.learn(p, caller)
            else: iovs = mem.buffers(p, v[8], caller)
            offset = v[12] | v[12 + 1] << 32
            mem.u32[o0 >> 2] = body(guest, fd, iovs, offset)
            v[0] = 0
        except WasiError as error:
            v[0] = error.errno; log_error('fd_pwrite', error)
        except OSError as error:
            v[0] = from_os_error(error); log_error('fd_pwrite', error)
        except BaseException as error:
            return guest.trap(error)
        return 0
    return trampoline


def fd_read(guest, body, fds, mem, known, views, new_view, log_error):
    def trampoline(env, caller, a):
        v = views.get(a) or new_view(a)
        try:
            o0 = v[12]
            if o0 & 3: v[0] = 28; return 0
            if o0 + 4 > mem.size and not mem.reaches(o0 + 4, caller): v[0] = 21; return 0
            fd = fds.get(v[0])
            if fd is None: v[0] = 8; return 0
            if not fd.rights & 2: v[0] = 76; return 0
            p = v[4]
            if v[8] == 1 and not p & 7 and p + 8 <= mem.size:
                p >>= 3; iovs = known(mem.u64[p]) or mem.learn(p, caller)
            else: iovs = mem.buffers(p, v[8], caller)
            mem.u32[o0 >> 2] = body(guest, fd, iovs)
            v[0] = 0
        except WasiError as error:
            v[0] = error.errno; log_error('fd_read', error)
        except OSError as error:
            v[0] = from_os_error(error); log_error('fd_read', error)
        except BaseException as error:
            return guest.trap(error)
        return 0
    return trampoline


def fd_readdir(guest, body, fds, mem, known, views, new_view, log_error):
    def trampoline(env, caller, a):
        v = views.get(a) or new_view(a)
        try:
            o0 = v[16]
            if o0 & 3: v[0] = 28; return 0
            if o0 + 4 > mem.size and not mem.reaches(o0 + 4, caller): v[0] = 21; return 0
            fd = fds.get(v[0])
            if fd is None: v[0] = 8; return 0
            if not fd.rights & 16384: v[0] = 76; return 0
            buf = mem.span(v[4], v[8], caller)
            cookie = v[12] | v[12 + 1] << 32
            mem.u32[o0 >> 2] = body(guest, fd, buf, cookie)
            v[0] = 0
        except WasiError as error:
            v[0] = error.errno; log_error('fd_readdir', error)
        except OSError as error:
            v[0] = from_os_error(error); log_error('fd_readdir', error)
        except BaseException as error:
            return guest.trap(error)
        return 0
    return trampoline


def fd_renumber(guest, body, fds, mem, known, views, new_view, log_error):
    def trampoline(env, caller, a):
        v = views.get(a) or new_view(a)
        try:
            fd = v[0]
            to = v[4]
            body(guest, fd, to)
            v[0] = 0
        except WasiError as error:
            v[0] = error.errno; log_error('fd_renumber', error)
        except OSError as error:
            v[0] = from_os_error(error); log_error('fd_renumber', error)
        except BaseException as error:
            return guest.trap(error)
        return 0
    return trampoline


def fd_seek(guest, body, fds, mem, known, views, new_view, log_error):
    def trampoline(env, caller, a):
        v = views.get(a) or new_view(a)
        try:
            o0 = v[12]
            if o0 & 7: v[0] = 28; return 0
            if o0 + 8 > mem.size and not mem.reaches(o0 + 8, caller): v[0] = 21; return 0
            fd = fds.get(v[0])
            if fd is None: v[0] = 8; return 0
            offset = v[4] | v[4 + 1] << 32
            if offset >> 63: offset -= 1 << 64
            whence = v[8]
            if whence >= 3: v[0] = 28; return 0
            mem.u64[o0 >> 3] = body(guest, fd, offset, whence)
            v[0] = 0
        except WasiError as error:
            v[0] = error.errno; log_error('fd_seek', error)
        except OSError as error:
            v[0] = from_os_error(error); log_error('fd_seek', error)
        except BaseException as error:
            return guest.trap(error)
        return 0
    return trampoline


def fd_sync(guest, body, fds, mem, known, views, new_view, log_error):
    def trampoline(env, caller, a):
        v = views.get(a) or new_view(a)
        try:
            fd = fds.get(v[0])
            if fd is None: v[0] = 8; return 0
            if not fd.rights & 16: v[0] = 76; return 0
            body(guest, fd)
            v[0] = 0
        except WasiError as error:
            v[0] = error.errno; log_error('fd_sync', error)
        except OSError as error:
            v[0] = from_os_error(error); log_error('fd_sync', error)
        except BaseException as error:
            return guest.trap(error)
        return 0
    return trampoline


def fd_tell(guest, body, fds, mem, known, views, new_view, log_error):
    def trampoline(env, caller, a):
        v = views.get(a) or new_view(a)
        try:
            o0 = v[4]
            if o0 & 7: v[0] = 28; return 0
            if o0 + 8 > mem.size and not mem.reaches(o0 + 8, caller): v[0] = 21; return 0
            fd = fds.get(v[0])
            if fd is None: v[0] = 8; return 0
            mem.u64[o0 >> 3] = body(guest, fd)
            v[0] = 0
        except WasiError as error:
            v[0] = error.errno; log_error('fd_tell', error)
        except OSError as error:
            v[0] = from_os_error(error); log_error('fd_tell', error)
        except BaseException as error:
            return guest.trap(error)
        return 0
    return trampoline


def fd_write(guest, body, fds, mem, known, views, new_view, log_error):
    def trampoline(env, caller, a):
        v = views.get(a) or new_view(a)
        try:
            o0 = v[12]
            if o0 & 3: v[0] = 28; return 0
            if o0 + 4 > mem.size and not mem.reaches(o0 + 4, caller): v[0] = 21; return 0
            fd = fds.get(v[0])
            if fd is None: v[0] = 8; return 0
            if not fd.rights & 64: v[0] = 76; return 0
            p = v[4]
            if v[8] == 1 and not p & 7 and p + 8 <= mem.size:
                p >>= 3; iovs = known(mem.u64[p]) or mem.learn(p, caller)
            else: iovs = mem.buffers(p, v[8], caller)
            mem.u32[o0 >> 2] = body(guest, fd, iovs)
            v[0] = 0
        except WasiError as error:
            v[0] = error.errno; log_error('fd_write', error)
        except OSError as error:
            v[0] = from_os_error(error); log_error('fd_write', error)
        except BaseException as error:
            return guest.trap(error)
        return 0
    return trampoline


def path_create_directory(guest, body, fds, mem, known, views, new_view, log_error):
    def trampoline(env, caller, a):
        v = views.get(a) or new_view(a)
        try:
            fd = fds.get(v[0])
            if fd is None: v[0] = 8; return 0
            if not fd.rights & 512: v[0] = 76; return 0
            path = mem.text(v[4], v[8], caller)
            body(guest, fd, path)
            v[0] = 0
        except WasiError as error:
            v[0] = error.errno; log_error('path_create_directory', error)
        except OSError as error:
            v[0] = from_os_error(error); log_error('path_create_directory', error)
        except BaseException as error:
            return guest.trap(error)
        return 0
    return trampoline


def path_filestat_get(guest, body, fds, mem, known, views, new_view, log_error):
    def trampoline(env, caller, a):
        v = views.get(a) or new_view(a)
        try:
            o0 = v[16]
            if o0 & 7: v[0] = 28; return 0
            if o0 + 64 > mem.size and not mem.reaches(o0 + 64, caller): v[0] = 21; return 0
            fd = fds.get(v[0])
            if fd is None: v[0] = 8; return 0
            if not fd.rights & 262144: v[0] = 76; return 0
            flags = v[4]
            if flags & ~1: v[0] = 28; return 0
            path = mem.text(v[8], v[12], caller)
            mem.u8[o0:o0 + 64] = body(guest, fd, flags, path)
            v[0] = 0
        except WasiError as error:
            v[0] = error.errno; log_error('path_filestat_get', error)
        except OSError as error:
            v[0] = from_os_error(error); log_error('path_filestat_get', error)
        except BaseException as error:
            return guest.trap(error)
        return 0
    return trampoline


def path_filestat_set_times(guest, body, fds, mem, known, views, new_view, log_error):
    def trampoline(env, caller, a):
        v = views.get(a) or new_view(a)
        try:
            fd = fds.get(v[0])
            if fd is None: v[0] = 8; return 0
            if not fd.rights & 1048576: v[0] = 76; return 0
            flags = v[4]
            if flags & ~1: v[0] = 28; return 0
            path = mem.text(v[8], v[12], caller)
            atim = v[16] | v[16 + 1] << 32
            mtim = v[20] | v[20 + 1] << 32
            fst_flags = v[24]
            if fst_flags & ~15: v[0] = 28; return 0
            body(guest, fd, flags, path, atim, mtim, fst_flags)
            v[0] = 0
        except WasiError as error:
            v[0] = error.errno; log_error('path_filestat_set_times', error)
        except OSError as error:
            v[0] = from_os_error(error); log_error('path_filestat_set_times', error)
        except BaseException as error:
            return guest.trap(error)
        return 0
    return trampoline


def path_link(guest, body, fds, mem, known, views, new_view, log_error):
    def trampoline(env, caller, a):
        v = views.get(a) or new_view(a)
        try:
            old_fd = fds.get(v[0])
            if old_fd is None: v[0] = 8; return 0
            if not old_fd.rights & 2048: v[0] = 76; return 0
            old_flags = v[4]
            if old_flags & ~1: v[0] = 28; return 0
            old_path = mem.text(v[8], v[12], caller)
            new_fd = fds.get(v[16])
            if new_fd is None: v[0] = 8; return 0
            if not new_fd.rights & 4096: v[0] = 76; return 0
            new_path = mem.text(v[20], v[24], caller)
            body(guest, old_fd, old_flags, old_path, new_fd, new_path)
            v[0] = 0
        except WasiError as error:
            v[0] = error.errno; log_error('path_link', error)
        except OSError as error:
            v[0] = from_os_error(error); log_error('path_link', error)
        except BaseException as error:
            return guest.trap(error)
        return 0
    return trampoline


def path_open(guest, body, fds, mem, known, views, new_view, log_error):
    def trampoline(env, caller, a):
        v = views.get(a) or new_view(a)
        try:
            o0 = v[32]
            if o0 & 3: v[0] = 28; return 0
            if o0 + 4 > mem.size and not mem.reaches(o0 + 4, caller): v[0] = 21; return 0
            fd = fds.get(v[0])
            if fd is None: v[0] = 8; return 0
            if not fd.rights & 8192: v[0] = 76; return 0
            dirflags = v[4]
            if dirflags & ~1: v[0] = 28; return 0
            path = mem.text(v[8], v[12], caller)
            oflags = v[16]
            if oflags & ~15: v[0] = 28; return 0
            fs_rights_base = v[20] | v[20 + 1] << 32
            fs_rights_inheriting = v[24] | v[24 + 1] << 32
            fdflags = v[28]
            if fdflags & ~31: v[0] = 28; return 0
            mem.u32[o0 >> 2] = body(guest, fd, dirflags, path, oflags, fs_rights_base, fs_rights_inheriting, fdflags)
            v[0] = 0
        except WasiError as error:
            v[0] = error.errno; log_error('path_open', error)
        except OSError as error:
            v[0] = from_os_error(error); log_error('path_open', error)
        except BaseException as error:
            return guest.trap(error)
        return 0
    return trampoline


def path_readlink(guest, body, fds, mem, known, views, new_view, log_error):
    def trampoline(env, caller, a):
        v = views.get(a) or new_view(a)
        try:
            o0 = v[20]
            if o0 & 3: v[0] = 28; return 0
            if o0 + 4 > mem.size and not mem.reaches(o0 + 4, caller): v[0] = 21; return 0
            fd = fds.get(v[0])
            if fd is None: v[0] = 8; return 0
            if not fd.rights & 32768: v[0] = 76; return 0
            path = mem.text(v[4], v[8], caller)
            buf = mem.span(v[12], v[16], caller)
            mem.u32[o0 >> 2] = body(guest, fd, path, buf)
            v[0] = 0
        except WasiError as error:
            v[0] = error.errno; log_error('path_readlink', error)
        except OSError as error:
            v[0] = from_os_error(error); log_error('path_readlink', error)
        except BaseException as error:
            return guest.trap(error)
        return 0
    return trampoline


def path_remove_directory(guest, body, fds, mem, known, views, new_view, log_error):
    def trampoline(env, caller, a):
        v = views.get(a) or new_view(a)
        try:
            fd = fds.get(v[0])
            if fd is None: v[0] = 8; return 0
            if not fd.rights & 33554432: v[0] = 76; return 0
            path = mem.text(v[4], v[8], caller)
            body(guest, fd, path)
            v[0] = 0
        except WasiError as error:
            v[0] = error.errno; log_error('path_remove_directory', error)
        except OSError as error:
            v[0] = from_os_error(error); log_error('path_remove_directory', error)
        except BaseException as error:
            return guest.trap(error)
        return 0
    return trampoline


def path_rename(guest, body, fds, mem, known, views, new_view, log_error):
    def trampoline(env, caller, a):
        v = views.get(a) or new_view(a)
        try:
            fd = fds.get(v[0])
            if fd is None: v[0] = 8; return 0
            if not fd.rights & 65536: v[0] = 76; return 0
            old_path = mem.text(v[4], v[8], caller)
            new_fd = fds.get(v[12])
            if new_fd is None: v[0] = 8; return 0
            if not new_fd.rights & 131072: v[0] = 76; return 0
            new_path = mem.text(v[16], v[20], caller)
            body(guest, fd, old_path, new_fd, new_path)
            v[0] = 0
        except WasiError as error:
            v[0] = error.errno; log_error('path_rename', error)
        except OSError as error:
            v[0] = from_os_error(error); log_error('path_rename', error)
        except BaseException as error:
            return guest.trap(error)
        return 0
    return trampoline


def path_symlink(guest, body, fds, mem, known, views, new_view, log_error):
    def trampoline(env, caller, a):
        v = views.get(a) or new_view(a)
        try:
            old_path = mem.text(v[0], v[4], caller)
            fd = fds.get(v[8])
            if fd is None: v[0] = 8; return 0
            if not fd.rights & 16777216: v[0] = 76; return 0
            new_path = mem.text(v[12], v[16], caller)
            body(guest, old_path, fd, new_path)
            v[0] = 0
        except WasiError as error:
            v[0] = error.errno; log_error('path_symlink', error)
        except OSError as error:
            v[0] = from_os_error(error); log_error('path_symlink', error)
        except BaseException as error:
            return guest.trap(error)
        return 0
    return trampoline


def path_unlink_file(guest, body, fds, mem, known, views, new_view, log_error):
    def trampoline(env, caller, a):
        v = views.get(a) or new_view(a)
        try:
            fd = fds.get(v[0])
            if fd is None: v[0] = 8; return 0
            if not fd.rights & 67108864: v[0] = 76; return 0
            path = mem.text(v[4], v[8], caller)
            body(guest, fd, path)
            v[0] = 0
        except WasiError as error:
            v[0] = error.errno; log_error('path_unlink_file', error)
        except OSError as error:
            v[0] = from_os_error(error); log_error('path_unlink_file', error)
        except BaseException as error:
            return guest.trap(error)
        return 0
    return trampoline


def poll_oneoff(guest, body, fds, mem, known, views, new_view, log_error):
    def trampoline(env, caller, a):
        v = views.get(a) or new_view(a)
        try:
            o0 = v[12]
            if o0 & 3: v[0] = 28; return 0
            if o0 + 4 > mem.size and not mem.reaches(o0 + 4, caller): v[0] = 21; return 0
            in_ = v[0]
            if not mem.size: mem.reaches(0, caller)
            out = v[4]
            if not mem.size: mem.reaches(0, caller)
            nsubscriptions = v[8]
            mem.u32[o0 >> 2] = body(guest, in_, out, nsubscriptions)
            v[0] = 0
        except WasiError as error:
            v[0] = error.errno; log_error('poll_oneoff', error)
        except OSError as error:
            v[0] = from_os_error(error); log_error('poll_oneoff', error)
        except BaseException as error:
            return guest.trap(error)
        return 0
    return trampoline


def proc_exit(guest, body, fds, mem, known, views, new_view, log_error):
    def trampoline(env, caller, a):
        v = views.get(a) or new_view(a)
        try:
            rval = v[0]
            body(guest, rval)
            v[0] = 0
        except WasiError as error:
            v[0] = error.errno; log_error('proc_exit', error)
        except OSError as error:
            v[0] = from_os_error(error); log_error('proc_exit', error)
        except BaseException as error:
            return guest.trap(error)
        return 0
    return trampoline


def proc_raise(guest, body, fds, mem, known, views, new_view, log_error):
    def trampoline(env, caller, a):
        v = views.get(a) or new_view(a)
        try:
            sig = v[0]
            if sig >= 31: v[0] = 28; return 0
            body(guest, sig)
            v[0] = 0
        except WasiError as error:
            v[0] = error.errno; log_error('proc_raise', error)
        except OSError as error:
            v[0] = from_os_error(error); log_error('proc_raise', error)
        except BaseException as error:
            return guest.trap(error)
        return 0
    return trampoline


def random_get(guest, body, fds, mem, known, views, new_view, log_error):
    def trampoline(env, caller, a):
        v = views.get(a) or new_view(a)
        try:
            buf = mem.span(v[0], v[4], caller)
            body(guest, buf)
            v[0] = 0
        except WasiError as error:
            v[0] = error.errno; log_error('random_get', error)
        except OSError as error:
            v[0] = from_os_error(error); log_error('random_get', error)
        except BaseException as error:
            return guest.trap(error)
        return 0
    return trampoline


def sched_yield(guest, body, fds, mem, known, views, new_view, log_error):
    def trampoline(env, caller, a):
        v = views.get(a) or new_view(a)
        try:
            body(guest)
            v[0] = 0
        except WasiError as error:
            v[0] = error.errno; log_error('sched_yield', error)
        except OSError as error:
            v[0] = from_os_error(error); log_error('sched_yield', error)
        except BaseException as error:
            return guest.trap(error)
        return 0
    return trampoline


def sock_accept(guest, body, fds, mem, known, views, new_view, log_error):
    def trampoline(env, caller, a):
        v = views.get(a) or new_view(a)
        try:
            o0 = v[8]
            if o0 & 3: v[0] = 28; return 0
            if o0 + 4 > mem.size and not mem.reaches(o0 + 4, caller): v[0] = 21; return 0
            fd = fds.get(v[0])
            if fd is None: v[0] = 8; return 0
            flags = v[4]
            if flags & ~31: v[0] = 28; return 0
            mem.u32[o0 >> 2] = body(guest, fd, flags)
            v[0] = 0
        except WasiError as error:
            v[0] = error.errno; log_error('sock_accept', error)
        except OSError as error:
            v[0] = from_os_error(error); log_error('sock_accept', error)
        except BaseException as error:
            return guest.trap(error)
        return 0
    return trampoline


def sock_recv(guest, body, fds, mem, known, views, new_view, log_error):
    def trampoline(env, caller, a):
        v = views.get(a) or new_view(a)
        try:
            o0 = v[16]
            if o0 & 3: v[0] = 28; return 0
            if o0 + 4 > mem.size and not mem.reaches(o0 + 4, caller): v[0] = 21; return 0
            o1 = v[20]
            if o1 & 1: v[0] = 28; return 0
            if o1 + 2 > mem.size and not mem.reaches(o1 + 2, caller): v[0] = 21; return 0
            fd = fds.get(v[0])
            if fd is None: v[0] = 8; return 0
            p = v[4]
            if v[8] == 1 and not p & 7 and p + 8 <= mem.size:
                p >>= 3; ri_data = known(mem.u64[p]) or mem.learn(p, caller)
            else: ri_data = mem.buffers(p, v[8], caller)
            ri_flags = v[12]
            if ri_flags & ~3: v[0] = 28; return 0
            mem.u32[o0 >> 2] = body(guest, fd, ri_data, ri_flags); mem.u16[o1 >> 1] = 0
            v[0] = 0
        except WasiError as error:
            v[0] = error.errno; log_error('sock_recv', error)
        except OSError as error:
            v[0] = from_os_error(error); log_error('sock_recv', error)
        except BaseException as error:
            return guest.trap(error)
        return 0
    return trampoline


def sock_send(guest, body, fds, mem, known, views, new_view, log_error):
    def trampoline(env, caller, a):
        v = views.get(a) or new_view(a)
        try:
            o0 = v[16]
            if o0 & 3: v[0] = 28; return 0
            if o0 + 4 > mem.size and not mem.reaches(o0 + 4, caller): v[0] = 21; return 0
            fd = fds.get(v[0])
            if fd is None: v[0] = 8; return 0
            p = v[4]
            if v[8] == 1 and not p & 7 and p + 8 <= mem.size:
                p >>= 3; si_data = known(mem.u64[p]) or mem.learn(p, caller)
            else: si_data = mem.buffers(p, v[8], caller)
            si_flags = v[12]
            if si_flags & ~0: v[0] = 28; return 0
            mem.u32[o0 >> 2] = body(guest, fd, si_data, si_flags)
            v[0] = 0
        except WasiError as error:
            v[0] = error.errno; log_error('sock_send', error)
        except OSError as error:
            v[0] = from_os_error(error); log_error('sock_send', error)
        except BaseException as error:
            return guest.trap(error)
        return 0
    return trampoline


def sock_shutdown(guest, body, fds, mem, known, views, new_view, log_error):
    def trampoline(env, caller, a):
        v = views.get(a) or new_view(a)
        try:
            fd = fds.get(v[0])
            if fd is None: v[0] = 8; return 0
            how = v[4]
            if how & ~3: v[0] = 28; return 0
            body(guest, fd, how)
            v[0] = 0
        except WasiError as error:
            v[0] = error.errno; log_error('sock_shutdown', error)
        except OSError as error:
            v[0] = from_os_error(error); log_error('sock_shutdown', error)
        except BaseException as error:
            return guest.trap(error)
        return 0
    return trampoline
