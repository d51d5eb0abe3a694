/* What the page says about kept conversations, below the conversation. */
(() => {
  const { text } = window.blipSpace;
  const line = () => document.querySelector("#kept-note p");

  /** Shows one sentence, with a button where something can be done. @param {string} sentence */
  function note(sentence, label = "", action = () => {}) {
    const shown = line();
    if (!shown) return;
    const [words, button] = shown.children;
    words.textContent = sentence;
    Object.assign(button, { textContent: label, hidden: !label, onclick: action });
    shown.hidden = false;
  }

  function clearNote() { if (line()) line().hidden = true; }

  /** Says once that the browser keeps nothing. */
  let isSaid = false;
  function notStored(error) {
    console.debug(error);
    if (!isSaid) note(text("kept_not_stored"));
    isSaid = true;
  }

  window.blipSpace.kept = { note, clearNote, notStored };
})();
