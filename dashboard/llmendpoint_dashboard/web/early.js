// Applies the chosen theme before the first paint. Modules run later, and a dark page would flash white.
try {
  const theme = localStorage.getItem("llmendpoint.theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch {
  // Storage may be forbidden. The theme of the system applies.
}
