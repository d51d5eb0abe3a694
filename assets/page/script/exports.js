/* Conversations as files: Markdown and HTML to read, and JSON in the form of the API's history, which is read again. */
(() => {
  const { textOf, isPlaceholder, factsOf, messageOf, text, tag } = window.blipSpace;
  const MAX_BYTES = 4e6;
  const contentOf = (message) => (isPlaceholder(message) ? "" : textOf(message));

  /** The messages with the words that the page shows for a question without words. */
  const shown = ({ messages }) => messages.map((message) => ({
    isQuestion: message.role === "user",
    content: contentOf(message) || text("caption_request"),
    language: factsOf(message).language ?? "",
  }));
  const fileOf = (title, ending, type, content) => {
    const name = title.replace(/[^\p{L}\p{M}\p{N}]+/gu, "-").replace(/^-|-$/g, "").slice(0, 60) || text("conversation_label");
    return new File([content], `${name}.${ending}`, { type });
  };

  function json(record, title) {
    const { picture, awaited, messages, created } = record, image = picture ?? awaited;
    const content = {
      title, created: new Date(created).toISOString(),
      image: image && { name: image.name, sha256: image.sha256 || null },
      history: messages.map((message) => ({ role: message.role, content: contentOf(message) })),
    };
    return fileOf(title, "json", "application/json", `${JSON.stringify(content, null, 2)}\n`);
  }

  const escapeMarkdown = (words) => words.replace(/[\\`*_[\]<>#|~]/g, "\\$&");
  function markdown(record, title) {
    const { picture } = record, lines = [`# ${escapeMarkdown(title)}`];
    if (picture) lines.push(escapeMarkdown(text("kept_export_image", { name: picture.name || "-", digest: picture.sha256 || "-" })));
    for (const { isQuestion, content } of shown(record)) {
      const words = escapeMarkdown(content).split("\n");
      lines.push(isQuestion ? words.map((line) => `> ${line}`).join("\n") : words.join("  \n"));
    }
    return fileOf(title, "md", "text/markdown", `${lines.join("\n\n")}\n`);
  }

  const escapeHtml = (words) => words.replace(/[&<>"]/g, (character) => `&#${character.charCodeAt(0)};`);
  const STYLE = `body{max-width:44rem;margin:2rem auto;padding:0 1rem;font:1rem/1.5 system-ui,sans-serif;color-scheme:light dark}
img{max-width:100%;max-height:70vh}p{white-space:pre-wrap;overflow-wrap:anywhere}.question{font-weight:bold;margin-block:1.5em 0}`;
  async function html(record, title, blob) {
    const image = blob ? `<img alt="${escapeHtml(record.picture.name)}" src="${await addressOf(blob)}">` : "";
    const messages = shown(record).map(({ isQuestion, content, language }) => (
      `<p class="${isQuestion ? "question" : "answer"}" dir="auto"${language ? ` lang="${escapeHtml(language)}"` : ""}>${escapeHtml(content)}</p>`));
    const head = `<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>${escapeHtml(title)}</title><style>${STYLE}</style>`;
    const body = `<h1 dir="auto">${escapeHtml(title)}</h1>${image}\n${messages.join("\n")}`;
    const start = `<!doctype html>\n<html lang="${tag}" dir="${document.documentElement.dir || "ltr"}">`;
    return fileOf(title, "html", "text/html", `${start}<head>${head}</head>\n<body>${body}</body></html>\n`);
  }

  /** A file's content as a data URL. @param {Blob} blob @returns {Promise<string>} */
  const addressOf = (blob) => new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(String(reader.result));
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });

  /**
   * The conversation of a JSON file, or of a history of the API. Throws if it has no turns, or others than of a question and an answer.
   * @param {File} file
   */
  async function read(file) {
    if (file.size > MAX_BYTES) throw new RangeError("The file is too large.");
    const data = JSON.parse(await file.text()), history = Array.isArray(data) ? data : data.history;
    const messages = history.map(({ role, content }, index) => {
      const words = typeof content === "string" ? content : content.map((part) => part.text).join("");
      if (role !== (index % 2 ? "assistant" : "user")) throw new TypeError("The roles do not alternate.");
      return messageOf(role, words);
    });
    if (!messages.length) throw new RangeError("There are no messages.");
    const { name, sha256 } = data.image ?? {};
    const awaited = { name: String(name ?? ""), sha256: /^[0-9a-f]{64}$/.test(sha256) ? sha256 : "" };
    return { title: typeof data.title === "string" ? data.title.slice(0, 80) : "", messages, awaited };
  }

  window.blipSpace.exports = { json, markdown, html, read };
})();
