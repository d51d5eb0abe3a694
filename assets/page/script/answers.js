/* What becomes of the conversation when an answer ends, fails, is cancelled or is abandoned, without the server. */
(() => {
  const { textOf, isPlaceholder } = window.blipSpace;
  const show = (visible) => ({ __type__: "update", visible });

  /* Whether the image changed or the conversation was cleared since the last question: a late answer must not restore it. */
  let isAbandoned = false;
  const abandon = () => { isAbandoned = true; };
  const markAsked = (...values) => { isAbandoned = false; return values; };

  /* Runs when an answer ends, fails or is cancelled. Puts a question without a reply back into the text box if it is empty. */
  function finishAnswer(draft, messages) {
    const kept = [...(messages ?? [])];
    const last = kept.at(-1);
    if (last?.role === "assistant" && isPlaceholder(last)) kept.pop();
    if (kept.at(-1)?.role === "user") {
      const question = kept.pop();
      draft = draft || (isPlaceholder(question) ? "" : textOf(question));
    }
    return [draft, isAbandoned ? [] : kept, false, show(true), show(false)];
  }

  /* Runs after a new image or a cleared conversation. */
  const reset = () => [[], false, show(true), show(false)];

  Object.assign(window.blipSpace, { abandon, markAsked, finishAnswer, reset });
})();
