/* Asks for the count of tokens when a question is written: 600 ms after the last key, or when the box is left. */
(() => {
  const QUIET_MILLISECONDS = 600;
  let counted = "", timer = 0;

  /** @param {HTMLTextAreaElement} box */
  function count(box) {
    clearTimeout(timer);
    if (box.value === counted) return;
    counted = box.value;
    document.querySelector("#count")?.click();
  }
  const boxOf = (event) => (event.target.matches?.("#question textarea") ? event.target : null);

  document.addEventListener("input", (event) => {
    const box = boxOf(event);
    if (!box) return;
    clearTimeout(timer);
    timer = setTimeout(() => count(box), QUIET_MILLISECONDS);
  });
  document.addEventListener("focusout", (event) => {
    if (boxOf(event)) count(boxOf(event));
  });
})();
