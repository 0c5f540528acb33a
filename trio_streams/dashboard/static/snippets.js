// The same use as a line for other places: for a shell, for Python and for JavaScript.

import {httpAddress, query} from "./sources.js";

const ROOT = new URL("..", location.href);
const WS = ROOT.href.replace(/^http/, "ws");

const json = (value) => JSON.stringify(value);

// One word of a POSIX shell.
function word(text) {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

function python(value) {
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (Array.isArray(value)) return `[${value.map(python).join(", ")}]`;
  if (typeof value === "object") return `{${Object.entries(value).map(([key, one]) => `${json(key)}: ${python(one)}`).join(", ")}}`;
  return json(value);
}

// used: {name, kind, values, metadata, timeout}; values: the input, if any, or the items
export const SNIPPETS = {
  curl({name, kind, values, metadata, timeout}) {
    if (kind === "bidirectional") return "# HTTP carries no stream in both directions: use the CLI, Python or JavaScript.";
    const url = httpAddress({name, kind});
    if (kind === "server") url.search = query(values[0]);
    const words = ["curl", kind === "server" ? "-sSN" : "-sS", word(url.href)];
    const headers = Object.entries({...metadata, ...(timeout ? {"x-timeout-ms": String(timeout)} : {})});
    if (kind === "client") {
      headers.unshift(["content-type", "application/x-ndjson"]);
      words.push("--data-binary", word(values.map((value) => `${json(value)}\n`).join("")));
    } else if (kind !== "server") {
      headers.unshift(["content-type", "application/json"]);
      words.push("--data-binary", word(values.length ? json(values[0]) : ""));
    }
    for (const [key, value] of headers) words.push("-H", word(`${key}: ${value}`));
    return words.join(" ");
  },

  cli({name, kind, values, metadata, timeout}) {
    const command = {server: "stream", client: "upload", bidirectional: "chat"}[kind] ?? "call";
    const words = ["trio-streams", command, word(WS), word(name)];
    if (command === "upload") words.push("-");
    else if (command !== "chat" && values.length) words.push(word(json(values[0])));
    for (const [key, value] of Object.entries(metadata)) words.push("--metadata", word(`${key}=${value}`));
    if (timeout) words.push("--timeout", String(timeout / 1000));
    const items = values.map((value) => word(json(value))).join(" ");
    return command === "upload" || command === "chat" ? `printf '%s\\n' ${items || "''"} | ${words.join(" ")}` : words.join(" ");
  },

  python({name, kind, values, metadata, timeout}) {
    const takesItems = kind === "client" || kind === "bidirectional";
    const given = [json(name), ...(takesItems ? [] : values.map(python))];
    if (kind === "client") given.push(`[${values.map(python).join(", ")}]`);
    if (Object.keys(metadata).length) given.push(`metadata=${python(metadata)}`);
    const body = {
      call: [`print(await client.call(${given.join(", ")}))`],
      event: [`await client.event(${given.join(", ")})`],
      client: [`print(await client.upload(${given.join(", ")}))`],
      server: [`async with client.stream(${given.join(", ")}) as items:`, "    async for item in items:", "        print(item)"],
      bidirectional: [
        `async with client.bidi(${given.join(", ")}) as stream:`,
        ...values.map((value) => `    await stream.send(${python(value)})`),
        "    stream.end()",
        "    async for item in stream:",
        "        print(item)",
      ],
    }[kind];
    const inner = timeout ? [`with trio.fail_after(${timeout / 1000}):`, ...body.map((line) => `    ${line}`)] : body;
    return [`async with connect(${json(WS)}) as client:`, ...inner.map((line) => `    ${line}`)].join("\n");
  },

  javascript({name, kind, values, metadata, timeout}) {
    const options = {...(Object.keys(metadata).length ? {metadata} : {}), ...(timeout ? {timeout} : {})};
    const tail = Object.keys(options).length ? [json(options)] : [];
    const input = [values.length ? json(values[0]) : tail.length ? "undefined" : "", ...tail].filter(Boolean);
    const items = `[${values.map(json).join(", ")}]`;
    const lines = {
      call: [`console.log(await client.call(${[json(name), ...input].join(", ")}));`],
      server: [`for await (const item of client.stream(${[json(name), ...input].join(", ")})) console.log(item);`],
      client: [`console.log(await client.upload(${[json(name), items, ...tail].join(", ")}));`],
    }[kind] ?? [
      `const stream = client.bidi(${[json(name), ...tail].join(", ")});`,
      ...values.map((value) => `await stream.send(${json(value)});`),
      "await stream.end();",
      "for await (const item of stream) console.log(item);",
    ];
    return [`import {connect} from ${json(new URL("client.js", ROOT).href)};`, `const client = await connect(${json(WS)});`, ...lines].join("\n");
  },
};
