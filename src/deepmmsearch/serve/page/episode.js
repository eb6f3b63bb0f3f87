// One question: its pictures, its turns as they come, and what came of it.

import { api, el, link, money, named, picture, readable, say, seconds, sentence, t } from "./dom.js";

export class Episode {
  constructor(view, done) {
    this.view = view;
    this.done = done;
    this.scenes = new Map();
    this.turns = el("ol", { class: "turns" });
    this.summary = el("summary", {}, t("steps"));
    this.steps = el("details", { class: "steps", open: !view.end }, this.summary, this.turns);
    this.answer = el("section", { class: "answer", "aria-label": t("answer") });
    const scenes = el("div", { class: "scenes" });
    view.sizes.forEach((_, at) => scenes.append(this.scene(at + 1, t("picture", { number: at + 1 }))));
    this.stopper = el("button", { type: "button", onclick: () => this.stop() }, t("stop"));
    this.waiting = el("p", { class: "note" });
    this.element = el("article", { class: "question" }, el("h2", { dir: "auto" }, view.question),
      view.sizes.length ? scenes : null, this.steps, this.waiting, this.stopper, this.answer);
    this.answer.hidden = true;
    for (const turn of view.turns) this.turn(turn);
    if (view.end) this.end(view.end);
    else this.watch();
  }

  scene(number, alt, kind = "") {
    const made = el("div", { class: `scene ${kind}` }, picture(this.view.id, number, alt));
    this.scenes.set(number, made);
    return made;
  }

  watch() {
    this.events = new EventSource(`api/questions/${this.view.id}/events`);
    // each connection tells the run from its first turn
    this.events.onopen = () => {
      this.turns.replaceChildren();
      for (const old of this.element.querySelectorAll(".box")) old.remove();
      this.written = null;
      this.waiting.textContent = "";
    };
    this.events.onmessage = (message) => this.take(JSON.parse(message.data));
    this.events.onerror = () => {
      if (this.events.readyState === EventSource.CLOSED) this.lost();
      else this.waiting.textContent = t("reconnecting");
    };
  }

  // ended long ago, or unknown to the server: what it kept says so
  async lost() {
    try {
      const { questions } = await api("GET", `conversations/${this.view.conversation}`);
      const kept = questions.find((each) => each.id === this.view.id);
      if (!kept?.end) throw new Error(t("lost"));
      this.turns.replaceChildren();
      for (const turn of kept.turns) this.turn(turn);
      this.end(kept.end);
    } catch (error) {
      this.waiting.textContent = error.message;
      this.stopper.hidden = true;
    }
  }

  take(told) {
    if ("position" in told) {
      this.waiting.textContent = told.position === null ? "" : t("waiting", { count: told.position });
    }
    if (told.turn) this.turn(told.turn);
    if (told.writing !== undefined) this.writing(told.from, told.writing);
    if (told.end) {
      this.events.close();
      this.end(told.end);
      this.done?.();
    }
  }

  // the tags of the model's own notation say nothing to a reader
  writing(from, piece) {
    this.written ??= { text: "", shown: el("li", { class: "writing", dir: "auto" }) };
    this.written.text = this.written.text.slice(0, from) + piece;
    this.written.shown.textContent = this.written.text.replace(/<[^<>]*>?/g, " ").trim();
    if (!this.written.shown.isConnected) this.turns.append(this.written.shown);
  }

  turn(turn) {
    this.written?.shown.remove();
    this.written = null;
    if (turn.grounding?.box) this.box(turn.grounding);
    const failed = turn.error ?? turn.problem;
    const shown = el("li", {},
      turn.thoughts && el("details", {}, el("summary", { class: "note" }, t("thoughts")),
        el("pre", { dir: "auto", tabindex: 0 }, turn.thoughts)),
      turn.reason && el("p", { class: "reason", dir: "auto" }, turn.reason),
      el("p", { class: "action", dir: "auto" }, el("b", {}, named(turn.action)), turn.detail ? ` ${turn.detail}` : ""),
      turn.written && el("pre", { dir: "auto" }, turn.written),
      turn.crop && this.scene(turn.crop, t("part"), "crop"),
      ...(turn.pictures ?? []).map((number) => this.scene(number, t("came_back"), "crop")),
      turn.grounding?.fallback && el("p", { class: "note", dir: "auto" }, t("whole", { why: turn.grounding.fallback })),
      failed && el("p", { class: "wrong", dir: "auto" }, failed),
      ...failures(turn),
      turn.hits?.length ? this.hits(turn) : null,
      turn.text && turn.text !== turn.error && el("details", {}, el("summary", { class: "note" }, t("read")),
        el("pre", { dir: "auto", tabindex: 0 }, turn.text)),
      el("p", { class: "note" }, spent(turn)));
    this.turns.append(shown);
    this.summary.textContent = `${t("steps")}: ${turn.number}`;
    if (!this.view.end) say(`${turn.number}. ${named(turn.action)} ${turn.detail} ${failed ?? ""}`);
  }

