/* Says what Gradio has in English only in the page's language: the names of buttons and fields, and that it uploads. */
(() => {
  const { text, tag } = window.blipSpace;
  if (tag === "en") return;
  const ATTRIBUTES = ["title", "aria-label"];
  const SELECTOR = ATTRIBUTES.map((name) => `[${name}]`).join();
  const NAMES = {
    "Upload file": "gradio_upload",
    "common.upload": "gradio_upload",
    "Capture from camera": "gradio_camera",
    "Paste from clipboard": "gradio_paste",
    "Fullscreen": "gradio_fullscreen",
    "Remove Image": "gradio_remove_image",
    "Copy conversation": "gradio_copy_conversation",
    "Copy message": "gradio_copy_message",
    "undo": "gradio_undo",
    "Undo": "gradio_undo",
    "Reset to default value": "gradio_reset",
    "Click to upload or drop files": "gradio_upload_files",
    "Remove this file": "gradio_remove_file",
    "More tabs": "gradio_more_tabs",
  };
  /** What stands before the label of a slider in the names of its two fields. */
  const OF_SLIDER = /^(?:number input|range slider) for /;

  /** @param {string} name */
  const translated = (name) => (Object.hasOwn(NAMES, name) ? text(NAMES[name]) : name.replace(OF_SLIDER, ""));

  /** @param {Element} element */
  function rename(element) {
    for (const attribute of ATTRIBUTES) {
      const name = element.getAttribute(attribute);
      if (name && translated(name) !== name) element.setAttribute(attribute, translated(name));
    }
  }

  /** Gradio counts the files that are being uploaded in this text. @param {Node} node */
  function reword(node) {
    if (node.parentElement?.matches(".uploading") && node.data !== text("gradio_uploading")) node.data = text("gradio_uploading");
  }

  new MutationObserver((changes) => {
    for (const { type, target, addedNodes } of changes) {
      for (const node of type === "childList" ? addedNodes : [target]) {
        if (!(node instanceof Element)) {
          reword(node);
          continue;
        }
        rename(node);
        node.querySelectorAll(SELECTOR).forEach(rename);
        node.querySelectorAll(".uploading").forEach(({ firstChild }) => reword(firstChild));
      }
    }
  }).observe(document.documentElement, {
    childList: true, subtree: true, characterData: true, attributes: true, attributeFilter: ATTRIBUTES,
  });
})();
