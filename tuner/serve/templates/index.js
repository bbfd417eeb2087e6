const body = byId("studies").tBodies[0];
const MINUTE_S = 60, HOUR_S = 3600, DAY_S = 86400;

function ago(seconds) {
  if (seconds < MINUTE_S) return "just now";
  if (seconds < HOUR_S) return `${Math.floor(seconds / MINUTE_S)} min ago`;
  if (seconds < 2 * DAY_S) return `${Math.floor(seconds / HOUR_S)} h ago`;
  return `${words(Math.floor(seconds / DAY_S))} days ago`;
}

function tellTimes() {
  for (const time of body.querySelectorAll("time")) {
    time.title ||= new Date(time.dateTime).toLocaleString();
    time.textContent = ago((Date.now() - new Date(time.dateTime)) / 1000);
  }
}

function choose() {
  const wanted = byId("search").value.trim().toLowerCase();
  let shown = 0;
  for (const row of body.rows) {
    row.hidden = Boolean(wanted) && !row.textContent.toLowerCase().includes(wanted);
    shown += !row.hidden;
  }
  byId("shown").textContent = `${words(shown)} of ${words(body.rows.length)} studies shown`;
  byId("none").hidden = body.rows.length > 0;
}

function rowOf(html) {
  const holder = element("template");
  holder.innerHTML = html;
  return holder.content.firstElementChild;
}

function heard(parts) {
  const rows = new Map([...body.rows].map((row) => [row.dataset.study, row]));
  const focused = body.contains(document.activeElement) && document.activeElement.closest("tr").dataset.study;
  for (const [part, html] of Object.entries(parts)) {
    if (!part.startsWith("=")) continue;
    const name = part.slice(1), before = rows.get(name);
    if (html === null) {
      if (before) before.remove();
      rows.delete(name);
      continue;
    }
    const row = rowOf(html);
    if (before) before.replaceWith(row);
    else body.append(row);
    rows.set(name, row);
  }
  if (parts.order !== undefined) {
    JSON.parse(parts.order).forEach((name, at) => {
      const row = rows.get(name);
      if (row && body.rows[at] !== row) body.insertBefore(row, body.rows[at] || null);
    });
  }
  if (parts.trouble !== undefined) {
    byId("trouble").hidden = !parts.trouble;
    byId("trouble").textContent = parts.trouble;
  }
  const again = focused !== false && rows.get(focused);
  if (again && !again.contains(document.activeElement)) again.querySelector("a").focus({ preventScroll: true });
  tellTimes();
  choose();
}

byId("tools").addEventListener("submit", (event) => event.preventDefault());
byId("search").addEventListener("input", choose);
tellTimes();
choose();
setInterval(tellTimes, 30000);
addEventListener("load", () => listen("/events", heard));
