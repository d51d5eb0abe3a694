/* The picture of a kept conversation: its copy in the browser, and its way back to the server. */
(() => {
  const THUMBNAIL = 96;

  /** Reads an uploaded image. Throws if the server has it no more. @param {string} url */
  async function copyOf(url) {
    const response = await fetch(url);
    if (!response.ok) throw new Error(response.statusText);
    const blob = await response.blob();
    const digest = await crypto.subtle?.digest("SHA-256", await blob.arrayBuffer()); // only where the connection is safe
    const bytes = digest ? [...new Uint8Array(digest)] : [];
    const sha256 = bytes.map((byte) => byte.toString(16).padStart(2, "0")).join("");
    return { blob, sha256, thumbnail: await thumbnailOf(blob) };
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

  const address = (path) => `${window.gradio_config.root}${window.gradio_config.api_prefix}/file=${path}`;
  /** Whether the server has an image. One that cannot be reached now may have it. */
  const isUploaded = ({ picture: { value } }) => fetch(address(value.path), { method: "HEAD" }).then(({ ok }) => ok, () => true);

  /** The image as the server has it, which gets it again where it was restarted or has deleted it. */
  async function uploadAgain({ record, blob }) {
    if (!record.picture) return null;
    const { value, name } = record.picture, { root, api_prefix: prefix } = window.gradio_config;
    if (await isUploaded(record)) return { ...value, url: address(value.path) };
    if (!blob) return null;
    const body = new FormData();
    body.append("files", new File([blob], name || "image", { type: blob.type }));
    const response = await fetch(`${root}${prefix}/upload`, { method: "POST", body });
    if (!response.ok) return null;
    const [path] = await response.json();
    const sent = { path, url: address(path), orig_name: name, size: blob.size, mime_type: blob.type };
    return { ...sent, meta: { _type: "gradio.FileData" } };
  }

  Object.assign(window.blipSpace, { copyOf, isUploaded, uploadAgain });
})();
