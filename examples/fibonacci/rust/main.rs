//! Prints Fibonacci numbers: of the indexes in its arguments, or of one that it asks for.

use std::io;
use std::process::ExitCode;

/// The next one does not fit into 64 bits.
const LAST: u32 = 93;

fn fibonacci(index: u32) -> u64 {
    let (mut a, mut b) = (0u64, 1u64);
    for _ in 0..index {
        (a, b) = (b, a.wrapping_add(b));
    }
    a
}

fn answer(text: &str) -> Result<(), String> {
    match text.trim().parse() {
        Ok(index) if index <= LAST => {
            println!("Fibonacci sequence number at index {index} is {}", fibonacci(index));
            Ok(())
        }
        _ => Err(format!("expected a number from 0 to {LAST}, got {:?}", text.trim_end())),
    }
}

fn run() -> Result<(), String> {
    println!("Rust - Fibonacci sequence example");
    let mut indexes = std::env::args().skip(1).peekable();
    if indexes.peek().is_none() {
        let mut line = String::new();
        println!("Enter a non-negative number:");
        io::stdin().read_line(&mut line).map_err(|error| error.to_string())?;
        return answer(&line);
    }
    indexes.try_for_each(|index| answer(&index))
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}
