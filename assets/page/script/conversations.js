/* The conversation that this tab shows: follows it, stores it, and brings it or an earlier one back to the page. */
(() => {
  const { store, textOf, isPlaceholder, text } = window.blipSpace;
  const SAVE_MS = 300, THUMBNAIL = 96;
  const unchanged = { __type__: "update" };
  const pathOf = (image) => image?.path ?? "";

  /** @returns {any} a conversation without messages about a picture */
  const fresh = (picture = null, blob = null, thumbnail = "") => ({
    blob,
    record: {
      id: store.newId(), revision: 0, created: Date.now(), updated: 0, title: "", messages: [], draft: "",
      isRunning: false, interrupted: "", thumbnail, picture,
    },
  });
  let current = fresh();
  /** Cleared messages, until it is known what cleared them. */
  let emptied = null;
  /** What a click brings back. */
  let earlier = null;
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
      const response = await fetch(picture.value.url);
      if (!response.ok) return;
      const blob = await response.blob();
      const digest = await crypto.subtle?.digest("SHA-256", await blob.arrayBuffer());
      const bytes = digest ? [...new Uint8Array(digest)] : [];
      picture.sha256 = bytes.map((byte) => byte.toString(16).padStart(2, "0")).join("");
      Object.assign(picture, { size: blob.size, type: blob.type });
      shown.blob = blob;
      record.thumbnail = await thumbnailOf(blob);
      await save(shown);
    } catch { /* a picture that the browser cannot show has no thumbnail, and one that is gone no copy */ }
  }

  async function thumbnailOf(blob) {
    try {
      const image = await createImageBitmap(blob), side = Math.min(image.width, image.height);
      const canvas = Object.assign(document.createElement("canvas"), { width: THUMBNAIL, height: THUMBNAIL });
      const left = (image.width - side) / 2, top = (image.height - side) / 2;
      canvas.getContext("2d").drawImage(image, left, top, side, side, 0, 0, THUMBNAIL, THUMBNAIL);
      return canvas.toDataURL("image/webp", 0.7);
    } catch {
      return "";
    }
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
    end("kept_new_image");
    const picture = image && { key: store.newId(), name: image.orig_name ?? "", type: "", size: 0, sha256: "", value: image };
    const next = fresh(picture);
    if (!current.record.messages.length) Object.assign(next.record, { id: current.record.id, revision: current.record.revision });
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

  /** Ends the conversation, which the user can bring back. */
  function end(reason) {
    const { record } = current;
    if (!record.messages.length && emptied) record.messages = emptied;
    emptied = null;
    changes += 1;
    settle(record);
    if (!record.messages.length && !record.draft) return;
    const ended = earlier = current;
    save(ended);
    window.blipSpace.kept.note(text(reason), text("kept_take_back"), () => {
      ended.record.draft ||= questionBox()?.value ?? "";
      reopen(ended);
    });
  }

  /** Removes what has no answer from a conversation that no answer is being generated for any more. */
  function settle(record) {
    const messages = [...record.messages];
    const last = messages.at(-1);
    if (last?.role === "assistant" && isPlaceholder(last)) messages.pop();
    if (messages.at(-1)?.role === "user") {
      const question = messages.pop();
      record.draft = [isPlaceholder(question) ? "" : textOf(question), record.draft].filter(Boolean).join("\n");
      record.interrupted = "question";
    } else if (record.isRunning) {
      record.interrupted = "answer";
    }
    Object.assign(record, { messages, isRunning: false });
  }

  /* Back to the page. */

  /** The image as the server has it, which gets it again where it was restarted or has deleted it. */
  async function uploaded(shown) {
    const { record, blob } = shown;
    if (!record.picture) return null;
    const { value, name } = record.picture, { root, api_prefix: prefix } = window.gradio_config;
    const address = (path) => `${root}${prefix}/file=${path}`;
    const isThere = value && await fetch(address(value.path), { method: "HEAD" }).then((response) => response.ok, () => false);
    if (isThere) return { ...value, url: address(value.path) };
    if (!blob) return null;
    const body = new FormData();
    body.append("files", new File([blob], name || "image", { type: blob.type }));
    const response = await fetch(`${root}${prefix}/upload`, { method: "POST", body });
    if (!response.ok) return null;
    const [path] = await response.json();
    const sent = { path, url: address(path), orig_name: name, size: blob.size, mime_type: blob.type };
    return { ...sent, meta: { _type: "gradio.FileData" } };
  }

  /** What the page shows of a conversation: its messages, its image and the question that is being written. */
  async function show(shown) {
    const before = changes, image = await uploaded(shown);
    if (changes !== before) return [unchanged, unchanged, unchanged];
    const { record } = shown;
    current = shown;
    window.blipSpace.returned();
    const { draft, interrupted } = record;
    record.draft = "";
    if (image) record.picture.value = image;
    if (interrupted) window.blipSpace.kept.note(text(`kept_interrupted_${interrupted}`));
    else if (record.picture && !image) window.blipSpace.kept.note(text("kept_no_image"));
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
    const draft = questionBox()?.value ?? "";
    if (draft !== wanted.record.draft) current.record.draft = draft;
    end("kept_left");
    left = earlier === current;
    window.blipSpace.abandon();
  }
  const arrive = () => show(wanted);

  /** Opens a stored conversation. @param {string} id */
  async function open(id) {
    await saving;
    const record = await store.get(id);
    if (!record) return;
    reopen({ record, blob: record.picture && await store.picture(record.picture.key) });
  }

  window.blipSpace.currentConversation = {
    changed, asked, finished, replacePicture, clear, restore, leave, arrive, open, reopen, fresh,
    get: () => current,
  };
})();
