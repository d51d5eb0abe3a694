/* What to do about an image that the model does not know: said once for an image, below the answer. */
(() => {
  const { text, onNotice } = window.blipSpace;

  /** The model that the button names. @type {string | undefined} */
  let wanted;
  const press = (selector) => document.querySelector(selector)?.click();

  function button(label, run) {
    const element = Object.assign(document.createElement("button"), { type: "button", textContent: label });
    element.addEventListener("click", () => { element.closest(".hint").remove(); run(); });
    return element;
  }

  onNotice("unknown_image", ({ sentence, model }) => {
    const log = document.querySelector("#chat [role=log]"), key = document.querySelector("#picture img")?.src ?? "";
    if (!log || log.querySelector(".hint") || log.dataset.hinted === key) return;
    log.dataset.hinted = key;
    const hint = Object.assign(document.createElement("div"), { className: "hint" });
    hint.append(Object.assign(document.createElement("span"), { textContent: sentence }));
    if (document.querySelector("#cards button")) hint.append(button(text("try_example"), () => press("#cards button")));
    wanted = model;
    if (wanted) hint.append(button(text("ask_instead", { model: wanted }), () => press("#ask-instead")));
    log.append(hint);
    log.scrollTop = log.scrollHeight;
  });

  window.blipSpace.wantedModel = () => wanted;
})();
