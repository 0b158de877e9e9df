// A morning's work for QuickJS in a Keep: objects, closures, generators, promises, regular expressions, files.
print("arguments:", JSON.stringify(scriptArgs));

const words = readAll().toLowerCase().match(/[a-z]+/g);
const counts = new Map();
for (const word of words) counts.set(word, (counts.get(word) ?? 0) + 1);
const [[first, times]] = [...counts].sort(([a, n], [b, m]) => m - n || (a < b ? -1 : 1));
print("words:", first, times, counts.size);

function* primes(limit) {
  const composite = new Uint8Array(limit + 1);
  for (let n = 2; n <= limit; n++) {
    if (composite[n]) continue;
    yield n;
    for (let m = n * n; m <= limit; m += n) composite[m] = 1;
  }
}
print("primes:", [...primes(10000)].reduce((a, b) => a + b, 0));
print("numbers:", 0.1 + 0.2, 1e21, (255).toString(16), Number.MAX_SAFE_INTEGER, (1234.5678).toFixed(2), -7 % 3, 7 >>> 1);
print("strings:", "grüße".normalize("NFD").length, [..."a😀b"].length, "x".padStart(3, "ab"), "Straße".toUpperCase());
print("match:", "2024-02-29".replace(/(?<y>\d+)-(?<m>\d+)-(?<d>\d+)/u, "$<d>.$<m>.$<y>"), /(?<=\$)\d+/.exec("cost $42")[0]);
print("json:", JSON.stringify({ b: [1, null, "ü"], a: { c: undefined, d: new Date(0) } }));

class Shape {
  #sides;
  static made = 0;
  constructor(sides) {
    this.#sides = sides;
    Shape.made++;
  }
  get angles() {
    return (this.#sides - 2) * 180;
  }
}
print("class:", new Shape(6).angles, Shape.made);
const proxy = new Proxy({}, { get: (_, name) => `no ${String(name)}` });
print("proxy:", proxy.thing, Reflect.ownKeys(proxy).length);
try {
  null.x;
} catch (error) {
  print("caught:", error instanceof TypeError, error.message);
}
print("sorted:", [10, 9, 1].sort().join(), [10, 9, 1].sort((a, b) => a - b).join());
print("file:", readFile(scriptArgs[0]).split("\n").length);
try {
  readFile("/etc/passwd");
} catch (error) {
  print("outside:", error.message);
}
print("time:", Date.now() > 1.7e12, new Date(Date.UTC(2001, 8, 9, 1, 46, 40)).toISOString());

async function later(value) {
  await null;
  print("later:", value);
  return value * 2;
}
Promise.all([later(1), later(2)])
  .then((values) => print("all:", values))
  .then(() => {
    throw new Error("the end");
  })
  .catch((error) => print("finally:", error.message));
print("first");
