// The last hour, drawn by Chart.js. A point is [epoch second, requests/s, tokens/s, [failed, expired, refused], and the
// 50th, 95th and 99th percentile in ms of: first byte, total, queue].

import { byId, element, setText } from "./dom.js";
import { duration, minute, rate } from "./format.js";
import { now } from "./picture.js";

const HOUR_S = 3600;
const STEP_S = 15;
const whole = (value) => String(Math.round(value));
const quantiles = (place) => [
  { name: "p50", color: "c1", value: (point) => point[place][0] },
  { name: "p95", color: "c2", value: (point) => point[place][1], dash: [5, 3] },
  { name: "p99", color: "c3", value: (point) => point[place][2], dash: [2, 2] },
];
const CHARTS = [
  { title: "Requests per second", show: rate, empty: 0, lines: [{ name: "ended", color: "c1", fill: true, value: (point) => point[1] }] },
  { title: "Tokens per second", show: rate, empty: 0, lines: [{ name: "in ended answers", color: "c4", fill: true, value: (point) => point[2] }] },
  { title: "Errors per 15 s", show: whole, empty: 0, lines: ["failed", "expired", "refused"].map((name, kind) => (
    { name, color: ["c5", "c6", "c2"][kind], dash: [[], [5, 3], [2, 2]][kind], value: (point) => point[3][kind] })) },
  { title: "Time to first token", show: duration, empty: null, lines: quantiles(4) },
  { title: "Total time", show: duration, empty: null, lines: quantiles(5) },
  { title: "Wait in the queue", show: duration, empty: null, lines: quantiles(6) },
];
const DOT_S = 5;
const LEAST = new Map([[whole, 4], [duration, 10], [rate, 1]]); // an axis goes at least so far
const drawn = [];
let waiting = [];
const seen = new Set();
const sight = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) isIntersecting ? seen.add(target) : seen.delete(target);
}, { rootMargin: "200px" });

const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

/** One line's points. The last before a gap is drawn a little wide: alone it would have no line to either side. */
function along(points, value, empty) {
  const told = [];
  points.forEach(([x, point], place) => {
    const y = point ? value(point) : empty;
    if (y === null && told.at(-1)?.y === null) return;
    told.push({ x, y });
    if (y !== null && empty === null && !points[place + 1]?.[1]) told.push({ x: x + DOT_S, y });
  });
  return told;
}

function options(chart) {
  const grid = color("line");
  const ticks = color("soft");
  return {
    animation: false, maintainAspectRatio: false, responsive: true, parsing: false, normalized: true,
    interaction: { mode: "index", intersect: false },
    scales: {
      x: { type: "linear", grid: { display: false }, border: { color: grid }, ticks: { color: ticks, stepSize: 600, maxRotation: 0, autoSkip: true, maxTicksLimit: 7, callback: minute } },
      y: { beginAtZero: true, suggestedMax: LEAST.get(chart.show), grid: { color: grid }, border: { display: false }, ticks: { color: ticks, maxTicksLimit: 5, precision: chart.show === whole ? 0 : undefined, callback: (value) => chart.show(value) } },
    },
    plugins: {
      legend: { display: false },
      tooltip: { callbacks: { title: ([item]) => (item ? minute(item.parsed.x) : ""), label: (item) => `${item.dataset.label} ${chart.show(item.parsed.y)}` } },
    },
  };
}

const dataset = (line) => ({
  label: line.name, data: [], borderColor: color(line.color), backgroundColor: `${color(line.color)}22`, borderWidth: 1.6,
  borderDash: line.dash || [], borderCapStyle: line.dash ? "butt" : "round", fill: Boolean(line.fill), pointRadius: 0, pointHitRadius: 8,
});

function build() {
  for (const chart of CHARTS) {
    const canvas = element("canvas", { role: "img", "aria-label": `${chart.title} in the last hour` });
    const values = chart.lines.map(() => element("b"));
    byId("charts").append(element("figure", { className: "chart" }, [
      element("h3", { text: chart.title }),
      element("ul", {}, chart.lines.map((line, number) => element("li", { className: line.color }, [`${line.name} `, values[number]]))),
      element("div", { className: "canvas" }, [canvas]),
    ]));
    sight.observe(canvas);
    seen.add(canvas);
    drawn.push({ chart, values, canvas, plot: new window.Chart(canvas, { type: "line", data: { datasets: chart.lines.map(dataset) }, options: options(chart) }) });
  }
}

/** The points of the hour, every step of it: where nothing ended the rates are zero and there are no times. */
function steps(series) {
  const keys = Object.keys(series).map(Number);
  const last = Math.floor(now() / STEP_S);
  const told = [];
  for (let step = last - HOUR_S / STEP_S; step < last; step += 1) told.push([(step + 1) * STEP_S, series[step]]);
  if (keys.includes(last)) told.push([series[last][0], series[last]]);
  return told;
}

export function drawCharts({ series }) {
  if (!drawn.length) build();
  const points = steps(series);
  for (const { chart, values } of drawn) {
    chart.lines.forEach((line, number) => {
      const latest = points.at(-1)[1];
      setText(values[number], chart.show(latest ? line.value(latest) : chart.empty));
    });
  }
  const [start, end] = [Math.floor((now() - HOUR_S) / STEP_S) * STEP_S, Math.ceil(now())];
  waiting = drawn.filter(({ canvas }) => seen.has(canvas));
  if (waiting.length) window.requestAnimationFrame(() => plotNext(points, start, end));
}

/** One chart in each frame: all at once would be felt in scrolling. */
function plotNext(points, start, end) {
  const next = waiting.shift();
  if (!next) return;
  const { chart, plot } = next;
  chart.lines.forEach((line, number) => { plot.data.datasets[number].data = along(points, line.value, chart.empty); });
  Object.assign(plot.options.scales.x, { min: start, max: end });
  plot.update("none");
  if (waiting.length) window.requestAnimationFrame(() => plotNext(points, start, end));
}

/** Another colour scheme has other colours. */
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const { chart, plot } of drawn) {
    plot.options = options(chart);
    chart.lines.forEach((line, number) => Object.assign(plot.data.datasets[number], { ...dataset(line), data: plot.data.datasets[number].data }));
    plot.update("none");
  }
});
