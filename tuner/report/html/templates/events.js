// Server-sent events. A hidden page sends no requests.
const RETRY_MS = 5000;

// Someone who is already signed in may follow a sign-in link again.
function hideToken() {
  if (location.hash.startsWith("#token=")) history.replaceState(null, "", location.pathname);
}
hideToken();
addEventListener("hashchange", hideToken);

function connection(text) { byId("connection").textContent = text; }

// Fetches JSON; the browser revalidates its cached copy. Without a session it opens the sign-in page.
async function get(path) {
  const answer = await fetch(path, { cache: "no-cache", headers: { Accept: "application/json" } });
  if (answer.status === 401) location.reload();
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return answer.json();
}

function listen(path, heard) {
  let source = null, waiting = 0;
  function close() {
    clearTimeout(waiting);
    if (source) source.close();
    source = null;
  }
  function open() {
    close();
    source = new EventSource(path);
    source.addEventListener("parts", (event) => {
      connection("live");
      heard(JSON.parse(event.data));
    });
    source.addEventListener("error", () => {
      connection("not connected, trying again");
      if (source.readyState !== EventSource.CLOSED) return; // the browser reconnects by itself
      waiting = setTimeout(async () => {
        const answer = await fetch(location.pathname, { method: "HEAD" }).catch(() => null);
        if (answer && answer.status === 401) location.reload();
        else open();
      }, RETRY_MS);
    });
  }
  // A browser allows few connections to one server, and each open tab uses one.
  document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
  addEventListener("pagehide", close);
  addEventListener("pageshow", (event) => { if (event.persisted) open(); });
  if (!document.hidden) open();
}
