// The playground: ask the fleet something and see who answers, how fast, and why.

import { Chat } from "./chat.js";
import { byId, element, setText } from "./dom.js";
import { duration, rate } from "./format.js";
import { openLinked, openRecord } from "./record.js";
import { chatBody, curl, python } from "./snippets.js";

const page = document.body.dataset;
const REMEMBERED = ["model", "system", "temperature", "num-ctx", "priority"];
const TRY = {
  404: "Choose another model, or pull this one on a node.",
  429: "The queue is full or a quota is used up. Wait a little, or ask with a key of another team.",
  503: "No node can answer now. Look at the nodes on the dashboard, then send again.",
};
let messages = [];
let answer = null;
let models = [];
let form = "curl";

const value = (id) => byId(id).value.trim();
const chosen = () => ({ model: value("model"), system: value("system"), temperature: value("temperature"), numCtx: value("num-ctx"), priority: value("priority"), messages });

function drawCode() {
  const body = chatBody(chosen());
  const make = form === "curl" ? curl : python;
  setText(byId("code"), make(window.location.origin, body, value("key") !== ""));
  for (const name of ["curl", "python"]) byId(`as-${name}`).setAttribute("aria-pressed", String(name === form));
}

function state(text) {
  setText(byId("state"), text);
}

function busy(on) {
  byId("stop").disabled = !on;
  byId("send").disabled = on || !models.length;
  byId("clear").disabled = on;
}

/** Keep the end of the conversation in sight, unless somebody reads further up. */
function follow() {
  const rest = document.documentElement.scrollHeight - window.scrollY - window.innerHeight;
  if (rest < 250) window.scrollTo(0, document.documentElement.scrollHeight);
}

function bubble(role, text) {
  const words = element("div", { text, className: "words" });
  const box = element("li", { className: role }, [element("span", { text: role === "user" ? "You: " : "Answer: ", className: "unseen" }), words]);
  byId("log").append(box);
  byId("hint").hidden = true;
  return { box, words };
}

const chat = new Chat({
  queued({ position, predicted_start_s: start }) {
    const soon = start === null ? "" : `, starts in about ${duration(1000 * start)}`;
    state(`Waiting: number ${position} in the queue for this model${soon}`);
  },
  part(part) {
    if (!answer.words.textContent && !answer.first) {
      answer.first = performance.now();
      state("Writing …");
    }
    const { thinking, content } = part.message || {};
    if (thinking) think(thinking);
    if (content) answer.words.append(content);
    if (part.done) answer.last = part;
    follow();
  },
  ended(cancelled) {
    const text = answer.words.textContent;
    if (text) messages.push({ role: "assistant", content: text });
    about(cancelled);
    settle(cancelled ? "Stopped" : "");
  },
  failed({ text, status, key }) {
    const told = key ? "This gateway wants an API key that is in force: put one under Options. Keys are made in admin." : text;
    const advice = TRY[status] && !key ? ` ${TRY[status]}` : "";
    answer.box.append(element("p", { text: `${told}${advice}`, className: "error", role: "alert" }));
    if (!answer.words.textContent) {
      const asked = messages.pop(); // it was not answered, and can be sent again as it was
      if (!value("text")) byId("text").value = asked.content;
    }
    if (status) about(false);
    settle("");
    if (key) byId("key").focus();
  },
});

function think(text) {
  if (!answer.thoughts) {
    answer.thoughts = element("div", { className: "thoughts", "aria-label": "thinking" });
    answer.words.before(answer.thoughts);
  }
  answer.thoughts.append(text);
}

/** Who answered, how fast, and a way to why. */
function about(cancelled) {
  const last = answer.last || {};
  const routing = last._sollol_routing;
  const facts = [];
  if (routing) facts.push(element("span", {}, ["answered by ", element("strong", { text: routing.host })]));
  if (cancelled) facts.push(element("span", { text: "stopped" }));
  if (answer.first) facts.push(element("span", { text: `first token after ${duration(answer.first - answer.sent)}` }));
  if (routing && routing.queue_ms >= 1) facts.push(element("span", { text: `waited ${duration(routing.queue_ms)}` }));
  if (last.eval_count && last.eval_duration) facts.push(element("span", { text: `${last.eval_count} tokens, ${rate(last.eval_count / (last.eval_duration / 1e9))} per second` }));
  if (last.done_reason === "length") facts.push(element("span", { text: "cut at the length limit" }));
  const why = element("button", { type: "button", text: "Why this node?" });
  const { id } = answer;
  why.addEventListener("click", () => openRecord(id));
  answer.box.append(element("p", { className: "about" }, [...facts, why]));
}

