// Elements made of text: whatever a peer says becomes a text node, never markup.

export const $ = (id) => document.getElementById(id);

// el("td", {class: "number", "aria-label": "rate"}, "12", child)
export function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== null && value !== false) {
      element.setAttribute(name, value === true ? "" : value);
    }
  }
  element.append(...children);
  return element;
}

// Layout is touched only by what has changed.
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function setAttribute(element, name, value) {
  if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

export function setState(pill, state, text = state) {
  setAttribute(pill, "data-state", state);
  setText(pill, text);
}

// A list that follows its end, unless the reader has scrolled back.
export function appendLine(list, line, maxLines) {
  const follows = list.scrollHeight - list.scrollTop - list.clientHeight < 24;
  list.append(line);
  while (list.children.length > maxLines) list.firstElementChild.remove();
  if (follows) list.scrollTop = list.scrollHeight;
}
