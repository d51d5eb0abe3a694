/* Keeps the keyboard's focus where its user works, and gives keys to what has none. Gradio removes what has the focus (Ask
   for Stop, an icon, a row of a list), opens a list again when Tab leaves it, and has no keys for editing. */
(() => {
  const FOCUSABLE = "button, a[href], input, textarea, select, summary, [tabindex]:not([tabindex='-1'])";
  const SEARCHED = "#right, #chat, #entry, #columns";

  /** What has the focus and what it stands in, the innermost first. @type {Element[]} */
  let path = [];
  let isTouched = false, isChecked = false;

  const isShown = (element) => element.isConnected && !element.disabled
    && element.checkVisibility({ visibilityProperty: true });
  const firstShown = (element, selector) => [...element.querySelectorAll(selector)].find(isShown);
  const firstFocusable = (element) => firstShown(element, FOCUSABLE);
  const box = () => firstShown(document, "#question textarea");

  /** What takes the focus from an element that is gone. On a phone it is no text field, which would open the keyboard. */
  function successor() {
    const around = path.slice(1).filter((element) => element !== document.body && isShown(element));
    const nearest = around.find(firstFocusable);
    const isConversation = path.some((element) => element.matches(SEARCHED) && !element.matches("#columns"));
    const found = isConversation && box() ? box() : nearest && nearest !== document.documentElement
      ? firstFocusable(nearest) : box();
    const isText = found?.matches("textarea, input:not([type])");
    return isTouched && isText ? firstShown(document, "#stop, #ask") : found;
  }

  function check() {
    isChecked = false;
    const active = document.activeElement;
    if (!path.length || !document.hasFocus() || (active !== path[0] && active !== document.body && active)) return;
    if (isShown(path[0])) {
      if (active !== path[0]) path = []; // its user has clicked beside it
      return;
    }
    const next = successor();
    path = [];
    next?.focus({ preventScroll: true });
  }

  /* Chrome takes the focus from a hidden element when it draws the next frame. */
  function checkSoon() {
    if (isChecked || !path.length) return;
    isChecked = true;
    requestAnimationFrame(() => setTimeout(check));
  }

  document.addEventListener("pointerdown", (event) => { isTouched = event.pointerType === "touch"; }, true);
  document.addEventListener("focusin", (event) => {
    path = [];
    for (let element = event.target; element; element = element.parentElement) path.push(element);
  });
  document.addEventListener("focusout", checkSoon);
  new MutationObserver(checkSoon).observe(document.documentElement,
    { childList: true, subtree: true, attributes: true, attributeFilter: ["class", "style", "hidden", "disabled"] });

  /* A list opens at any key, of which Tab and the modifiers leave it; and its scrolled rows would take the focus. */
  const LEAVING = ["Tab", "Shift", "Control", "Alt", "Meta"];
  let isChoosing = false;
  /** The field that has the focus though Gradio believes that it was left. @type {Element | null} */
  let closed = null;
  function closeList(field) {
    field.dispatchEvent(new FocusEvent("blur")); // Gradio closes the list, and shows the chosen row in the field again
    closed = field;
  }
  function openList(field) {
    if (closed === field) field.dispatchEvent(new FocusEvent("focus"));
    closed = null;
  }
  /* Gradio opens the list again when what the field shows changes while the field has the focus. */
  new MutationObserver(() => {
    if (closed?.getAttribute("aria-expanded") === "true") closed.dispatchEvent(new FocusEvent("blur"));
  }).observe(document.documentElement, { subtree: true, attributes: true, attributeFilter: ["aria-expanded"] });
  document.addEventListener("mousedown", ({ target }) => { if (target === closed) openList(target); }, true);
  document.addEventListener("focusout", ({ target }) => { if (target === closed) closed = null; });
  function listKeys(event) {
    const list = document.getElementById(event.target.getAttribute("aria-controls"));
    list?.setAttribute("tabindex", "-1");
    isChoosing = event.key === "Enter";
    if (LEAVING.includes(event.key)) event.stopPropagation();
    else if (event.key !== "Escape") openList(event.target);
    else if (closed !== event.target) {
      event.stopPropagation();
      closeList(event.target);
    }
  }
  document.addEventListener("focusout", ({ target, relatedTarget }) => {
    if (!isChoosing || relatedTarget || !target.matches("[role=combobox]")) return;
    isChoosing = false;
    setTimeout(() => {
      if (document.activeElement !== document.body) return;
      target.focus({ preventScroll: true });
      closeList(target);
    });
  });

  /* Editing a question: Enter sends, Shift and Enter makes a line, Escape leaves it as it was. */
  function editKeys(event) {
    if (event.isComposing || event.shiftKey || (event.key !== "Enter" && event.key !== "Escape")) return;
    event.preventDefault();
    event.stopPropagation();
    const row = event.target.closest(".message-row");
    const [send, cancel] = row.nextElementSibling?.querySelectorAll("button") ?? [];
    if (event.key === "Enter") send?.click();
    else {
      path = [];
      cancel?.click();
      requestAnimationFrame(() => setTimeout(() => [...row.nextElementSibling.querySelectorAll("button")].at(-1)?.focus()));
    }
  }
  document.addEventListener("focusin", ({ target }) => {
    if (target.matches("#chat textarea")) target.scrollIntoView({ block: "nearest" });
  });

  document.addEventListener("keydown", (event) => {
    if (event.target.matches?.("[role=combobox]")) listKeys(event);
    else if (event.target.matches?.("#chat textarea")) editKeys(event);
  }, true);

  /* Escape stops an answer, unless something else has used the key. */
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !event.defaultPrevented) firstShown(document, "#stop")?.click();
  });
})();
