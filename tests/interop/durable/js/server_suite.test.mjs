// The published server suite against SERVER_URL. Its own command line does not start from an npm install.
import { runConformanceTests } from "@durable-streams/server-conformance-tests";

runConformanceTests({
  baseUrl: process.env.SERVER_URL,
  longPollTimeoutMs: Number(process.env.LONG_POLL_MS),
  // Registered either way; without this they are reported as skipped, by name.
  subscriptions: false,
});
