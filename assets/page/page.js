/* What the page does in the browser, without the server. `messages` are those of Gradio's Chatbot. */
window.blipSpace = (() => {
  const WAITING = new RegExp($waiting_pattern), CAPTION_REQUEST = $caption_request;
  const show = (visible) => ({ __type__: "update", visible });
  const withoutJoiners = (text) => text.replaceAll("<\u2060", "<").replaceAll("&\u2060", "&");
  const textOf = (message) => withoutJoiners(
    (Array.isArray(message.content) ? message.content : [message.content])
      .map((part) => (typeof part === "string" ? part : part.text ?? "")).join(""));

  /* Whether the image changed or the conversation was cleared since the last question: a late answer must not restore it. */
  let isAbandoned = false;
  const abandon = () => { isAbandoned = true; };
  const markAsked = (...values) => { isAbandoned = false; return values; };

  /* Runs when an answer ends, fails or is cancelled. Puts a question without a reply back into the text box if it is empty. */
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

  /* Runs after a new image or a cleared conversation. */
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

  /* Gradio opens a long list without showing its selected row, so this scrolls to it. */
  const showSelected = (list) => list?.querySelector("[aria-selected=true]")?.scrollIntoView({ block: "nearest" });
  document.addEventListener("focusin", (event) => {
    const field = event.target.closest("#language, #model");
    if (field) setTimeout(() => showSelected(field.querySelector("ul")), 50);
  });

  /* Runs if a batch could not start or ended with an error: shows Start and hides Cancel. */
  const resetBatchButtons = () => [show(true), show(false)];

  return { abandon, markAsked, finishAnswer, reset, resetBatchButtons };
})();
