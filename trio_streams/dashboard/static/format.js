// Figures for people.

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

export function size(bytes) {
  let unit = 0;
  let value = bytes;
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  const digits = unit === 0 || value >= 100 ? 0 : 1;
  return `${value.toFixed(digits)} ${UNITS[unit]}`;
}

export const sizeRate = (rate) => `${size(rate)}/s`;

export function count(number) {
  if (number >= 1e9) return `${(number / 1e9).toFixed(1)} G`;
  if (number >= 1e6) return `${(number / 1e6).toFixed(1)} M`;
  if (number >= 1e5) return `${(number / 1e3).toFixed(0)} k`;
  return number.toLocaleString("en");
}

export function rate(number) {
  if (number >= 1000) return count(Math.round(number));
  return number >= 100 || number === 0 ? number.toFixed(0) : number.toFixed(1);
}

export function seconds(value) {
  if (value < 0.001) return `${(value * 1e6).toFixed(0)} µs`;
  if (value < 1) return `${(value * 1000).toFixed(value < 0.1 ? 1 : 0)} ms`;
  return value < 60 ? `${value.toFixed(1)} s` : duration(value);
}

export function duration(value) {
  const whole = Math.floor(value);
  const [d, h, m, s] = [Math.floor(whole / 86400), Math.floor(whole / 3600) % 24, Math.floor(whole / 60) % 60, whole % 60];
  if (d > 0) return `${d} d ${h} h`;
  if (h > 0) return `${h} h ${m} min`;
  return m > 0 ? `${m} min ${s} s` : `${s} s`;
}

export function clock(date) {
  return date.toLocaleTimeString("en-GB");
}
