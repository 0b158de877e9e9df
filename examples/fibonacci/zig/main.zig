//! Prints Fibonacci numbers: of the indexes in its arguments, or of one that it asks for.

const std = @import("std");

const last = 93; // the next one does not fit into 64 bits

fn fibonacci(index: usize) u64 {
    var a: u64 = 0;
    var b: u64 = 1;
    for (0..index) |_| {
        const sum = a +% b;
        a = b;
        b = sum;
    }
    return a;
}

const Answerer = struct {
    out: *std.Io.Writer,
    err: *std.Io.Writer,

    fn answer(a: Answerer, text: []const u8) !void {
        const trimmed = std.mem.trim(u8, text, " \t\r\n");
        const index = std.fmt.parseUnsigned(usize, trimmed, 10) catch last + 1;
        if (index > last) {
            try a.out.flush();
            try a.err.print("expected a number from 0 to {d}, got \"{s}\"\n", .{ last, trimmed });
            try a.err.flush();
            std.process.exit(1);
        }
        try a.out.print("Fibonacci sequence number at index {d} is {d}\n", .{ index, fibonacci(index) });
    }
};

pub fn main(init: std.process.Init) !void {
    var out_buffer: [1024]u8 = undefined;
    var err_buffer: [1024]u8 = undefined;
    var out = std.Io.File.stdout().writer(init.io, &out_buffer);
    var err = std.Io.File.stderr().writer(init.io, &err_buffer);
    const answerer: Answerer = .{ .out = &out.interface, .err = &err.interface };

    try out.interface.writeAll("Zig - Fibonacci sequence example\n");
    var indexes = try init.minimal.args.iterateAllocator(init.arena.allocator());
    _ = indexes.next(); // the program's own name
    if (indexes.next()) |first| {
        try answerer.answer(first);
        while (indexes.next()) |index| try answerer.answer(index);
    } else {
        try out.interface.writeAll("Enter a non-negative number:\n");
        try out.interface.flush();
        var in_buffer: [64]u8 = undefined;
        var in = std.Io.File.stdin().reader(init.io, &in_buffer);
        try answerer.answer(try in.interface.takeDelimiter('\n') orelse "");
    }
    try out.interface.flush();
}
