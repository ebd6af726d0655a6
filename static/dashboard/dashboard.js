"use strict";
// Draws what the gateway sends over the WebSocket. All text goes in as text, never as markup.

const page = document.body.dataset;
const byId = (id) => document.getElementById(id);
const FORBIDDEN = 4403;
const RETRY_MS = [500, 1000, 2000, 5000, 10000];
const SILENT_MS = 25000; // the gateway speaks at least every 10 s

let failures = 0;
let lastWord = 0;
let socket = null;

function element(tag, { text, className, ...rest } = {}, children = []) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  for (const [name, value] of Object.entries(rest)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function link(state, text) {
  const line = byId("link");
  const className = `link ${state}`;
  if (line.className !== className) line.className = className;
  if (line.textContent !== text) line.textContent = text;
}

function notice(text) {
  const line = byId("notice");
  line.hidden = !text;
  if (line.textContent !== text) line.textContent = text;
}

const count = (value) => Number(value || 0).toLocaleString();

function duration(ms) {
  if (ms === null || ms === undefined) return "–";
  if (ms < 1000) return `${Math.round(ms)} ms`;
  return ms < 60000 ? `${(ms / 1000).toFixed(1)} s` : `${Math.floor(ms / 60000)} min ${Math.round((ms % 60000) / 1000)} s`;
}

function totals(view) {
  const queue = view.queue || {};
  const sums = view.totals || {};
  const busy = view.nodes.reduce((sum, node) => sum + (node.in_flight || 0), 0);
  const byPriority = Object.entries(queue.by_priority || {}).sort(([a], [b]) => Number(b) - Number(a));
  const waiting = queue.depth ? `oldest ${duration((queue.oldest_s || 0) * 1000)}` : "";
  const rows = [
    ["Waiting", count(queue.depth), waiting, byPriority.map(([priority, number]) => `priority ${priority}: ${number}`).join(", ")],
    ["Running", count(busy)],
    ["Requests", count(sums.requests), "since start"],
    ["Served", count(sums.served)],
    ["Failed", count(sums.failed)],
  ];
  for (const name of ["refused", "expired", "cancelled"]) {
    if (sums[name]) rows.push([name[0].toUpperCase() + name.slice(1), count(sums[name])]);
  }
  if (sums.dropped) rows.push(["Not recorded", count(sums.dropped), "history rows dropped"]);
  byId("totals").replaceChildren(...rows.map(([name, value, small, title]) => {
    const value_ = element("dd", { text: value });
    if (small) value_.append(element("small", { text: small }));
    return element("div", title ? { title } : {}, [element("dt", { text: name }), value_]);
  }));
}

function tile(node) {
  const slots = node.slots || 0;
  const busy = node.in_flight || 0;
  const name = element("a", { text: node.name, href: `${page.node}${encodeURIComponent(node.id)}/change/` });
  const parts = [
    element("h3", {}, [name, element("span", { text: node.state, className: `badge ${node.state}` })]),
    element("meter", { min: 0, max: Math.max(slots, busy, 1), value: busy, "aria-label": `slots in use on ${node.name}` }),
    element("p", { text: `${busy} of ${slots} slots in use · ${count(node.requests)} requests${node.failures ? `, ${count(node.failures)} failed` : ""}` }),
  ];
  const about = [node.url, node.version && `Ollama ${node.version}`, `${count(node.models)} models`];
  if (node.breaker && node.breaker !== "closed") about.push(`breaker ${node.breaker}`);
  parts.push(element("p", { text: about.filter(Boolean).join(" · ") }));
  const resident = node.resident || [];
  parts.push(resident.length
    ? element("ul", { className: "models", "aria-label": `models in memory on ${node.name}` }, resident.map((model) => element("li", { text: model })))
    : element("p", { text: "no model in memory" }));
  if (node.error) parts.push(element("p", { text: node.error, className: "error" }));
  return element("article", { className: `node ${node.state}` }, parts);
}

function row(request) {
  const at = new Date(request.at * 1000);
  const cell = (text, label, className) => element("td", { text, ...(label && { "data-label": label }), ...(className && { className }) });
  const outcome = element("td", {}, [
    element("span", { text: request.outcome, className: `badge ${request.outcome}`, title: `HTTP ${request.status}` }),
  ]);
  const made = element("tr", { title: request.id }, [
    cell(at.toLocaleTimeString()),
    cell(request.model || "–"),
    cell(request.task || "–", "task"),
    cell(String(request.priority), "priority"),
    cell(request.team || "–", "team"),
    cell(request.node || "–", "node"),
    outcome,
    cell(duration(request.queue_ms), "waited", "number"),
    cell(duration(request.total_ms), "took", "number"),
    cell(String(request.attempts), "attempts", "number"),
  ]);
  return made;
}

/** Rebuild only what has changed: focus, selection and scrolling in the rest stay. */
const drawn = new Map();
function redraw(id, content, draw) {
  const text = JSON.stringify(content);
  if (drawn.get(id) === text) return;
  drawn.set(id, text);
  draw();
}

function show({ gateway, view }) {
  notice(gateway ? "" : "No gateway runs in this process, so there is nothing live to show. Start the gateway with “make run” and open the dashboard at its address.");
  for (const section of document.querySelectorAll("main > section")) section.hidden = !gateway;
  if (!gateway) return;
  redraw("totals", [view.queue, view.totals, view.nodes.map((node) => node.in_flight)], () => totals(view));
  redraw("nodes", view.nodes, () => byId("nodes").replaceChildren(...view.nodes.map(tile)));
  byId("no-nodes").hidden = view.nodes.length > 0;
  const recent = [...(view.recent || [])].sort((a, b) => b.at - a.at);
  redraw("requests", recent, () => byId("requests").tBodies[0].replaceChildren(...recent.map(row)));
  byId("requests").hidden = recent.length === 0;
  byId("no-requests").hidden = recent.length > 0;
}

function connect() {
  const address = new URL(page.socket, window.location.href);
  address.protocol = address.protocol === "https:" ? "wss:" : "ws:";
  socket = new WebSocket(address);
  socket.onmessage = ({ data }) => {
    failures = 0;
    lastWord = Date.now();
    link("live", "live");
    show(JSON.parse(data));
  };
  socket.onclose = ({ code }) => {
    if (code === FORBIDDEN) {
      link("lost", "logged out");
      notice("You are not logged in as staff any more.");
      window.location.assign(`${page.login}?next=${encodeURIComponent(window.location.pathname)}`);
      return;
    }
    const wait = RETRY_MS[Math.min(failures, RETRY_MS.length - 1)];
    failures += 1;
    link("lost", "connection lost, trying again");
    setTimeout(connect, wait);
  };
}

setInterval(() => {
  if (socket && socket.readyState === WebSocket.OPEN && lastWord && Date.now() - lastWord > SILENT_MS) socket.close();
}, 5000);

connect();
