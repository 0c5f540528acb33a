// Connects to peers that break the rules: each has to be found out, in words that name what was wrong, and never hang.
import { connect } from "../../../trio_streams/browser/client.js";

const describe = (error) => ({
  name: error.name,
  message: error.message,
  cause: error.cause?.name ?? null,
  code: error.cause?.code ?? null,
  field: error.cause?.field ?? null,
});

async function meet(url) {
  let client;
  try {
    client = await connect(url, { connectTimeout: 5_000, windowItems: 16, limits: { maxItemBytes: 100_000, maxControlBytes: 4_096 } });
  } catch (error) {
    return describe(error);
  }
  // What the stream sees, and what the connection says, are one and the same.
  const [seen, lost] = await Promise.all([read(client), client.closed]);
  if (lost === null) throw new Error(`${url} was closed here`);
  if (seen !== null && seen !== lost) throw new Error(`${url}: the stream saw ${seen}, not ${lost}`);
  return describe(lost);
}

async function read(client) {
  const stream = client.stream("x");
  try {
    while (!(await stream.next()).done);
    return null;
  } catch (error) {
    return error.name === "ConnectionLost" ? error : null;
  }
}

export const meetAll = async (url, count) => Promise.all(Array.from({ length: count }, (_, n) => meet(`${url}${n}`)));

/** One that says nothing at all. */
export async function silent(url) {
  try {
    await connect(url, { connectTimeout: 200 });
  } catch (error) {
    return describe(error);
  }
  throw new Error("it connected");
}

/** One that says hello and then nothing: a ping, and then it is given up. */
export async function mute(url) {
  const client = await connect(url, { idleTimeout: 200 });
  return describe(await client.closed);
}
