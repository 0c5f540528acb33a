// `network.cut`: the demo's own clients lose their connections for a while, and their sessions go on.

import {$, setText} from "./dom.js";
import {link} from "./link.js";

const SECONDS = 3;

export function startOutage() {
  const button = $("outage");
  button.addEventListener("click", async () => {
    button.disabled = true;
    try {
      const client = await link();
      const {connections} = await client.call("network.cut", {seconds: SECONDS});
      setText($("outage-result"), `${connections} connections cut for ${SECONDS} s`);
      await new Promise((resolve) => setTimeout(resolve, SECONDS * 1000));
      setText($("outage-result"), "");
    } catch (error) {
      setText($("outage-result"), error.message);
    } finally {
      button.disabled = false;
    }
  });
}
