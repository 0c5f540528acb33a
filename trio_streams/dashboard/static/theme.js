// What canvases need of the style sheet, and when it changes.

const watchers = new Set();
const dark = matchMedia("(prefers-color-scheme: dark)");
const reduced = matchMedia("(prefers-reduced-motion: reduce)");
let colors = {};

export function color(name) {
  colors[name] ??= getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  return colors[name];
}

export function onTheme(redraw) {
  watchers.add(redraw);
}

export const isCalm = () => reduced.matches;

dark.addEventListener("change", () => {
  colors = {};
  for (const redraw of watchers) redraw();
});
