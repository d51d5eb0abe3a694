/* What a kept conversation consists of, and what becomes of one whose answer did not end. */
(() => {
  const { store, textOf, isPlaceholder, restoreVersion, text } = window.blipSpace;

  /** @returns {any} a conversation without messages about a picture */
  const fresh = (picture = null, blob = null, thumbnail = "") => ({
    blob,
    record: {
      id: store.newId(), revision: 0, created: Date.now(), updated: 0, title: "", messages: [], draft: "",
      isRunning: false, interrupted: "", thumbnail, picture, awaited: null,
    },
  });

  /** Removes what has no answer from a conversation that no answer is being generated for any more. */
  function settle(record) {
    const messages = [...record.messages];
    const last = messages.at(-1);
    if (last?.role === "assistant" && isPlaceholder(last)) messages.pop();
    const restored = restoreVersion(messages);
    if (restored) return void Object.assign(record, { messages: restored, isRunning: false, interrupted: "answer" });
    if (messages.at(-1)?.role === "user") {
      const question = messages.pop();
      record.draft = [isPlaceholder(question) ? "" : textOf(question), record.draft].filter(Boolean).join("\n");
      record.interrupted = "question";
    } else if (record.isRunning) {
      record.interrupted = "answer";
    }
    Object.assign(record, { messages, isRunning: false });
  }

  /** Says whether the image that was added to an imported conversation is the one that it is about. */
  function compareAwaited({ awaited, picture }) {
    if (!awaited) return;
    const isOther = awaited.sha256 && picture.sha256 && awaited.sha256 !== picture.sha256;
    if (isOther) window.blipSpace.kept.note(text("kept_other_image"));
    else window.blipSpace.kept.clearNote();
  }

  Object.assign(window.blipSpace, { fresh, settle, compareAwaited });
})();
