"use strict";
const root = document.documentElement;
const byId = (id) => document.getElementById(id);
const element = (tag, className, text) => {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
};

// A served page stores the theme for the next one. A file has no storage of its own.
const keeps = location.protocol !== "file:";
function setTheme(theme) {
  if (theme) root.dataset.theme = theme;
  else delete root.dataset.theme;
}
if (keeps) {
  setTheme(localStorage.getItem("theme"));
  byId("theme").value = root.dataset.theme || "";
}
byId("theme").addEventListener("change", (event) => {
  setTheme(event.target.value);
  if (keeps) localStorage.setItem("theme", event.target.value);
});

const digits = new Map();
function words(value, significant = 4) {
  if (value === null || value === undefined) return "–";
  if (typeof value !== "number") return String(value);
  if (Number.isInteger(value)) return value.toLocaleString("en");
  const size = Math.abs(value);
  if (size && (size < 1e-4 || size >= 1e6)) return value.toExponential(significant - 1);
  if (!digits.has(significant)) {
    digits.set(significant, new Intl.NumberFormat("en", { maximumSignificantDigits: significant }));
  }
  return digits.get(significant).format(value);
}
// Returns a parameter as a Python literal.
function python(value) {
  if (value === null) return "None";
  return typeof value === "boolean" ? (value ? "True" : "False") : words(value);
}
const distance = (value) => (value === null ? "–" : value.toFixed(3));
const seconds = (value) => (value === null ? "–" : value.toFixed(value < 10 ? 2 : 0));
// All numbers of a column have the same number of decimals, so that they align.
function aligned(values) {
  let most = 0;
  for (const value of values) if (value !== null && Math.abs(value) < 1e6) most = Math.max(most, Math.abs(value));
  const decimals = most ? Math.min(6, Math.max(0, 3 - Math.floor(Math.log10(most)))) : 0;
  return (value) => (value === null || Math.abs(value) >= 1e6 ? words(value) : value.toFixed(decimals));
}
