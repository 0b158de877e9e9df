// Prints its arguments, WHO from the environment, and the Fibonacci numbers for the indexes on stdin.
// Arguments, environment and stdin come from @assemblyscript/wasi-shim.

function fibonacci(index: i32): u64 {
  let a: u64 = 0;
  let b: u64 = 1;
  for (let i = 0; i < index; i++) {
    const sum = a + b;
    a = b;
    b = sum;
  }
  return a;
}

function readAll(): string {
  const piece = new ArrayBuffer(4096);
  let text = "";
  let length = process.stdin.read(piece);
  while (length > 0) {
    text += String.UTF8.decode(piece.slice(0, length));
    length = process.stdin.read(piece);
  }
  return text;
}

const words = ["hello from AssemblyScript args=" + (process.argv.length - 1).toString()];
for (let i = 1; i < process.argv.length; i++) words.push(process.argv[i]);
const who = process.env.has("WHO") ? process.env.get("WHO") : "nobody";
process.stdout.write(words.join(" ") + " WHO=" + who + "\n");

const indexes = readAll().replaceAll("\n", " ").split(" ");
for (let i = 0; i < indexes.length; i++) {
  if (indexes[i].length > 0) {
    const index = I32.parseInt(indexes[i]);
    process.stdout.write("fib(" + index.toString() + ")=" + fibonacci(index).toString() + "\n");
  }
}
