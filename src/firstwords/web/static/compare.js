// Two of the chosen runs, pair by pair.
import { ask, byId, Latest, showTrouble, waiting } from "./common.js";
import { parsed } from "./live.js";

const form = byId("asked");
const place = byId("found");
const latest = new Latest();

const compare = () => latest.run("compare", async (isLast) => {
  const { a, b, result } = form.elements;
  place.replaceChildren(waiting("Comparing pair by pair…"));
  try {
    const { html } = await ask("/api/compare", { a: a.value, b: b.value, result: result.value });
    if (isLast()) place.replaceChildren(parsed(html));
  } catch (error) {
    if (isLast()) showTrouble(place, error, compare);
  }
});

if (form) {
  form.addEventListener("change", compare);
  form.addEventListener("submit", (event) => event.preventDefault());
  compare();
}
