// JSON Schemas as this server writes them: read by people, and a value held against one before it is sent.

import {el} from "./dom.js";

const KINDS = {
  string: (value) => typeof value === "string",
  integer: Number.isInteger,
  number: (value) => typeof value === "number",
  boolean: (value) => typeof value === "boolean",
  null: (value) => value === null,
  array: Array.isArray,
  object: (value) => typeof value === "object" && value !== null && !Array.isArray(value),
};

export class Types {
  // schemas: what references of the form `#/schemas/<name>` name
  constructor(schemas) {
    this.schemas = schemas;
  }

  // A schema without its reference; what stands beside that, such as a default, counts more.
  resolve(schema) {
    if (!schema?.$ref) return schema ?? {};
    const {$ref, ...own} = schema;
    return {...this.schemas[$ref.split("/").pop()], ...own};
  }

  // {schema, isOptional}: a type that may be null as what it is otherwise.
  withoutNull(schema) {
    const {anyOf, ...rest} = this.resolve(schema);
    if (!anyOf) return {schema: this.resolve(schema), isOptional: false};
    const others = anyOf.filter((option) => option.type !== "null");
    const isOptional = others.length < anyOf.length;
    return {schema: others.length === 1 ? {...this.resolve(others[0]), ...rest} : {...rest, anyOf: others}, isOptional};
  }

  name(schema) {
    const {title, type, format, anyOf, items, prefixItems, contentEncoding, additionalProperties, ...rest} = this.resolve(schema);
    if (anyOf) return anyOf.map((option) => this.name(option)).join(" | ");
    if ("const" in rest) return JSON.stringify(rest.const);
    if (rest.enum) return rest.enum.map((value) => JSON.stringify(value)).join(" | ");
    if (type === "array" && prefixItems) return `[${prefixItems.map((item) => this.name(item)).join(", ")}]`;
    if (type === "array") return items ? `array of ${this.name(items)}` : "array";
    if (type === "object" && title) return title;
    if (type === "object") return additionalProperties ? `object of ${this.name(additionalProperties)}` : "object";
    return type ? [type, format ?? contentEncoding].filter(Boolean).join(", ") : "anything";
  }

  // Elements that say what a schema asks for, its fields below it.
  draw(schema) {
    if (!schema) return el("p", {class: "quiet"}, "None.");
    const list = el("ul", {class: "schema"});
    list.append(el("li", {}, ...this.words(schema), ...this.fields(schema, [])));
    return list;
  }

  words(schema) {
    const {description, ...rest} = this.resolve(schema);
    const parts = [el("span", {class: "type"}, this.name(schema))];
    if ("default" in rest) parts.push(el("span", {class: "note"}, ` = ${JSON.stringify(rest.default)}`));
    if (description) parts.push(el("span", {class: "note"}, ` · ${description}`));
    return parts;
  }

  // A type that holds itself is drawn once: `open` has those that are being drawn.
  fields(schema, open) {
    const lists = [];
    for (const part of this.parts(schema)) {
      const {properties, required = [], title} = part;
      if (!properties || (title && open.includes(title))) continue;
      const rows = Object.entries(properties).map(([name, field]) =>
        el(
          "li",
          {},
          el("b", {}, name),
          " ",
          ...this.words(field),
          required.includes(name) ? el("span", {class: "required"}, " required") : "",
          ...this.fields(field, [...open, title]),
        ),
      );
      lists.push(el("ul", {}, ...rows));
    }
    return lists;
  }

  // The records that a schema leads to without passing through another one.
  parts(schema) {
    const whole = this.resolve(schema);
    if (whole.properties) return [whole];
    const inner = [...(whole.anyOf ?? []), ...(whole.prefixItems ?? []), whole.items, whole.additionalProperties];
    return inner.filter((part) => typeof part === "object").flatMap((part) => this.parts(part));
  }

  // What is wrong with a value, in words that begin with where; empty for nothing.
  problem(value, schema, path = "$") {
    const {type, anyOf, enum: values, ...rest} = this.resolve(schema);
    if (anyOf) return this.problemOfAny(value, anyOf, path);
    if (values && !values.includes(value)) return `${path} is one of ${values.map((one) => JSON.stringify(one)).join(", ")}`;
    if ("const" in rest && rest.const !== value) return `${path} is ${JSON.stringify(rest.const)}`;
    if (type && !KINDS[type](value)) return `${path} is of type ${this.name(schema)}, not ${JSON.stringify(value)?.slice(0, 60)}`;
    if (type === "array") return this.problemOfItems(value, rest, path);
    return type === "object" ? this.problemOfFields(value, rest, path) : "";
  }

  problemOfAny(value, options, path) {
    const problems = options.map((option) => this.problem(value, option, path));
    if (problems.includes("")) return "";
    // What went wrong deeper inside says more.
    return problems.find((problem) => !problem.startsWith(`${path} `)) ?? `${path} is of type ${this.name({anyOf: options})}`;
  }

  problemOfItems(value, {items, prefixItems, minItems = 0, maxItems = Infinity}, path) {
    if (value.length < minItems || value.length > maxItems) return `${path} has ${minItems} items, not ${value.length}`;
    return first(value, (item, index) => this.problem(item, prefixItems?.[index] ?? items, `${path}[${index}]`));
  }

  problemOfFields(value, {properties = {}, required = [], additionalProperties}, path) {
    const missing = required.find((name) => !Object.hasOwn(value, name));
    if (missing !== undefined) return `${path}.${missing} is required`;
    return first(Object.entries(value), ([name, field]) =>
      this.problem(field, Object.hasOwn(properties, name) ? properties[name] : additionalProperties, `${path}.${name}`),
    );
  }
}

function first(values, problem) {
  for (const [index, value] of values.entries()) {
    const found = problem(value, index);
    if (found) return found;
  }
  return "";
}
