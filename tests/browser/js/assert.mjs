// What the scenarios use of `node:assert/strict`, for a page.
const sorted = (value) => (value?.constructor === Object ? Object.fromEntries(Object.entries(value).sort()) : value);
const show = (value) => JSON.stringify(value, (_, inner) => (typeof inner === "bigint" ? `${inner}n` : sorted(inner)));

function fail(message) {
  throw new Error(message);
}

function isAs(error, expected) {
  if (expected === undefined) return true;
  if (expected instanceof RegExp) return expected.test(String(error));
  if (expected === error) return true;
  if (typeof expected !== "function") return Object.entries(expected).every(([key, value]) => error[key] === value);
  return expected.prototype instanceof Error ? error instanceof expected : expected(error) === true;
}

export default {
  ok: (value, message = "not true") => value || fail(message),
  equal: (a, b) => Object.is(a, b) || fail(`${show(a)} is not ${show(b)}`),
  deepEqual: (a, b) => show(a) === show(b) || fail(`${show(a)} is not ${show(b)}`),
  match: (text, rule) => rule.test(text) || fail(`${text} does not match ${rule}`),
  throws(call, expected) {
    let error;
    try {
      call();
    } catch (caught) {
      error = caught;
    }
    if (error === undefined) fail(`it did not throw ${expected}`);
    if (!isAs(error, expected)) fail(`it threw ${error}`);
  },
  async rejects(promise, expected) {
    let error;
    try {
      await (typeof promise === "function" ? promise() : promise);
    } catch (caught) {
      error = caught;
    }
    if (error === undefined) fail(`it did not reject with ${expected}`);
    if (!isAs(error, expected)) fail(`it rejected with ${error}`);
  },
};
