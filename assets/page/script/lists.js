/* Gradio opens a long list without showing its selected row, so this scrolls to it. */
(() => {
  const showSelected = (list) => list?.querySelector("[aria-selected=true]")?.scrollIntoView({ block: "nearest" });
  document.addEventListener("focusin", (event) => {
    const field = event.target.closest("#language, #model");
    if (field) setTimeout(() => showSelected(field.querySelector("ul")), 50);
  });
})();
