/* Gradio's toasts, which notes.css hides: each becomes a note where it belongs, by its code. */
(() => {
  const { text, note, isBatchOpen } = window.blipSpace;

  /** The codes of errors that belong to the image. */
  const OF_IMAGE = new Set(["unreadable_image", "too_large", "not_uploaded"]);

  /** What Gradio itself says, with the codes of the same errors. */
  const GRADIO = [
    [/exceed the maximum allowed size/, "too_large"],
    [/currently busy/, "busy"],
    [/[Ii]nvalid file type/, "unreadable_image"],
    [/Could not parse server response|Unexpected Error/, "internal_error"],
  ];
  /** Stands before and after the fields of a message (error_texts.py). */
  const SEPARATOR = "\u2063";
  /** @typedef {{sentence: string, code?: string, remove?: string, upload?: string, model?: string}} Message */
  const OF_CONNECTION = /Connection (to the server was lost|errored out)/;

  /** @type {Record<string, (message: Message) => void>} */
  const handlers = {};

  /** Let a function handle the messages of a code. @param {string} code @param {(message: Message) => void} handler */
  const onNotice = (code, handler) => { handlers[code] = handler; };

  /** Show an error where it belongs. @param {string} code @param {string} sentence */
  function showError(code, sentence) {
    if (isBatchOpen()) note("batch", sentence);
    else note(OF_IMAGE.has(code) ? "frame" : "box", sentence);
  }

  /** @param {HTMLElement} element a message in a toast @returns {Message | null} */
  function read(element) {
    const [sentence, fields] = element.textContent.trim().split(SEPARATOR).reverse();
    if (fields) return { sentence, ...JSON.parse(fields) };
    if (OF_CONNECTION.test(sentence)) return null;
    const code = window.blipSpace.takeRefusal?.() ?? GRADIO.find(([pattern]) => pattern.test(sentence))?.[1];
    return { code, sentence: code ? text(`error_${code}`) : sentence };
  }

  /** Whether a message is about an image that another one has replaced since. Gradio shows an SVG by a data URL, which
   * names no upload; the server reads none of them. @param {Message} message */
  function isLate({ upload }) {
    const shown = document.querySelector("#picture img")?.src ?? "";
    return upload && shown.includes("/file=") && !shown.includes(`/${upload}/`);
  }

  /** @param {HTMLElement} element a message in a toast */
  function forward(element) {
    const isError = Boolean(element.closest(".error"));
    const message = read(element);
    if (!message || isLate(message)) return;
    if (message.remove) document.querySelector(`#remove-${message.remove}`)?.click();
    if (handlers[message.code]) handlers[message.code](message);
    else if (message.code || isError) showError(message.code, message.sentence);
    else note("page", message.sentence, { isError, seconds: 12 });
  }

  const forwarded = new WeakSet();
  new MutationObserver(() => {
    for (const element of document.querySelectorAll("[data-testid=toast-text]")) {
      if (forwarded.has(element)) continue;
      forwarded.add(element);
      forward(element);
    }
    for (const close of document.querySelectorAll("[data-testid=toast-close]")) close.click();
  }).observe(document.documentElement, { childList: true, subtree: true });

  Object.assign(window.blipSpace, { onNotice, showError });
})();
