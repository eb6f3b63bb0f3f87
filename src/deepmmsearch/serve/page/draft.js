// The question as it is put together: text, and pictures that were pasted, dropped, chosen, taken or named.

import { $, api, complain, el, t } from "./dom.js";

let uploads;
let pictures = [];

export function begin(bounds) {
  uploads = bounds;
}

export const filled = () => pictures.map((each) => each.uri);

export function clear() {
  pictures = [];
  $("text").value = "";
  show();
}

export async function take(files) {
  complain("");
  for (const file of files) {
    if (pictures.length >= uploads.pictures) return complain(t("too_many", { most: uploads.pictures }));
    if (file.size > uploads.bytes) complain(t("too_large", { name: file.name, most: Math.floor(uploads.bytes / 1e6) }));
    else if (!file.type.startsWith("image/") && !isPdf(file)) complain(t("no_picture", { name: file.name }));
    else await add(file);
  }
}

const isPdf = (file) => file.type === "application/pdf" || /\.pdf$/i.test(file.name);

async function add(file) {
  const uri = await read(file);
  if (isPdf(file)) await paged({ name: file.name, pdf: uri, page: 1 });
  else pictures.push({ name: file.name, uri, shown: URL.createObjectURL(file) });
  show();
}

const read = (file) => new Promise((done, failed) => {
  const reader = new FileReader();
  reader.onload = () => done(reader.result);
  reader.onerror = () => failed(reader.error);
  reader.readAsDataURL(file);
});

// a page of a PDF is drawn by the server
async function paged(picture, at = pictures.length) {
  try {
    const { uri, pages } = await api("POST", "pdf", { pdf: picture.pdf, page: picture.page });
    pictures[at] = { ...picture, uri, shown: uri, pages };
  } catch (error) {
    complain(error.message);
  }
  show();
}

function name(address) {
  const given = address.trim();
  if (!/^https?:\/\/\S+$/i.test(given)) return complain(t("no_address"));
  if (pictures.length >= uploads.pictures) return complain(t("too_many", { most: uploads.pictures }));
  complain("");
  pictures.push({ name: given, uri: given });
  $("address").value = "";
  show();
}

function show() {
  $("pictures").replaceChildren(...pictures.map((each, at) => el("li", {},
    each.shown ? el("img", { src: each.shown, alt: each.name }) : el("span", { dir: "auto" }, each.name),
    each.pdf ? el("label", { class: "note" }, `${t("page")} `, page(each, at), ` / ${each.pages}`) : null,
    el("button", { type: "button", class: "plain", "aria-label": t("remove", { name: each.name }), onclick: () => remove(at) }, "✕"))));
}

function page(each, at) {
  const input = el("input", { type: "number", min: 1, max: each.pages, value: each.page });
  input.addEventListener("change", () => paged({ ...each, page: Number(input.value) }, at));
  return input;
}

function remove(at) {
  const [gone] = pictures.splice(at, 1);
  if (gone.shown?.startsWith("blob:")) URL.revokeObjectURL(gone.shown);
  show();
  ($("pictures").querySelectorAll("button")[at] ?? $("text")).focus();
}

export function listen(send) {
  const form = $("ask");
  form.addEventListener("submit", (event) => { event.preventDefault(); send(); });
  $("text").addEventListener("keydown", (event) => {
    // an input method takes Enter for itself
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    send();
  });
  for (const id of ["files", "camera"]) {
    $(id).addEventListener("change", async () => { await take([...$(id).files]); $(id).value = ""; });
  }
  $("open-address").addEventListener("click", () => {
    const row = $("address-row");
    row.hidden = !row.hidden;
    $("open-address").setAttribute("aria-expanded", String(!row.hidden));
    if (!row.hidden) $("address").focus();
  });
  $("add-address").addEventListener("click", () => name($("address").value));
  $("address").addEventListener("keydown", (event) => {
    if (event.key === "Enter") { event.preventDefault(); name($("address").value); }
  });
  document.addEventListener("paste", (event) => {
    if (!event.clipboardData?.files.length) return;
    event.preventDefault();
    take([...event.clipboardData.files]);
  });
  document.addEventListener("dragover", (event) => { event.preventDefault(); form.classList.add("over"); });
  document.addEventListener("dragleave", () => form.classList.remove("over"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    form.classList.remove("over");
    take([...event.dataTransfer.files]);
  });
}
