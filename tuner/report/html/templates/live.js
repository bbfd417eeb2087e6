// The page of a running study: events announce changes, and the script then fetches them.
const live = JSON.parse(byId("live").textContent);
const TABLE_MS = 2000, STORY_MS = 5000, QUIET_S = 60;
// The next request waits this many times the duration of the last response.
const PATIENCE = 10;
let latest = live.revision, tableAt = live.revision, storyAt = live.revision;
let finished = live.finished;
let newsAt = live.quiet === null ? null : Date.now() - 1000 * live.quiet;

// Returns a function that sends requests while data is missing: one at a time and not too often.
function paced(leastMs, missing, ask) {
  let busy = false, next = 0;
  return async function again() {
    if (busy || document.hidden || !missing()) return;
    busy = true;
    await new Promise((then) => setTimeout(then, next - performance.now()));
    const began = performance.now();
    try {
      await ask();
    } catch (error) {
      console.warn(String(error));
    }
    busy = false;
    next = performance.now() + Math.max(leastMs, PATIENCE * (performance.now() - began));
    again();
  };
}

async function askTable() {
  if (marking(byId("table"))) return;
  const news = await get(`${location.pathname}/records.json?since=${encodeURIComponent(tableAt)}`);
  if (news.since !== tableAt) data.number = data.curves = []; // the response holds all trials
  const changed = merge(news);
  tableAt = changed ? news.revision : "";
  if (changed) refreshTable(changed);
}

async function askStory() {
  const news = await get(`${location.pathname}/story.json`);
  retell(byId("first"), news.parts.first);
  retell(byId("next"), news.parts.next);
  retellCharts(news.parts.charts, news.specs);
  const links = document.querySelector("nav");
  for (const section of document.querySelectorAll("section[data-label]")) {
    if (links.querySelector(`a[href="#${section.id}"]`)) continue;
    const link = element("a", "", section.dataset.label);
    link.href = `#${section.id}`;
    links.append(link, " ");
  }
  storyAt = news.revision;
}

const updateTable = paced(TABLE_MS, () => tableAt !== latest, askTable);
const updateStory = paced(STORY_MS, () => storyAt !== latest, askStory);

// Turns HTML of the server, which is escaped, into elements. Nothing in it loads or runs.
function parsed(html) {
  const holder = element("template");
  holder.innerHTML = html;
  const place = element("div");
  place.append(holder.content);
  return place;
}

function retell(place, html) {
  const now = parsed(html);
  if (now.innerHTML === place.innerHTML || marking(place)) return;
  keepingFocus(place, () => place.replaceChildren(...now.childNodes));
}

// A changed chart is drawn again when it is next visible.
const unseen = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (!isIntersecting) continue;
    unseen.unobserve(target);
    target.style.minHeight = `${target.offsetHeight}px`;
    drawPlace(target);
  }
}, { rootMargin: "200px" });

function retellCharts(html, news) {
  const now = parsed(html), place = byId("charts");
  const before = specs;
  specs = news;
  for (const section of now.querySelectorAll("section")) {
    const shown = document.getElementById(section.id);
    const chart = section.querySelector("[data-chart]"), kind = chart.dataset.chart;
    if (!shown) {
      place.append(section);
      chart.style.minHeight = "300px";
      unseen.observe(chart);
      continue;
    }
    for (const part of ["h2", "figcaption"]) {
      shown.querySelector(part).textContent = section.querySelector(part).textContent;
    }
    const drawn = shown.querySelector("[data-chart]");
    drawn.setAttribute("aria-label", chart.getAttribute("aria-label"));
    if (JSON.stringify(before[kind]) !== JSON.stringify(news[kind])) unseen.observe(drawn);
  }
  for (const section of place.querySelectorAll("section")) {
    if (!specs[section.querySelector("[data-chart]").dataset.chart]) section.remove();
  }
}

function tellQuiet() {
  const quiet = newsAt === null ? 0 : (Date.now() - newsAt) / 1000;
  const minutes = Math.floor(quiet / 60);
  const told = minutes < 120 ? `${words(minutes)} min` : `${words(Math.floor(minutes / 60))} h`;
  byId("quiet").textContent = finished || quiet < QUIET_S ? "" : `; nothing new for ${told}`;
}

function heard(parts) {
  if (parts.trouble !== undefined) {
    byId("trouble").hidden = !parts.trouble;
    byId("trouble").textContent = parts.trouble;
  }
  if (parts.finished !== undefined) finished = Boolean(parts.finished);
  if (parts.revision !== undefined && parts.revision !== latest) {
    latest = parts.revision;
    newsAt = Date.now();
  }
  if (parts.lede !== undefined) byId("lede").textContent = parts.lede;
  if (parts.running !== undefined) retell(byId("running"), parts.running);
  tellQuiet();
  updateTable();
  updateStory();
}

function startLive() {
  tellQuiet();
  setInterval(tellQuiet, 10000);
  addEventListener("load", () => listen(`${location.pathname}/events`, heard));
  document.addEventListener("visibilitychange", () => { updateTable(); updateStory(); });
}
