//! Prints its arguments, WHO from the environment, and the Fibonacci numbers for the indexes on stdin.

use std::collections::HashMap;
use std::io::Read;

fn fibonacci(index: u32, known: &mut HashMap<u32, u64>) -> u64 {
    if index < 2 {
        return index.into();
    }
    if let Some(&number) = known.get(&index) {
        return number;
    }
    let number = fibonacci(index - 1, known).wrapping_add(fibonacci(index - 2, known));
    known.insert(index, number);
    number
}

fn main() -> std::io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let who = std::env::var("WHO").unwrap_or_else(|_| "nobody".into());
    let mut words = vec![format!("hello from Rust args={}", arguments.len())];
    words.extend(arguments);
    println!("{} WHO={who}", words.join(" "));
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    let mut known = HashMap::new();
    for index in text.split_whitespace().filter_map(|word| word.parse().ok()) {
        println!("fib({index})={}", fibonacci(index, &mut known));
    }
    Ok(())
}
