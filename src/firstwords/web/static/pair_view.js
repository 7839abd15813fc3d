// A scored pair as a person reads it: which sentence is preferred, and every word with its surprisal.
import { make } from "./common.js";

const BITS_A_SHADE = 2;
const MOST_SHADES = 9;
const ALIKE_BITS = 0.005; // What is shown as 0.00.
const WORTH_TELLING_BITS = 0.05;

const shade = (bits) => (bits === null ? 0 : Math.min(MOST_SHADES, Math.max(0, Math.floor(bits / BITS_A_SHADE))));
const shown = (bits, digits = 1) => (bits === null ? "–" : bits.toFixed(digits));
const signed = (bits, digits = 1) => `${bits < 0 ? "−" : "+"}${Math.abs(bits).toFixed(digits)}`;

const times = (bits) => {
  const ratio = 2 ** bits;
  if (ratio >= 1e6) return `about 10^${Math.round(Math.log10(ratio))} times`;
  return `${ratio >= 100 ? Math.round(ratio).toLocaleString("en") : ratio.toPrecision(2)} times`;
};

/** Which of both is preferred, and in words by how much. */
export const verdictOf = (result, gold) => {
  const [first, second] = result.sentences;
  const margin = second.bits - first.bits;
  if (Math.abs(margin) < ALIKE_BITS) return { margin, prefers: null, text: "prefers neither: both are as surprising" };
  const prefers = margin > 0 ? "A" : "B";
  const right = gold ? (prefers === "A" ? ", which is right" : ", which is wrong") : "";
  return {
    margin, prefers,
    text: `prefers ${prefers} by ${Math.abs(margin).toFixed(2)} bits${right}: to it, ${prefers} is ${times(Math.abs(margin))} as likely`,
  };
};

const balance = (result, { margin }) => {
  const share = Math.min(1, Math.abs(margin) / 20);
  const bar = make("span", { class: `weight ${margin > 0 ? "a" : "b"}` });
  bar.style.width = `${50 * share}%`;
  return make("div", { class: "balance", "aria-hidden": "true" },
    make("span", { class: "end" }, `A ${result.sentences[0].bits.toFixed(2)}`),
    make("span", { class: "track" }, bar),
    make("span", { class: "end" }, `B ${result.sentences[1].bits.toFixed(2)}`));
};

const cell = (result, which, place, differs, pick) => {
  const name = which === 0 ? "A" : "B";
  if (place === null) return make("span", { class: "piece none", "aria-label": `${name}: nothing` }, make("span", { class: "text" }, "·"), make("span", { class: "bits" }, "\u00a0"));
  const piece = result.sentences[which].pieces[place];
  const text = piece.text.trim() === "" ? "␣" : piece.text.replaceAll("\n", "↵").trim();
  const element = make("span", { class: `piece s${shade(piece.bits)}${differs ? " differs" : ""}${piece.read ? "" : " unread"}`,
    title: piece.read ? `change “${piece.text.trim()}” in ${name}` : "the model's tokenizer has no token for this word" },
    make("span", { class: "unseen" }, `${name}: `),
    make("span", { class: "text" }, text),
    make("span", { class: "bits" }, shown(piece.bits)),
    make("span", { class: "unseen" }, piece.bits === null ? " no bits;" : " bits;"),
    ...(piece.read ? [] : [make("span", { class: "says" }, "not read")]));
  element.addEventListener("click", () => pick(which, piece));
  return element;
};

const bitsAt = (result, which, place) => (place === null ? null : result.sentences[which].pieces[place].bits);
const textAt = (result, which, place) => (place === null ? null : result.sentences[which].pieces[place].text);

const change = (result, [first, second]) => {
  const [x, y] = [bitsAt(result, 0, first), bitsAt(result, 1, second)];
  const bits = (y ?? 0) - (x ?? 0);
  if ((x === null && y === null) || Math.abs(bits) < WORTH_TELLING_BITS) return make("span", { class: "change" }, "\u00a0");
  return make("span", { class: `change ${bits > 0 ? "a" : "b"}` }, make("span", { class: "unseen" }, "B minus A: "), signed(bits));
};

