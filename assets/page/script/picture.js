/* Images from anywhere: dropped or pasted on any part of the page; what cannot be taken is said in the frame. */
(() => {
  const { text, note, isBatchOpen } = window.blipSpace;

  /** The largest file that the server stores, as in server.py: bytes. */
  const MAX_BYTES = 20 * 1024 ** 2;
  const EXTENSIONS = /\.(jpe?g|jfif|png|apng|webp|gif|bmp|tiff?|avif|hei[cf]s?|hif|mpo|svg)$/i;
  const isImage = (file) => file.type.startsWith("image/") || EXTENSIONS.test(file.name);
  const isZip = (file) => /zip/.test(file.type) || /\.zip$/i.test(file.name);
  /** How many further files that are left out are named. */
  const MAX_NAMES = 5;

  /** Why a file cannot be taken, or nothing. @param {File} file */
  function reason(file) {
    if (!isImage(file) && !(isBatchOpen() && isZip(file))) return text("not_an_image", { file: file.name });
    if (file.size <= MAX_BYTES) return "";
    return text("file_too_large", { file: file.name, megabytes: MAX_BYTES / 1024 ** 2 });
  }

  /** Those files that can be taken, one or, for a batch, all; says why others are left out. @param {File[]} files */
  function check(files) {
    const wanted = isBatchOpen() ? files : files.slice(0, 1), leftOut = wanted.filter(reason);
    if (!leftOut.length) return wanted;
    const [first, ...others] = leftOut;
    const names = others.slice(0, MAX_NAMES).map(({ name }) => name).join(", ") + (others.length > MAX_NAMES ? ", …" : "");
    note(isBatchOpen() ? "batch" : "frame", reason(first) + (names && ` ${text("also_left_out", { files: names })}`));
    return wanted.filter((file) => !reason(file));
  }

  /** @param {File[]} files */
  function listOf(files) {
    const data = new DataTransfer();
    for (const file of files) data.items.add(file);
    return data.files;
  }

  const input = () => document.querySelector(`${isBatchOpen() ? "#batch-files" : "#picture"} input[type=file]`);

  /** The input for files; the frame has none while it shows the camera. */
  async function findInput() {
    if (!input()) document.querySelector("#picture [data-testid=source-select] button")?.click();
    for (let tries = 0; !input() && tries < 20; tries++) await new Promise(requestAnimationFrame);
    return input();
  }

  /** Give files to the open tab as if they had been chosen there. @param {File[]} files */
  async function take(files) {
    const taken = isBatchOpen() ? files : check(files), field = taken.length ? await findInput() : null;
    if (!field) return;
    field.files = listOf(taken);  // those of a batch are checked as they change
    field.dispatchEvent(new Event("change", { bubbles: true }));
    if (files.length > taken.length) {
      note("box", text("one_image", { file: taken[0].name, tab: text("batch_tab") }), { isError: false });
    }
  }

  document.addEventListener("change", (event) => {
    if (!event.target.matches?.("#picture input[type=file], #batch-files input[type=file]")) return;
    const files = [...event.target.files], taken = check(files);
    if (taken.length) {
      if (taken.length < files.length) event.target.files = listOf(taken);
      return;
    }
    if (!files.length) return;
    event.stopImmediatePropagation();
    event.target.value = "";
  }, true);

  document.addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    const isText = event.target.closest?.("textarea, input") && event.clipboardData.types.includes("text/plain");
    if (!files.length || isText) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    take(files);
  }, true);

  /* Dragging. */

  const carries = (event, type) => event.dataTransfer?.types.includes(type);
  const isForText = (event) => event.target.closest?.("textarea, input:not([type=file])");
  const show = (isDragged) => {
    document.documentElement.dataset.drop = text(isBatchOpen() ? "drop_images" : "drop_image");
    document.documentElement.classList.toggle("dragging", isDragged);
  };
  const isOurs = (event) => carries(event, "Files") || (carries(event, "text/uri-list") && !isForText(event));

  let depth = 0;
  for (const [name, change] of [["dragenter", 1], ["dragover", 0], ["dragleave", -1]]) {
    document.addEventListener(name, (event) => {
      if (!isOurs(event)) return;
      event.preventDefault();
      event.stopImmediatePropagation();
      depth = Math.max(0, depth + change);
      show(name === "dragover" || depth > 0);
    }, true);
  }
  document.addEventListener("drop", (event) => {
    depth = 0;
    show(false);
    if (!isOurs(event)) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    const files = [...event.dataTransfer.files];
    if (files.length) take(files);
    else note(isBatchOpen() ? "batch" : "frame", text("drop_is_no_file"));
  }, true);

  /* Camera and clipboard: Gradio says nothing when the browser refuses them. */

  const CAMERA = { NotFoundError: "camera_missing", OverconstrainedError: "camera_missing", NotReadableError: "camera_busy" };
  const { mediaDevices, clipboard } = navigator;
  if (mediaDevices?.getUserMedia) {
    const open = mediaDevices.getUserMedia.bind(mediaDevices);
    mediaDevices.getUserMedia = (constraints) => open(constraints).catch((error) => {
      note("frame", text(CAMERA[error.name] ?? "camera_refused"));
      return new Promise(() => {}); // Gradio would wait for a stream, and report the error to the console only
    });
  }
  if (clipboard?.read) {
    const read = clipboard.read.bind(clipboard);
    clipboard.read = async () => {
      const items = await read().catch(() => null);
      if (!items) note("frame", text("clipboard_refused"));
      else if (!items.some((item) => item.types.some((type) => type.startsWith("image/")))) note("frame", text("clipboard_empty"));
      return items ?? [];
    };
  }
})();
