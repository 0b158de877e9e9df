//! {{name}}: greets each client and sends back what it says.
//!
//! The listener is open already: it is the fourth entry of Enarx.toml, hence descriptor 3. TLS happens outside.
//! These are the calls of WASI preview 1 itself, without a C library between.

const std = @import("std");
const wasi = std.os.wasi;

const listener: wasi.fd_t = 3;
const greeting = "hello from {{name}}: say something\n";
const max_clients = 255;

var clients: [max_clients]wasi.fd_t = undefined;
var count: usize = 0;
var said: [4096]u8 = undefined;

pub fn main() !void {
    // sock_accept shall not wait: a client that poll_oneoff saw coming may be gone again.
    if (wasi.fd_fdstat_set_flags(listener, .{ .NONBLOCK = true }) != .SUCCESS) return error.DescriptorThreeIsNoListener;
    while (true) {
        var wanted: [1 + max_clients]wasi.subscription_t = undefined;
        var events: [1 + max_clients]wasi.event_t = undefined;
        var happened: usize = 0;
        wanted[0] = readable(listener);
        for (clients[0..count], wanted[1 .. 1 + count]) |client, *entry| entry.* = readable(client);
        if (wasi.poll_oneoff(&wanted[0], &events[0], 1 + count, &happened) != .SUCCESS) return error.PollFailed;
        for (events[0..happened]) |event| {
            const fd: wasi.fd_t = @intCast(event.userdata);
            if (fd == listener) accept() else if (!serve(fd)) drop(fd);
        }
    }
}

fn readable(fd: wasi.fd_t) wasi.subscription_t {
    return .{ .userdata = @intCast(fd), .u = .{ .tag = .FD_READ, .u = .{ .fd_read = .{ .fd = fd } } } };
}

fn accept() void {
    var client: wasi.fd_t = undefined;
    if (wasi.sock_accept(listener, .{}, &client) != .SUCCESS) return;
    if (count < max_clients and sendAll(client, greeting)) {
        clients[count] = client;
        count += 1;
    } else {
        _ = wasi.fd_close(client);
    }
}

/// False when the conversation is over.
fn serve(client: wasi.fd_t) bool {
    var buffers = [_]wasi.iovec_t{.{ .base = &said, .len = said.len }};
    var length: usize = 0;
    var flags: wasi.roflags_t = 0;
    if (wasi.sock_recv(client, &buffers, 1, 0, &length, &flags) != .SUCCESS or length == 0) return false;
    return sendAll(client, said[0..length]);
}

/// False when the client is gone. A client that takes nothing holds up the others.
fn sendAll(client: wasi.fd_t, bytes: []const u8) bool {
    var rest = bytes;
    while (rest.len > 0) {
        const buffers = [_]wasi.ciovec_t{.{ .base = rest.ptr, .len = rest.len }};
        var sent: usize = 0;
        if (wasi.sock_send(client, &buffers, 1, 0, &sent) != .SUCCESS) return false;
        rest = rest[sent..];
    }
    return true;
}

fn drop(client: wasi.fd_t) void {
    _ = wasi.fd_close(client);
    const place = std.mem.indexOfScalar(wasi.fd_t, clients[0..count], client).?;
    count -= 1;
    clients[place] = clients[count]; // the last one fills the gap
}
