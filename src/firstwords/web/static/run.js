// One run: how far it is, as it happens, and its report, written when asked for.
import { ask, byId, showTrouble } from "./common.js";
import { listen, parsed } from "./live.js";

const now = byId("now");
const name = now.dataset.run;
let before;

listen(`/api/live?${new URLSearchParams({ run: name })}`, {
  run: ({ name: which, kind, parts }) => {
    if (which !== name || !parts.now) return;
    now.replaceChildren(parsed(parts.now));
    if (before !== undefined && before !== kind) byId("told").textContent = `${name} is ${kind}`;
    before = kind;
  },
  removed: ({ name: which }) => {
    if (which === name) byId("told").textContent = `${name} was removed`;
  },
});

const button = byId("write");
const writing = byId("writing");
button.hidden = false;
button.addEventListener("click", async () => {
  button.disabled = true;
  writing.hidden = false;
  writing.className = "waiting";
  writing.textContent = "Writing the report: charts are drawn and the model reads its hardest pairs…";
  try {
    await ask("/api/report", { run: name });
    location.href = `/runs/${encodeURIComponent(name)}/report`;
  } catch (error) {
    writing.className = "";
    showTrouble(writing, error);
  } finally {
    button.disabled = false;
  }
});
