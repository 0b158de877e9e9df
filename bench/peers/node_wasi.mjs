// What one would write to run a WASI program with node:  node --no-warnings node_wasi.mjs MODULE [ARG...]
import { readFileSync } from "node:fs";
import { argv } from "node:process";
import { WASI } from "node:wasi";

const wasi = new WASI({ version: "preview1", args: argv.slice(2) });
const module = await WebAssembly.compile(readFileSync(argv[2]));
wasi.start(await WebAssembly.instantiate(module, wasi.getImportObject()));
