// What a person does: log on, place, change and cancel orders. What came of it is in the account that the server sends.

import { fitRows, lots, price, setText, showPrice, ticksOf, time } from "./format.js";

const QUANTITY_MAX = 999999;
const byId = (name) => document.getElementById(name);

export class Trading {
  constructor(send) {
    this.send = send;
    this.symbol = "";
    this.replaced = null; // the order that the form is about to change
    this.account = { user: "", orders: [], fills: [], notices: [] };
    this.noticed = 0;
    byId("log-on").onsubmit = (event) => { event.preventDefault(); this.logOn(); };
    byId("order").onsubmit = (event) => { event.preventDefault(); this.place(); };
    byId("order").oninput = () => this.label();
    byId("order-back").onclick = () => this.beginNew();
    byId("log-off").onclick = () => this.send({ action: "log-off" });
  }

  get side() {
    return document.querySelector("input[name=side]:checked").value;
  }

  /** Shares of open orders of the chosen symbol, by price. */
  own() {
    const found = new Map();
    for (const one of this.account.orders) {
      if (one.symbol === this.symbol) found.set(one.price_ticks, (found.get(one.price_ticks) || 0) + one.open_lots);
    }
    return found;
  }

  setSymbol(symbol) {
    this.symbol = symbol;
    if (this.replaced !== null && this.replaced.symbol !== symbol) this.beginNew();
    this.label();
  }

  /** Put a price into the form. */
  prefill(side, ticks) {
    if (this.replaced === null) this.setSide(side);
    byId("order-price").value = price(ticks);
    this.tell("");
    this.label();
    const hasKeyboard = matchMedia("(pointer: fine)").matches; // on a phone one would come up over the ladder
    if (this.account.user !== "" && hasKeyboard) byId("order-quantity").focus({ preventScroll: true });
  }

  setSide(side) {
    document.querySelector(`input[name=side][value=${side}]`).checked = true;
  }

  logOn() {
    const user = byId("log-on-user");
    const password = byId("log-on-password");
    if (!/^[A-Za-z0-9]{1,6}$/.test(user.value)) return this.refuse(user, "A user name has 1 to 6 letters and digits.");
    if (password.value === "") return this.refuse(password, "The password is missing.");
    this.tell("");
    this.request({ action: "log-on", user: user.value, password: password.value });
    password.value = "";
  }

  place() {
    const priceField = byId("order-price");
    const quantityField = byId("order-quantity");
    if (ticksOf(priceField.value) === null) {
      return this.refuse(priceField, "A price is in dollars with up to four decimals, as in 187.25.");
    }
    const quantity = /^\d{1,6}$/.test(quantityField.value.trim()) ? Number(quantityField.value) : 0;
    if (quantity < 1 || quantity > QUANTITY_MAX) {
      return this.refuse(quantityField, `An order is for 1 to ${lots(QUANTITY_MAX)} shares.`);
    }
    this.tell("");
    if (this.replaced !== null) {
      this.request({ action: "replace", number: this.replaced.number, quantity, price: priceField.value });
      this.beginNew();
    } else {
      const immediate = byId("order-immediate").checked;
      this.request({ action: "place", symbol: this.symbol, side: this.side, quantity, price: priceField.value, immediate });
    }
  }

  request(request) {
    if (!this.send(request)) this.tell("There is no connection to the page's server.");
  }

  refuse(field, text) {
    field.setAttribute("aria-invalid", "true");
    field.focus();
    this.tell(text);
  }

  tell(text, kind = "error") {
    if (text === "") for (const field of document.querySelectorAll("[aria-invalid]")) field.removeAttribute("aria-invalid");
    byId("message").textContent = text;
    byId("message").dataset.kind = kind;
  }

  /** The server would not do what was asked. */
  showProblem(problem) {
    const name = { user: "log-on-user", password: "log-on-password", price: "order-price", quantity: "order-quantity" }[problem.field];
    const text = problem.text.charAt(0).toUpperCase() + problem.text.slice(1) + ".";
    if (name && byId(name).offsetParent !== null) this.refuse(byId(name), text);
    else this.tell(text);
  }

