//! ROT13: every letter moves thirteen places on in the alphabet, so that doing it twice gives the text back.
//!
//! A server on the listener that Enarx.toml calls "rot13"; a filter from stdin to stdout when there is none.
//! These are the calls of WASI preview 1 itself, without a C library between: each returns an error number.

const std = @import("std");
const wasi = std.os.wasi;

const max_clients = 255;

/// A client, and what it said that has not been sent back yet. While there is some, we read no more from it.
const Client = struct {
    fd: wasi.fd_t,
    bytes: [4096]u8 = undefined,
    start: usize = 0,
    end: usize = 0,

    fn pending(client: *const Client) bool {
        return client.start < client.end;
    }

    /// Does what can be done without waiting. False when the conversation is over.
    fn serve(client: *Client) bool {
        if (!client.pending()) {
            var buffers = [_]wasi.iovec_t{.{ .base = &client.bytes, .len = client.bytes.len }};
            var length: usize = 0;
            var flags: wasi.roflags_t = 0;
            switch (wasi.sock_recv(client.fd, &buffers, 1, 0, &length, &flags)) {
                .SUCCESS => if (length == 0) return false,
                .AGAIN, .INTR => return true,
                else => return false,
            }
            turn(client.bytes[0..length]);
            client.start = 0;
            client.end = length;
        }
        const buffers = [_]wasi.ciovec_t{.{ .base = client.bytes[client.start..].ptr, .len = client.end - client.start }};
        var sent: usize = 0;
        switch (wasi.sock_send(client.fd, &buffers, 1, 0, &sent)) {
            .SUCCESS => client.start += sent,
            .AGAIN, .INTR => {},
            else => return false,
        }
        return true;
    }
};

var clients: [max_clients]Client = undefined;
var count: usize = 0;

pub fn main() !void {
    if (try findDescriptor("rot13")) |listener| try serveAll(listener) else try filter();
}

fn turn(text: []u8) void {
    for (text) |*letter| letter.* = switch (letter.*) {
        'a'...'z' => |c| 'a' + (c - 'a' + 13) % 26,
        'A'...'Z' => |c| 'A' + (c - 'A' + 13) % 26,
        else => |c| c,
    };
}

fn serveAll(listener: wasi.fd_t) !void {
    // sock_accept shall not wait: a client that poll_oneoff saw coming may be gone again.
    if (wasi.fd_fdstat_set_flags(listener, .{ .NONBLOCK = true }) != .SUCCESS) return error.NoListener;
    while (true) {
        var wanted: [1 + max_clients]wasi.subscription_t = undefined;
        var events: [1 + max_clients]wasi.event_t = undefined;
        var happened: usize = 0;
        for (clients[0..count], wanted[0..count], 0..) |*client, *entry, i| {
            entry.* = .{ .userdata = i, .u = if (client.pending())
                .{ .tag = .FD_WRITE, .u = .{ .fd_write = .{ .fd = client.fd } } }
            else
                .{ .tag = .FD_READ, .u = .{ .fd_read = .{ .fd = client.fd } } } };
        }
        // Last, so that clients keep their places; not at all when there is no room for another one.
        wanted[count] = .{ .userdata = count, .u = .{ .tag = .FD_READ, .u = .{ .fd_read = .{ .fd = listener } } } };
        const full = count == max_clients;
        if (wasi.poll_oneoff(&wanted[0], &events[0], if (full) count else count + 1, &happened) != .SUCCESS)
            return error.PollFailed;
        var over: std.StaticBitSet(max_clients) = .empty;
        var knocking = false;
        for (events[0..happened]) |event| {
            const i: usize = @intCast(event.userdata);
            if (i == count) knocking = true else if (!clients[i].serve()) over.set(i);
        }
        dropAll(over);
        if (knocking) accept(listener);
    }
}

fn accept(listener: wasi.fd_t) void {
    while (count < max_clients) {
        var fd: wasi.fd_t = undefined;
        if (wasi.sock_accept(listener, .{ .NONBLOCK = true }, &fd) != .SUCCESS) return;
        clients[count] = .{ .fd = fd };
        count += 1;
    }
}

/// Backwards, because the last client moves into the gap.
fn dropAll(over: std.StaticBitSet(max_clients)) void {
    var places = over.iterator(.{ .direction = .reverse });
    while (places.next()) |i| {
        _ = wasi.fd_close(clients[i].fd);
        count -= 1;
        clients[i] = clients[count];
    }
}

fn filter() !void {
    var text: [4096]u8 = undefined;
    while (true) {
        var into = [_]wasi.iovec_t{.{ .base = &text, .len = text.len }};
        var length: usize = 0;
        if (wasi.fd_read(0, &into, 1, &length) != .SUCCESS) return error.ReadFailed;
        if (length == 0) return;
        turn(text[0..length]);
        var rest: []const u8 = text[0..length];
        while (rest.len > 0) {
            const from = [_]wasi.ciovec_t{.{ .base = rest.ptr, .len = rest.len }};
            var written: usize = 0;
            if (wasi.fd_write(1, &from, 1, &written) != .SUCCESS) return error.WriteFailed;
            rest = rest[written..];
        }
    }
}

/// FD_NAMES holds the names of all descriptors in order, joined by ':'.
fn findDescriptor(name: []const u8) !?wasi.fd_t {
    var entries: [64][*:0]u8 = undefined;
    var text: [4096]u8 = undefined;
    var entry_count: usize = 0;
    var text_size: usize = 0;
    if (wasi.environ_sizes_get(&entry_count, &text_size) != .SUCCESS) return error.NoEnvironment;
    if (entry_count > entries.len or text_size > text.len) return error.EnvironmentTooBig;
    if (entry_count == 0) return null;
    if (wasi.environ_get(&entries, &text) != .SUCCESS) return error.NoEnvironment;
    for (entries[0..entry_count]) |entry| {
        const prefix = "FD_NAMES=";
        const line = std.mem.span(entry);
        if (!std.mem.startsWith(u8, line, prefix)) continue;
        var names = std.mem.splitScalar(u8, line[prefix.len..], ':');
        var fd: wasi.fd_t = 0;
        while (names.next()) |candidate| : (fd += 1) if (std.mem.eql(u8, candidate, name)) return fd;
    }
    return null;
}
