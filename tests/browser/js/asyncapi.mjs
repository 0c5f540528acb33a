// The parser of AsyncAPI documents, from a folder that it was installed into.

import { createRequire } from "node:module";

export async function diagnose(folder, text) {
  const { Parser } = createRequire(`${folder}/`)("@asyncapi/parser");
  const { diagnostics } = await new Parser().parse(text);
  return diagnostics.map(({ severity, code, message, path }) => ({ severity, code, message, path: path.join("/") }));
}
