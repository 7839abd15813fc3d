// What the server tells while it happens. A page that is not looked at lets go of its connection: browsers have few.
import { byId, showTrouble, Trouble } from "./common.js";

/** Listen at `address` while the page is seen; `on` has a function for each kind of event. */
export const listen = (address, on) => {
  const sign = byId("live");
  const place = byId("trouble");
  let source = null;
  let lost = 0;
  const say = (text, kind) => {
    if (sign.textContent !== text) sign.textContent = text;
    sign.dataset.kind = kind;
  };
  const open = () => {
    if (source) return;
    source = new EventSource(address);
    source.addEventListener("open", () => {
      say("live", "on");
      lost = 0;
      place.replaceChildren();
    });
    source.addEventListener("error", () => {
      say("not connected", "off");
      lost += 1;
      if (lost === 2) {
        showTrouble(place, new Trouble({
          what: "The page has lost its connection, and shows what it knew last.",
          do: "see whether `firstwords serve` still runs; the page connects again by itself",
        }));
      }
      if (source.readyState === EventSource.CLOSED) {
        source = null;
        setTimeout(() => document.hidden || open(), 3000);
      }
    });
    source.addEventListener("trouble", (event) => showTrouble(place, new Trouble(JSON.parse(event.data))));
    for (const [kind, act] of Object.entries(on)) source.addEventListener(kind, (event) => act(JSON.parse(event.data)));
  };
  const close = () => {
    source?.close();
    source = null;
    say("not connected", "off");
  };
  document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
  addEventListener("pagehide", close);
  addEventListener("pageshow", () => document.hidden || open());
  open();
};

/** The elements that the server has made of a part of the page. What comes from runs is escaped there. */
export const parsed = (html) => {
  const template = document.createElement("template");
  template.innerHTML = html.trim();
  return template.content;
};
