/* The conversation that this tab shows: follows it, stores it, and brings it or an earlier one back to the page. */
(() => {
  const { store, copyOf, isUploaded, uploadAgain, fresh, settle, compareAwaited, text } = window.blipSpace;
  const SAVE_MS = 300;
  const unchanged = { __type__: "update" };
  const pathOf = (image) => image?.path ?? "";

  let current = fresh();
  /** Cleared messages, until it is known what cleared them. */
  let emptied = null;
  /** Grows with each change by the user, so that a late restoring does not undo it. */
  let changes = 0;

  /* Saving. */

  let timer = 0, saving = Promise.resolve();
  const saveSoon = () => { timer ||= setTimeout(save, SAVE_MS); };
  /** Stores `shown` now, after what is being stored. */
  function save(shown = current) {
    clearTimeout(timer);
    timer = 0;
    saving = saving.then(async () => {
      const { record, blob } = shown;
      if (!store.isOn() || !(record.messages.length || record.picture)) return;
      const dropped = await store.put(record, blob);
      if (dropped) window.blipSpace.kept.note(text("kept_dropped", { n: dropped }));
    }).catch((error) => window.blipSpace.kept.notStored(error));
    return saving;
  }

  const questionBox = () => document.querySelector("#question textarea");
  /** What a reload needs at once; a browser ends a page without waiting for its database. */
  function remember() {
    if (!store.isOn()) return;
    const { id, messages, isRunning, interrupted } = current.record, draft = questionBox()?.value ?? "";
    const isEmpty = !draft && !messages.length && !current.record.picture;
    store.setSession(isEmpty ? null : { id, messages, isRunning, interrupted, draft });
  }
  addEventListener("pagehide", remember);
  document.addEventListener("visibilitychange", remember);

  /** Reads the picture of a conversation for its copy, and makes its thumbnail. */
  async function readPicture(shown) {
    const { record } = shown, { picture } = record;
    try {
      const { blob, sha256, thumbnail } = await copyOf(picture.value.url);
      Object.assign(picture, { size: blob.size, type: blob.type, sha256 });
      shown.blob = blob;
      compareAwaited(record);
      record.awaited = null;
      record.thumbnail = thumbnail;
      await save(shown);
    } catch { /* a picture that the browser cannot show has no thumbnail, and one that is gone no copy */ }
  }

  /* What the page's events report. */

  /** The messages changed. @param {any[]} messages */
  function changed(messages) {
    const { record } = current;
    if (!messages?.length && record.messages.length) emptied = record.messages;
    record.messages = messages ?? [];
    if (record.messages.at(-1)?.role === "user") record.isRunning = true;
    saveSoon();
  }

  /** A question was asked. */
  function asked() {
    current.record.interrupted = "";
    changes += 1;
    emptied = null;
    window.blipSpace.kept.clearNote();
  }

  /** An answer ended. @param {any[]} messages @param {boolean} isInterrupted whether it failed after its first text */
  function finished(messages, isInterrupted) {
    Object.assign(current.record, { isRunning: false, messages });
    if (isInterrupted) current.record.interrupted = "answer";
    if (isInterrupted) window.blipSpace.kept.note(text("kept_interrupted_answer"));
    save();
  }

  /** Whether a change of the image is one by the user, which ends the conversation. @param {any} image */
  function replacePicture(image) {
    if (pathOf(image) === pathOf(current.record.picture?.value)) return false;
    const { record } = current;
    const picture = image && { key: store.newId(), name: image.orig_name ?? "", type: "", size: 0, sha256: "", value: image };
    if (record.awaited && picture) {
      Object.assign(record, { picture });
      readPicture(current);
      return false;
    }
    end("kept_new_image");
    const next = fresh(picture);
    if (!record.messages.length && picture) Object.assign(next.record, { id: record.id, revision: record.revision });
    else if (!record.messages.length) discard(record.id);
    current = next;
    if (picture) readPicture(current);
    return true;
  }

  /** The conversation was cleared; its image stays. */
  function clear() {
    end("kept_new_conversation");
    current = fresh(current.record.picture, current.blob, current.record.thumbnail);
    save();
  }

  /** Ends the conversation; returns whether the user can bring it back. */
  function end(reason) {
    const { record } = current;
    if (!record.messages.length && emptied) record.messages = emptied;
    emptied = null;
    changes += 1;
    settle(record);
    if (!record.messages.length && !record.draft) return false;
    const ended = current;
    save(ended);
    window.blipSpace.kept.note(text(reason), text("kept_take_back"), () => {
      ended.record.draft ||= questionBox()?.value ?? "";
      reopen(ended);
    });
    return true;
  }

  /* Back to the page. */

  /** What the page shows of a conversation: its messages, its image and the question that is being written. */
  async function show(shown) {
    const before = changes, image = await uploadAgain(shown);
    if (changes !== before) return [unchanged, unchanged, unchanged];
    const { record } = shown;
    current = shown;
    window.blipSpace.returned();
    const { draft, interrupted } = record;
    record.draft = "";
    if (image) record.picture.value = image;
    if (record.picture && !image) {
      record.awaited = record.picture;
      record.picture = null;
    }
    if (interrupted) window.blipSpace.kept.note(text(`kept_interrupted_${interrupted}`));
    else if (record.awaited) window.blipSpace.kept.note(text("kept_no_image", { name: record.awaited.name || "?" }));
    else if (!left) window.blipSpace.kept.clearNote();
    left = false;
    save();
    return [record.messages, image, draft];
  }

  /** The conversation of this tab before the page was loaded again. */
  async function restore() {
    const before = changes, session = store.isOn() && store.session();
    if (!session) return [unchanged, unchanged, unchanged];
    const record = await store.get(session.id).catch(() => null);
    if (changes !== before) return [unchanged, unchanged, unchanged];
    if (!record) return [unchanged, unchanged, questionBox()?.value || session.draft];
    const { messages, isRunning, interrupted, draft } = session;
    Object.assign(record, { messages, isRunning, interrupted, draft: questionBox()?.value || draft });
    settle(record);
    const blob = record.picture && await store.picture(record.picture.key).catch(() => null);
    return show({ record, blob });
  }

  /** What `shown` returns to: a click of the hidden button cancels answers, then asks for this. */
  let wanted = null, left = false;
  function reopen(shown) {
    wanted = shown;
    document.querySelector("#kept-open-event")?.click();
  }
  /** Before answers are cancelled: the shown conversation ends, and no late update may change the next one. */
  function leave() {
    const draft = questionBox()?.value ?? "", { record } = current;
    if (wanted === current) record.draft = draft;
    else if (!record.messages.length && !record.picture) wanted.record.draft ||= draft;
    else if (draft !== wanted.record.draft) record.draft = draft;
    left = wanted !== current && end("kept_left");
    window.blipSpace.abandon();
  }
  const arrive = () => show(wanted);

  /** Uploads the image again if the server has it no more, as it was started again or has deleted it. */
  async function renew() {
    const { picture } = current.record;
    if (!picture || (await isUploaded(current.record))) return;
    const image = await uploadAgain(current).catch(() => null);
    if (image?.path !== picture.value.path) reopen(current);
  }

  /** Opens a stored conversation. @param {string} id */
  async function open(id) {
    await saving;
    const record = await store.get(id);
    if (!record) return;
    reopen({ record, blob: record.picture && await store.picture(record.picture.key) });
  }

  /** Shows an imported conversation, with its image if another conversation has that. */
  async function add({ title, messages, awaited }) {
    const records = await store.list().catch(() => []);
    const other = awaited.sha256 && records.find(({ picture }) => picture?.sha256 === awaited.sha256);
    const blob = other ? await store.picture(other.picture.key) : null;
    const shown = other ? fresh(other.picture, blob, other.thumbnail) : fresh();
    Object.assign(shown.record, { title, messages, awaited: other ? null : awaited });
    settle(shown.record);
    shown.record.interrupted = "";
    reopen(shown);
  }

  /** @param {string} id @param {string} title */
  async function rename(id, title) {
    await saving;
    if (id !== current.record.id) return store.put({ ...await store.get(id), title }, null);
    current.record.title = title;
    return save();
  }

  const discard = (id) => { saving = saving.then(() => store.remove(id)).catch((error) => console.debug(error)); };

  /** Deletes a conversation; the page is empty after that if it shows it. @param {string} id */
  async function remove(id) {
    if (id === current.record.id) empty();
    await saving;
    await store.remove(id);
  }

  /** Deletes every conversation, and what the page shows of one. */
  async function forget() {
    empty();
    await saving;
    await store.clear().catch(() => {});
    store.setSession(null);
  }

  function empty() {
    clearTimeout(timer);
    timer = 0;
    current = fresh();
    questionBox().value = "";
    reopen(fresh());
  }

  /** @param {boolean} isOn whether conversations are kept from now on */
  function setKept(isOn) {
    store.setOn(isOn);
    if (isOn) save();
  }

  window.blipSpace.currentConversation = {
    changed, asked, finished, replacePicture, clear, restore, leave, arrive, open, renew, add, rename, remove, forget,
    setKept,
    get: () => current,
  };
})();
