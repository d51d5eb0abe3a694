/* The panel that compares two ways to answer a question: what it shows before and after, and the use of an answer. */
(() => {
  const { text, textOf, isPlaceholder, factsOf, languages, announceAll, addVersion } = window.blipSpace;
  const show = (visible) => ({ __type__: "update", visible });
  const conversation = (messages) => ({ __type__: "update", value: messages, visible: messages.length ? true : "hidden" });
  const hasAnswer = (messages) => Boolean(messages?.[1]) && !isPlaceholder(messages[1]);

  let isOpened = false;
  /* Whether the answers were announced: both of the events that end them may run. */
  let isAnnounced = false;

  /* Runs when the panel opens. The first way has the page's settings, and so has the second one at first, but for the model. */
  function openComparison(...values) {
    const settings = values.slice(0, values.length / 2), second = values.slice(values.length / 2);
    const [, model] = second, [language, , ...others] = settings;
    const chosen = isOpened ? second : [language, model, ...others];
    isOpened = true;
    return [...settings, ...chosen];
  }

  const buttons = (isRunning, uses) => [show(!isRunning), show(isRunning), ...uses.map(show)];
  const clearComparison = () => [conversation([]), conversation([]), "", ...buttons(false, [false, false])];
  function startComparison() {
    isAnnounced = false;
    return [conversation([]), conversation([]), "", ...buttons(true, [false, false])];
  }

  const isNotice = (messages) => Boolean(factsOf(messages?.[1]).notice);

  function announceWays(conversations) {
    announceAll(conversations.flatMap((messages, index) => (messages.length ? [
      { words: text(index ? "compare_second" : "compare_first") },
      { words: textOf(messages[1]).replace("\u2063", ""), language: languages(messages)[1].lang },
    ] : [])));
  }

  /* Runs when both answers have ended, failed or were cancelled. */
  function finishComparison(...conversations) {
    const kept = conversations.map((messages) => (hasAnswer(messages) || isNotice(messages) ? messages : []));
    if (!isAnnounced) announceWays(kept);
    isAnnounced = true;
    return [...kept.map(conversation), ...buttons(false, kept.map(hasAnswer))];
  }

  /* Put an answer into the conversation: as another version of the last turn if it answers that one, else as a new turn. */
  function useAnswer(draft, messages, busy, turn) {
    if (busy || !hasAnswer(turn)) return [draft, messages];
    const position = messages.length - 2, question = textOf(turn[0]);
    const isLast = position >= 0 && textOf(messages[position]) === question;
    document.getElementById("chat")?.scrollIntoView({ block: "nearest" });
    if (isLast) return [draft, addVersion(messages, position, turn)];
    return [draft.trim() === question.trim() ? "" : draft, [...messages, ...turn]];
  }

  Object.assign(window.blipSpace, { openComparison, startComparison, clearComparison, finishComparison, useAnswer });
})();
