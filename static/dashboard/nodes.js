// A tile for each node, changed in place: focus, selection and scrolling stay.

import { byId, element, setClass, setText } from "./dom.js";
import { count, gigabytes, NONE, percent, rate } from "./format.js";

const MANY = 24; // from here on tiles are small
const tiles = new Map();
let nodes = {};

function load(label, kind) {
  const meter = element("meter", { min: 0, max: 1, value: 0, className: kind });
  const text = element("span");
  return { meter, text, row: element("div", { className: "load" }, [element("span", { text: label }), meter, text]) };
}

function setLoad(part, value, max, text, label) {
  part.meter.max = max;
  part.meter.value = value;
  part.meter.setAttribute("aria-label", label);
  setText(part.text, text);
}

class Tile {
  constructor(node) {
    const figure = (name) => { const value = element("dd"); return [value, element("div", {}, [element("dt", { text: name }), value])]; };
    this.name = element("a", { href: `${document.body.dataset.node}${encodeURIComponent(node.id)}/change/` });
    this.state = element("span", { className: "badge" });
    this.breaker = element("span", { className: "badge" });
    this.slots = load("Slots", "slots");
    this.memory = load("VRAM", "vram");
    const [speed, speedBox] = figure("Tokens/s");
    const [success, successBox] = figure("Success");
    const [requests, requestsBox] = figure("Requests");
    Object.assign(this, { speed, success, requests });
    this.models = element("ul", { className: "models" });
    this.about = element("p", { className: "about" });
    this.error = element("p", { className: "error" });
    this.box = element("article", {}, [
      element("h3", {}, [this.name, this.breaker, this.state]), this.slots.row, this.memory.row,
      element("dl", {}, [speedBox, successBox, requestsBox]), this.models, this.about, this.error,
    ]);
    this.resident = null;
  }

  draw(node) {
    const slots = Math.max(node.slots, node.in_flight, 1);
    setClass(this.box, `node ${node.state}`);
    setText(this.name, node.name);
    setClass(this.state, `badge ${node.state}`);
    setText(this.state, node.state);
    this.breaker.hidden = node.breaker === "closed";
    setClass(this.breaker, `badge ${node.breaker === "open" ? "danger" : "warning"}`);
    setText(this.breaker, `breaker ${node.breaker.replace("_", "-")}`);
    setLoad(this.slots, node.in_flight, slots, `${node.in_flight} / ${node.slots}`, `slots in use on ${node.name}`);
    this.memory.row.hidden = !node.vram_total;
    if (node.vram_total) setLoad(this.memory, node.vram_used, node.vram_total, `${gigabytes(node.vram_used)} / ${gigabytes(node.vram_total)} GB`, `VRAM in use on ${node.name}`);
    setText(this.speed, rate(node.tokens_s));
    setText(this.success, percent(node.success));
    setText(this.requests, count(node.requests));
    this.drawModels(node);
    setText(this.about, [node.class === "cpu" ? "CPU" : "", node.version && `Ollama ${node.version}`, `${count(node.models)} model${node.models === 1 ? "" : "s"}`, node.url].filter(Boolean).join(" · "));
    this.error.hidden = !node.error;
    setText(this.error, node.error);
  }

  drawModels(node) {
    const text = JSON.stringify([node.resident, node.loading, node.state]);
    if (text === this.resident) return;
    this.resident = text;
    const chips = node.resident.map((model) => element("li", { text: model }));
    if (node.loading) chips.push(element("li", { className: "none", text: "loading a model …" }));
    if (!chips.length) chips.push(element("li", { className: "none", text: node.state === "down" ? NONE : "no model in memory" }));
    this.models.setAttribute("aria-label", `models in memory on ${node.name}`);
    this.models.replaceChildren(...chips);
  }
}

function fits(node) {
  const wanted = byId("node-name").value.trim().toLowerCase();
  const state = byId("node-state").value;
  if (state === "busy" && !node.in_flight) return false;
  if (state === "trouble" && node.state === "up" && node.breaker === "closed" && (node.success ?? 1) >= 0.9) return false;
  return !wanted || [node.name, ...node.resident].some((text) => text.toLowerCase().includes(wanted));
}

function filter() {
  let shown = 0;
  for (const [id, tile] of tiles) {
    const fit = fits(nodes[id]);
    tile.box.hidden = !fit;
    shown += fit;
  }
  byId("nodes-none").hidden = shown > 0 || tiles.size === 0;
}

export function drawNodes(sections) {
  nodes = sections.nodes;
  const ids = Object.keys(nodes).sort((one, other) => nodes[one].name.localeCompare(nodes[other].name, "en", { numeric: true }));
  for (const [id, tile] of tiles) {
    if (!(id in nodes)) {
      tile.box.remove();
      tiles.delete(id);
    }
  }
  const parent = byId("nodes");
  ids.forEach((id, place) => {
    if (!tiles.has(id)) tiles.set(id, new Tile(nodes[id]));
    const tile = tiles.get(id);
    tile.draw(nodes[id]);
    if (parent.children[place] !== tile.box) parent.insertBefore(tile.box, parent.children[place] || null);
  });
  parent.classList.toggle("dense", ids.length > MANY);
  byId("no-nodes").hidden = ids.length > 0;
  byId("node-tools").hidden = ids.length < 4;
  filter();
}

byId("node-name").addEventListener("input", filter);
byId("node-state").addEventListener("change", filter);
