let specs = JSON.parse(byId("specs").textContent);
const trialSpecs = JSON.parse(byId("trial-specs").textContent);
// Text and lines use the colour of the page around them, so a change of theme needs no redrawing.
const ink = { labelColor: "currentColor", titleColor: "currentColor" };
const config = {
  background: null, aria: false,
  font: "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif",
  view: { stroke: null },
  axis: { ...ink, labelFontSize: 12, titleFontSize: 12, titleFontWeight: "normal", titlePadding: 8,
    labelOpacity: 0.8, titleOpacity: 0.8, domain: false, tickSize: 0, labelPadding: 6,
    gridColor: "currentColor", gridOpacity: 0.12, labelLimit: 140, titleLimit: 280 },
  axisX: { grid: false, domain: true, domainColor: "currentColor", domainOpacity: 0.4,
    ticks: true, tickSize: 4, tickColor: "currentColor", tickOpacity: 0.4 },
  legend: { ...ink, labelFontSize: 12, titleFontSize: 12, titleFontWeight: "normal", labelLimit: 260 },
  header: { ...ink, labelFontSize: 12, labelLimit: 240 },
  title: { color: "currentColor", fontSize: 12, anchor: "start" },
  text: { fill: "currentColor" },
};

const narrow = { ...config, legend: { ...config.legend, columns: 2 } };

function grid(spec) { return spec.facet ? spec.spec : spec.concat ? spec.concat[0] : null; }

// Returns a chart that is laid out for a width in pixels.
function fitted(spec, width) {
  const fit = { ...spec };
  const part = grid(spec);
  if (!part) {
    fit.width = "container";
    fit.autosize = { type: "fit-x", contains: "padding" };
    return fit;
  }
  const many = spec.concat ? spec.concat.length : Infinity;
  fit.columns = Math.max(1, Math.min(many, spec.columns || 3, Math.floor(width / 300)));
  const beside = spec.concat ? 76 : fit.columns > 1 ? 28 : 12;
  const each = Math.max(160, Math.floor((width - (spec.concat ? 0 : 40)) / fit.columns) - beside);
  if (spec.concat) fit.concat = spec.concat.map((one) => ({ ...one, width: each }));
  else fit.spec = { ...spec.spec, width: each };
  return fit;
}

async function draw(place, spec) {
  // The label of the chart's element describes it. Single marks mean nothing to a screen reader.
  const inner = element("div", "marks");
  inner.setAttribute("aria-hidden", "true");
  if (place.drawn) place.drawn.finalize();
  place.replaceChildren(inner);
  place.drawn = await vegaEmbed(inner, fitted(spec, place.clientWidth), {
    mode: "vega-lite", renderer: "svg", actions: false, ast: true, defaultStyle: false,
    config: place.clientWidth < 480 ? narrow : config, tooltip: { disableDefaultStyle: true },
  });
}

function height(spec, width, count) {
  const part = grid(spec);
  if (!part) return (typeof spec.height === "number" ? spec.height : 300) + 60;
  const { columns } = fitted(spec, width);
  return Math.ceil(count / columns) * ((part.height || 200) + 46) + 50;
}

const idle = () => new Promise((then) =>
  (window.requestIdleCallback || setTimeout)(then, { timeout: 500 }));

function places() { return [...document.querySelectorAll("[data-chart]")]; }

function reserve() {
  for (const place of places()) {
    const spec = specs[place.dataset.chart];
    const sorts = spec.facet && spec.facet.sort;
    const count = sorts ? sorts.length : spec.concat ? spec.concat.length : 1;
    place.style.minHeight = `${height(spec, place.clientWidth, count)}px`;
  }
}

let drawnAt = 0;
async function drawAll() {
  drawnAt = innerWidth;
  for (const place of places()) {
    await idle();
    await drawPlace(place);
  }
  root.dataset.drawn = "";
  performance.mark("drawn");
}

async function drawPlace(place) {
  try {
    await draw(place, specs[place.dataset.chart]);
  } catch (error) {
    console.error(error);
    place.replaceChildren(element("p", "note", "This chart could not be drawn."));
  }
  place.style.minHeight = "";
  place.dataset.drawn = "";
}

function startCharts() {
  reserve();
  addEventListener("load", () => drawAll());
  let waiting = 0;
  addEventListener("resize", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => { if (innerWidth !== drawnAt) drawAll(); }, 250);
  });
}
