/* Reads the messages of Gradio's Chatbot, and shows and copies their text without the characters that messages.py adds. */
(() => {
  const PLACEHOLDER = "\u2063";
  const withoutJoiners = (text) => text.replaceAll("<\u2060", "<").replaceAll("&\u2060", "&");

  /** The text of a message. @param {{content: any}} message */
  const textOf = (message) => withoutJoiners(
    (Array.isArray(message.content) ? message.content : [message.content])
      .map((part) => (typeof part === "string" ? part : part.text ?? "")).join(""));

  /** Whether a message is a text of the page, and not a question or a reply. @param {{content: any}} message */
  const isPlaceholder = (message) => textOf(message).startsWith(PLACEHOLDER);

  /** The message of a text, as `messages.py` makes it. @param {string} role @param {string} words */
  function messageOf(role, words) {
    words = words.replace(new RegExp(`^${PLACEHOLDER}+`), "");
    const shown = role === "user" && !words.trim() ? PLACEHOLDER + window.blipSpace.text("caption_request") : words;
    return { role, content: [{ type: "text", text: shown.replaceAll("&", "&\u2060").replaceAll("<", "<\u2060") }] };
  }

  const clean = (text) => withoutJoiners(text).replaceAll(PLACEHOLDER, "");
  const cleanTexts = (root) => {
    const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const text = clean(walker.currentNode.data);
      if (text !== walker.currentNode.data) walker.currentNode.data = text;
    }
  };
  new MutationObserver((changes) => {
    for (const change of changes) if (change.target.closest?.("#chat, .compare-side")) cleanTexts(change.target);
  }).observe(document.documentElement, { childList: true, subtree: true });
  const writeText = navigator.clipboard?.writeText?.bind(navigator.clipboard);
  if (writeText) navigator.clipboard.writeText = (text) => writeText(clean(isConversation ? conversation() : text));

  /* Gradio copies a conversation with names of roles in English. */
  let isConversation = false;
  document.addEventListener("click", (event) => {
    isConversation = Boolean(event.target.closest?.("#chat .top-panel"));
  }, true);
  const conversation = () => window.blipSpace.currentConversation.get().record.messages.map((message) =>
    `${window.blipSpace.text(message.role === "user" ? "question_name" : "answer_name")}: ${textOf(message)}`).join("\n\n");

  Object.assign(window.blipSpace, { textOf, isPlaceholder, messageOf });
})();
