// The playground of minimal pairs.
import { ask, byId, cardsFor, Latest, Models, readAddress, settled, showTrouble, waiting, writeAddress } from "./common.js";
import { csvOf, showPair, verdictOf } from "./pair_view.js";
import { Loader } from "./pair_loader.js";

const a = byId("a");
const b = byId("b");
const results = byId("results");
const latest = new Latest();
const found = new Map();
let gold = null; // The texts of a loaded pair, while they are as they were loaded.

const by = () => document.querySelector("input[name=by]:checked").value;
const isGold = () => gold !== null && gold.a === a.value && gold.b === b.value;

const remember = () => {
  const address = new URLSearchParams({ a: a.value, b: b.value, by: by() });
  if (isGold()) address.set("gold", "a");
  for (const name of models.chosen()) address.append("m", name);
  writeAddress(address);
};

const readyToTell = settled(() => {
  const lines = [...found].map(([name, result]) => `${name} ${verdictOf(result, isGold()).text}.`);
  byId("told").textContent = lines.join(" ");
}, 700);

const refresh = (name, card) => latest.run(name, async (isLast) => {
  const body = card.querySelector(".body");
  const asked = { model: name, sentences: [a.value, b.value], by: by() };
  if (!body.childElementCount || body.querySelector(".missing, .empty")) {
    body.replaceChildren(waiting(models.isLoaded(name) ? "Scoring…" : "Loading the model…"));
  }
  card.setAttribute("aria-busy", "true");
  try {
    const result = await ask("/api/score", asked);
    models.setLoaded(name);
    if (!isLast() || !card.isConnected) return;
    found.set(name, result);
    body.replaceChildren(...showPair(result, isGold(), pick));
    readyToTell();
  } catch (error) {
    found.delete(name);
    if (isLast()) showTrouble(body, error, () => refresh(name, card));
  } finally {
    if (isLast()) card.removeAttribute("aria-busy");
    byId("export").disabled = found.size === 0;
  }
});

const update = () => {
  const names = models.chosen();
  remember();
  byId("gold-a").hidden = byId("gold-b").hidden = !isGold();
  for (const name of [...found.keys()]) if (!names.includes(name)) found.delete(name);
  byId("scale").hidden = names.length === 0;
  byId("export").disabled = found.size === 0;
  if (!names.length || !a.value.trim() || !b.value.trim()) {
    found.clear();
    byId("export").disabled = true;
    byId("scale").hidden = true;
    const empty = document.createElement("p");
    empty.className = "empty";
    empty.textContent = names.length ? "Write both sentences to see which is preferred." : "Choose a model.";
    results.replaceChildren(...(models.known.size ? [empty] : []));
    return;
  }
  for (const [name, card] of cardsFor(results, names, "h2")) refresh(name, card);
};

/** A word of a result was chosen: mark it where it can be changed. */
const pick = (which, piece) => {
  const field = which === 0 ? a : b;
  field.focus();
  field.setSelectionRange(piece.start, piece.end);
};

const models = new Models(byId("models"), update);

const readFields = () => {
  const address = readAddress();
  a.value = address.get("a") ?? "The cats sleep near the house.";
  b.value = address.get("b") ?? "The cats sleeps near the house.";
  gold = address.get("gold") === "a" ? { a: a.value, b: b.value } : null;
  const cut = address.get("by") === "token" ? "token" : "word";
  document.querySelector(`input[name=by][value=${cut}]`).checked = true;
};

const typed = settled(update, 120);
for (const field of [a, b]) field.addEventListener("input", typed);
for (const radio of document.querySelectorAll("input[name=by]")) radio.addEventListener("change", update);
byId("ask").addEventListener("submit", (event) => event.preventDefault());
addEventListener("hashchange", () => {
  readFields();
  models.wanted = readAddress().getAll("m");
  models.load();
});

new Loader((pair) => {
  a.value = pair.good;
  b.value = pair.bad;
  gold = { a: pair.good, b: pair.bad };
  update();
});

byId("share").addEventListener("click", async () => {
  remember();
  const said = byId("shared");
  try {
    await navigator.clipboard.writeText(location.href);
    said.textContent = "The link is copied. It opens where this page runs.";
  } catch {
    said.textContent = "The browser copies nothing here; the address of this page is the link.";
  }
});

byId("export").addEventListener("click", () => {
  const address = URL.createObjectURL(new Blob([csvOf(found, by())], { type: "text/csv;charset=utf-8" }));
  const link = document.createElement("a");
  link.href = address;
  link.download = "minimal-pair.csv";
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
});

readFields();
models.load();
