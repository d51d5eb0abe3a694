/* The page's notes: what went wrong, where it can be put right. A place shows one note at a time. */
(() => {
  const { text } = window.blipSpace;

  /** Where a note stands, by the name of its place: inside of an element, or after it. */
  const PLACES = {
    frame: () => [document.querySelector("#picture"), "beforeend"],
    box: () => [document.querySelector("#entry") ?? document.querySelector("#question"), "afterend"],
    batch: () => [document.querySelector("#batch-cancel") ?? document.querySelector("#batch-start"), "afterend"],
    page: () => [document.querySelector(".contain") ?? document.body, "beforeend"],
  };
  /** @type {Record<string, HTMLElement>} */
  const shown = {};
  const timers = {};

  const create = (tag, properties) => Object.assign(document.createElement(tag), properties);

  /**
   * Show a note in place of the one at its place.
   * @param {"frame" | "box" | "batch" | "page"} place
   * @param {string} sentence
   * @param {{isError?: boolean, seconds?: number, actions?: {label: string, run: () => void}[]}} [options]
   */
  function note(place, sentence, { isError = true, seconds = 0, actions = [] } = {}) {
    const [anchor, position] = PLACES[place]();
    if (!anchor) return;
    clearNote(place);
    const element = create("div", { className: `note note-${place}${isError ? " error" : ""}` });
    element.setAttribute("role", isError ? "alert" : "status");
    element.append(create("span", { textContent: sentence }));
    for (const { label, run } of actions) element.append(create("button", { type: "button", textContent: label, onclick: run }));
    const close = create("button", { type: "button", className: "close", textContent: "×", onclick: () => clearNote(place) });
    close.setAttribute("aria-label", text("close_note"));
    element.append(close);
    anchor.insertAdjacentElement(position, element);
    shown[place] = element;
    if (seconds) timers[place] = setTimeout(() => clearNote(place), 1000 * seconds);
  }

  /** Remove the note at a place. @param {string} place */
  function clearNote(place) {
    clearTimeout(timers[place]);
    shown[place]?.remove();
    delete shown[place];
  }

  const isBatchOpen = () => Boolean(document.querySelector("#batch-left")?.offsetParent);

  document.addEventListener("input", (event) => {
    if (event.target.closest?.("#question")) clearNote("box");
  });
  document.addEventListener("change", (event) => {
    if (event.target.closest?.("#batch-left")) clearNote("batch");
  }, true);
  document.addEventListener("click", (event) => {
    if (event.target.closest?.("#batch-start")) clearNote("batch");
  }, true);
  document.addEventListener("load", (event) => {
    if (event.target.matches?.("#picture img")) clearNote("frame");
  }, true);

  Object.assign(window.blipSpace, { note, clearNote, isBatchOpen });
})();
