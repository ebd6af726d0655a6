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
const drawn = [];

const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

/** A point between gaps would be invisible without a dot. */
function radius({ dataset, dataIndex }) {
  const near = (step) => dataset.data[dataIndex + step]?.y ?? null;
  return near(-1) === null && near(1) === null ? 2 : 0;
}

function options(chart) {
  const grid = color("line");
  const ticks = color("soft");
  return {
    animation: false, maintainAspectRatio: false, responsive: true, parsing: false, normalized: true,
    interaction: { mode: "index", intersect: false },
    scales: {
      x: { type: "linear", grid: { display: false }, border: { color: grid }, ticks: { color: ticks, stepSize: 600, maxRotation: 0, autoSkip: true, maxTicksLimit: 7, callback: minute } },
      y: { beginAtZero: true, suggestedMax: chart.show === whole ? 4 : undefined, grid: { color: grid }, border: { display: false }, ticks: { color: ticks, maxTicksLimit: 5, precision: chart.show === whole ? 0 : undefined, callback: (value) => chart.show(value) } },
    },
    plugins: {
      legend: { display: false },
      tooltip: { callbacks: { title: ([item]) => (item ? minute(item.parsed.x) : ""), label: (item) => `${item.dataset.label} ${chart.show(item.parsed.y)}` } },
    },
  };
}

const dataset = (line) => ({
  label: line.name, data: [], borderColor: color(line.color), backgroundColor: `${color(line.color)}22`, borderWidth: 1.6,
  borderDash: line.dash || [], fill: Boolean(line.fill), pointRadius: radius, pointBackgroundColor: color(line.color), pointHitRadius: 8, tension: 0.15,
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
    drawn.push({ chart, values, plot: new window.Chart(canvas, { type: "line", data: { datasets: chart.lines.map(dataset) }, options: options(chart) }) });
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
  const end = now();
  for (const { chart, plot, values } of drawn) {
    chart.lines.forEach((line, number) => {
      plot.data.datasets[number].data = points.map(([x, point]) => ({ x, y: point ? line.value(point) : chart.empty }));
      const latest = points.at(-1)[1];
      setText(values[number], chart.show(latest ? line.value(latest) : chart.empty));
    });
    Object.assign(plot.options.scales.x, { min: Math.floor((end - HOUR_S) / STEP_S) * STEP_S, max: Math.ceil(end) });
    plot.update("none");
  }
}

/** Another colour scheme has other colours. */
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const { chart, plot } of drawn) {
    plot.options = options(chart);
    chart.lines.forEach((line, number) => Object.assign(plot.data.datasets[number], { ...dataset(line), data: plot.data.datasets[number].data }));
    plot.update("none");
  }
});
