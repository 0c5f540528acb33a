// Compiled only: every part of the interface as a program would use it, and what the compiler has to find.
import { type Client, CodecError, ConnectionLost, type PeerStream, RpcError, type RpcPeer, StreamReset, StreamStopped, type StateChange, type StreamStatistics, connect, openPeer } from "./client.js";

type Line = { level: string; text: string };

export async function main(signal: AbortSignal): Promise<number> {
  const client: Client = await connect("ws://localhost:7000/", { signal, windowItems: 64, windowBytes: 65_536, connectTimeout: 5_000, WebSocket, limits: { maxItemBytes: 1_000_000 } });
  const sum: number = await client.call<number>("add", [1, 2], { signal, timeout: 1_000, metadata: { who: "me" } });
  const lines = client.stream<Line>("logs", { limit: 3 }, { windowItems: 8, priority: 3 });
  for await (const line of lines) console.log(line.level.toUpperCase(), line.text);
  for await (const batch of lines.runs()) console.log(batch.length, batch[0].text);
  const reader: ReadableStreamDefaultReader<Line> = lines.readable.getReader();
  await reader.cancel();
  const total = await client.upload<number>("sum", [1, 2, 3]);
  const chat = client.bidi<string, Line>("chat");
  await chat.send("hello");
  const { value } = await chat.next();
  console.log(value?.text, chat.trailers.a, (await chat.header()).b);
  await chat.end();
  await chat.stop();
  await chat.reset("ABORTED", "why");
  await chat.cancel("why");
  const writer: WritableStream<string> = chat.writable;
  await writer.close();
  const { creditItems, sendState }: StreamStatistics = chat.statistics();
  console.log(creditItems, sendState === "closing", client.statistics().roundTrip, client.isOpen);
  const lost: ConnectionLost | null = await client.closed;
  if (lost !== null) throw lost;
  client.close();
  return sum + total;
}

export async function equals(show: (change: StateChange) => void): Promise<number> {
  const peer: RpcPeer = await openPeer("/peers", { resume: { maxSessionAge: 30_000 }, reconnect: { maxDelay: 5_000 }, maxUnclaimedStreams: 10 });
  peer.onstatechange = show;
  peer.method("square", ({ n }, { signal }) => (signal.aborted ? 0 : n * n));
  peer.match((data) => data);
  const { data } = await peer.request<number>({ method: "add" }, { timeout: 5_000, priority: 1 });
  await peer.send("hello");
  const id: string = await peer.sendStream([1, 2, 3], "up", { raw: false });
  peer.abortStream(id);
  const [, stream]: [string | null, PeerStream<Line>] = peer.receiveStream<Line>();
  for await (const line of stream) console.log(line.text, stream.id, await stream.begun);
  peer.closeReceivingStream("down");
  const { state, resumes, retainedBytes } = peer.statistics();
  peer.close();
  return state === "detached" ? resumes + retainedBytes : data;
}

export function explain(error: unknown): string {
  if (error instanceof StreamReset || error instanceof StreamStopped) return error.code;
  if (error instanceof RpcError) return `${error.code} ${error.message} ${JSON.stringify(error.details)}`;
  return error instanceof CodecError ? error.message : "";
}

export async function wrong(client: Client): Promise<void> {
  // @ts-expect-error a URL is asked for
  await connect();
  // @ts-expect-error metadata are strings
  await client.call("x", 1, { metadata: { a: 1 } });
  // @ts-expect-error the stream gives lines, not numbers
  for await (const line of client.stream<Line>("x")) line.toFixed();
  // @ts-expect-error a chat takes strings
  await client.bidi<string>("x").send(5);
  // @ts-expect-error there is no such state
  if (client.state === "resumed") return;
}
