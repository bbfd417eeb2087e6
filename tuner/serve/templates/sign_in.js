// A sign-in link ends in #token=... . Browsers send no fragment, and the script removes it at once.
function followLink() {
  const linked = /^#token=(.+)$/.exec(location.hash);
  if (!linked) return;
  history.replaceState(null, "", location.pathname + location.search);
  signIn(decodeURIComponent(linked[1]));
}
async function signIn(token) {
  const answer = await fetch("/sign-in", {
    method: "POST", body: new URLSearchParams({ token }), redirect: "manual",
  }).catch(() => null);
  if (answer && answer.type === "opaqueredirect") location.reload();
  else byId("said").textContent = answer ? "That is not the token." : "The server does not answer.";
}
followLink();
addEventListener("hashchange", followLink);
byId("sign-in").addEventListener("submit", (event) => {
  event.preventDefault();
  signIn(byId("token").value);
});
