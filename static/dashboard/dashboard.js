// The live dashboard: takes what the gateway tells, and draws what has changed, at most once for each frame.

import { drawAlerts } from "./alerts.js";
import { drawBatch } from "./batch.js";
import { drawCharts } from "./charts.js";
import { connect } from "./connection.js";
import { byId, setClass, setText } from "./dom.js";
import { drawNodes } from "./nodes.js";
import { drawNow, drawQueue } from "./now.js";
import { picture, take } from "./picture.js";
import { openLinked } from "./record.js";
import { ageRequests, drawRequests } from "./requests.js";
import { drawSpeeds } from "./speeds.js";
import { drawWorks } from "./works.js";

const CHARTS_MS = 1000;
const DRAW = { alerts: drawAlerts, summary: drawNow, queue: drawQueue, nodes: drawNodes, requests: drawRequests, under_way: drawRequests, series: drawCharts, speeds: drawSpeeds, work: drawWorks, batch: drawBatch };
const due = new Set();
let planned = false;
let chartsAt = 0;

function draw() {
  planned = false;
  const { gateway, sections } = picture;
  byId("panels").hidden = !sections;
  const notice = byId("notice");
  notice.hidden = gateway !== false;
  setText(notice, gateway === false ? "No gateway runs in this process, so there is nothing live to show. Start it with “make run” and open the dashboard at its address." : "");
  if (!sections || document.hidden) return;
  const wait = chartsAt + CHARTS_MS - Date.now();
  if (due.has("series") && wait <= 0) chartsAt = Date.now();
  const done = new Set();
  for (const name of [...due]) {
    if (name === "series" && wait > 0) continue;
    due.delete(name);
    if (DRAW[name] && !done.has(DRAW[name])) {
      done.add(DRAW[name]);
      DRAW[name](sections);
    }
  }
}

function plan() {
  if (planned) return;
  planned = true;
  if (document.hidden) draw();
  else window.requestAnimationFrame(draw);
}

const page = document.body.dataset;
connect(
  { socketPath: page.socket, statePath: page.state, loginPath: page.login },
  (message) => {
    const changed = take(message);
    if (changed === null) return false;
    for (const name of changed) due.add(name);
    plan();
    return true;
  },
  (state, text) => {
    setClass(byId("link"), `link ${state}`);
    setText(byId("link"), text);
    byId("panels").classList.toggle("stale", state === "lost");
  },
);

setInterval(() => {
  if (!picture.sections || document.hidden) return;
  ageRequests();
  for (const name of picture.sections.queue.length ? ["summary", "queue", "series", "work"] : ["series", "work"]) due.add(name);
  plan();
}, 1000);
document.addEventListener("visibilitychange", plan);
window.addEventListener("load", openLinked);
