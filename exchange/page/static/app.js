// The page: documents come in, each says how things are now, and is shown. There is no state but the last of each kind.

import { Charts } from "./charts.js";
import { Connection } from "./connection.js";
import { setText, short, lots, showPrice } from "./format.js";
import { Ladder } from "./ladder.js";
import { STATES, showSymbols, showTape } from "./lists.js";
import { Trading } from "./trading.js";

const byId = (name) => document.getElementById(name);
const SYSTEM_EVENTS = { O: "start of messages", S: "system hours", Q: "market hours", M: "end of market hours",
  E: "end of system hours", C: "end of messages" };

let chosen = decodeURIComponent(location.hash.slice(1));
let overview = null;
let book = null;

const trading = new Trading((request) => connection.send(request));
const ladder = new Ladder(byId("ladder"), byId("spread"), (side, ticks) => trading.prefill(side, ticks));
const charts = new Charts({ rates: byId("rates"), latency: byId("latency"), queues: byId("queues") });
const connection = new Connection(onDocument, onState);

function onDocument(document_) {
  switch (document_.type) {
    case "overview": overview = document_; showOverview(); break;
    case "book": if (document_.symbol === chosen) { book = document_; showBook(); } break;
    case "history": charts.add(document_); break;
    case "account": trading.show(document_); if (book !== null) ladder.show(book, trading.own()); break;
    case "problem": trading.showProblem(document_); break;
  }
}

function onState(state) {
  byId("link").dataset.state = state;
  setText(byId("link"), { open: "live", lost: "connection lost", connecting: "connecting" }[state]);
  if (state === "open") {
    charts.forget();
    if (chosen !== "") connection.send({ action: "watch", symbol: chosen });
  } else if (trading.account.user !== "") {
    trading.show({ user: "", orders: [], orders_left_out: 0, fills: [],
      notices: [{ count: 0, kind: "error", text: "the connection to the page was lost; log on again" }] });
  }
}

function choose(symbol) {
  chosen = symbol;
  book = null;
  history.replaceState(null, "", `#${encodeURIComponent(symbol)}`);
  trading.setSymbol(symbol);
  connection.send({ action: "watch", symbol });
  showOverview();
}

function showOverview() {
  const names = overview.symbols.map((row) => row[0]);
  if (!names.includes(chosen) && names.length > 0) {
    choose(names[0]);
    return;
  }
  if (trading.symbol !== chosen) trading.setSymbol(chosen);
  showSymbols(byId("symbols"), byId("symbol"), overview.symbols, chosen, choose);
  const halted = overview.symbols.filter((row) => row[1] !== "T" && row[1] !== "");
  byId("halts").hidden = halted.length === 0;
  setText(byId("halts"), halted.map((row) => `${row[0]} ${STATES[row[1]] ?? row[1]}`).join(" · "));
  const isLive = overview.feed === "live";
  byId("feed").hidden = isLive;
  setText(byId("feed"), isLive ? "" : `Feed ${overview.feed}: ${overview.feed_detail}. Prices are the last known.`);
  const row = overview.symbols.find((one) => one[0] === chosen);
  if (row !== undefined) showQuote(row);
}

function showQuote([symbol, state, bid, bidLots, ask, askLots, last, volume]) {
  const dash = (element, ticks, isThere) => (isThere ? showPrice(element, ticks) : setText(element, "–"));
  dash(byId("bid-price"), bid, bidLots > 0);
  dash(byId("ask-price"), ask, askLots > 0);
  dash(byId("last-price"), last, last > 0);
  setText(byId("bid-lots"), bidLots > 0 ? `× ${lots(bidLots)}` : "");
  setText(byId("ask-lots"), askLots > 0 ? `× ${lots(askLots)}` : "");
  setText(byId("volume"), short(volume));
  byId("state").dataset.state = state;
  setText(byId("state"), state === "" ? "" : `${STATES[state] ?? state}`);
  byId("state").title = SYSTEM_EVENTS[overview.system_event] || "";
  document.title = `${symbol} ${byId("last-price").textContent} · exchange`;
}

function showBook() {
  ladder.show(book, trading.own());
  showTape(byId("tape"), book);
}

byId("symbol").onchange = (event) => choose(event.target.value);
