/* Lets the lists of languages find a language by its code, without its accents, and by its other names. Gradio's list
 * shows the labels that contain what is typed, so where that finds nothing, or another language has the typed code, the
 * field gives Gradio the label of the language that was meant, while it shows what was typed. */
(() => {
  const FIELDS = "#language, #batch-language";
  const fold = (text) => text.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase().trim();
  const names = Object.entries(window.blipSpaceLocale.languages)
    .map(([code, [label, ...others]]) => ({ label, code, names: [code, ...others, ...label.split(" – ")].map(fold) }));
  const nativeValue = Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, "value");
  /** @type {string[]} */ let labels = [];

  /** The label of the language that a user means, or the text itself if Gradio's own search is right. @param {string} typed */
  function meant(typed) {
    const query = fold(typed);
    if (!query || labels.includes(typed)) return typed;
    const shown = (label) => labels.find((one) => one === label || one.startsWith(label + " "));
    const exact = names.find((language) => language.names.includes(query));
    const found = labels.some((label) => label.toLowerCase().includes(typed.toLowerCase()))
      ? exact
      : exact ?? names.find((language) => language.names.some((name) => name.startsWith(query)));
    return (found && shown(found.label)) ?? typed;
  }

  document.addEventListener("focusin", (event) => {
    const input = event.target;
    if (!input.matches?.(`:is(${FIELDS}) input`) || Object.hasOwn(input, "value")) return;
    labels = [];
    Object.defineProperty(input, "value", {
      configurable: true,
      get: () => meant(nativeValue.get.call(input)),
      set: (text) => { if (text !== input.value) nativeValue.set.call(input, text); },
    });
  });
  /* The list is whole until the first key. */
  document.addEventListener("keydown", (event) => {
    const field = event.target.closest?.(FIELDS);
    const options = [...(field?.querySelectorAll("[role=option]") ?? [])];
    if (options.length > labels.length) labels = options.map((option) => option.ariaLabel);
  }, true);
  document.addEventListener("focusout", (event) => {
    const input = event.target;
    if (!input.matches?.(`:is(${FIELDS}) input`) || !Object.hasOwn(input, "value")) return;
    const typed = nativeValue.get.call(input), label = input.value;
    delete input.value;
    setTimeout(() => { if (input.value === typed) input.value = label; });
  });
})();
