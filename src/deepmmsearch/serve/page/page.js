// The page: who asks, with which settings, which conversation is open, and the history.

import { $, api, complain, el, say, speak, t } from "./dom.js";
import * as draft from "./draft.js";
import { Episode } from "./episode.js";

let settings;
let open = { id: null, episodes: [] };

const kept = (name) => localStorage.getItem(`deepmmsearch-${name}`);
const keep = (name, value) => localStorage.setItem(`deepmmsearch-${name}`, value);

async function start() {
  const language = kept("language");
  settings = await api("GET", `settings${language ? `?language=${language}` : ""}`);
  speak(settings.language, settings.texts);
  $("language").value = settings.language;
  document.body.hidden = false;
  if (!settings.known) return $("login").open || $("login").showModal();
  draft.begin(settings.uploads);
  fill();
  await Promise.all([route(), list()]);
}

// Settings

function fill() {
  for (const label of document.querySelectorAll("[data-for]")) label.hidden = !settings.may.includes(label.dataset.for);
  $("model").replaceChildren(...settings.models.map((model) => el("option", { value: model.name }, model.name)));
  if (settings.models.some((model) => model.name === kept("model"))) $("model").value = kept("model");
  $("length").value = kept("length") ?? "short";
  $("logout").hidden = !settings.caller;
  chosen();
}

const model = () => settings.models.find((each) => each.name === $("model").value) ?? settings.models[0];

function chosen() {
  const { about, calls, long, tools } = model();
  const out = (kept("without") ?? "").split(" ");
  $("tool-choice").replaceChildren(...tools.map((name) => el("label", {},
    el("input", { type: "checkbox", value: name, checked: !out.includes(name), onchange: keepTools }), t(`tool ${name}`))));
  $("tool-choice").parentElement.hidden = !tools.length || !settings.may.includes("tools");
  $("about").textContent = about;
  $("calls").max = calls;
  $("calls").value = Math.min(kept("calls") ?? calls, calls);
  $("length").disabled = !long;
}

const ticked = (yes) => [...$("tool-choice").querySelectorAll("input")].filter((each) => each.checked === yes).map((each) => each.value);
const keepTools = () => keep("without", ticked(false).join(" "));

function examples() {
  $("examples-title").hidden = !model().examples.length;
  $("examples").replaceChildren(...model().examples.map((text, number) => {
    const source = `api/examples/${encodeURIComponent(model().name)}/${number}`;
    const pick = async () => {
      draft.clear();
      $("text").value = text;
      const reply = await fetch(source);
      await draft.take([new File([await reply.blob()], "example.png", { type: "image/png" })]);
      $("text").focus();
    };
    return el("li", {}, el("button", { type: "button", onclick: pick }, el("img", { src: source, alt: "" }), el("span", {}, text)));
  }));
}

// Conversations

async function route() {
  const id = location.hash.slice(1);
  if (id === open.id) return;
  close();
  if (!/^\w{1,64}$/.test(id)) return welcome();
  try {
    const { title, questions } = await api("GET", `conversations/${id}`);
    // somebody may have gone on meanwhile
    if (location.hash.slice(1) !== id) return;
    show(id, title);
    for (const view of questions) append(view);
  } catch (error) {
    welcome();
    complain(error.message);
  }
}

function close() {
  for (const episode of open.episodes) episode.close();
  open = { id: null, episodes: [] };
  $("questions").replaceChildren();
  complain("");
}

function welcome() {
  $("conversation").hidden = true;
  $("welcome").hidden = false;
  document.title = "DeepMMSearch";
  examples();
  mark();
}

function show(id, title) {
  open.id = id;
  $("conversation").hidden = false;
  $("welcome").hidden = true;
  entitle(title);
  const saved = (kind, name) => el("a", { href: `api/conversations/${id}/export.${kind}`, download: "" }, name);
  $("tools").replaceChildren(el("span", { class: "note" }, t("export")), saved("md", "Markdown"), saved("json", "JSON"), saved("html", "HTML"),
    settings.share ? el("button", { type: "button", class: "plain", id: "share", onclick: share }, t("share")) : "",
    el("button", { type: "button", class: "plain", onclick: () => rename(id, open.title) }, t("rename")),
    el("button", { type: "button", class: "plain", onclick: () => remove(id, open.title) }, t("delete")));
  mark();
}

function entitle(title) {
  open.title = title;
  document.title = `${title} · DeepMMSearch`;
}

function append(view) {
  const episode = new Episode(view, list);
  open.episodes.push(episode);
  $("questions").append(episode.element);
  episode.element.scrollIntoView({ block: "start" });
}

