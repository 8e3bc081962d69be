// What scrolls must be reachable by keyboard: formulas wider than the page get a tab stop.
"use strict";
(() => {
  const wide = () =>
    document.querySelectorAll("mjx-container, .cell_output, .cell_output .output").forEach((box) => {
      if (box.scrollWidth > box.clientWidth + 1) box.tabIndex = 0;
      else box.removeAttribute("tabindex");
    });
  const ready = () => (window.MathJax && window.MathJax.startup ? window.MathJax.startup.promise : Promise.resolve());
  window.addEventListener("load", () => ready().then(wide).then(() => document.fonts.ready).then(wide));
  window.addEventListener("resize", wide);
})();

// A page read from a disk may not fetch others, so a search there lists titles without their text.
if (location.protocol === "file:" && typeof DOCUMENTATION_OPTIONS !== "undefined") {
  DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
}

// Paper is light.
(() => {
  const data = document.documentElement.dataset;
  let theme;
  window.addEventListener("beforeprint", () => ([theme, data.theme] = [data.theme, "light"]));
  window.addEventListener("afterprint", () => (data.theme = theme));
})();
