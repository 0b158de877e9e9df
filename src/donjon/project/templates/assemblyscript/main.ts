// {{name}}: greets each client and sends back what it says.
//
// The listener is open already: it is the fourth entry of Enarx.toml, hence descriptor 3. TLS happens outside.
// AssemblyScript has no sockets of its own: these are the calls of WASI preview 1, where a result other than 0 is an
// error number, and addresses point into this program's memory.

@external("wasi_snapshot_preview1", "fd_fdstat_set_flags")
declare function fd_fdstat_set_flags(fd: i32, flags: i32): i32;
@external("wasi_snapshot_preview1", "poll_oneoff")
declare function poll_oneoff(wanted: usize, events: usize, count: i32, happened: usize): i32;
@external("wasi_snapshot_preview1", "sock_accept")
declare function sock_accept(fd: i32, flags: i32, client: usize): i32;
@external("wasi_snapshot_preview1", "sock_recv")
declare function sock_recv(fd: i32, buffers: usize, count: i32, flags: i32, length: usize, outFlags: usize): i32;
@external("wasi_snapshot_preview1", "sock_send")
declare function sock_send(fd: i32, buffers: usize, count: i32, flags: i32, length: usize): i32;
@external("wasi_snapshot_preview1", "fd_close")
declare function fd_close(fd: i32): i32;

const LISTENER: i32 = 3;
const MAX_CLIENTS: i32 = 255;
const NONBLOCK: i32 = 4;
const FD_READ: u8 = 1;

// What poll_oneoff wants is 48 bytes: a number of ours at 0, FD_READ at 8, the descriptor at 16.
// What it answers is 32 bytes, and begins with that number.
const WANTED: usize = 48;
const EVENT: usize = 32;

const wanted = memory.data(48 * 256, 8);
const events = memory.data(32 * 256, 8);
const buffer = memory.data(8);
const result = memory.data(8);
const unused = memory.data(8);
const said = memory.data(4096);
const clients = memory.data(4 * 255);
let count: i32 = 0;

const greeting = String.UTF8.encode("hello from {{name}}: say something\n");

function want(place: usize, fd: i32): void {
  store<u64>(wanted + place * WANTED, fd);
  store<u8>(wanted + place * WANTED, FD_READ, 8);
  store<i32>(wanted + place * WANTED, fd, 16);
}

function client(place: i32): i32 {
  return load<i32>(clients + 4 * place);
}

// False when the client is gone. A client that takes nothing holds up the others.
function sendAll(fd: i32, bytes: usize, length: usize): bool {
  while (length > 0) {
    store<usize>(buffer, bytes);
    store<usize>(buffer, length, 4);
    if (sock_send(fd, buffer, 1, 0, result)) return false;
    bytes += load<usize>(result);
    length -= load<usize>(result);
  }
  return true;
}

// False when the conversation is over.
function serve(fd: i32): bool {
  store<usize>(buffer, said);
  store<usize>(buffer, 4096, 4);
  if (sock_recv(fd, buffer, 1, 0, result, unused)) return false;
  const length = load<usize>(result);
  return length > 0 && sendAll(fd, said, length);
}

function accept(): void {
  if (sock_accept(LISTENER, 0, result)) return;
  const fd = load<i32>(result);
  if (count < MAX_CLIENTS && sendAll(fd, changetype<usize>(greeting), greeting.byteLength)) {
    store<i32>(clients + 4 * count, fd);
    count++;
  } else {
    fd_close(fd);
  }
}

function drop(fd: i32): void {
  fd_close(fd);
  count--;
  for (let place = 0; place < count; place++) {
    if (client(place) == fd) store<i32>(clients + 4 * place, client(count)); // the last one fills the gap
  }
}

// sock_accept shall not wait: a client that poll_oneoff saw coming may be gone again.
let working = fd_fdstat_set_flags(LISTENER, NONBLOCK) == 0;
while (working) {
  want(0, LISTENER);
  for (let place = 0; place < count; place++) want(1 + place, client(place));
  working = poll_oneoff(wanted, events, 1 + count, result) == 0;
  const happened = load<usize>(result);
  for (let i: usize = 0; working && i < happened; i++) {
    const fd = <i32>load<u64>(events + i * EVENT);
    if (fd == LISTENER) accept();
    else if (!serve(fd)) drop(fd);
  }
}