const gloss = (result, pick) => make("ol", { class: "gloss", "aria-label": "Words of A above those of B, with their surprisals" },
  ...result.columns.map(([first, second]) => {
    const differs = textAt(result, 0, first) !== textAt(result, 1, second);
    return make("li", differs ? { class: "odd" } : {},
      cell(result, 0, first, differs, pick), cell(result, 1, second, differs, pick), change(result, [first, second]));
  }));

const table = (result) => {
  const head = ["A", "bits", "B", "bits", "B − A"];
  const rows = result.columns.map(([first, second]) => {
    const [x, y] = [bitsAt(result, 0, first), bitsAt(result, 1, second)];
    const cells = [textAt(result, 0, first) ?? "", shown(x, 2), textAt(result, 1, second) ?? "", shown(y, 2),
      x === null && y === null ? "" : signed((y ?? 0) - (x ?? 0), 2)];
    return make("tr", {}, ...cells.map((text, place) => make("td", place % 2 || place === 4 ? { class: "number" } : {}, text)));
  });
  const totals = [`${result.sentences[0].tokens} tokens`, result.sentences[0].bits.toFixed(2), `${result.sentences[1].tokens} tokens`,
    result.sentences[1].bits.toFixed(2), signed(result.sentences[1].bits - result.sentences[0].bits, 2)];
  return make("details", {}, make("summary", {}, "As a table"),
    make("div", { class: "scroll", tabIndex: 0, role: "region", "aria-label": `Words and surprisals of ${result.model}` },
      make("table", {},
        make("caption", {}, `Surprisals of ${result.model} in bits`),
        make("thead", {}, make("tr", {}, ...head.map((title, place) => make("th", { scope: "col", class: place % 2 || place === 4 ? "number" : "" }, title)))),
        make("tbody", {}, ...rows),
        make("tfoot", {}, make("tr", {}, ...totals.map((text, place) => make("td", { class: place % 2 || place === 4 ? "number" : "" }, text)))))),
    make("p", { class: "quiet" }, result.statement));
};

/** All of one model's answer. pick: called with 0 or 1 and the piece, when a word is chosen to be changed. */
export const showPair = (result, gold, pick) => {
  const verdict = verdictOf(result, gold);
  const right = gold && verdict.prefers ? (verdict.prefers === "A" ? " right" : " wrong") : "";
  const open = [...document.querySelectorAll(".card")].find((card) => card.dataset.model === result.model)?.querySelector("details")?.open;
  const details = table(result);
  details.open = open ?? false;
  return [
    make("p", { class: `verdict${right}` }, `${verdict.text[0].toUpperCase()}${verdict.text.slice(1)}.`),
    balance(result, verdict), gloss(result, pick), details,
  ];
};

/** A cell of CSV. What a spreadsheet would take for a formula gets an apostrophe, as sentences may be anyone's. */
const quoted = (value) => {
  const text = typeof value === "number" ? String(value) : value;
  const safe = typeof value !== "number" && /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
  return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
};

/** A line for each word: model, sentence, place, text and surprisal; and one for each sentence as a whole. */
export const csvOf = (found, by) => {
  const lines = [["model", "sentence", "unit", "place", "column", "text", "surprisal_bits"]];
  for (const [name, result] of found) {
    result.sentences.forEach((sentence, which) => {
      const mark = "AB"[which];
      sentence.pieces.forEach((piece, place) => {
        const column = result.columns.findIndex((both) => both[which] === place);
        lines.push([name, mark, by, place + 1, column + 1, piece.text, piece.bits ?? ""]);
      });
      lines.push([name, mark, "sentence", "", "", sentence.text, sentence.bits]);
    });
  }
  return `${lines.map((line) => line.map(quoted).join(",")).join("\r\n")}\r\n`;
};
