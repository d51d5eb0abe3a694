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

  /** Say a text once. @param {string} words @param {string} [language] */
  function announce(words, language) {
    region ??= makeRegion();
    const paragraph = document.createElement("p");
    if (language) paragraph.lang = language;
    paragraph.dir = "auto";
    paragraph.textContent = words;
    region.replaceChildren(paragraph);
  }

  /* The names of Gradio's own elements are English. */
  function nameParts() {
    const log = document.querySelector("#chat [role=log]");
    if (log && log.getAttribute("aria-live") !== "off") {
      log.setAttribute("aria-live", "off");
      log.setAttribute("aria-label", text("conversation_label"));
    }
    for (const message of document.querySelectorAll("#chat [data-testid][aria-label*=':']")) {
      message.setAttribute("role", "article");
      message.setAttribute("aria-label", text(message.dataset.testid === "user" ? "question_name" : "answer_name"));
    }
    for (const image of document.querySelectorAll("#picture img[alt='']")) image.alt = text("image_label");
    document.querySelectorAll("#examples .gallery-item:not([aria-label])").forEach((item, index) => {
      item.setAttribute("aria-label", text("example_name", { n: index + 1 }));
    });
  }
  new MutationObserver(nameParts).observe(document.documentElement, { childList: true, subtree: true });

  Object.assign(window.blipSpace, { announce });
})();
