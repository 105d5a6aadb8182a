// The tables: all symbols with their best prices, and the tape of one symbol's trades.

import { fitRows, lots, setText, showPrice, time } from "./format.js";

export const STATES = { T: "trading", H: "halted", P: "paused", Q: "quotes only", "": "" };

/** Show all symbols; a row chooses its symbol. */
export function showSymbols(body, select, rows, chosen, onChoose) {
  const names = rows.map((row) => row[0]);
  if (select.dataset.names !== names.join(" ")) {
    select.dataset.names = names.join(" ");
    select.replaceChildren(...names.map((name) => new Option(name, name)));
    select.disabled = names.length === 0;
  }
  select.value = chosen;
  const shown = fitRows(body, rows.length, 4);
  rows.forEach(([symbol, state, bid, bidLots, ask, askLots, last], index) => {
    const row = shown[index];
    const cells = row.cells;
    if (row.dataset.symbol !== symbol) {
      row.dataset.symbol = symbol;
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = symbol;
      button.onclick = (event) => { event.stopPropagation(); onChoose(symbol); };
      row.onclick = () => onChoose(symbol);
      cells[0].replaceChildren(button);
    }
    row.classList.toggle("chosen", symbol === chosen);
    row.classList.toggle("stopped", state !== "T" && state !== "");
    row.title = STATES[state] ?? state;
    bidLots > 0 ? showPrice(cells[1], bid) : setText(cells[1], "–");
    askLots > 0 ? showPrice(cells[2], ask) : setText(cells[2], "–");
    last > 0 ? showPrice(cells[3], last) : setText(cells[3], "–");
  });
}

/** Show trades, newest first; those that were not there before light up. */
export function showTape(body, book) {
  const newest = Number(body.dataset.newest || 0);
  const isSame = body.dataset.symbol === book.symbol;
  const rows = fitRows(body, book.trades.length, 3);
  book.trades.forEach(([count, nanoseconds, ticks, size, side], index) => {
    const row = rows[index];
    setText(row.cells[0], time(nanoseconds));
    showPrice(row.cells[1], ticks);
    setText(row.cells[2], lots(size));
    row.className = side === "B" ? "buy" : "sell";
    row.classList.toggle("new", isSame && count > newest);
    row.setAttribute("aria-label", side === "B" ? "bought" : "sold");
  });
  body.dataset.symbol = book.symbol;
  body.dataset.newest = book.trades.length > 0 ? book.trades[0][0] : 0;
}
