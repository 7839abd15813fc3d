// What a model expects next, and what it writes.
import { ask, byId, cardsFor, Latest, make, Models, readAddress, request, settled, showTrouble, Trouble, waiting, writeAddress } from "./common.js";

const text = byId("text");
const next = byId("next");
const written = byId("written");
const latest = new Latest();
let stopper = null;

const percent = (p) => (p >= 0.0995 ? `${(100 * p).toFixed(0)}%` : p >= 0.001 ? `${(100 * p).toFixed(1)}%` : "<0.1%");
const among = (entropy) => (entropy < 3.3 ? (2 ** entropy).toFixed(1) : Math.round(2 ** entropy).toLocaleString("en"));
const visible = (token) => token.replaceAll(" ", "␣").replaceAll("\n", "↵");

const remember = () => {
  const address = new URLSearchParams({ text: text.value });
  for (const name of models.chosen()) address.append("m", name);
  writeAddress(address);
};

/** Tokens have their space before them, so one at the end of the text would be a beginning that no model has seen. */
const beginning = () => text.value.trimEnd();

const take = (token) => {
  text.value = beginning() + token;
  update();
};

const line = (token, most) => {
  const bar = make("span", { class: "share" });
  bar.style.width = `${(100 * token.probability) / most}%`;
  const label = token.special ? "end or beginning of a text" : visible(token.text);
  const word = token.special ? make("span", { class: "token quiet" }, label)
    : make("button", { type: "button", class: "token", onclick: () => take(token.text), "aria-label": `take up “${token.text}”` }, label);
  return make("li", {}, word, make("span", { class: "track", "aria-hidden": "true" }, bar),
    make("span", { class: "number" }, percent(token.probability)), make("span", { class: "number quiet" }, `${token.bits.toFixed(1)} bits`));
};

const showNext = ({ tokens, rest, entropy_bits: entropy, vocabulary }) => [
  make("ol", { class: "shares" }, ...tokens.map((token) => line(token, tokens[0].probability))),
  make("p", { class: "quiet" }, `All other ${(vocabulary - tokens.length).toLocaleString("en")} tokens together ${percent(rest)}. The entropy is ${entropy.toFixed(2)} bits: as uncertain as among ${among(entropy)} equally likely tokens.`),
];

const refresh = (name, card) => latest.run(name, async (isLast) => {
  const body = card.querySelector(".body");
  if (!body.querySelector(".shares")) body.replaceChildren(waiting(models.isLoaded(name) ? "Asking…" : "Loading the model…"));
  card.setAttribute("aria-busy", "true");
  try {
    const found = await ask("/api/next", { model: name, text: beginning() });
    models.setLoaded(name);
    if (!isLast() || !card.isConnected) return;
    body.replaceChildren(...showNext(found));
    byId("told").textContent = `${name} expects ${found.tokens.slice(0, 3).map((one) => `“${one.text.trim()}” ${percent(one.probability)}`).join(", ")}`;
  } catch (error) {
    if (isLast()) showTrouble(body, error, () => refresh(name, card));
  } finally {
    if (isLast()) card.removeAttribute("aria-busy");
  }
});

const update = () => {
  const names = models.chosen();
  remember();
  byId("hint").textContent = text.value !== beginning() && beginning() ? "The space at the end is left out: tokens have their space before them." : "";
  byId("write").disabled = names.length === 0 || stopper !== null;
  if (!names.length) {
    next.replaceChildren(...(models.known.size ? [make("p", { class: "empty" }, "Choose a model.")] : []));
    return;
  }
  for (const [name, card] of cardsFor(next, names)) refresh(name, card);
};

/** Lines of an answer while they come. */
const linesOf = async function* (response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    held += value;
    const lines = held.split("\n");
    held = lines.pop();
    for (const each of lines) yield JSON.parse(each);
  }
};

const write = async (name, card, manner, signal) => {
  const body = card.querySelector(".body");
  const begun = beginning();
  const text = make("span", { class: "new" });
  const end = make("p", { class: "quiet", role: "status" }, models.isLoaded(name) ? "Writing…" : "Loading the model…");
  body.replaceChildren(make("blockquote", { "aria-live": "off" }, make("span", { class: "quiet" }, begun), text), end);
  try {
    const response = await request("/api/write", { model: name, text: begun, ...manner }, signal);
    models.setLoaded(name);
    end.textContent = "Writing…";
    for await (const line of linesOf(response)) {
      if (line.error) throw new Trouble(line.error);
      text.append(line.text);
      if (line.ended) end.textContent = `It is done: ${line.ended}.`;
    }
  } catch (error) {
    if (error.name === "AbortError") end.textContent = "Stopped.";
    else if (error instanceof Trouble) showTrouble(body, error);
    else showTrouble(body, new Trouble({ what: "the text broke off", do: "write it again" }));
  }
};

byId("manner").addEventListener("submit", async (event) => {
  event.preventDefault();
  const names = models.chosen();
  if (stopper || !names.length) return;
  stopper = new AbortController();
  byId("write").disabled = true;
  byId("stop").disabled = false;
  const manner = Object.fromEntries(["temperature", "top_p", "most_tokens", "seed"].map((id) => [id, byId(id).valueAsNumber]));
  await Promise.all(cardsFor(written, names).map(([name, card]) => write(name, card, manner, stopper.signal)));
  stopper = null;
  byId("write").disabled = models.chosen().length === 0;
  byId("stop").disabled = true;
});
byId("stop").addEventListener("click", () => stopper?.abort());

for (const slider of document.querySelectorAll("input[type=range]")) {
  slider.addEventListener("input", () => {
    slider.nextElementSibling.textContent = slider.valueAsNumber.toFixed(2);
  });
}

const models = new Models(byId("models"), update);
text.value = readAddress().get("text") ?? "The";
text.addEventListener("input", settled(update, 120));
byId("ask").addEventListener("submit", (event) => event.preventDefault());
addEventListener("hashchange", () => {
  text.value = readAddress().get("text") ?? "";
  models.wanted = readAddress().getAll("m");
  models.load();
});
models.load();
