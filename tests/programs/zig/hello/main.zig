//! Prints its arguments, WHO from the environment, and the Fibonacci numbers for the indexes on stdin.

const std = @import("std");

pub fn main(init: std.process.Init) !void {
    var out_buffer: [1024]u8 = undefined;
    var in_buffer: [1024]u8 = undefined;
    var writer = std.Io.File.stdout().writer(init.io, &out_buffer);
    var reader = std.Io.File.stdin().reader(init.io, &in_buffer);
    const out = &writer.interface;
    const in = &reader.interface;

    var arguments = try init.minimal.args.iterateAllocator(init.arena.allocator());
    _ = arguments.next();
    var list: std.ArrayList(u8) = .empty;
    var count: usize = 0;
    while (arguments.next()) |argument| : (count += 1) {
        try list.append(init.arena.allocator(), ' ');
        try list.appendSlice(init.arena.allocator(), argument);
    }
    try out.print("hello from Zig args={d}{s} WHO={s}\n", .{ count, list.items, init.environ_map.get("WHO") orelse "nobody" });

    while (try in.takeDelimiter('\n')) |line| {
        var words = std.mem.tokenizeScalar(u8, line, ' ');
        while (words.next()) |word| {
            const index = try std.fmt.parseInt(usize, word, 10);
            var a: u64 = 0;
            var b: u64 = 1;
            for (0..index) |_| {
                const sum = a +% b;
                a = b;
                b = sum;
            }
            try out.print("fib({d})={d}\n", .{ index, a });
        }
    }
    try out.flush();
}