function settle(text) {
  answer = null;
  busy(false);
  state(text);
  drawCode();
  follow();
  byId("text").focus();
}

function send() {
  const text = byId("text").value.trim();
  if (!text || answer || !models.length) return;
  messages.push({ role: "user", content: text });
  bubble("user", text);
  byId("text").value = "";
  answer = { ...bubble("assistant", ""), sent: performance.now(), first: null, last: null };
  answer.id = chat.send(chatBody(chosen()), value("key"));
  busy(true);
  state("Sent");
  drawCode();
  follow();
}

function drawModel() {
  const model = models.find((one) => one.name === byId("model").value);
  const loaded = model?.loaded.length ? `; loaded on ${model.loaded.join(", ")}` : "; not loaded, so the first answer takes longer";
  setText(byId("model-where"), model ? `on ${model.nodes.length > 4 ? `${model.nodes.length} nodes` : model.nodes.join(", ")}${loaded}` : "");
}

async function findModels() {
  const told = { gateway: false, models: [], failed: false };
  try {
    const found = await fetch(page.models, { headers: { accept: "application/json" } });
    if (found.status === 401) return window.location.assign(`${page.login}?next=${encodeURIComponent(window.location.pathname)}`);
    if (!found.ok) throw new Error(`HTTP ${found.status}`);
    Object.assign(told, await found.json());
  } catch {
    told.failed = true;
  }
  models = told.models;
  const before = byId("model").value || sessionStorage.getItem("play-model");
  byId("model").replaceChildren(...models.map(({ name, loaded }) => element("option", { value: name, text: loaded.length ? `${name} (loaded)` : name })));
  const first = models.find((model) => model.name === before) || models.find((model) => model.loaded.length) || models[0];
  if (first) byId("model").value = first.name;
  byId("none").hidden = models.length > 0;
  byId("chooser").hidden = models.length === 0;
  byId("none-answer").hidden = !told.failed;
  byId("none-gateway").hidden = told.failed || told.gateway;
  byId("none-models").hidden = told.failed || !told.gateway;
  byId("hint").hidden = models.length === 0 || messages.length > 0;
  busy(answer !== null);
  drawModel();
  drawCode();
}

byId("ask").addEventListener("submit", (event) => { event.preventDefault(); send(); });
byId("options").addEventListener("submit", (event) => event.preventDefault());
byId("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    send();
  }
});
byId("stop").addEventListener("click", () => { chat.stop(); state("Stopping …"); });
byId("clear").addEventListener("click", () => {
  messages = [];
  byId("log").replaceChildren();
  byId("hint").hidden = false;
  state("");
  drawCode();
  byId("text").focus();
});
byId("look-again").addEventListener("click", findModels);
for (const name of ["curl", "python"]) byId(`as-${name}`).addEventListener("click", () => { form = name; drawCode(); });
byId("copy").addEventListener("click", async () => {
  try {
    await navigator.clipboard.writeText(byId("code").textContent);
    setText(byId("copied"), "Copied.");
  } catch {
    window.getSelection().selectAllChildren(byId("code")); // no clipboard without TLS on other hosts
    setText(byId("copied"), "Selected: copy it with Ctrl+C.");
  }
});
for (const id of [...REMEMBERED, "key"]) byId(id).addEventListener("input", () => { drawModel(); drawCode(); });
for (const id of REMEMBERED) {
  const kept = sessionStorage.getItem(`play-${id}`);
  if (kept !== null && id !== "model") byId(id).value = kept;
  byId(id).addEventListener("change", () => sessionStorage.setItem(`play-${id}`, byId(id).value));
}
byId("model").addEventListener("focus", () => { if (!answer) findModels(); }, { once: true });
findModels();
window.addEventListener("load", openLinked);
