/* What becomes of the conversation when an answer ends, fails, is cancelled or is abandoned, without the server. */
(() => {
  const { textOf, isPlaceholder, restoreVersion } = window.blipSpace;
  const show = (visible) => ({ __type__: "update", visible });

  /* Whether the image changed or the conversation was cleared since the last question: a late answer must not restore it. */
  let isAbandoned = false;
  const abandon = () => { isAbandoned = true; };
  const markAsked = (...values) => { isAbandoned = false; window.blipSpace.clearNote("box"); return values; };

  /* Runs when an answer ends, fails or is cancelled. A question without a reply gives way to its version before, and is
     put back into the text box if that is empty. */
  function finishAnswer(draft, messages) {
    let kept = [...(messages ?? [])];
    const last = kept.at(-1);
    if (last?.role === "assistant" && isPlaceholder(last)) kept.pop();
    if (kept.at(-1)?.role === "user") {
      const question = kept.at(-1), earlier = kept.slice(0, -1), restored = restoreVersion(kept);
      kept = restored ?? earlier;
      const isShown = restored && textOf(restored[earlier.length]) === textOf(question);
      draft = draft || (isShown || isPlaceholder(question) ? "" : textOf(question));
    }
    return [draft, isAbandoned ? [] : kept, false, show(true), show(false)];
  }

  /* Runs after a new image or a cleared conversation. */
  const reset = () => [[], false, show(true), show(false)];

  Object.assign(window.blipSpace, { abandon, markAsked, finishAnswer, reset });
})();
