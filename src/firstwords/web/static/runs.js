// The table of runs: rows that change by themselves, and the choice of some.
import { byId } from "./common.js";
import { listen, parsed } from "./live.js";

const rows = byId("rows");
const told = byId("told");
const kinds = new Map();

const rowOf = (name) => [...rows.rows].find((row) => row.dataset.run === name);

const count = () => {
  const chosen = [...rows.querySelectorAll("input:checked")].map((input) => input.value);
  byId("compare").disabled = chosen.length < 2;
  byId("try").disabled = chosen.length < 1;
  byId("chosen").textContent = chosen.length ? `${chosen.length} chosen` : "Choose two or more to compare them.";
  return chosen;
};

const update = (name, html) => {
  const fresh = parsed(html).querySelector("tr");
  const row = rowOf(name);
  if (!row) {
    const after = [...rows.rows].find((other) => other.dataset.run > name);
    rows.insertBefore(fresh, after ?? null);
    return;
  }
  // Cell by cell, so that what is chosen and where the keyboard is stay as they are.
  [...fresh.cells].forEach((cell, place) => {
    const now = row.cells[place];
    if (!cell.querySelector("input, a") && now.innerHTML !== cell.innerHTML) now.replaceChildren(...cell.childNodes);
  });
};

const shapes = () => {
  byId("empty").hidden = rows.rows.length > 0;
  byId("choice").hidden = rows.rows.length === 0;
  count();
};

listen("/api/live", {
  run: ({ name, kind, parts }) => {
    const before = kinds.get(name);
    kinds.set(name, kind);
    update(name, parts.row);
    // Numbers change too often to be read aloud; that a run begins or ends is worth it.
    if (before !== undefined && before !== kind) told.textContent = `${name} is ${kind}`;
    shapes();
  },
  removed: ({ name }) => {
    kinds.delete(name);
    rowOf(name)?.remove();
    told.textContent = `${name} was removed`;
    shapes();
  },
  ready: ({ names }) => {
    for (const row of [...rows.rows]) if (!names.includes(row.dataset.run)) row.remove();
    shapes();
  },
});

rows.addEventListener("change", count);
byId("try").hidden = false;
byId("try").addEventListener("click", () => {
  location.href = `/pairs#${new URLSearchParams(count().map((name) => ["m", name]))}`;
});
count();
