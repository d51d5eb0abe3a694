/* The texts of the user's language, which the server puts into the page (localized.py). */
window.blipSpace = (() => {
  const { tag, texts } = window.blipSpaceLocale;
  const plural = new Intl.PluralRules(tag), numbers = new Intl.NumberFormat(tag, { numberingSystem: "latn" });
  const shown = (value) => (typeof value === "number" ? numbers.format(value) : String(value));

  /**
   * The text of a key with its values; one with plural forms needs the value `n`.
   * @param {string} key
   * @param {Record<string, string | number>} [values]
   */
  function text(key, values = {}) {
    const entry = texts[key];
    const sentence = typeof entry === "string" ? entry : entry[plural.select(values.n)] ?? entry.other;
    return sentence.replace(/\{(\w+)\}/g, (placeholder, name) => (name in values ? shown(values[name]) : placeholder));
  }

  return { tag, text };
})();
