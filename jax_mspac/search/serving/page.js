// Sends the form, puts the answer's HTML, which the server has escaped, into the page, and keeps what was marked.
"use strict";

const form = document.getElementById("query");
const results = document.getElementById("results");
const detail = document.getElementById("detail");
const chosenList = document.getElementById("chosen");
const told = document.getElementById("told");
const narrow = matchMedia("(max-width: 52rem)");
const fileInput = form.elements.images;
const maxBytes = Number(form.dataset.maxBytes);
const maxImages = Number(form.dataset.maxImages);

let files = []; // {file, url} of the query, unless it is by an entry
let entry = null; // {id, url}
let asking = null; // the request that is under way

function tell(text) {
  told.textContent = text;
  told.hidden = !text;
}

function megabytes(bytes) {
  return `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)} MB`;
}

function add(more) {
  if (!more.length) return;
  const all = [...files.map((one) => one.file), ...more];
  const bytes = all.reduce((sum, file) => sum + file.size, 0);
  if (all.length > maxImages) return tell(`${all.length} images; at most ${maxImages} make a query.`);
  // Some room for what surrounds the files in a request.
  if (bytes > maxBytes - 100000) return tell(`${megabytes(bytes)}; a query takes at most ${megabytes(maxBytes)}.`);
  tell("");
  entry = null;
  files.push(...Array.from(more, (file) => ({ file, url: URL.createObjectURL(file) })));
  showChosen();
  searchIfReady();
}

function leaveOut(number, count) {
  for (const one of files.splice(number, count)) URL.revokeObjectURL(one.url);
}

function showChosen() {
  const chips = files.map((one, number) => chip(one.url, one.file.name, () => leaveOut(number, 1)));
  if (entry) chips.push(chip(entry.url, "An image of the index", () => (entry = null)));
  chosenList.replaceChildren(...chips);
}

function chip(source, name, remove) {
  const item = document.createElement("li");
  const image = document.createElement("img");
  const button = document.createElement("button");
  image.src = source;
  image.alt = name;
  image.title = name;
  button.type = "button";
  button.textContent = "✕";
  button.setAttribute("aria-label", `Leave out ${name}`);
  button.addEventListener("click", () => {
    remove();
    showChosen();
    searchIfReady();
    fileInput.focus();
  });
  item.append(image, button);
  return item;
}

function searchIfReady() {
  if ((files.length || entry) && form.elements.modality.value && form.checkValidity()) search();
}

async function search() {
  if (!files.length && !entry) return tell("Choose an image first.");
  tell("");
  if (asking) asking.abort();
  const mine = (asking = new AbortController());
  const data = new FormData(form);
  data.delete("images");
  if (entry) data.set("entry", entry.id);
  else for (const { file } of files) data.append("images", file, file.name);
  results.setAttribute("aria-busy", "true");
  try {
    const response = await fetch("/query", { method: "POST", body: data, signal: mine.signal });
    await put(response, results);
    if (narrow.matches) results.scrollIntoView();
  } catch (error) {
    if (error.name === "AbortError") return;
    tell("The server does not answer. Is it still running?");
  }
  if (asking === mine) {
    asking = null;
    results.removeAttribute("aria-busy");
  }
}

async function put(response, place) {
  const text = await response.text();
  if ((response.headers.get("content-type") || "").startsWith("text/html")) {
    place.innerHTML = text;
  } else {
    const paragraph = document.createElement("p");
    paragraph.className = "error";
    paragraph.textContent = response.status === 413 ? `A query takes at most ${megabytes(maxBytes)}.` : text;
    place.replaceChildren(paragraph);
  }
}

function cardOf(id) {
  return results.querySelector(`[data-id="${CSS.escape(id)}"]`);
}

function showVerdict(id) {
  const verdict = cardOf(id).dataset.verdict;
  for (const button of document.querySelectorAll(`[data-id="${CSS.escape(id)}"] [data-mark]`)) {
    button.setAttribute("aria-pressed", String(button.dataset.mark === verdict));
  }
}

async function mark(id, verdict) {
  const card = cardOf(id);
  const { query, names, modality } = results.querySelector("[data-query]").dataset;
  const data = new FormData();
  const fields = { query, names, modality, entry: id, similarity: card.dataset.similarity };
  for (const [name, value] of Object.entries(fields)) data.set(name, value);
  data.set("verdict", card.dataset.verdict === verdict ? "" : verdict);
  try {
    const response = await fetch("/mark", {
      method: "POST",
      body: data,
      headers: { accept: "application/json" },
    });
    const answer = await response.json();
    if (!response.ok) return tell(answer.error);
    card.dataset.verdict = answer.verdict;
    showVerdict(id);
  } catch {
    tell("The mark was not kept: the server does not answer.");
  }
}

async function show(id) {
  const response = await fetch(`/entry/${encodeURIComponent(id)}`);
  await put(response, detail);
  if (response.ok) showVerdict(id);
  if (!detail.open) detail.showModal();
}

function step(by) {
  const ids = Array.from(results.querySelectorAll("[data-id]"), (card) => card.dataset.id);
  const shown = detail.querySelector("[data-id]");
  const next = shown && ids[ids.indexOf(shown.dataset.id) + by];
  if (next) show(next).then(() => detail.querySelector(`[data-step="${by}"]`).focus());
}

function again(id) {
  entry = { id, url: `/thumbnail/${encodeURIComponent(id)}` };
  leaveOut(0, files.length);
  form.elements.modality.value = cardOf(id).dataset.modality;
  if (detail.open) detail.close();
  showChosen();
  if (!narrow.matches) window.scrollTo({ top: 0 });
  search();
}

// Where the form stands above the answer, it shall be short.
form.querySelector("details").open = !narrow.matches;

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (event.target === detail) return detail.close(); // outside of what is in it
  if (!button) return;
  const id = button.closest("[data-id]")?.dataset.id;
  if ("show" in button.dataset) show(id);
  else if ("mark" in button.dataset) mark(id, button.dataset.mark);
  else if ("again" in button.dataset) again(id);
  else if ("step" in button.dataset) step(Number(button.dataset.step));
  else if ("close" in button.dataset) detail.close();
});

detail.addEventListener("keydown", (event) => {
  if (event.key === "ArrowLeft") step(-1);
  if (event.key === "ArrowRight") step(1);
});

detail.addEventListener("close", () => detail.replaceChildren());

form.addEventListener("submit", (event) => {
  event.preventDefault();
  search();
});

form.addEventListener("change", (event) => {
  if (event.target === fileInput) {
    add(fileInput.files);
    fileInput.value = "";
  } else {
    searchIfReady();
  }
});

document.addEventListener("paste", (event) => add(event.clipboardData.files));

for (const name of ["dragenter", "dragover"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    document.body.classList.add("dragging");
  });
}
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) document.body.classList.remove("dragging");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dragging");
  add(event.dataTransfer.files);
});
