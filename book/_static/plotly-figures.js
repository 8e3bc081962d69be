// Draws the figures that a page carries as JSON, in the colours of the page, each with a slider of the browser's own:
// it works by touch and by keyboard, which plotly's does not.
"use strict";
(() => {
  const drawn = [];

  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const colors = () => ({ "font.color": color("--pst-color-text-base") });

  function addSlider(figure, graph, slider) {
    const label = document.createElement("label");
    const value = document.createElement("output");
    const input = document.createElement("input");
    const prefix = (slider.currentvalue && slider.currentvalue.prefix) || "";
    Object.assign(input, { type: "range", min: 0, max: slider.steps.length - 1, step: 1 });
    input.value = slider.active || 0;
    const show = () => {
      const step = slider.steps[input.value];
      value.textContent = prefix + step.label;
      input.setAttribute("aria-valuetext", value.textContent);
      return step;
    };
    input.addEventListener("input", () => window.Plotly.animate(graph, ...show().args));
    input.setAttribute("aria-label", prefix.replace(/[=:\s]+$/, "") || "position");
    show();
    label.append(value, input);
    figure.append(label);
  }

  function draw(figure) {
    const { data, layout, frames } = JSON.parse(figure.querySelector("script").textContent);
    const graph = document.createElement("div");
    figure.append(graph);
    const [slider] = layout.sliders || [];
    const own = slider && slider.steps.every((step) => step.method === "animate");
    if (own) {
      delete layout.sliders;
      layout.height = (layout.height || 400) - 70;
      figure.style.minHeight = `${layout.height + 40}px`;
    }
    layout.font = { ...layout.font, color: colors()["font.color"] };
    const config = { displayModeBar: false, responsive: false };
    return window.Plotly.newPlot(graph, { data, layout, frames, config }).then(() => {
      drawn.push(graph);
      new ResizeObserver(() => window.Plotly.Plots.resize(graph)).observe(figure);
      if (own) addSlider(figure, graph, slider);
      figure.dataset.ready = "";
    });
  }

  document.querySelectorAll("figure.interactive").forEach(draw);
  new MutationObserver(() => drawn.forEach((graph) => window.Plotly.relayout(graph, colors()))).observe(
    document.documentElement,
    { attributes: true, attributeFilter: ["data-theme"] },
  );
})();
