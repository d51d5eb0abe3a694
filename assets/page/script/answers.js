/* What becomes of the conversation when an answer ends, fails, is cancelled or is abandoned, without the server. */
(() => {
  const { announce, languages, textOf, isPlaceholder, restoreVersion } = window.blipSpace;
  const show = (visible) => ({ __type__: "update", visible });

  /* Whether the conversation was left since the last question: a late answer must not restore it. */
  let isAbandoned = false;
  /* Whether the user pressed Stop, after which an answer is shorter, and not interrupted. */
  let isStopped = false;
  const abandon = () => { isAbandoned = true; };
  const returned = () => { isAbandoned = false; };
  const markStopped = () => { isStopped = true; };
  /* Runs before a question is sent, with the image that it is about: the server deletes images after a day. */
  const markAsked = async (...values) => {
    isAbandoned = isStopped = isAnnounced = false;
    window.blipSpace.clearNote("box");
    window.blipSpace.currentConversation.asked();
    await window.blipSpace.currentConversation.renew();
    return values;
  };

  /* Whether the last answer was announced: both of the events that end an answer may run. */
  let isAnnounced = true;
  function announceAnswer(messages) {
    const answer = messages.at(-1);
    if (!isAnnounced && answer?.role === "assistant") announce(textOf(answer), languages(messages).at(-1).lang);
    isAnnounced = true;
  }

  /* Runs when the image changes: a new one starts a new conversation, and one that was put back does not. */
  const imageChanged = (image) => { if (window.blipSpace.currentConversation.replacePicture(image)) abandon(); };
  const cleared = () => { window.blipSpace.currentConversation.clear(); abandon(); };
  const messagesChanged = (messages) => { if (!isAbandoned) window.blipSpace.currentConversation.changed(messages); };

  /* Runs when an answer ends, fails or is cancelled. A question without a reply gives way to its version before, and is
     put back into the text box if that is empty. */
  function finishAnswer(draft, messages, hasFailed = false) {
    let kept = [...(messages ?? [])];
    const last = kept.at(-1);
    if (last?.role === "assistant" && isPlaceholder(last)) kept.pop();
    if (kept.at(-1)?.role === "user") {
      const question = kept.at(-1), earlier = kept.slice(0, -1), restored = restoreVersion(kept);
      kept = restored ?? earlier;
      const isShown = restored && textOf(restored[earlier.length]) === textOf(question);
      draft = draft || (isShown || isPlaceholder(question) ? "" : textOf(question));
    }
    const isInterrupted = hasFailed && !isStopped && kept.length > 0 && kept.length === messages.length;
    if (!isAbandoned) window.blipSpace.currentConversation.finished(kept, isInterrupted);
    if (!isAbandoned) announceAnswer(kept);
    return [draft, isAbandoned ? [] : kept, false, show(true), show(false)];
  }

  /* Runs after a new image or a cleared conversation, unless a question was asked or a conversation opened meanwhile. */
  const reset = () => (isAbandoned ? [[], false, show(true), show(false)] : Array(4).fill({ __type__: "update" }));
  /* Runs after the answers of a conversation that is left were cancelled. */
  const opened = async () => [...await window.blipSpace.currentConversation.arrive(), false, show(true), show(false)];

  Object.assign(window.blipSpace, {
    abandon, returned, markStopped, markAsked, imageChanged, cleared, messagesChanged, finishAnswer, reset, opened,
  });
})();
