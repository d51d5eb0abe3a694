/* What the page does without asking the server. The lists are the Chatbot's messages. */
window.blipSpace = (() => {
  const WAITING = $waiting, CAPTION_ASKED = $caption_asked;
  const show = (visible) => ({ __type__: "update", visible });
  const literal = (text) => text.replaceAll("<\u2060", "<").replaceAll("&\u2060", "&");
  const textOf = (message) => literal(
    (Array.isArray(message.content) ? message.content : [message.content])
      .map((part) => (typeof part === "string" ? part : part.text ?? "")).join(""));

  /* A reply that never began, perhaps with how many are before it. */
  const isWaiting = (text) => text === WAITING || text.startsWith(WAITING + " (");

  /* Whether the conversation was left behind since the last question: what still ends of it must not bring it back. */
  let left = false;
  const leave = () => { left = true; };
  const asked = (...values) => { left = false; return values; };

  /* An answer is over, however it ended: a question without one goes back into the box, unless another is there. */
  function settle(words, messages) {
    const kept = [...(messages ?? [])];
    const last = kept.at(-1);
    if (last?.role === "assistant" && isWaiting(textOf(last))) kept.pop();
    if (kept.at(-1)?.role === "user") {
      const question = textOf(kept.pop());
      words = words || (question === CAPTION_ASKED ? "" : question);
    }
    return [words, left ? [] : kept, false, show(true), show(false)];
  }

  /* A new picture, or a cleared conversation. */
  const fresh = () => [[], false, show(true), show(false)];

  /* Messages hold joiners that keep them from being read as HTML (history.py); what is shown and copied does not. */
  const unjoin = (root) => {
    const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const plain = literal(walker.currentNode.data);
      if (plain !== walker.currentNode.data) walker.currentNode.data = plain;
    }
  };
  new MutationObserver((changes) => {
    for (const change of changes) if (change.target.closest?.("#chat")) unjoin(change.target);
  }).observe(document.documentElement, { childList: true, subtree: true });
  const write = navigator.clipboard?.writeText?.bind(navigator.clipboard);
  if (write) navigator.clipboard.writeText = (text) => write(literal(text));

  /* Gradio opens a long list scrolled past its selected row. */
  const showSelected = (list) => list?.querySelector("[aria-selected=true]")?.scrollIntoView({ block: "nearest" });
  document.addEventListener("focusin", (event) => {
    const field = event.target.closest("#language, #model");
    if (field) setTimeout(() => showSelected(field.querySelector("ul")), 50);
  });

  /* A batch did not begin, or broke off. */
  const idle = () => [show(true), show(false)];

  return { leave, asked, settle, fresh, idle };
})();