async function send() {
  const text = $("text").value;
  if (!text.trim()) return complain(t("no_question"));
  complain("");
  $("send").disabled = true;
  const pictures = draft.filled();
  try {
    const asked = await api("POST", "questions", { text, pictures, conversation: open.id, model: model().name,
      calls: settings.may.includes("calls") ? Number($("calls").value) : null, tools: ticked(true), length: $("length").value });
    draft.clear();
    if (!open.id) {
      show(asked.conversation, text);
      history.pushState(null, "", `#${asked.conversation}`);
    }
    say(t("sent"));
    append(asked);
    list();
  } catch (error) {
    complain(error.message);
  } finally {
    $("send").disabled = false;
  }
}

async function share() {
  const { path } = await api("POST", `conversations/${open.id}/share`).catch((error) => (complain(error.message), {}));
  if (!path) return;
  const url = new URL(path.slice(1), document.baseURI).href;
  const shown = el("a", { href: url }, url);
  $("share").replaceWith(shown);
  shown.focus();
  navigator.clipboard?.writeText(url).then(() => say(t("copied")), () => {});
}

// History

const AT_ONCE = 100;
let most = AT_ONCE;

async function list() {
  const search = $("search").value;
  const { conversations, more } = await api("GET", `history?most=${most}&search=${encodeURIComponent(search)}`);
  if (search !== $("search").value) return;
  $("more").hidden = !more;
  $("conversations").replaceChildren(...conversations.map((each) => {
    const when = new Date(each.date).toLocaleString(settings.language, { dateStyle: "medium", timeStyle: "short" });
    const state = each.playing ? ` · ${t("playing")}` : each.failed ? ` · ${t("no_answer")}` : "";
    return el("li", { "data-id": each.id },
      el("a", { href: `#${each.id}` }, el("b", { dir: "auto" }, each.title), el("span", { class: "note" }, when + state)),
      el("button", { type: "button", class: "plain", title: t("rename"), "aria-label": t("rename_one", { title: each.title }), onclick: () => rename(each.id, each.title) }, "✎"),
      el("button", { type: "button", class: "plain", title: t("delete"), "aria-label": t("delete_one", { title: each.title }), onclick: () => remove(each.id, each.title) }, "✕"));
  }));
  if (!conversations.length) $("conversations").append(el("li", { class: "note" }, t(search ? "nothing_found" : "nothing_yet")));
  mark();
}

function mark() {
  for (const line of $("conversations").children) {
    const here = Boolean(open.id) && line.dataset.id === open.id;
    line.classList.toggle("open", here);
    here ? line.firstChild.setAttribute("aria-current", "page") : line.firstChild.removeAttribute?.("aria-current");
  }
}

async function rename(id, title) {
  const given = prompt(t("new_title"), title);
  if (given === null) return;
  await change("PATCH", id, { title: given });
  if (id === open.id) entitle(given);
}

async function remove(id, title) {
  if (!confirm(t("sure", { title }))) return;
  await change("DELETE", id);
  if (id === open.id) location.hash = "";
}

async function change(method, id, body) {
  await api(method, `history/${id}`, body).catch((error) => complain(error.message));
  await list();
}

function toggle(shown) {
  $("kept").hidden = !shown;
  $("toggle").setAttribute("aria-expanded", String(shown));
}

// What may happen

draft.listen(send);
addEventListener("hashchange", route);
addEventListener("key-needed", () => $("login").open || $("login").showModal());
$("toggle").addEventListener("click", () => toggle($("kept").hidden));
$("new").addEventListener("click", () => { location.hash = ""; $("text").focus(); });
$("search").addEventListener("input", () => { most = AT_ONCE; list(); });
$("more").addEventListener("click", async () => {
  const shown = $("conversations").children.length;
  most += AT_ONCE;
  await list();
  $("conversations").children[shown]?.querySelector("a").focus();
});
$("open-settings").addEventListener("click", () => $("settings").showModal());
$("model").addEventListener("change", () => { keep("model", $("model").value); chosen(); examples(); });
$("calls").addEventListener("change", () => keep("calls", $("calls").value));
$("length").addEventListener("change", () => keep("length", $("length").value));
$("language").addEventListener("change", () => { keep("language", $("language").value); location.reload(); });
$("logout").addEventListener("click", async () => { await api("POST", "logout"); location.reload(); });
$("login-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    await api("POST", "login", { key: $("key").value });
    $("key").value = "";
    $("login").close();
    await start();
  } catch (error) {
    $("login-problem").textContent = error.message;
  }
});
toggle(innerWidth > 1000);
start().catch((error) => { document.body.hidden = false; complain(error.message); });
