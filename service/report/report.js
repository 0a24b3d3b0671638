"use strict";
// Draws the figures, whose data stand beside them as JSON, in the colours of the page.
const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const themed = (layout) => {
  const copy = structuredClone(layout);
  copy.font = { ...copy.font, color: style("--ink") };
  copy.modebar = { bgcolor: "rgba(0,0,0,0)", color: style("--soft"), activecolor: style("--accent") };
  for (const key of Object.keys(copy).filter((name) => /^[xy]axis/.test(name))) {
    const line = style("--line");
    Object.assign(copy[key], { gridcolor: line, linecolor: line, zerolinecolor: line });
  }
  return copy;
};
const draw = () => {
  for (const holder of document.querySelectorAll("script.figure")) {
    const figure = JSON.parse(holder.textContent);
    // No button may send what is shown to somebody's cloud.
    const options = { responsive: true, displaylogo: false, showSendToCloud: false };
    Plotly.react(holder.previousElementSibling, figure.data, themed(figure.layout), options);
  }
};
draw();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
