// The published runner of the client suite, from a checkout: prints what it found as JSON on its last line.
// Arguments: the checkout of packages/client-conformance-tests, a folder of ours, and the command of the adapter.
// The suite is TypeScript and in no registry, so its types are taken off here; nothing of it stays but in that folder.
import { cpSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { stripTypeScriptTypes } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [checkout, folder, clientAdapter, ...clientArgs] = process.argv.slice(2);
mkdirSync(join(folder, "src"), { recursive: true });
writeFileSync(join(folder, "package.json"), JSON.stringify({ type: "module" }));
cpSync(join(checkout, "test-cases"), join(folder, "test-cases"), { recursive: true });
for (const name of readdirSync(join(checkout, "src")).filter((file) => file.endsWith(".ts"))) {
  const source = readFileSync(join(checkout, "src", name), "utf-8");
  writeFileSync(join(folder, "src", name.replace(/\.ts$/, ".js")), stripTypeScriptTypes(source, { mode: "transform" }));
}
const { runConformanceTests } = await import(pathToFileURL(join(folder, "src", "runner.js")));
const { results } = await runConformanceTests({ clientAdapter, clientArgs });
console.log(JSON.stringify(results));
