// Merges the changes of a study into the data of the page.
const RANKED = ["number", "state", "value", "min", "lowest", "mean", "epochs", "seconds", "reason", "short",
  "audit", "checkpoint", "test", "curves"];

// Returns a column in the order of `rows`. Each row is a source and the index in it.
function taken(rows, column) { return rows.map(([from, at]) => from[column][at]); }

function held(from, name, at) {
  const index = from.index.get(name);
  return index === undefined ? [] : from.params[index][at];
}

// Returns the numbers of the changed trials, or null if the page must load all of them again.
function merge(news) {
  const changed = new Set(news.number);
  const kept = [];
  data.number.forEach((number, at) => { if (!changed.has(number)) kept.push([data, at]); });
  if (kept.length + news.number.length !== news.total) return null;
  const layers = news.layers.map((names) => {
    const key = JSON.stringify(names);
    const found = data.layers.findIndex((known) => JSON.stringify(known) === key);
    return found >= 0 ? found : data.layers.push(names) - 1;
  });
  for (const curve of news.curves) if (curve) curve.layers = layers[curve.layers];
  const rows = new Array(news.total);
  news.rank.forEach((place, at) => { rows[place] = [news, at]; });
  let next = 0;
  for (let place = 0; place < rows.length; place++) rows[place] ||= kept[next++];
  const names = [...data.names, ...news.names.filter((name) => !data.names.includes(name))];
  for (const from of [data, news]) from.index = new Map(from.names.map((name, at) => [name, at]));
  const merged = Object.fromEntries(RANKED.map((column) => [column, taken(rows, column)]));
  merged.params = names.map((name) => rows.map(([from, at]) => held(from, name, at)));
  Object.assign(data, merged, {
    names, maxEpochs: news.maxEpochs, target: news.target, kept: Math.max(data.kept, news.kept),
  });
  return changed;
}

// Shows the merged data in the table and in the open trial. Scroll position and focus stay.
function refreshTable(changed) {
  const sortedBy = keyOf(columns[table.sort]);
  columns = columnsOf();
  table.sort = columns.findIndex((column) => keyOf(column) === sortedBy);
  haystacks = null;
  rowOf = new Map(data.number.map((number, row) => [number, row]));
  head();
  countStates();
  keepingFocus(byId("table").tBodies[0], () => choose(table.limit));
  const open = dialog.open ? Number(/\d+$/.exec(byId("trial-title").textContent)[0]) : null;
  if (open === null) return;
  tellTrial(rowOf.get(open));
  if (changed.has(open)) drawTrial(rowOf.get(open));
}

// Changes the content of an element. A link or button that had the focus gets it back.
function keepingFocus(place, change) {
  const focused = place.contains(document.activeElement) ? document.activeElement : null;
  const inner = place.querySelector(".scroll");
  const at = inner && [inner.scrollLeft, inner.scrollTop];
  change();
  const now = place.querySelector(".scroll");
  if (now && at) [now.scrollLeft, now.scrollTop] = at;
  if (!focused || place.contains(focused)) return;
  const again = focused.matches("a[href]")
    ? place.querySelector(`a[href="${CSS.escape(focused.getAttribute("href"))}"]`)
    : focused.getAttribute("aria-label") &&
      place.querySelector(`[aria-label="${CSS.escape(focused.getAttribute("aria-label"))}"]`);
  if (again) again.focus({ preventScroll: true });
}

// Returns whether the user is selecting text in an element, which a change would undo.
function marking(place) {
  const selection = getSelection();
  return !selection.isCollapsed && place.contains(selection.anchorNode);
}
