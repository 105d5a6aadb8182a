// The book of one symbol as a ladder: offers above, bids below, the best of each in the middle.

import { lots, price, setText, showPrice } from "./format.js";

const LEVELS = 12;

export class Ladder {
  /** `onChoose(side, ticks)` is called with the side of an order that would trade at the price chosen. */
  constructor(element, spread, onChoose) {
    this.spread = spread;
    this.asks = [];
    this.bids = [];
    for (let level = LEVELS - 1; level >= 0; level -= 1) this.asks[level] = this.addRow(element, "ask", onChoose);
    this.middle = document.createElement("p");
    this.middle.className = "middle";
    element.append(this.middle);
    for (let level = 0; level < LEVELS; level += 1) this.bids[level] = this.addRow(element, "bid", onChoose);
  }

  addRow(element, side, onChoose) {
    const row = document.createElement("button");
    row.type = "button";
    row.className = `level ${side}`;
    row.disabled = true;
    for (const name of ["bid-orders", "bid-lots", "level-price", "ask-lots", "ask-orders"]) {
      const cell = document.createElement("span");
      cell.className = name;
      row.append(cell);
    }
    row.onclick = () => onChoose(side === "ask" ? "B" : "S", Number(row.dataset.ticks));
    element.append(row);
    return row;
  }

  /** Show a book document; `own` maps ticks to the person's open shares at that price. */
  show(book, own) {
    const lastTicks = book.trades.length > 0 ? book.trades[0][2] : 0;
    let most = 1;
    for (const [, size] of [...book.bids, ...book.asks]) most = Math.max(most, size);
    this.asks.forEach((row, level) => this.showRow(row, "ask", book.asks[level], most, lastTicks, own));
    this.bids.forEach((row, level) => this.showRow(row, "bid", book.bids[level], most, lastTicks, own));
    const [bid, ask] = [book.bids[0], book.asks[0]];
    setText(this.spread, bid && ask ? `spread ${price(ask[0] - bid[0])}` : "");
    const arrow = book.trades.length > 0 ? (book.trades[0][4] === "B" ? "▲" : "▼") : "";
    this.middle.dataset.side = book.trades.length > 0 ? book.trades[0][4] : "";
    setText(this.middle, lastTicks > 0 ? `${arrow} last ${price(lastTicks)}` : "no trade yet");
  }

  showRow(row, side, level, most, lastTicks, own) {
    const [bidOrders, bidLots, priceCell, askLots, askOrders] = row.children;
    row.disabled = level === undefined;
    if (level === undefined) {
      for (const cell of row.children) setText(cell, "");
      row.style.setProperty("--bar", "0%");
      row.removeAttribute("aria-label");
      row.classList.remove("last", "own");
      return;
    }
    const [ticks, size, orders] = level;
    row.dataset.ticks = ticks;
    showPrice(priceCell, ticks);
    setText(side === "bid" ? bidLots : askLots, lots(size));
    setText(side === "bid" ? bidOrders : askOrders, lots(orders));
    row.style.setProperty("--bar", `${Math.max(1, Math.round((100 * size) / most))}%`);
    row.classList.toggle("last", ticks === lastTicks);
    row.classList.toggle("own", own.has(ticks));
    const whose = own.has(ticks) ? `, ${lots(own.get(ticks))} of them yours` : "";
    row.setAttribute("aria-label",
      `${side === "bid" ? "Bid" : "Offer"} ${price(ticks)}, ${lots(size)} shares in ${lots(orders)} orders${whose}`);
  }
}
