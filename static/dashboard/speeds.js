// Learned speeds as a heat map, node by model.

import { byId, element } from "./dom.js";
import { NONE, rate } from "./format.js";

const SHADES = 5;
const FEW = 5;

export function drawSpeeds({ speeds }) {
  const table = byId("speeds");
  table.hidden = byId("speeds-legend").hidden = speeds.length === 0;
  byId("no-speeds").hidden = speeds.length > 0;
  const order = (one, other) => one.localeCompare(other, "en", { numeric: true });
  const nodes = [...new Set(speeds.map((row) => row.node))].sort(order);
  const models = [...new Set(speeds.map((row) => row.model))].sort(order);
  const cells = new Map(speeds.map((row) => [`${row.node} ${row.model}`, row]));
  const logs = speeds.map((row) => Math.log(row.output));
  const [least, most] = [Math.min(...logs), Math.max(...logs)];
  const shade = (value) => (most > least ? 1 + Math.round(((Math.log(value) - least) / (most - least)) * (SHADES - 1)) : 3);
  const cell = (row) => {
    if (!row) return element("td", { text: NONE, className: "none" });
    const more = [row.prompt && `reads ${rate(row.prompt)} tokens per second`, row.load_s && `loads in ${row.load_s} s`].filter(Boolean);
    return element("td", {
      text: rate(row.output),
      className: row.seen < FEW ? "guess" : `heat-${shade(row.output)}`,
      title: [`${row.model} on ${row.node}: ${row.seen} answers`, ...more].join(", "),
    });
  };
  table.replaceChildren(
    element("thead", {}, [element("tr", {}, [element("th", { text: "Node", scope: "col" }), ...models.map((text) => element("th", { text, scope: "col" }))])]),
    element("tbody", {}, nodes.map((node) => element("tr", {}, [
      element("th", { text: node, scope: "row" }), ...models.map((model) => cell(cells.get(`${node} ${model}`))),
    ]))),
  );
}
