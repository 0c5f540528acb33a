// node run.mjs <file> <function>, with its arguments as JSON on standard input: prints what the function resolves to, as JSON.
// Nothing ends the process but its own rest: a timer or a socket that stays behind is found as a timeout.
import { readFileSync } from "node:fs";

const [file, name] = process.argv.slice(2);
const scenario = (await import(`./${file}`))[name];
const result = await scenario(...JSON.parse(readFileSync(0, "utf-8")));
console.log(JSON.stringify(result ?? null));
