"use strict";
// Light and dark, before anything is painted. The report of a run remembers its own.
(() => {
  const root = document.documentElement;
  const stored = (value) => {
    try {
      if (value !== undefined) localStorage.setItem("firstwords-theme", value);
      return localStorage.getItem("firstwords-theme");
    } catch {
      return null; // A browser may forbid to store anything.
    }
  };
  const system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const before = stored();
  if (before === "dark" || before === "light") root.dataset.theme = before;
  addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    const label = () => {
      button.textContent = isDark() ? "Light colours" : "Dark colours";
    };
    button.hidden = false;
    label();
    button.addEventListener("click", () => {
      root.dataset.theme = isDark() ? "light" : "dark";
      stored(root.dataset.theme);
      label();
    });
    system.addEventListener("change", label);
  });
})();
