//! {{name}}: greets each client and sends back what it says.
//!
//! The listener is open already: it is the fourth entry of Enarx.toml, hence descriptor 3. TLS happens outside.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd};

const LISTENER: i32 = 3;
const GREETING: &[u8] = b"hello from {{name}}: say something\n";

// Rust has no poll() of its own, but the C library that it stands on has.
#[repr(C)]
struct PollFd {
    fd: i32,
    events: i16,
    revents: i16,
}
const POLLIN: i16 = 1;

extern "C" {
    fn poll(watched: *mut PollFd, count: usize, milliseconds: i32) -> i32;
}

/// Waits until one of the descriptors has something to read; says for each whether it is one of those.
fn wait(descriptors: impl Iterator<Item = i32>) -> io::Result<Vec<bool>> {
    let mut watched: Vec<PollFd> = descriptors
        .map(|fd| PollFd { fd, events: POLLIN, revents: 0 })
        .collect();
    if unsafe { poll(watched.as_mut_ptr(), watched.len(), -1) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(watched.iter().map(|entry| entry.revents != 0).collect())
}

/// Ok(true) while the conversation goes on. A client that takes nothing holds up the others.
fn serve(client: &mut TcpStream) -> io::Result<bool> {
    let mut said = [0; 4096];
    let length = client.read(&mut said)?;
    client.write_all(&said[..length])?;
    Ok(length > 0)
}

fn main() -> io::Result<()> {
    let listener = unsafe { TcpListener::from_raw_fd(LISTENER) };
    // accept() shall not wait: a client that poll() saw coming may be gone again.
    listener.set_nonblocking(true)?;
    let mut clients: Vec<TcpStream> = Vec::new();
    loop {
        let everyone = std::iter::once(LISTENER).chain(clients.iter().map(TcpStream::as_raw_fd));
        let mut ready = wait(everyone)?.into_iter();
        let knocking = ready.next() == Some(true);
        clients.retain_mut(|client| ready.next() != Some(true) || serve(client).unwrap_or(false));
        if knocking {
            if let Ok((mut client, _)) = listener.accept() {
                if client.write_all(GREETING).is_ok() {
                    clients.push(client);
                }
            }
        }
    }
}
