// What an operator should look at now.

import { byId, element, setText } from "./dom.js";

const TITLES = { down: "Down", degraded: "Degraded", breaker: "Breaker", model: "Model", failing: "Failing", slow: "Slow", queue: "Queue", quota: "Quota", drift: "Drift", database: "Database", channels: "Redis", worker: "Worker", schedule: "Schedule", history: "History" };
let known = null;

function link(alert) {
  const page = document.body.dataset;
  if (alert.kind === "worker" || alert.kind === "schedule") return page.schedules ? [element("a", { text: "Open schedules", href: page.schedules })] : [];
  if (alert.about === null) return [];
  const [text, base] = alert.kind === "quota" ? ["Open team", page.team] : ["Open node", page.node];
  return [element("a", { text, href: `${base}${alert.about}/change/` })];
}

export function drawAlerts({ alerts }) {
  byId("alerts-panel").hidden = alerts.length === 0;
  byId("alerts").replaceChildren(...alerts.map((alert) => element("li", { className: alert.severity }, [
    element("strong", { text: TITLES[alert.kind] || alert.kind }),
    element("span", { text: alert.text }),
    ...link(alert),
  ])));
  const names = new Map(alerts.map((alert) => [`${alert.kind} ${alert.subject}`, alert.text]));
  if (known) setText(byId("announcer"), [...names].filter(([name]) => !known.has(name)).map(([, text]) => `New alert: ${text}`).join(". "));
  known = new Set(names.keys());
  const title = alerts.length ? `(${alerts.length}) SOLLOL dashboard` : "SOLLOL dashboard";
  if (document.title !== title) document.title = title;
}
