// What the published idempotent producer does with a server, also where answers are lost on the way.
import assert from "node:assert/strict";
import { DurableStream, IdempotentProducer, StaleEpochError, stream } from "@durable-streams/client";

let count = 0;
const fresh = (base) => `${base}/npm-producer-${process.pid}-${++count}`;
const texts = (from, to) => Array.from({ length: to - from }, (_, index) => `${from + index};`);
const read = async (url) => (await stream({ url, live: false })).text();
const create = (base) => DurableStream.create({ url: fresh(base), contentType: "text/plain" });

/** Many small batches at once, in order. */
export async function pipelined(base, items) {
  const handle = await create(base);
  const failed = [];
  const producer = new IdempotentProducer(handle, "p", {
    maxBatchBytes: 64,
    maxInFlight: 5,
    lingerMs: 0,
    onError: (error) => failed.push(String(error)),
  });
  for (const item of texts(0, items)) producer.append(item);
  await producer.flush();
  const { finalOffset } = await producer.close("end");
  assert.deepEqual(failed, []);
  assert.equal(await read(handle.url), texts(0, items).join("") + "end");
  const head = await handle.head();
  return [head.streamClosed, head.offset === finalOffset];
}

/** A restart takes over with a higher epoch, and who comes too late is told so; `autoClaim` takes over by itself. */
export async function restarts(base) {
  const handle = await create(base);
  const failed = [];
  const options = { lingerMs: 0, onError: (error) => failed.push(error) };
  const first = new IdempotentProducer(handle, "p", options);
  first.append("first ");
  await first.flush();
  await first.restart();
  first.append("restarted ");
  await first.flush();
  const late = new IdempotentProducer(handle, "p", options);
  late.append("never");
  await late.flush().catch(() => {});
  const claiming = new IdempotentProducer(handle, "p", { ...options, autoClaim: true });
  claiming.append("claimed ");
  await claiming.flush();
  for (const producer of [first, late, claiming]) await producer.detach().catch(() => {});
  const isStale = failed.length > 0 && failed.every((error) => error instanceof StaleEpochError);
  return [await read(handle.url), isStale, failed[0]?.currentEpoch, claiming.epoch];
}

/** Every third answer is lost behind the server and asked for again, as this client leaves to its user. */
export async function lossy(base, items) {
  const handle = await create(base);
  let sent = 0;
  let lost = 0;
  const failed = [];
  const losing = async (...request) => {
    const answer = await fetch(...request);
    sent += 1;
    if (sent % 3 !== 0) return answer;
    await answer.arrayBuffer();
    lost += 1;
    return fetch(...request);
  };
  const producer = new IdempotentProducer(handle, "p", {
    maxBatchBytes: 32,
    maxInFlight: 1,
    lingerMs: 0,
    fetch: losing,
    onError: (error) => failed.push(String(error)),
  });
  for (const item of texts(0, items)) producer.append(item);
  await producer.flush();
  await producer.detach();
  assert.deepEqual(failed, []);
  assert.equal(await read(handle.url), texts(0, items).join(""));
  return lost > 0;
}

/** One producer after another under one name, each killed before it heard whether its last batch had arrived. */
export async function killed(base, rounds) {
  const handle = await create(base);
  for (let epoch = 0; epoch < rounds; epoch += 1) {
    const controller = new AbortController();
    const producer = new IdempotentProducer(handle, "p", {
      epoch,
      lingerMs: 0,
      signal: controller.signal,
      onError: () => {},
      fetch: async (...request) => {
        const answer = await fetch(...request);
        controller.abort();
        return answer;
      },
    });
    producer.append(`${epoch};`);
    await producer.flush().catch(() => {});
    await producer.detach().catch(() => {});
  }
  return read(handle.url);
}
