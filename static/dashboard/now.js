// The figures of this moment, and the queue.

import { byId, either, element, setClass, setText } from "./dom.js";
import { age, count, duration, NONE, percent, rate } from "./format.js";
import { now } from "./picture.js";

const drawn = new Map();

function figure(name, value, small, alarm = false) {
  if (!drawn.has(name)) {
    const parts = { value: document.createTextNode(""), small: element("small") };
    parts.box = element("div", {}, [element("dt", { text: name }), element("dd", {}, [parts.value, parts.small])]);
    byId("now").append(parts.box);
    drawn.set(name, parts);
  }
  const parts = drawn.get(name);
  setText(parts.value, value);
  setText(parts.small, small);
  setClass(parts.box, alarm ? "alarm" : "");
}

export function drawNow({ summary, queue }) {
  const [p50, p95] = summary.first_byte_ms;
  const outcomes = summary.outcomes;
  const ended = (outcomes.served || 0) + (outcomes.failed || 0) + (outcomes.expired || 0) + (outcomes.refused || 0);
  const oldest = queue.length ? Math.min(...queue.map((line) => line.oldest_at)) : null;
  const wrong = ["failed", "expired", "refused", "cancelled"].filter((name) => outcomes[name]).map((name) => `${count(outcomes[name])} ${name}`);
  figure("Requests per second", rate(summary.requests_s), `${count(summary.requests)} since start`);
  figure("Tokens per second", rate(summary.tokens_s), "written by all nodes");
  figure("Running", count(summary.in_flight), `of ${count(summary.slots)} slots`);
  figure("Waiting", count(summary.waiting), oldest === null ? "nobody" : `oldest ${age(oldest, now())}`, summary.waiting > 0);
  figure("First token", duration(p50), p95 === null ? "no request just now" : `95% within ${duration(p95)}`);
  figure("Nodes up", `${count(summary.up)} of ${count(summary.nodes)}`, summary.nodes === 0 ? "none yet" : summary.up === summary.nodes ? "all" : `${count(summary.nodes - summary.up)} not in use`, summary.up < summary.nodes);
  figure("Served", ended ? percent((outcomes.served || 0) / ended) : NONE, wrong.join(", ") || "since start");
}

export function drawQueue({ queue }) {
  either(byId("queue"), byId("no-queue"), queue.length > 0);
  byId("queue").tBodies[0].replaceChildren(...queue.map((line) => element("tr", {}, [
    element("td", { text: String(line.priority) }),
    element("td", { text: line.team || NONE }),
    element("td", { text: count(line.waiting), className: "number" }),
    element("td", { text: age(line.oldest_at, now()), className: "number" }),
  ])));
}
