// Rows are created 100 at a time, so a page of ten thousand trials opens as fast as one of a hundred.
const STEP = 100;
const data = JSON.parse(byId("records").textContent);
const columnsOf = () => [
  { name: "rank", values: data.number.map((_, row) => row + 1), number: true, show: words },
  { name: "trial", values: data.number, number: true, head: true },
  { name: "state", values: data.state },
  { name: data.metric, values: data.value, number: true, show: aligned(data.value), down: data.mode === "max" },
  { name: "rotation min", values: data.min, number: true, show: distance, down: true },
  { name: "rotation mean", values: data.mean, number: true, show: distance, down: true },
  { name: "epochs", values: data.epochs, number: true, show: (v) => words(v), down: true },
  ...data.names.map((name, index) => ({
    name,
    parameter: true,
    values: data.params[index].map((held) => (held.length ? held[0] : undefined)),
    number: data.params[index].every((held) => !held.length || typeof held[0] === "number"),
    show: (value) => (value === undefined ? "" : python(value)),
  })),
  { name: "seconds", values: data.seconds, number: true, show: seconds, down: true },
  { name: "reason", values: data.short, reason: data.reason },
];
let columns = columnsOf();
const table = { sort: 0, down: false, rows: data.number.map((_, row) => row), limit: STEP };

function compare(one, other) {
  if (typeof one === typeof other) return one < other ? -1 : one > other ? 1 : 0;
  return typeof one < typeof other ? -1 : 1;
}

function sorted(rows) {
  const { values } = columns[table.sort];
  const unknown = (v) => v === null || v === undefined || v === "" || Number.isNaN(v);
  const sign = table.down ? -1 : 1;
  return rows.sort((a, b) => {
    const one = values[a], other = values[b];
    // Unknown values come last in both directions.
    if (unknown(one) || unknown(other)) return unknown(one) - unknown(other) || a - b;
    return sign * compare(one, other) || a - b;
  });
}

let haystacks = null;
function haystack(row) {
  haystacks ||= new Array(data.number.length);
  haystacks[row] ??= [
    `trial ${data.number[row]}`, data.state[row], data.lowest[row], data.reason[row], data.audit[row],
    ...data.names.map((name, i) => (data.params[i][row].length ? `${name}=${python(data.params[i][row][0])}` : "")),
  ].join("\n").toLowerCase();
  return haystacks[row];
}

// Choosing rows cancels a pending search, which it includes. A search that runs later would take the
// focus away from the user.
let waiting = 0;
function choose(limit = STEP) {
  clearTimeout(waiting);
  const state = byId("state").value;
  const wanted = byId("search").value.trim().toLowerCase();
  const rows = [];
  for (let row = 0; row < data.number.length; row++) {
    if (state && data.state[row] !== state) continue;
    if (wanted && !haystack(row).includes(wanted)) continue;
    rows.push(row);
  }
  table.rows = sorted(rows);
  table.limit = limit;
  fill();
}

function cellOf(column, row) {
  const value = column.values[row];
  if (column.head) {
    const cell = element("th", "number");
    cell.scope = "row";
    const link = element("a", "", String(value));
    link.href = `#trial-${value}`;
    link.setAttribute("aria-label", `Trial ${value}`);
    cell.append(link);
    return cell;
  }
  if (column.name === "state" && column.values === data.state) {
    const cell = element("td");
    cell.append(element("span", `state ${value}`, value));
    return cell;
  }
  if (column.reason) {
    const cell = element("td", "reason");
    const text = element("span", "", value);
    if (value) text.title = column.reason[row];
    cell.append(text);
    return cell;
  }
  const text = column.show ? column.show(value) : words(value);
  const cell = element("td", column.number ? "number" : "text", text);
  if (!column.number && text.length > 20) cell.title = text;
  return cell;
}

function fill() {
  const rows = table.rows.slice(0, table.limit).map((row) => {
    const line = element("tr");
    line.append(...columns.map((column) => cellOf(column, row)));
    return line;
  });
  byId("table").tBodies[0].replaceChildren(...rows);
  const left = table.rows.length - rows.length;
  byId("more").hidden = left <= 0;
  byId("more").textContent = `Show ${Math.min(STEP, left)} more`;
  byId("shown").textContent = `${words(rows.length)} of ${words(table.rows.length)} trials shown`;
}

function sortBy(index) {
  table.down = table.sort === index ? !table.down : Boolean(columns[index].down);
  table.sort = index;
  mark();
  choose();
}

function mark() {
  [...byId("table").tHead.rows[0].cells].forEach((cell, index) => {
    if (index === table.sort) cell.setAttribute("aria-sort", table.down ? "descending" : "ascending");
    else cell.removeAttribute("aria-sort");
  });
}

// A parameter may have the name of another column.
const keyOf = (column) => `${column.parameter ? "parameter " : ""}${column.name}`;

// Adds the headings that are missing. A new parameter comes between columns that are there already.
function head() {
  const line = byId("table").tHead.rows[0] || byId("table").tHead.insertRow();
  columns.forEach((column, index) => {
    if (line.cells[index]?.dataset.column === keyOf(column)) return;
    const cell = element("th", column.number ? "number" : "");
    cell.scope = "col";
    cell.dataset.column = keyOf(column);
    const button = element("button", "", column.name);
    button.type = "button";
    button.addEventListener("click", () => sortBy(cell.cellIndex));
    cell.append(button);
    line.insertBefore(cell, line.cells[index] || null);
  });
}

function countStates() {
  const counts = new Map([...byId("state").options].slice(1).map((option) => [option.value, 0]));
  for (const state of data.state) counts.set(state, (counts.get(state) || 0) + 1);
  for (const [state, count] of counts) {
    let option = [...byId("state").options].find((one) => one.value === state);
    if (!option) {
      option = element("option");
      option.value = state;
      byId("state").append(option);
    }
    option.textContent = `${state} (${words(count)})`;
  }
}

function startTable() {
  head();
  countStates();
  byId("tools").addEventListener("submit", (event) => event.preventDefault());
  byId("state").addEventListener("change", () => choose());
  byId("search").addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => choose(), 120);
  });
  byId("more").addEventListener("click", () => {
    const before = table.limit;
    table.limit += STEP;
    fill();
    byId("table").tBodies[0].rows[before]?.querySelector("a")?.focus();
  });
  mark();
  fill();
}
