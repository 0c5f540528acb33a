// A form for a value of a schema: a field for each property, and text for what no field can say.

import {$, el} from "./dom.js";

export class FieldError extends Error {}

const LOCAL_TYPES = {"date-time": "datetime-local", date: "date", time: "time"};

const isEmptyValue = (value) => value === undefined;

// One control. `read` gives undefined where it was left empty.
class Field {
  constructor(name, schema, types, isRequired) {
    const {schema: own, isOptional} = types.withoutNull(schema);
    Object.assign(this, {name, schema: own, isRequired, isOptional});
    this.control = this.makeControl(own);
    const hint = own.description ?? "";
    const label = el("span", {}, el("b", {}, name), isRequired ? el("em", {title: "required"}, " *") : "", el("span", {class: "quiet"}, ` ${types.name(own)}`));
    const isBroad = this.control.matches("textarea");
    this.element = el("label", {class: isBroad ? "field broad" : "field", title: hint || null}, label, this.control);
  }

  makeControl({type, format, enum: values, ...rest}) {
    const attributes = {"data-field": this.name, autocomplete: "off", "aria-required": String(this.isRequired)};
    const placeholder = "default" in rest ? JSON.stringify(rest.default) : null;
    const options = values ?? ("const" in rest ? [rest.const] : type === "boolean" ? [true, false] : null);
    if (options) return this.makeSelect(options, attributes, placeholder);
    if (type === "integer" || type === "number") {
      return el("input", {...attributes, type: "number", step: type === "integer" ? "1" : "any", placeholder});
    }
    if (type === "string") {
      const local = LOCAL_TYPES[format];
      return el("input", {...attributes, type: local ?? "text", step: local && local !== "date" ? "1" : null, spellcheck: "false", placeholder});
    }
    return el("textarea", {...attributes, rows: "2", spellcheck: "false", placeholder: placeholder ?? "JSON"});
  }

  makeSelect(options, attributes, placeholder) {
    const select = el("select", attributes);
    if (!this.isRequired || this.isOptional) select.append(el("option", {value: ""}, placeholder ? `– (${placeholder})` : "–"));
    for (const option of options) {
      select.append(el("option", {value: JSON.stringify(option)}, typeof option === "string" ? option : JSON.stringify(option)));
    }
    return select;
  }

  read() {
    const {control, schema} = this;
    if (control.validity?.badInput) throw new FieldError(`${this.name} is no ${schema.type}`);
    const text = control.value;
    if (text === "") return this.readEmpty();
    if (control.matches("select")) return JSON.parse(text);
    if (control.type === "number") return Number(text);
    if (control.type === "datetime-local") return new Date(text).toISOString();
    return control.matches("textarea") ? parse(text, this.name) : text;
  }

  readEmpty() {
    if (!this.isRequired) return undefined;
    if (this.isOptional) return null;
    if (this.schema.type === "string" && this.control.type === "text") return "";
    throw new FieldError(`${this.name} is required`);
  }

  write(value) {
    const {control} = this;
    if (isEmptyValue(value) || value === null) control.value = "";
    else if (control.type === "datetime-local") control.value = local(value);
    else if (control.matches("textarea, select")) control.value = JSON.stringify(value);
    else control.value = String(value);
  }
}

// An instant as a control for local times wants it.
function local(text) {
  const date = new Date(text);
  if (Number.isNaN(date.getTime())) return "";
  return new Date(date.getTime() - date.getTimezoneOffset() * 60000).toISOString().slice(0, 19);
}

export function parse(text, what) {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new FieldError(`${what} is not JSON: ${error.message}`);
  }
}

export class InputForm {
  constructor() {
    $("raw-switch").addEventListener("change", () => this.switch($("raw-switch").checked));
  }

  // schema: of the input, or of each item; null where there is none
  show({schema, types, isOptional, takesItems}) {
    const target = types.resolve(schema);
    const properties = schema && target.properties ? Object.entries(target.properties) : [];
    Object.assign(this, {schema, types, isOptional, takesItems, isRecord: properties.length > 0});
    const required = target.required ?? [];
    if (this.isRecord) this.fields = properties.map(([name, field]) => new Field(name, field, types, required.includes(name)));
    else this.fields = schema && !target.properties ? [new Field(takesItems ? "item" : "input", schema, types, !isOptional)] : [];
    $("fields").replaceChildren(...this.fields.map((field) => field.element));
    $("raw").value = "";
    $("raw-label").textContent = takesItems ? "Items as JSON, one a line" : "Input as JSON";
    $("input-options").hidden = !schema;
    $("raw-switch").checked = false;
    this.layOut(false);
  }

  layOut(isRaw) {
    $("fields").hidden = isRaw;
    $("raw-field").hidden = !isRaw;
  }

  // What was filled in goes with the switch, as far as it can be read.
  switch(isRaw) {
    try {
      if (isRaw) {
        const value = this.readFields();
        $("raw").value = value === undefined ? "" : JSON.stringify(value, null, this.takesItems ? 0 : 2);
      } else {
        const [value] = this.readRaw();
        this.writeFields(value);
      }
    } catch (error) {
      if (!(error instanceof FieldError)) throw error;
    }
    this.layOut(isRaw);
    (isRaw ? $("raw") : this.fields[0]?.control)?.focus();
  }

  // Fill in an example.
  write(value) {
    this.writeFields(value);
    $("raw").value = JSON.stringify(value, null, this.takesItems ? 0 : 2);
  }

  writeFields(value) {
    if (this.isRecord) for (const field of this.fields) field.write(value?.[field.name]);
    else this.fields[0]?.write(value);
  }

  // Drop items that were sent, so that the next ones can be typed.
  clear() {
    if ($("raw-switch").checked) $("raw").value = "";
  }

  // Values to send: at most one, but for items.
  read(isChecked = $("check-switch").checked) {
    if (!this.schema) return [];
    let values = [];
    if ($("raw-switch").checked) values = this.readRaw();
    else if (this.fields.length) values = [this.readFields()].filter((value) => !isEmptyValue(value));
    else values = [{}];
    if (isChecked) this.check(values);
    return values;
  }

  check(values) {
    for (const [index, value] of values.entries()) {
      const problem = this.types.problem(value, this.schema, values.length > 1 ? `line ${index + 1}: $` : "$");
      if (problem) throw new FieldError(problem);
    }
    if (values.length === 0 && !this.isOptional) throw new FieldError("an input is required");
  }

  readRaw() {
    const text = $("raw").value.trim();
    if (!text) return [];
    if (!this.takesItems) return [parse(text, "the input")];
    return text.split("\n").map((line, index) => [line.trim(), index]).filter(([line]) => line).map(([line, index]) => parse(line, `line ${index + 1}`));
  }

  readFields() {
    if (!this.isRecord) return this.fields[0]?.read();
    const pairs = this.fields.map((field) => [field.name, field.read()]).filter(([, value]) => !isEmptyValue(value));
    return pairs.length === 0 && this.isOptional ? undefined : Object.fromEntries(pairs);
  }
}
