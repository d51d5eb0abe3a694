/* The first screen, the composer and the details of the model. */
(() => {
  const { text } = window.blipSpace;

  /** Send the `data-index` of a clicked button of a list to its event. @param {HTMLElement} list @param {Function} trigger */
  function forwardClicks(list, trigger) {
    list.addEventListener("click", (event) => {
      const button = event.target.closest("[data-index]");
      if (button) trigger("click", { index: Number(button.dataset.index) });
    });
  }

  let askedId = "";
  /** Runs once the conversation is empty after a new image. Asks the question of an example, once.
   *  @param {{id: string} | null} example */
  function askExample(example) {
    if (!example || example.id === askedId) return;
    askedId = example.id;
    document.querySelector("#ask-example").click();
  }

  /** The button says what it does: without words it asks for a caption. @param {string} question */
  const nameAsk = (question) => ({ __type__: "update", value: text(question?.trim() ? "ask" : "describe") });

  /* The chip opens the details, which a click elsewhere or Escape closes. */
  function connectChip() {
    const chip = document.querySelector("#chip"), details = document.querySelector("#details");
    if (!chip || !details || details.popover) return;
    details.popover = "auto";
    chip.popoverTargetElement = details;
  }
  new MutationObserver(connectChip).observe(document.documentElement, { childList: true, subtree: true });

  /* Phones that can shrink the page when their keyboard opens keep the composer in view. */
  document.querySelector("meta[name=viewport]")?.setAttribute("content",
    "width=device-width, initial-scale=1, interactive-widget=resizes-content");

  Object.assign(window.blipSpace, { forwardClicks, askExample, nameAsk });
})();
