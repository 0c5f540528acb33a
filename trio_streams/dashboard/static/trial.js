// The form that uses a procedure: what is asked of it, its buttons, and the same use as text for elsewhere.

import {Answer} from "./answer.js";
import {$, el, setText} from "./dom.js";
import {FieldError, InputForm} from "./form.js";
import {Run} from "./run.js";
import {SNIPPETS} from "./snippets.js";

const START = {call: "Call", event: "Send the event", server: "Start", client: "Start", bidirectional: "Start"};
const PARAMETER = /\[(\w+)\]/g;

const checked = (name) => document.querySelector(`input[name="${name}"]:checked`).value;

export class Trial {
  constructor(types) {
    this.types = types;
    this.form = new InputForm();
    this.answer = new Answer();
    this.run = null;
    this.procedure = null;
    $("form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.attempt(() => this.submit());
    });
    $("form").addEventListener("input", () => this.drawSnippet());
    $("transport").addEventListener("change", () => this.drawSnippet());
    $("language").addEventListener("change", () => this.drawSnippet());
    $("end").addEventListener("click", () => this.attempt(() => this.run.end()));
    $("hold").addEventListener("click", () => this.run?.hold(!this.run.isPaused));
    $("cancel").addEventListener("click", () => this.run?.cancel());
    $("copy").addEventListener("click", () => this.copy());
    $("add-pair").addEventListener("click", () => this.addPair());
    $("raw").addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("form").requestSubmit();
    });
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && event.target !== $("filter")) this.run?.cancel();
    });
  }

  get takesItems() {
    return ["client", "bidirectional"].includes(this.procedure.kind);
  }

  show(procedure) {
    this.leave();
    this.procedure = procedure;
    const {name, input: schema, is_input_optional: isOptional} = procedure;
    const names = [...name.matchAll(PARAMETER)].map(([, parameter]) => parameter);
    $("parameters").replaceChildren(...names.map((one) => this.makeParameter(one)));
    this.form.show({schema, types: this.types, isOptional, takesItems: this.takesItems});
    const canHttp = this.canHttp();
    $("transport-http").disabled = !canHttp;
    if (!canHttp) document.querySelector("input[name=transport][value=ws]").checked = true;
    setText($("problem"), "");
    this.answer.prepare(procedure.kind);
    this.drawButtons();
    this.drawSnippet();
  }

  // Another procedure: nothing goes on behind the page.
  leave() {
    this.run?.cancel();
    this.run = null;
  }

  // A query has named fields; a body that is read as it is made is more than browsers send.
  canHttp() {
    const {kind, input} = this.procedure;
    if (kind === "server") return input === null || !this.types.resolve(input).type || this.types.resolve(input).type === "object";
    return kind === "call" || kind === "event";
  }

  makeParameter(name) {
    const input = el("input", {type: "text", "data-parameter": name, autocomplete: "off", spellcheck: "false"});
    return el("label", {class: "field"}, el("span", {}, el("b", {}, name), el("em", {title: "required"}, " *"), el("span", {class: "quiet"}, " part of the name")), input);
  }

  addPair() {
    const key = el("input", {"data-pair": "key", autocomplete: "off", spellcheck: "false", placeholder: "authorization", "aria-label": "Name"});
    const value = el("input", {"data-pair": "value", autocomplete: "off", spellcheck: "false", placeholder: "Bearer …", "aria-label": "Value"});
    const remove = el("button", {type: "button"}, "Remove");
    const row = el("div", {class: "line"}, el("label", {class: "field"}, key), el("label", {class: "field"}, value), remove);
    remove.addEventListener("click", () => {
      row.remove();
      $("add-pair").focus();
      this.drawSnippet();
    });
    $("pairs").append(row);
    key.focus();
  }

  fill(value) {
    this.form.write(value);
    this.drawSnippet();
    $("send").focus();
  }

  // What is to be used, without its input.
  asked(isStrict = true) {
    const metadata = {};
    for (const row of $("pairs").children) {
      const [key, value] = row.querySelectorAll("input");
      if (key.value.trim()) metadata[key.value.trim().toLowerCase()] = value.value;
    }
    const name = this.procedure.name.replace(PARAMETER, (whole, parameter) => this.readParameter(parameter, isStrict) || whole);
    const {value: timeout} = $("timeout");
    const {value: windowItems} = $("window");
    return {
      name,
      kind: this.procedure.kind,
      metadata,
      timeout: timeout ? Number(timeout) : undefined,
      windowItems: windowItems ? Number(windowItems) : undefined,
    };
  }

  readParameter(name, isStrict) {
    const {value} = document.querySelector(`[data-parameter="${name}"]`);
    if (isStrict && (value === "" || value.includes("."))) throw new FieldError(`${name} is a part of the name: some text without a dot`);
    return value;
  }

  // What goes wrong before anything is sent is said beside the form.
  async attempt(action) {
    setText($("problem"), "");
    try {
      await action();
    } catch (error) {
      if (this.run?.isOver && !(error instanceof FieldError)) return; // the answer says it
      setText($("problem"), error.message);
    }
  }

  async submit() {
    if (this.run && !this.run.isOver) {
      if (this.run.isHalfOpen) await this.sendItems();
      return;
    }
    const asked = this.asked();
    if (!this.takesItems) [asked.input] = this.form.read();
    const run = new Run(asked, checked("transport"), {
      received: (value) => this.run === run && this.answer.received(value),
      sent: (value) => this.run === run && this.answer.sent(value),
      changed: () => this.run === run && this.changed(),
    });
    this.run = run;
    this.answer.begin(run);
    this.drawButtons();
    await run.go();
  }

  async sendItems() {
    const {run} = this;
    const values = this.form.read();
    this.form.clear();
    for (const value of values) await run.send(value);
  }

  changed() {
    const {kind} = this.procedure;
    if (this.run.state === "ended" && kind === "event") this.answer.note("accepted");
    if (this.run.state === "ended" && kind === "server") this.answer.note("the end");
    if (this.run.state === "cancelled") this.answer.note("cancelled: the server's handler is, too");
    this.answer.draw();
    this.drawButtons();
  }

  drawButtons() {
    const {run} = this;
    const isOn = Boolean(run) && !run.isOver;
    const hadFocus = [$("hold"), $("cancel"), $("end")].includes(document.activeElement);
    const isSending = isOn && run.isHalfOpen;
    setText($("send"), isSending ? "Send" : START[this.procedure.kind]);
    $("send").disabled = isOn && (!isSending || run.state === "connecting");
    $("end").hidden = !this.takesItems;
    $("end").disabled = !isSending || run.state === "connecting";
    $("hold").hidden = !["server", "bidirectional"].includes(this.procedure.kind);
    $("hold").disabled = !isOn;
    $("hold").setAttribute("aria-pressed", String(Boolean(run?.isPaused) && isOn));
    setText($("hold"), run?.isPaused && isOn ? "Resume reading" : "Pause reading");
    $("cancel").disabled = !isOn;
    // A disabled button loses the focus, and with it the place of who uses the keyboard.
    if (hadFocus && (!document.activeElement || document.activeElement.disabled || document.activeElement === document.body)) {
      (isOn ? $("cancel") : $("send")).focus();
    }
  }

  drawSnippet() {
    if (!this.procedure) return;
    let values = [];
    try {
      values = this.form.read(false);
    } catch {
      // What is not yet whole is left out.
    }
    setText($("snippet"), SNIPPETS[checked("language")]({...this.asked(false), values}));
  }

  async copy() {
    try {
      await navigator.clipboard.writeText($("snippet").textContent);
      setText($("copy"), "Copied");
    } catch {
      // Only pages from https:// or from this very machine may; what is to be copied is selected instead.
      getSelection().selectAllChildren($("snippet"));
      setText($("copy"), "Selected");
    }
    setTimeout(() => setText($("copy"), "Copy"), 1500);
  }
}
