/* What a screen reader says by itself: an answer, once, when it is whole. Gradio's log would say every piece of it. */
(() => {
  const { text } = window.blipSpace;
  /** @type {HTMLElement | undefined} */
  let region;

  function makeRegion() {
    region = document.createElement("div");
    region.id = "announcement";
    region.setAttribute("role", "status");
    document.body.append(region);
    return region;
  }

  function makeParagraph({ words, language }) {
    const paragraph = document.createElement("p");
    if (language) paragraph.lang = language;
    paragraph.dir = "auto";
    paragraph.textContent = words;
    return paragraph;
  }

  /** Say texts once, one after the other. @param {{words: string, language?: string}[]} texts */
  function announceAll(texts) {
    region ??= makeRegion();
    region.replaceChildren(...texts.map(makeParagraph));
  }

  /** Say a text once. @param {string} words @param {string} [language] */
  const announce = (words, language) => announceAll([{ words, language }]);

  /* The names of Gradio's own elements are English. */
  function nameParts() {
    for (const log of document.querySelectorAll("[role=log]:not([aria-live=off])")) {
      const side = ["first", "second"].find((name) => log.closest(`#compare-${name}`));
      log.setAttribute("aria-live", "off");
      log.setAttribute("aria-label", text(side ? `compare_${side}` : "conversation_label"));
    }
    for (const message of document.querySelectorAll("[role=log] [data-testid][aria-label*=':']")) {
      message.setAttribute("role", "article");
      message.setAttribute("aria-label", text(message.dataset.testid === "user" ? "question_name" : "answer_name"));
    }
    for (const image of document.querySelectorAll("#picture img[alt='']")) image.alt = text("image_label");
  }
  new MutationObserver(nameParts).observe(document.documentElement, { childList: true, subtree: true });

  Object.assign(window.blipSpace, { announce, announceAll });
})();
