// The dialog of one trial, at #trial-17.
let rowOf = new Map(data.number.map((number, row) => [number, row]));
const dialog = byId("trial");
let shownRow = null;

function facts(list, pairs) {
  list.replaceChildren(...pairs.map(([name, value]) => {
    const pair = element("div");
    pair.append(element("dt", "", name), element("dd", "", value));
    return pair;
  }));
}

function showTrial(row) {
  tellTrial(row);
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
  drawTrial(row);
}

function tellTrial(row) {
  shownRow = row;
  const number = data.number[row], state = data.state[row];
  byId("trial-title").textContent = `Trial ${number}`;
  const lede = byId("trial-lede");
  lede.replaceChildren(element("span", `state ${state}`, state));
  lede.append(`, rank ${words(row + 1)} of ${words(data.number.length)}`);
  const reason = data.reason[row] || (data.audit[row] && `Control trial, trained to the end although it would be pruned: ${data.audit[row]}`);
  byId("trial-reason").textContent = reason || "";
  facts(byId("trial-params"), data.names.flatMap((name, i) =>
    data.params[i][row].length ? [[name, python(data.params[i][row][0])]] : []));
  facts(byId("trial-facts"), [
    [data.metric, words(data.value[row])],
    ...Object.entries(data.test[row]).map(([name, value]) => [name, words(value)]),
    ["epochs", `${words(data.epochs[row])} of ${words(data.maxEpochs)}`],
    ["seconds", seconds(data.seconds[row])],
    ["rotation min", distance(data.min[row])],
    ...(data.lowest[row] ? [["in layer", data.lowest[row]]] : []),
    ["rotation mean", distance(data.mean[row])],
  ]);
  const use = byId("trial-use");
  use.replaceChildren();
  if (data.checkpoint[row]) {
    use.append(element("h3", "", "Checkpoint"));
    const path = element("p", "note");
    path.append(element("code", "", data.checkpoint[row]));
    use.append(path);
  }
  byId("better").disabled = row === 0;
  byId("worse").disabled = row === data.number.length - 1;
}

function trialData(row) {
  const curve = data.curves[row];
  const layers = data.layers[curve.layers];
  const known = (values) => curve.epochs.flatMap((epoch, i) =>
    values[i] === null ? [] : [{ epoch, value: values[i] }]);
  const ahead = (curve.forecast || []).flatMap(([low, mid, high], i) => {
    const seen = curve.distances[i], now = seen[seen.length - 1];
    if (mid === null || now === null || now === undefined) return [];
    return [{ layer: layers[i], epoch: curve.epochs[curve.epochs.length - 1], end: data.maxEpochs,
      distance: now / 1000, low: low / 1000, mid: mid / 1000, high: high / 1000 }];
  });
  return {
    rotation: {
      seen: layers.flatMap((layer, i) => curve.epochs.flatMap((epoch, j) =>
        curve.distances[i][j] === null ? [] : [{ layer, epoch, distance: curve.distances[i][j] / 1000 }])),
      ahead,
      target: [{ distance: data.target }],
    },
    metric: { seen: known(curve.metric) },
    loss: { seen: known(curve.loss) },
  };
}

async function drawTrial(row) {
  const place = byId("trial-charts");
  place.replaceChildren();
  if (!data.curves[row]) {
    place.append(element("p", "note", `This page has curves of the best ${words(data.kept)} trials only.`));
    return;
  }
  const sets = trialData(row);
  const titles = { rotation: "Rotation by layer", metric: data.metric, loss: "Train loss" };
  for (const [kind, spec] of Object.entries(trialSpecs)) {
    if (!sets[kind].seen.length) continue;
    const chart = element("div", "chart");
    chart.setAttribute("role", "img");
    const last = sets[kind].seen[sets[kind].seen.length - 1];
    chart.setAttribute("aria-label",
      `${titles[kind]} by epoch; ${words(last.value ?? last.distance)} at epoch ${words(last.epoch)}`);
    place.append(element("h3", "", titles[kind]), chart);
    await draw(chart, {
      ...spec,
      ...(spec.layer && { layer: spec.layer.filter((part) => (sets[kind][part.data.name] || []).length) }),
      datasets: { ...(spec.datasets || {}), ...sets[kind] },
    });
    if (shownRow !== row) return;
  }
}

function goTo(row) {
  history.replaceState(null, "", `#trial-${data.number[row]}`);
  showTrial(row);
}

function followHash() {
  const found = /^#trial-(\d+)$/.exec(location.hash);
  const row = found ? rowOf.get(Number(found[1])) : undefined;
  if (row !== undefined) showTrial(row);
  else if (dialog.open) dialog.close();
}

function startTrial() {
  addEventListener("hashchange", followHash);
  byId("better").addEventListener("click", () => goTo(shownRow - 1));
  byId("worse").addEventListener("click", () => goTo(shownRow + 1));
  byId("close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener("close", () => {
    shownRow = null;
    if (/^#trial-/.test(location.hash)) history.replaceState(null, "", location.pathname + location.search);
  });
  followHash();
}