  beginNew() {
    this.replaced = null;
    this.label();
  }

  beginReplace(order) {
    this.replaced = order;
    this.setSide(order.side);
    byId("order-price").value = price(order.price_ticks);
    byId("order-quantity").value = order.open_lots;
    this.tell("");
    this.label();
    byId("order-price").focus();
  }

  label() {
    const button = byId("order-send");
    const isBuy = this.side === "B";
    const quantity = byId("order-quantity").value.trim();
    const at = byId("order-price").value.trim();
    const symbol = this.replaced === null ? this.symbol : this.replaced.symbol;
    const verb = this.replaced !== null ? "Change to" : isBuy ? "Buy" : "Sell";
    button.textContent = `${verb} ${quantity} ${symbol}${at === "" ? "" : ` at ${at}`}`;
    button.dataset.side = this.side;
    byId("order-back").hidden = this.replaced === null;
    byId("order-immediate").disabled = this.replaced !== null;
    for (const radio of document.querySelectorAll("input[name=side]")) radio.disabled = this.replaced !== null;
  }

  /** Show an account document. */
  show(account) {
    const before = this.account.user;
    this.account = account;
    const isOn = account.user !== "";
    byId("log-on").hidden = isOn;
    for (const name of ["order", "account", "log-off"]) byId(name).hidden = !isOn;
    setText(byId("user"), isOn ? account.user : "log on with a user of the exchange");
    if (isOn && before === "") { this.noticed = 0; this.tell(""); this.label(); }
    this.showOrders(account);
    this.showFills(account.fills);
    this.showNotices(account, before);
  }

  showOrders(account) {
    const rows = fitRows(byId("orders"), account.orders.length, 5);
    account.orders.forEach((order, index) => {
      const row = rows[index];
      const cells = row.cells;
      row.className = order.side === "B" ? "buy" : "sell";
      setText(cells[0], `${order.side === "B" ? "Buy" : "Sell"} ${order.symbol}`);
      showPrice(cells[1], order.price_ticks);
      setText(cells[2], lots(order.open_lots));
      setText(cells[3], lots(order.executed_lots));
      if (row.dataset.number !== String(order.number)) {
        row.dataset.number = order.number;
        cells[4].replaceChildren(
          this.button("Edit", order.number, (found) => this.beginReplace(found)),
          this.button("Cancel", order.number, (found) => this.request({ action: "cancel", number: found.number })),
        );
      }
    });
  }

  button(text, number, act) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "plain";
    button.textContent = text;
    button.setAttribute("aria-label", `${text} order ${number}`);
    button.onclick = () => {
      const found = this.account.orders.find((one) => one.number === number);
      if (found !== undefined) act(found);
    };
    return button;
  }

  showFills(fills) {
    const rows = fitRows(byId("fills"), fills.length, 4);
    fills.forEach((fill, index) => {
      const cells = rows[index].cells;
      rows[index].className = fill.side === "B" ? "buy" : "sell";
      setText(cells[0], time(fill.timestamp_ns));
      setText(cells[1], fill.symbol);
      showPrice(cells[2], fill.price_ticks);
      setText(cells[3], lots(fill.lots));
    });
  }

  showNotices(account, before) {
    byId("notices-title").hidden = account.notices.length === 0;
    byId("notices").replaceChildren(...account.notices.map((notice) => {
      const item = document.createElement("li");
      item.className = notice.kind;
      item.textContent = notice.text;
      return item;
    }));
    const newest = account.notices[0];
    if (newest === undefined) return;
    const isLost = account.user === "" && before !== "";
    if (isLost || (before !== "" && newest.count > this.noticed)) {
      this.tell(newest.text.charAt(0).toUpperCase() + newest.text.slice(1) + ".", newest.kind);
    }
    this.noticed = newest.count;
  }
}
