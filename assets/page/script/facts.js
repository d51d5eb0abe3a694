/* What the page knows about each message (see messages.py): its language and direction, and how an answer was made. */
(() => {
  const { text, tag, isPlaceholder, textOf } = window.blipSpace;
  const RIGHT_TO_LEFT = ["Arab", "Hebr", "Syrc", "Thaa", "Nkoo", "Adlm"];
  const SCRIPTS = { Jpan: ["Hira", "Kana", "Hani"], Kore: ["Hang", "Hani"], Hans: ["Hani"], Hant: ["Hani"] };
  const names = new Intl.DisplayNames([tag], { type: "language" });
  const seconds = new Intl.NumberFormat(tag, { style: "unit", unit: "second", maximumFractionDigits: 2 });

  /** The messages that each conversation of the page shows, by the id of its element. @type {Map<string, any[]>} */
  const conversations = new Map();

  /** The facts of a message, none if they cannot be read. @param {any} message @returns {any} */
  function factsOf(message) {
    try {
      return JSON.parse(message?.metadata?.log ?? "{}") ?? {};
    } catch {
      return {};
    }
  }

  /** The attributes of a text that should be in a language; without a language if most of its letters are of another script. */
  function languageOf(content, code) {
    const locale = new Intl.Locale(code), script = locale.maximize().script ?? "Latn";
    const pattern = (SCRIPTS[script] ?? [script]).map((name) => `\\p{Script_Extensions=${name}}`).join("");
    const count = (letters) => content.match(new RegExp(letters, "gu"))?.length ?? 0;
    if (2 * count(`(?=\\p{L})[${pattern}]`) < (count("\\p{L}") || 1)) return { dir: "auto" };
    return { lang: locale.baseName, dir: RIGHT_TO_LEFT.includes(script) ? "rtl" : "ltr" };
  }

  /** The language of each message: of a question it is that of its answer, and of a text of the page the page's. */
  function languages(messages) {
    return messages.map((message, index) => {
      if (isPlaceholder(message)) return { lang: tag, dir: document.documentElement.dir || "ltr" };
      const { language } = factsOf(message.role === "user" ? messages[index + 1] : message);
      try {
        return language ? languageOf(textOf(message), language) : { dir: "auto" };
      } catch {
        return { dir: "auto" };
      }
    });
  }

  /** How an answer was made, in words. @param {any} facts */
  function describe({ model, language, tokens, seconds: duration, options = {} }) {
    const settings = Object.entries(options).map(([name, value]) => {
      if (name === "use_history") return text("details_without_history");
      const shown = name === "quality" ? text(`quality_${value}`) : value;
      return text("details_setting", { name: text(`${name}_label`), value: shown });
    });
    return [
      model, language && names.of(language), ...settings,
      tokens ? text("details_tokens", { n: tokens }) : "",
      typeof duration === "number" ? seconds.format(duration) : "",
    ].filter(Boolean).join(" · ");
  }

  /** @type {{language?: string, model?: string, options: Record<string, any>}} */
  let current = { options: {} };

  /** Runs when a setting changes. @param {string[]} order @param {Record<string, any>} defaults @param {any[]} values */
  function settingsChanged(order, defaults, values) {
    const { language, model, ...options } = Object.fromEntries(order.map((name, index) => [name, values[index]]));
    current = { language, model, options: Object.fromEntries(
      Object.keys(defaults).filter((name) => options[name] !== defaults[name]).map((name) => [name, options[name]])) };
    for (const id of conversations.keys()) annotate(id);
  }

  /** What a complete answer would be made with if it were asked for again now, in words; empty if that is the same. @param {any} facts */
  function changesOf({ model, language, options, seconds: duration }) {
    if (typeof duration !== "number" || !current.model) return "";
    const same = JSON.stringify(Object.entries(options ?? {}).sort()) === JSON.stringify(Object.entries(current.options).sort());
    return [
      current.model === model ? "" : current.model,
      current.language === language ? "" : names.of(current.language),
      same ? "" : text("changed_settings"),
    ].filter(Boolean).join(" · ");
  }

  /** The elements of a conversation's messages; one that is being edited has none. Gradio puts messages of one role in a row. */
  function elements(id, messages) {
    const rows = [...document.querySelectorAll(`#${id} .message-row`)], found = [];
    let row = -1, inRow = 0;
    messages.forEach((message, index) => {
      const isFirst = message.role !== messages[index - 1]?.role;
      row += isFirst ? 1 : 0;
      inRow = isFirst ? 0 : inRow + 1;
      found.push({ row: rows[row], content: rows[row]?.querySelectorAll("[data-testid=user], [data-testid=bot]")[inRow] });
    });
    return found;
  }

  function annotate(id) {
    const messages = conversations.get(id) ?? [], attributes = languages(messages);
    elements(id, messages).forEach(({ row, content }, index) => {
      if (!content) return;
      const { lang, dir } = attributes[index];
      if (lang) content.lang = lang; else content.removeAttribute("lang");
      content.dir = dir;
      if (messages[index].role === "assistant") window.blipSpace.showBar(id, row, messages, index);
    });
  }

  /** Runs when a conversation changes, and again once its elements have. @param {string} id @param {any[]} messages */
  function showFacts(id, messages) {
    conversations.set(id, messages ?? []);
    annotate(id);
  }
  new MutationObserver((changes) => {
    for (const id of conversations.keys()) {
      if (changes.some(({ target }) => target instanceof Element && target.closest(`#${id}`))) annotate(id);
    }
  }).observe(document.documentElement, { childList: true, subtree: true });

  const facts = { factsOf, languages, describe, changesOf, settingsChanged, showFacts, conversations };
  Object.assign(window.blipSpace, facts);
})();