  box(grounding) {
    const scene = this.scenes.get(grounding.picture);
    if (!scene) return;
    const [left, top, right, bottom] = grounding.box;
    const box = el("div", { class: "box", title: grounding.phrase });
    Object.assign(box.style, { left: `${left * 100}%`, top: `${top * 100}%`,
      width: `${(right - left) * 100}%`, height: `${(bottom - top) * 100}%` });
    scene.append(box);
  }

  hits(turn) {
    const one = (hit, at) => el("li", {},
      hit.picture && picture(this.view.id, hit.picture, ""),
      el("div", {}, link(hit.url, hit.title || t("untitled")),
        el("span", { class: "note site" }, site(hit.url)),
        el("span", { class: "note" }, [`[${at + 1}]`, hit.matched === true ? t("match") : hit.matched === false ? t("no_match") : "",
          hit.read ? t("was_read") : ""].filter(Boolean).join(" · ")),
        el("p", { class: "excerpt", dir: "auto" }, ...hit.excerpt.map((part, n) => (n % 2 ? el("mark", {}, part) : part)))));
    return el("ul", { class: "hits", "aria-label": t("hits", { count: turn.hits.length }) }, ...turn.hits.map(one));
  }

  end(end) {
    this.view.end ??= end;
    this.stopper.hidden = true;
    this.written?.shown.remove();
    this.waiting.textContent = "";
    this.steps.hidden = !this.turns.childElementCount;
    this.steps.open = !end.parts;
    this.summary.textContent = `${t("steps")}: ${this.turns.childElementCount} · ${seconds(end.seconds)}${money(end.cost)}`;
    const sources = end.sources.map((source) => entry(source));
    const said = end.parts ? end.parts.map((part) => typeof part === "number" ? cite(part, sources[part - 1]) : part) : [why(end)];
    this.answer.replaceChildren(
      el("p", { class: end.parts ? "said" : "said wrong", dir: "auto" }, ...said),
      end.unfounded && end.parts ? el("p", { class: "wrong" }, t("unfounded")) : "",
      !end.searches && end.parts ? el("p", { class: "note" }, t("unsearched")) : "",
      end.unsaved ? el("p", { class: "wrong" }, t("unsaved", { why: end.unsaved })) : "",
      ...listed("ol", t("sources"), sources), ...listed("ul", t("only_read"), end.read.map((source) => entry(source))));
    this.answer.hidden = false;
    say(this.answer.querySelector(".said").textContent);
  }

  async stop() {
    this.stopper.disabled = true;
    await api("POST", `questions/${this.view.id}/stop`).catch((error) => (this.waiting.textContent = error.message));
  }

  close() {
    this.events?.close();
  }
}

function failures(turn) {
  const found = (turn.calls ?? []).filter((call) => call.error).map((call) =>
    el("p", { class: "wrong", dir: "auto" }, t("failed", { tool: call.tool, provider: call.provider, why: call.error })));
  return turn.summary_error ? [...found, el("p", { class: "wrong", dir: "auto" }, turn.summary_error)] : found;
}

function spent(turn) {
  const providers = [...new Set((turn.calls ?? []).map((call) => call.provider).filter(Boolean))];
  return [seconds(turn.seconds) + money(turn.cost), ...providers].join(" · ");
}

function why(end) {
  if (end.error) return `${t("none")} ${sentence(end.why) ?? end.error}`;
  return `${t("none")} ${t(`none_${end.stop}`)}`;
}

function entry(source) {
  const sentence = source.sentence && source.sentence !== source.title ? el("q", { dir: "auto" }, source.sentence) : null;
  return el("details", {}, el("summary", { dir: "auto" }, source.title || site(source.url) || t("untitled")), sentence,
    el("p", { class: "note" }, link(source.url, readable(source.url)), source.matched === false ? ` · ${t("no_match")}` : ""));
}

function cite(number, target) {
  const open = () => {
    target.open = true;
    target.querySelector("summary").focus();
    target.scrollIntoView({ block: "nearest" });
  };
  return el("button", { type: "button", class: "cite", "aria-label": t("source", { number }), onclick: open }, `${number}`);
}

function listed(kind, title, entries) {
  if (!entries.length) return [];
  return [el("h3", {}, title), el(kind, { class: "sources" }, ...entries.map((each) => el("li", {}, each)))];
}

function site(url) {
  try {
    return new URL(url).hostname || readable(url);
  } catch {
    return readable(url);
  }
}
