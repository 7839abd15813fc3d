// Pairs of test sets that are on the server's machine.
import { ask, byId, make, showTrouble } from "./common.js";

export class Loader {
  constructor(loaded) {
    this.loaded = loaded;
    this.counts = new Map();
    this.fields = ["paradigm", "number", "before", "after", "any"].map(byId);
    byId("suite").addEventListener("change", () => this.suite());
    byId("paradigm").addEventListener("change", () => this.go(1));
    byId("number").addEventListener("change", () => this.go(byId("number").valueAsNumber));
    byId("before").addEventListener("click", () => this.go(byId("number").valueAsNumber - 1));
    byId("after").addEventListener("click", () => this.go(byId("number").valueAsNumber + 1));
    byId("any").addEventListener("click", () => this.go(1 + Math.floor(Math.random() * this.count())));
  }

  count() {
    return this.counts.get(byId("paradigm").value) ?? 1;
  }

  async suite() {
    const name = byId("suite").value;
    for (const field of this.fields) field.disabled = true;
    byId("load-trouble").replaceChildren();
    byId("paradigm").replaceChildren();
    byId("loaded").textContent = name ? "Reading the test set…" : "";
    if (!name) return;
    try {
      const suite = await ask(`/api/suites/${encodeURIComponent(name)}`);
      if (byId("suite").value !== name) return;
      this.fill(suite);
      await this.go(1);
    } catch (error) {
      byId("loaded").textContent = "";
      showTrouble(byId("load-trouble"), error);
    }
  }

  fill({ paradigms, title, license }) {
    this.counts = new Map(paradigms.map((paradigm) => [paradigm.name, paradigm.pairs]));
    const groups = new Map();
    for (const { name, phenomenon } of paradigms) {
      const label = phenomenon.replaceAll("_", " ");
      if (!groups.has(label)) groups.set(label, make("optgroup", { label }));
      groups.get(label).append(make("option", { value: name }, name.replaceAll("_", " ")));
    }
    byId("paradigm").replaceChildren(...groups.values());
    for (const field of this.fields) field.disabled = false;
    this.source = `${title}${license ? `, ${license}` : ""}`;
  }

  async go(number) {
    const [suite, paradigm] = [byId("suite").value, byId("paradigm").value];
    const wanted = Math.min(this.count(), Math.max(1, Math.round(number) || 1));
    byId("number").value = wanted;
    byId("number").max = this.count();
    try {
      const pair = await ask(`/api/suites/${encodeURIComponent(suite)}/pair?${new URLSearchParams({ paradigm, number: wanted })}`);
      byId("load-trouble").replaceChildren();
      byId("loaded").textContent = `Pair ${wanted.toLocaleString("en")} of ${this.count().toLocaleString("en")}: A is the good sentence. ${this.source}.`;
      this.loaded(pair);
    } catch (error) {
      showTrouble(byId("load-trouble"), error, () => this.go(wanted));
    }
  }
}
