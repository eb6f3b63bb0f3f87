// What the other files share: elements, texts, and asking the server. Text from outside is only ever textContent.

export const $ = (id) => document.getElementById(id);

export function el(name, given = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(given)) {
    if (value === null || value === undefined || value === false) continue;
    if (key === "class") made.className = value;
    else if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
  return made;
}

let texts = {};

export const t = (name, given = {}) =>
  (texts[name] ?? name).replace(/\{(\w+)\}/g, (_, key) => given[key] ?? "");

// what the server says is wrong, where the page has a sentence for it
export const sentence = ({ code, given }) => `error ${code}` in texts ? t(`error ${code}`, given) : null;

// what a turn did, where the page has a word for it
export const named = (action) => texts[`action ${action}`] ?? action;

export function speak(language, told) {
  texts = told;
  document.documentElement.lang = language;
  for (const each of document.querySelectorAll("[data-text]")) each.textContent = t(each.dataset.text);
  for (const each of document.querySelectorAll("[data-label]")) each.setAttribute("aria-label", t(each.dataset.label));
  for (const each of document.querySelectorAll("[data-hint]")) each.placeholder = t(each.dataset.hint);
}

const decoded = (escaped) => {
  try {
    const shown = decodeURIComponent(escaped);
    return /[\p{C}\p{Zl}\p{Zp}]/u.test(shown) ? escaped : shown;
  } catch {
    return escaped;
  }
};

// a file's path without %20 and %C3%A9, an address of the web with its letters: for the eye, never to be followed
export const readable = (url) =>
  /^(?!file:)[a-z][a-z0-9+.-]*:\/\//i.test(url)
    ? url.replace(/(?:%[89a-f][0-9a-f])+/gi, decoded)
    : decoded(url.replace(/^file:\/\//, ""));

// only the web's own addresses become links
export function link(url, text) {
  if (!/^https?:\/\//i.test(url)) return el("span", { dir: "auto" }, text);
  return el("a", { href: url, target: "_blank", rel: "noopener noreferrer nofollow", dir: "auto" }, text);
}

export const picture = (id, name, alt) =>
  el("img", { src: `api/questions/${id}/pictures/${name}`, alt, loading: "lazy" });

export async function api(method, path, body) {
  const options = { method };
  if (method !== "GET") {
    options.headers = { "Content-Type": "application/json" };
    options.body = JSON.stringify(body ?? {});
  }
  let reply;
  try {
    reply = await fetch(`api/${path}`, options);
  } catch {
    throw new Error(t("unreachable"));
  }
  const told = await reply.json().catch(() => ({}));
  if (reply.ok) return told;
  if (reply.status === 401) dispatchEvent(new Event("key-needed"));
  // the border tells it in OpenAI's form
  const english = told.error?.message ?? told.error ?? `${reply.status} ${reply.statusText}`;
  throw new Error(sentence({ code: told.code ?? told.error?.code, given: told.given }) ?? english);
}

export const say = (text) => ($("status").textContent = text);
export const complain = (text) => ($("problem").textContent = text);
export const money = (cost) => (cost ? ` · $${cost < 0.01 ? cost.toPrecision(1) : cost.toFixed(2)}` : "");
export const seconds = (count) => `${count.toFixed(1)} s`;
