// What the pages share: elements, requests with errors that a person can read, the choice of models, the address.

/** An element with properties and children; strings become text, never markup. */
export const make = (tag, properties = {}, ...children) => {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "class") element.className = value;
    else if (name in element && !name.includes("-")) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
};

export const byId = (id) => document.getElementById(id);

/** What went wrong, where and what to do about it, as the server tells it. */
export class Trouble extends Error {
  constructor({ what, where, do: cure }) {
    super(what);
    this.where = where;
    this.cure = cure;
  }
}

const troubleOf = async (response) => {
  try {
    return new Trouble((await response.json()).error);
  } catch {
    return new Trouble({ what: `the page answered with status ${response.status}`, do: "try again" });
  }
};

const LOST = { what: "the page does not answer", where: "the connection", do: "see whether `firstwords serve` still runs" };

/** A request whose answer is there; raises Trouble for any other. */
export const request = async (path, body, signal) => {
  const options = body === undefined ? { signal } : {
    method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body), signal,
  };
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    throw error.name === "AbortError" ? error : new Trouble(LOST);
  }
  if (!response.ok) throw await troubleOf(response);
  return response;
};

export const ask = async (path, body, signal) => (await request(path, body, signal)).json();

/** Show an error in its place; `again` gives it a button. */
export const showTrouble = (place, error, again) => {
  const lines = [make("p", {}, make("strong", {}, error.message))];
  if (error.where) lines.push(make("p", { class: "quiet" }, `where: ${error.where}`));
  if (error.cure) lines.push(make("p", { class: "quiet" }, `do: ${error.cure}`));
  if (again) lines.push(make("button", { type: "button", onclick: again }, "Try again"));
  place.replaceChildren(make("div", { class: "missing" }, ...lines));
};

export const waiting = (text) => make("p", { class: "waiting" }, text);

/** Call `work` when nothing more has happened for a moment. */
export const settled = (work, milliseconds) => {
  let timer;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(work, milliseconds);
  };
};

/** One request at a time for each key; while it is under way only the latest wish waits. */
export class Latest {
  constructor() {
    this.under = new Map();
  }
  async run(key, work) {
    const entry = this.under.get(key) ?? { busy: false, next: null };
    this.under.set(key, entry);
    entry.next = work;
    if (entry.busy) return;
    entry.busy = true;
    while (entry.next) {
      const now = entry.next;
      entry.next = null;
      await now(() => entry.next === null);
    }
    entry.busy = false;
  }
}

export const readAddress = () => new URLSearchParams(location.hash.slice(1));

export const writeAddress = (parameters) => history.replaceState(null, "", `#${parameters}`);

/** The choice of models: checkboxes that load by themselves, with a shape for each thing that can happen. */
export class Models {
  constructor(fieldset, changed) {
    this.fieldset = fieldset;
    this.changed = changed;
    this.known = new Map();
    this.wanted = readAddress().getAll("m");
  }

  async load() {
    const legend = this.fieldset.querySelector("legend");
    const show = (...children) => this.fieldset.replaceChildren(legend, ...children);
    show(waiting("Looking for models…"));
    let models;
    try {
      models = await ask("/api/models");
    } catch (error) {
      const place = make("div", { role: "alert" });
      showTrouble(place, error, () => this.load());
      show(place);
      return;
    }
    this.known = new Map(models.map((model) => [model.name, model]));
    const gone = this.wanted.filter((name) => !this.known.has(name));
    const first = models.find((model) => model.main);
    let chosen = this.wanted.filter((name) => this.known.has(name));
    if (!chosen.length && !gone.length && first) chosen = [first.name];
    if (!models.length) {
      show(make("div", { class: "empty" },
        make("p", {}, "No run of this workspace has a model yet."),
        make("pre", {}, "firstwords quickstart"),
        make("button", { type: "button", onclick: () => this.load() }, "Look again")));
      this.changed();
      return;
    }
    const parts = [make("div", { class: "chips" }, ...models.filter((model) => model.main).map((model) => this.box(model, chosen)))];
    const others = models.filter((model) => !model.main);
    if (others.length) {
      const open = others.some((model) => chosen.includes(model.name));
      parts.push(make("details", { open }, make("summary", {}, `Other checkpoints (${others.length})`),
        make("div", { class: "chips" }, ...others.map((model) => this.box(model, chosen)))));
    }
    if (gone.length) {
      const place = make("div", { role: "alert" });
      showTrouble(place, new Trouble({ what: `not in this workspace: ${gone.join(", ")}`, do: "choose another model" }));
      parts.push(place);
    }
    show(...parts);
    this.changed();
  }

  box(model, chosen) {
    const input = make("input", { type: "checkbox", value: model.name, checked: chosen.includes(model.name) });
    input.addEventListener("change", () => this.changed());
    return make("label", { class: "chip" }, input, ` ${model.main ? model.run : `${model.run} ${model.checkpoint}`}`);
  }

  chosen() {
    return [...this.fieldset.querySelectorAll("input:checked")].map((input) => input.value);
  }

  isLoaded(name) {
    return this.known.get(name)?.loaded ?? false;
  }

  setLoaded(name) {
    const model = this.known.get(name);
    if (model) model.loaded = true;
  }
}

/** Keep one card for each chosen model, in their order; returns name and card. */
export const cardsFor = (place, names, level = "h3") => {
  const before = new Map([...place.children].filter((card) => card.dataset.model).map((card) => [card.dataset.model, card]));
  const cards = names.map((name) => before.get(name) ?? make("article", { class: "card", "data-model": name },
    make(level, {}, name), make("div", { class: "body" })));
  const now = [...place.children];
  if (now.length !== cards.length || cards.some((card, place) => card !== now[place])) place.replaceChildren(...cards);
  return names.map((name, place) => [name, cards[place]]);
};
