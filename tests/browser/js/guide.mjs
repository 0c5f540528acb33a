// Runs JavaScript of the documentation, as it is there, with what it takes for granted.
import { connect, openPeer } from "../../../trio_streams/browser/client.js";

const AsyncFunction = (async () => {}).constructor;

/** What a block shows. */
export async function run(block, url, pages) {
  const shown = [];
  const show = (...values) => shown.push(values);
  const loseNetwork = () => fetch(`${pages}/cut/200`, { method: "POST" });
  await new AsyncFunction("connect", "openPeer", "url", "show", "loseNetwork", block)(connect, openPeer, url, show, loseNetwork);
  return shown;
}
