/* What the page does without asking the server. The lists are the Chatbot's messages. */
window.blipSpace = (() => {
  const WAITING = new RegExp($waiting_pattern), CAPTION_REQUEST = $caption_request;
  const show = (visible) => ({ __type__: "update", visible });
  const withoutJoiners = (text) => text.replaceAll("<\u2060", "<").replaceAll("&\u2060", "&");
  const textOf = (message) => withoutJoiners(
    (Array.isArray(message.content) ? message.content : [message.content])
      .map((part) => (typeof part === "string" ? part : part.text ?? "")).join(""));

  /* Whether the conversation was abandoned since the last question: answers that end later must not restore it. */
  let isAbandoned = false;
  const abandon = () => { isAbandoned = true; };
  const markAsked = (...values) => { isAbandoned = false; return values; };

  /* An answer has ended, in whatever way. A question without a reply returns to the box, unless the box is in use. */
  function finishAnswer(draft, messages) {
    const kept = [...(messages ?? [])];
    const last = kept.at(-1);
    if (last?.role === "assistant" && WAITING.test(textOf(last))) kept.pop();
    if (kept.at(-1)?.role === "user") {
      const question = textOf(kept.pop());
      draft = draft || (question === CAPTION_REQUEST ? "" : question);
    }
    return [draft, isAbandoned ? [] : kept, false, show(true), show(false)];
  }

  /* A new image, or a cleared conversation. */
  const reset = () => [[], false, show(true), show(false)];

  /* Messages contain joiners that keep them from being read as HTML (messages.py); shown and copied text does not. */
  const removeJoiners = (root) => {
    const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const text = withoutJoiners(walker.currentNode.data);
      if (text !== walker.currentNode.data) walker.currentNode.data = text;
    }
  };
  new MutationObserver((changes) => {
    for (const change of changes) if (change.target.closest?.("#chat")) removeJoiners(change.target);
  }).observe(document.documentElement, { childList: true, subtree: true });
  const writeText = navigator.clipboard?.writeText?.bind(navigator.clipboard);
  if (writeText) navigator.clipboard.writeText = (text) => writeText(withoutJoiners(text));

  /* Gradio opens a long list scrolled past its selected row. */
  const showSelected = (list) => list?.querySelector("[aria-selected=true]")?.scrollIntoView({ block: "nearest" });
  document.addEventListener("focusin", (event) => {
    const field = event.target.closest("#language, #model");
    if (field) setTimeout(() => showSelected(field.querySelector("ul")), 50);
  });

  /* A batch failed to start, or ended with an error. */
  const resetBatchButtons = () => [show(true), show(false)];

  return { abandon, markAsked, finishAnswer, reset, resetBatchButtons };
})();
