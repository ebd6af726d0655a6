// Batch jobs: a row for each, changed in place, so that focus and selection stay.

import { byId, either, element, setClass, setText } from "./dom.js";
import { count, duration, NONE, rate } from "./format.js";

const STATES = { in_progress: "in progress" };
const BADGES = { completed: "up", in_progress: "running", failed: "danger", expired: "danger", paused: "warning", cancelling: "warning" };
const rows = new Map();

class Row {
  constructor(job) {
    const cell = (label, className = "") => element("td", { "data-label": label, className });
    this.name = element("a", { text: job.id, href: `${document.body.dataset.batch}${encodeURIComponent(job.pk)}/change/` });
    this.state = element("span", { className: "badge" });
    this.why = element("span", { className: "why" });
    this.meter = element("meter", { min: 0, max: 1, value: 0, "aria-label": `progress of ${job.id}` });
    this.done = element("span");
    this.model = cell("Model");
    this.team = cell("Team");
    this.failed = cell("Failed", "number");
    this.speed = cell("Items/s", "number");
    this.left = cell("Time left", "number");
    this.box = element("tr", {}, [
      element("th", { scope: "row" }, [this.name]), this.model, this.team, element("td", {}, [this.state, this.why]),
      element("td", { className: "progress" }, [element("div", { className: "load" }, [this.meter, this.done])]), this.failed, this.speed, this.left,
    ]);
  }

  draw(job) {
    setText(this.model, job.model || (job.total ? "several" : NONE));
    setText(this.team, job.team || NONE);
    setClass(this.state, `badge ${BADGES[job.state] || ""}`.trim());
    setText(this.state, STATES[job.state] || job.state);
    setText(this.why, job.reason);
    this.why.hidden = !job.reason;
    this.why.title = job.reason;
    this.meter.value = job.part;
    setText(this.done, `${count(job.completed + job.failed)} / ${count(job.total)}`);
    setText(this.failed, job.failed ? count(job.failed) : NONE);
    setClass(this.failed, job.failed ? "number failed" : "number");
    setText(this.speed, rate(job.rate));
    setText(this.left, job.left_s === null ? NONE : duration(1000 * job.left_s));
  }
}

export function drawBatch({ batch }) {
  if (!batch) return; // not read yet
  const body = byId("batch").tBodies[0];
  either(byId("batch"), byId("no-batch"), batch.jobs.length > 0);
  const known = new Set(batch.jobs.map((job) => job.pk));
  for (const [pk, row] of rows) {
    if (known.has(pk)) continue;
    row.box.remove();
    rows.delete(pk);
  }
  batch.jobs.forEach((job, place) => {
    if (!rows.has(job.pk)) rows.set(job.pk, new Row(job));
    const row = rows.get(job.pk);
    row.draw(job);
    if (body.children[place] !== row.box) body.insertBefore(row.box, body.children[place] || null);
  });
  byId("batch-more").hidden = batch.more === 0;
  setText(byId("batch-more"), batch.more ? `and ${count(batch.more)} more` : "");
}
