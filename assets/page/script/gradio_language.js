/* Lets Gradio's own words be in the page's language. Gradio reads the browser's language before it runs the page's
 * scripts, so this one stands at the beginning of the page. It knows some of our languages by other tags. */
(() => {
  const { tag } = window.blipSpaceLocale;
  const gradioTag = { "pt": "pt-BR", "zh-Hans": "zh-CN", "zh-Hant": "zh-TW" }[tag] ?? tag;
  Object.defineProperty(navigator, "language", { configurable: true, get: () => gradioTag });
  Object.defineProperty(navigator, "languages", { configurable: true, get: () => [gradioTag] });

  /* Gradio sets the language of the page to its own, which is English where it lacks ours. */
  const root = document.documentElement;
  const keepTag = () => { if (root.lang !== tag) root.lang = tag; };
  new MutationObserver(keepTag).observe(root, { attributes: true, attributeFilter: ["lang"] });
})();
