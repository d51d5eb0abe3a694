/* The list of kept conversations: to open, rename, export and delete them, and to keep none. */
(() => {
  const { store, currentConversation, exports, text, tag, textOf, isPlaceholder } = window.blipSpace;
  const dates = new Intl.DateTimeFormat(tag, { dateStyle: "medium", timeStyle: "short" });
  const element = (id) => document.getElementById(`kept-${id}`);

  /** What a conversation is called: its name, else its first words. */
  function titleOf({ title, messages, picture }) {
    const first = messages.find((message) => !isPlaceholder(message) && textOf(message).trim());
    return title || (first ? textOf(first).trim().slice(0, 80) : picture?.name || text("caption_request"));
  }

  /** @returns {any} an element with these properties and children */
  function create(name, properties = {}, ...children) {
    const created = Object.assign(document.createElement(name), properties);
    created.append(...children);
    return created;
  }
  const button = (label, onclick) => create("button", { type: "button", textContent: label, onclick });

  /** Says in the list what was done, and how it is undone. */
  function say(sentence, label = "", action = () => {}) {
    const undo = label ? [" ", button(label, () => { say(""); action(); })] : [];
    element("said").replaceChildren(sentence, ...undo);
  }

  async function show() {
    const isAvailable = await store.isAvailable(), records = isAvailable ? await store.list() : [];
    element("items").replaceChildren(...records.map(row));
    element("empty").hidden = records.length > 0;
    element("on").checked = isAvailable && store.isOn();
    element("on").disabled = !isAvailable;
    if (!isAvailable) say(text("kept_not_stored"));
  }

  function row(record) {
    const title = titleOf(record), isShown = record.id === currentConversation.get().record.id;
    const name = create("b", { textContent: title, dir: "auto" });
    const image = create("img", { src: record.thumbnail || "data:,", alt: "", hidden: !record.thumbnail });
    const opener = create("button", { type: "button", className: "kept-open", ariaCurrent: isShown ? "true" : null }, image,
      create("span", {}, name, create("small", { textContent: dates.format(record.updated) })));
    opener.onclick = () => { element("dialog").close(); if (!isShown) currentConversation.open(record.id); };
    const actions = create("div", { hidden: true },
      button(text("kept_rename"), () => rename(record, name)),
      ...["markdown", "json", "html"].map((form) => button(text(`kept_export_${form}`), () => save(record, form))),
      button(text("kept_delete"), () => remove(record)));
    const more = Object.assign(button(text("kept_more"), () => {
      actions.hidden = !actions.hidden;
      more.ariaExpanded = String(!actions.hidden);
    }), { ariaLabel: `${text("kept_more")}: ${title}`, ariaExpanded: "false" });
    return create("li", {}, opener, more, actions);
  }

  /** Puts a text field in place of the name: Enter takes the new name, Escape leaves the old one. */
  function rename(record, name) {
    const field = create("input", { type: "text", value: titleOf(record), ariaLabel: text("kept_rename"), maxLength: 80 });
    const end = async (title) => {
      field.onblur = null;
      if (title) await currentConversation.rename(record.id, title);
      await show();
    };
    field.onkeydown = (event) => {
      if (event.key === "Escape") event.preventDefault();
      if (event.key === "Enter" || event.key === "Escape") end(event.key === "Enter" ? field.value.trim() : "");
    };
    field.onblur = () => end(field.value.trim());
    name.closest(".kept-open").after(field);
    field.focus();
    field.select();
  }

  const blobOf = async (record) => (record.picture ? (await store.picture(record.picture.key)) ?? null : null);

  async function save(record, form) {
    const file = await exports[form](record, titleOf(record), await blobOf(record));
    const link = create("a", { href: URL.createObjectURL(file), download: file.name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  }

  async function remove(record) {
    const blob = await blobOf(record), isShown = record.id === currentConversation.get().record.id;
    await currentConversation.remove(record.id);
    await show();
    say(text("kept_deleted"), text("kept_undo"), async () => {
      await store.put({ ...record, revision: 0 }, blob);
      if (isShown) currentConversation.open(record.id);
      await show();
    });
  }

  async function take(file) {
    try {
      await currentConversation.add(await exports.read(file));
      element("dialog").close();
    } catch (error) {
      console.debug(error);
      say(text("kept_not_imported"));
    }
  }

  const actions = {
    "kept-list": () => { say(""); element("dialog").showModal(); show(); },
    "kept-close": () => element("dialog").close(),
    "kept-new": () => element("new-event").click(),
    "kept-import": () => element("file").click(),
    "kept-forget": async () => {
      await currentConversation.forget();
      await show();
      say(text("kept_forgotten"));
    },
  };
  document.addEventListener("click", (event) => {
    actions[event.target.closest?.("button")?.id]?.();
    if (event.target === element("dialog")) event.target.close();
  });
  document.addEventListener("change", (event) => {
    const { id, files, checked } = event.target;
    if (id === "kept-on") currentConversation.setKept(checked);
    if (id !== "kept-file" || !files.length) return;
    take(files[0]);
    event.target.value = "";
  });
})();
