// The stream of requests, newest first; it stands still while somebody points at it or has paused it.

import { byId, element, setClass, setText } from "./dom.js";
import { age, clock, duration, NONE } from "./format.js";
import { now } from "./picture.js";
import { openRecord } from "./record.js";

const SHOWN = 50;
const FEW = 5; // new rows at a time that are worth marking
const table = byId("requests");
const body = table.tBodies[0];
const rows = new Map();
let waiting = 0;
let paused = false;
let newest = null;
let first = true;

const cell = (label, className) => element("td", { ...(label && { "data-label": label }), ...(className && { className }) });

class Row {
  constructor(request) {
    this.id = request.id;
    this.time = element("button", { type: "button", text: clock(request.at), "aria-label": `${clock(request.at)}, why this node` });
    this.badge = element("span", { className: "badge" });
    [this.model, this.task, this.priority] = [cell(), cell("task"), cell("priority")];
    [this.team, this.node] = [cell("team"), cell("node")];
    [this.queue, this.took, this.attempts] = [cell("waited", "number"), cell("took", "number"), cell("attempts", "number")];
    this.box = element("tr", { "data-request": request.id }, [
      element("td", {}, [this.time]), this.model, this.task, this.priority, this.team, this.node,
      element("td", {}, [this.badge]), this.queue, this.took, this.attempts,
    ]);
  }

  draw(request) {
    this.request = request;
    const under = request.total_ms === undefined;
    setText(this.model, request.model || NONE);
    setText(this.task, request.task || NONE);
    setText(this.priority, String(request.priority));
    for (const name of ["team", "node"]) {
      setText(this[name], request[name] || NONE);
      setClass(this[name], request[name] ? "" : "blank");
    }
    setClass(this.badge, `badge ${request.outcome}`);
    setText(this.badge, request.outcome);
    if (!under) this.badge.title = `HTTP ${request.status}`;
    setText(this.queue, under ? "" : duration(request.queue_ms));
    setClass(this.queue, under ? "number blank" : "number");
    setText(this.took, under ? age(request.at, now()) : duration(request.total_ms));
    setText(this.attempts, String(request.attempts));
  }
}

const held = () => paused || body.matches(":hover") || body.querySelector(":focus-visible") !== null;

export function drawRequests(sections) {
  newest = sections;
  const { requests, under_way: running } = sections;
  const ended = new Set(requests.map((request) => request.id));
  const last = [...running.filter((request) => !ended.has(request.id)), ...requests].sort((a, b) => b.at - a.at).slice(0, SHOWN);
  table.hidden = last.length === 0;
  byId("no-requests").hidden = last.length > 0;
  waiting = 0;
  const hold = held();
  const mark = !first && last.filter((request) => !rows.has(request.id)).length <= FEW;
  for (const request of last) {
    if (rows.has(request.id)) rows.get(request.id).draw(request);
    else if (hold) waiting += 1;
    else {
      const row = new Row(request);
      row.draw(request);
      if (mark) row.box.classList.add("fresh");
      rows.set(request.id, row);
    }
  }
  byId("newer").hidden = waiting === 0;
  setText(byId("newer"), `${waiting} newer`);
  if (hold) return;
  first = false;
  const wanted = last.map((request) => rows.get(request.id).box);
  const kept = new Set(wanted);
  for (const [id, row] of rows) {
    if (!kept.has(row.box)) {
      row.box.remove();
      rows.delete(id);
    }
  }
  wanted.forEach((box, place) => { if (body.children[place] !== box) body.insertBefore(box, body.children[place] || null); });
}

/** Requests under way get older though the gateway tells nothing new of them. */
export function ageRequests() {
  for (const row of rows.values()) if (row.request.total_ms === undefined) row.draw(row.request);
}

/** Whoever held the stream has let go of it. */
function goOn() {
  if (newest !== null && waiting > 0 && !held()) drawRequests(newest);
}

body.addEventListener("click", (event) => {
  const row = event.target.closest("tr");
  if (row) openRecord(row.dataset.request);
});
byId("pause").addEventListener("click", ({ currentTarget }) => {
  paused = !paused;
  currentTarget.setAttribute("aria-pressed", String(paused));
  goOn();
});
body.addEventListener("mouseleave", goOn);
body.addEventListener("focusout", () => setTimeout(goOn));
byId("newer").addEventListener("click", () => {
  paused = false;
  byId("pause").setAttribute("aria-pressed", "false");
  byId("pause").focus();
  goOn();
});
