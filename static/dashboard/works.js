// Scheduled work: what the background worker does again and again, and how that goes.

import { byId, either, element, setClass, setText } from "./dom.js";
import { NONE, age, count, duration } from "./format.js";
import { now } from "./picture.js";

const rows = new Map();

function state(work) {
  if (work.paused) return ["paused", "badge"];
  if (work.keeps_failing) return ["keeps failing", "badge danger"];
  if (work.ended_at === null) return ["not yet run", "badge"];
  return work.good ? ["ok", "badge up"] : ["failed", "badge warning"];
}

function ahead(work, at) {
  if (work.paused || work.next_at === null) return NONE;
  return work.next_at <= at ? "due" : `in ${age(at, work.next_at)}`;
}

class Row {
  constructor(work) {
    this.badge = element("span", { className: "badge" });
    this.cells = ["Last run", "Took", "Result", "Failed in 24 h", "Next run", "Runs"].map((label) => (
      element("td", { "data-label": label, className: ["Result", "Runs"].includes(label) ? "words" : "number" })
    ));
    this.element = element("tr", {}, [
      element("th", { text: work.name, scope: "row" }), element("td", {}, [this.badge]), ...this.cells,
    ]);
  }

  draw(work, at) {
    const [text, className] = state(work);
    setText(this.badge, text);
    setClass(this.badge, className);
    const said = [
      work.ended_at === null ? NONE : `${age(work.ended_at, at)} ago`,
      work.seconds === null ? NONE : duration(1000 * work.seconds),
      work.told || NONE, count(work.failures_day), ahead(work, at), work.every,
    ];
    this.cells.forEach((cell, number) => setText(cell, said[number]));
  }
}

export function drawWorks({ work }) {
  const works = work.works || [];
  either(byId("works"), byId("no-works"), works.length > 0);
  const missing = work.worker === "missing";
  const badge = byId("worker");
  badge.hidden = works.length === 0;
  setText(badge, missing ? "worker missing" : "worker at work");
  setClass(badge, missing ? "badge danger" : "badge up");
  const keys = works.map((one, number) => `${number} ${one.name}`);
  if (keys.length !== rows.size || keys.some((one) => !rows.has(one))) {
    rows.clear();
    works.forEach((one, number) => rows.set(keys[number], new Row(one)));
    byId("works").tBodies[0].replaceChildren(...[...rows.values()].map((one) => one.element));
  }
  const at = now();
  works.forEach((one, number) => rows.get(keys[number]).draw(one, at));
}
