// The charts, drawn by uPlot: message rates, latency on a logarithmic scale, how full the queues are.

import { duration, short } from "./format.js";

const KEPT = 240;
const HEIGHT = 168;
const OUTBOX_DASH = [4, 3];

function color(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function hue(shard) {
  return color(`--series-${(shard % 4) + 1}`);
}

export class Charts {
  constructor(places) {
    this.places = places; // rates, latency, queues: an element each
    this.points = [];
    this.plots = {};
    this.trouble = null;
    this.shape = "";
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { this.shape = ""; this.draw(); });
    this.observer = new ResizeObserver(() => this.resize());
    for (const place of Object.values(places)) this.observer.observe(place);
  }

  /** Take a history document. */
  add(history) {
    const newest = this.points.length > 0 ? this.points[this.points.length - 1].number : 0;
    const first = history.points.length > 0 ? history.points[0].number : 0;
    if (first !== 0 && first <= newest) this.points = []; // another process has begun to count
    this.points = [...this.points, ...history.points].slice(-KEPT);
    this.trouble = history.trouble;
    this.draw();
  }

  /** The page's process may be another one now: what it sends replaces what we have. */
  forget() {
    this.points = [];
  }

  draw() {
    if (this.points.length === 0) return;
    const shards = this.points[this.points.length - 1].queues.map((queue) => queue.shard);
    const shape = `${shards.join(",")}`;
    if (shape !== this.shape || !this.plots.rates) this.build(shards, shape);
    const seconds = this.points.map((point) => point.time_ms / 1000);
    this.plots.rates.setData([seconds, this.points.map((one) => one.feed_per_second),
      this.points.map((one) => one.requests_per_second)]);
    this.plots.latency.setData([seconds, this.points.map((one) => one.latency_p50_ns || null),
      this.points.map((one) => one.latency_p99_ns || null)]);
    const percent = (used, capacity) => (used === null || used === undefined ? null : (100 * used) / capacity);
    const series = shards.flatMap((shard) => [
      this.points.map((one) => this.queue(one, shard, (found) => percent(found.inbox_used, found.inbox_capacity))),
      this.points.map((one) => this.queue(one, shard, (found) => percent(found.outbox_used, found.outbox_capacity))),
    ]);
    this.plots.queues.setData([seconds, ...series]);
    for (const plot of Object.values(this.plots)) {
      if (!(plot.cursor.left >= 0)) plot.setLegend({ idx: seconds.length - 1 }, false); // nobody points: how it is now
    }
    this.tell();
  }

  queue(point, shard, read) {
    const found = point.queues.find((one) => one.shard === shard);
    return found === undefined ? null : read(found);
  }

  tell() {
    for (const name of ["latency", "queues"]) {
      const place = this.places[name];
      if (this.trouble) place.dataset.trouble = `no statistics: ${this.trouble}`;
      else delete place.dataset.trouble;
    }
  }

  build(shards, shape) {
    for (const plot of Object.values(this.plots)) plot.destroy();
    this.shape = shape;
    this.plots = {
      rates: this.plot("rates", [
        { label: "feed", stroke: color("--series-1"), fill: color("--series-1-faint"), value: (_, value) => value === null ? "–" : short(value) },
        { label: "requests", stroke: color("--series-2"), value: (_, value) => value === null ? "–" : short(value) },
      ], { axis: short, floor: 10 }),
      latency: this.plot("latency", [
        { label: "p50", stroke: color("--series-1"), value: (_, value) => value === null ? "–" : duration(value) },
        { label: "p99", stroke: color("--series-3"), value: (_, value) => value === null ? "–" : duration(value) },
      ], { axis: duration, isLogarithmic: true }),
      queues: this.plot("queues", shards.flatMap((shard) => [
        { label: `shard ${shard} in`, stroke: hue(shard), value: (_, value) => value === null ? "–" : `${value.toFixed(2)} %` },
        { label: `shard ${shard} out`, stroke: hue(shard), dash: OUTBOX_DASH, value: (_, value) => value === null ? "–" : `${value.toFixed(2)} %` },
      ]), { axis: (value) => `${value} %`, floor: 1, ceiling: 100 }),
    };
  }

  plot(name, series, { axis, isLogarithmic = false, floor = 0, ceiling = Infinity }) {
    const place = this.places[name];
    const grid = { stroke: color("--line"), width: 1 };
    const look = { stroke: color("--faint"), grid, ticks: grid, font: "11px system-ui, sans-serif" };
    const linear = { range: (_, low, high) => [0, Math.min(ceiling, Math.max(floor, 1.1 * (high ?? floor)))] };
    // A scale of whole powers of ten around what there is.
    const logarithmic = { distr: 3, range: (_, low, high) => (high === null || high === undefined ? [1e3, 1e6]
      : [10 ** Math.floor(Math.log10(low)), 10 ** Math.max(Math.floor(Math.log10(low)) + 1, Math.ceil(Math.log10(high)))]) };
    const powers = (_, values) => values.map((value) => (Number.isInteger(Math.log10(value)) ? value : null));
    const scaled = isLogarithmic ? { filter: powers, grid: { ...grid, filter: powers } } : {};
    const options = {
      width: Math.max(200, place.clientWidth), height: HEIGHT,
      series: [{ label: "time" }, ...series.map((one) => ({ width: 1.5, points: { show: false }, ...one }))],
      scales: { x: { time: true }, y: isLogarithmic ? logarithmic : linear },
      axes: [
        { ...look, size: 26, space: 70, values: "{HH}:{mm}:{ss}" },
        { ...look, size: 62, ...scaled, values: (_, values) => values.map((value) => (value === null ? "" : axis(value))) },
      ],
      legend: { live: true, markers: { width: 0, fill: (_, index) => series[index - 1]?.stroke } }, cursor: { points: { size: 5 }, drag: { setScale: false } },
    };
    return new uPlot(options, [[], ...series.map(() => [])], place);
  }

  resize() {
    for (const [name, plot] of Object.entries(this.plots)) {
      const width = this.places[name].clientWidth;
      if (width > 0 && width !== plot.width) plot.setSize({ width, height: HEIGHT });
    }
  }
}
