// Numbers as people read them. Prices are integers, ticks of 1/10,000 dollar, and stay integers until they are text.

const TICKS = 10000;
const grouped = new Intl.NumberFormat("en-US");

/** "187.2500" for 1872500 ticks. */
export function price(ticks) {
  return `${Math.floor(ticks / TICKS)}.${String(ticks % TICKS).padStart(4, "0")}`;
}

/** Ticks of a price as typed, or null if it is none: digit by digit, as the server reads it. */
export function ticksOf(text) {
  const found = /^(\d{1,6})(?:\.(\d{0,4}))?$/.exec(text.trim());
  if (found === null) return null;
  const ticks = Number(found[1]) * TICKS + Number((found[2] || "").padEnd(4, "0"));
  return ticks > 0 ? ticks : null;
}

export function lots(count) {
  return grouped.format(count);
}

/** "1.2 M" for what only has to fit. */
export function short(count) {
  if (count < 100000) return grouped.format(Math.round(count));
  if (count < 1e6) return `${(count / 1e3).toFixed(0)} k`;
  if (count < 1e9) return `${(count / 1e6).toFixed(2)} M`;
  return `${(count / 1e9).toFixed(2)} G`;
}

/** "09:30:00.123" for nanoseconds since midnight. */
export function time(nanoseconds) {
  const milliseconds = Math.floor(nanoseconds / 1e6);
  const seconds = Math.floor(milliseconds / 1000);
  const two = (number) => String(number).padStart(2, "0");
  const clock = `${two(Math.floor(seconds / 3600))}:${two(Math.floor(seconds / 60) % 60)}:${two(seconds % 60)}`;
  return `${clock}.${String(milliseconds % 1000).padStart(3, "0")}`;
}

function digits(number) {
  return String(Number(number.toPrecision(3)));
}

/** "12.3 µs" for nanoseconds. */
export function duration(nanoseconds) {
  if (nanoseconds < 1e3) return `${Math.round(nanoseconds)} ns`;
  if (nanoseconds < 1e6) return `${digits(nanoseconds / 1e3)} µs`;
  if (nanoseconds < 1e9) return `${digits(nanoseconds / 1e6)} ms`;
  return `${digits(nanoseconds / 1e9)} s`;
}

/** Write a price so that its last two digits stand back if they are zeros. */
export function showPrice(element, ticks) {
  const text = price(ticks);
  const split = ticks % 100 === 0 ? text.length - 2 : text.length;
  setText(element, text.slice(0, split), text.slice(split));
}

/** Set an element's text, and a second one that stands back; touch the page only if something has changed. */
export function setText(element, text, faint = "") {
  const key = `${text}|${faint}`;
  if (element.dataset.shown === key) return;
  element.dataset.shown = key;
  element.textContent = text;
  if (faint !== "") {
    const span = document.createElement("span");
    span.className = "faint";
    span.textContent = faint;
    element.append(span);
  }
}

/** Let a table body have so many rows of so many cells, and keep those that it has. */
export function fitRows(body, count, cells) {
  while (body.rows.length > count) body.deleteRow(-1);
  while (body.rows.length < count) {
    const row = body.insertRow();
    for (let cell = 0; cell < cells; cell += 1) row.insertCell();
  }
  return body.rows;
}
