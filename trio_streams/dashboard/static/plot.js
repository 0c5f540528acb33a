// Lines over the last minute, and sparklines: drawn by hand, since nothing is loaded from anywhere.

import {color, isCalm, onTheme} from "./theme.js";

const LEFT = 64;
const BOTTOM = 20;
const TOP = 8;
const CALM_MS = 1000;

function prepare(canvas) {
  const ratio = devicePixelRatio || 1;
  const {clientWidth: width, clientHeight: height} = canvas;
  const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== w || canvas.height !== h) Object.assign(canvas, {width: w, height: h});
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return {context, width, height};
}

function niceTop(value, base) {
  // The next step of 1, 2, 5 (or of 1, 2, 4 … for bytes) above the largest value.
  if (value <= 0) return base === 1024 ? 1024 : 1;
  const step = base === 1024 ? 2 ** Math.ceil(Math.log2(value)) : 10 ** Math.floor(Math.log10(value));
  if (base === 1024) return step;
  return [1, 2, 5, 10].map((factor) => factor * step).find((top) => top >= value);
}

export class LinePlot {
  // series: [{key, color}]; format: of the scale's figures; top: a fixed one, or null.
  constructor(canvas, {series, seconds = 60, format = String, base = 10, top = null}) {
    Object.assign(this, {canvas, series, seconds, format, base, top, points: []});
    this.drawnAt = 0;
    new ResizeObserver(() => this.draw()).observe(canvas);
    onTheme(() => this.draw());
  }

  // values: {key: number}; at: seconds.
  add(at, values) {
    this.points.push({at, values});
    const from = at - this.seconds - 2;
    while (this.points.length > 2 && this.points[1].at < from) this.points.shift();
    const now = performance.now();
    if (isCalm() && now - this.drawnAt < CALM_MS) return;
    this.drawnAt = now;
    this.draw();
  }

  reset(options) {
    Object.assign(this, options);
    this.draw();
  }

  draw() {
    const {context, width, height} = prepare(this.canvas);
    if (width < LEFT * 1.5) return;
    const end = this.points.at(-1)?.at ?? 0;
    const values = this.points.flatMap(({values: all}) => this.series.map(({key}) => all[key] ?? 0));
    const top = this.top ?? niceTop(Math.max(0, ...values), this.base);
    const x = (at) => LEFT + (width - LEFT - 6) * (1 - (end - at) / this.seconds);
    const y = (value) => TOP + (height - TOP - BOTTOM) * (1 - Math.min(value, top) / top);
    this.drawScale(context, {width, height, top, y});
    context.save();
    context.beginPath();
    context.rect(LEFT, 0, width - LEFT, height);
    context.clip();
    for (const line of this.series) this.drawLine(context, line, x, y);
    context.restore();
  }

  drawScale(context, {width, height, top, y}) {
    context.font = `11px ${getComputedStyle(this.canvas).fontFamily}`;
    context.fillStyle = color("quiet");
    context.strokeStyle = color("line");
    context.lineWidth = 1;
    context.textAlign = "right";
    context.textBaseline = "middle";
    for (const share of [0, 0.5, 1]) {
      const at = Math.round(y(top * share)) + 0.5;
      context.beginPath();
      context.moveTo(LEFT, at);
      context.lineTo(width, at);
      context.stroke();
      context.fillText(this.format(top * share), LEFT - 8, at);
    }
    context.textBaseline = "bottom";
    context.textAlign = "left";
    context.fillText(`${this.seconds} s ago`, LEFT, height);
    context.textAlign = "right";
    context.fillText("now", width - 2, height);
  }

  drawLine(context, {key, color: name, isThin, isFilled}, x, y) {
    if (this.points.length < 2) return;
    context.beginPath();
    for (const {at, values} of this.points) context.lineTo(x(at), y(values[key] ?? 0));
    context.lineJoin = "round";
    context.lineWidth = isThin ? 1 : 2;
    context.globalAlpha = isThin ? 0.35 : 1;
    context.strokeStyle = color(name);
    context.stroke();
    if (isFilled) {
      context.lineTo(x(this.points.at(-1).at), y(0));
      context.lineTo(x(this.points[0].at), y(0));
      context.globalAlpha = 0.14;
      context.fillStyle = color(name);
      context.fill();
    }
    context.globalAlpha = 1;
  }
}

// values: the last numbers; the newest at the right edge.
export function drawSpark(canvas, values, places, name = "accent") {
  const {context, width, height} = prepare(canvas);
  if (values.length < 2) return;
  const top = Math.max(...values) || 1;
  const x = (index) => width - ((values.length - 1 - index) * width) / (places - 1);
  const y = (value) => height - 1.5 - ((height - 3) * value) / top;
  context.beginPath();
  values.forEach((value, index) => context.lineTo(x(index), y(value)));
  context.strokeStyle = color(name);
  context.lineWidth = 1.5;
  context.lineJoin = "round";
  context.stroke();
  context.lineTo(width, height);
  context.lineTo(x(0), height);
  context.globalAlpha = 0.15;
  context.fillStyle = color(name);
  context.fill();
  context.globalAlpha = 1;
}
