/* Says when the server cannot be reached, holds what the page sends until it can be, and goes on after a restart. */
(() => {
  const { text, note, isPlaceholder } = window.blipSpace;
  const send = window.fetch.bind(window);

  const PERIOD = 2500, PERIOD_WHILE_LOST = 1000, TIMEOUT = 8000;
  /** For how long after the user's last action the server is watched: milliseconds. */
  const WATCHED = 10 * 60 * 1000;

  /** The server that has said that it stops: it is gone, although it still ends its answers. */
  let stopping = null;
  let isLost = false, refusal = null, lastAction = Date.now(), appId = null, layout = null, shown = new Set();
  /** @type {(() => void)[]} */
  let held = [];

  const prefix = () => `${window.gradio_config.root}${window.gradio_config.api_prefix ?? "/gradio_api"}`;
  const pathOf = (input) => new URL(input.url ?? input, location.href).pathname;
  const isAborted = (error) => error?.name === "AbortError";

  /** Whether a proxy answers for a server that is gone. @param {Response} response */
  const isGone = (response) => [502, 503, 504].includes(response.status) &&
    !response.headers.get("content-type")?.includes("json") && !response.headers.has("X-Error-Code");

  /** The components and events of a configuration: what the page and the server must agree about. The page has none of
   * the components that only calls of the API need. */
  const layoutOf = (config) => JSON.stringify([
    config.components.filter(({ id }) => shown.has(id)).map(({ id, type, props }) => [id, type, props.elem_id]),
    config.dependencies.map(({ id, targets, inputs, outputs }) => [id, targets, inputs, outputs]),
  ]);

  /** Send a request, and again once the server can be reached, if it cannot be. */
  async function deliver(input, options) {
    for (;;) {
      try {
        const response = await send(input, options);
        const isStopping = response.headers.get("X-Error-Code") === "stopping";
        if (isStopping) stopping = appId;
        else if (!isGone(response)) return response;
      } catch (error) {
        if (isAborted(error)) throw error;
      }
      markLost();
      await new Promise((resolve) => held.push(resolve));
    }
  }

  const event = (value) => new TextEncoder().encode(`\n\ndata: ${JSON.stringify(value)}\n\n`);
  const INTERRUPTED = { msg: "unexpected_error", message: "", session_not_found: false, success: false };

  /** A stream of answers that ends each of them, and itself, also where the server breaks it off. */
  function completed(body) {
    const reader = body.getReader(), decoder = new TextDecoder();
    let isClosed = false;
    return new ReadableStream({
      async pull(controller) {
        try {
          const { done, value } = await reader.read();
          if (!done) {
            const part = decoder.decode(value, { stream: true });
            isClosed ||= part.includes('"close_stream"');
            if (part.includes('"unexpected_error"')) sayInterrupted();
            controller.enqueue(new TextEncoder().encode(part.replace('"session_not_found": true', '"session_not_found": false')));
            return;
          }
        } catch (error) {
          if (isAborted(error)) return controller.error(error);
        }
        if (!isClosed) end(controller);
        controller.close();
      },
      cancel: (reason) => reader.cancel(reason),
    });
  }

  /** Say that a question got no answer; kept.js says it of an answer that was cut off. */
  function sayInterrupted() {
    const last = window.blipSpace.currentConversation.get().record.messages.at(-1);
    const isRunning = Boolean(document.querySelector("#stop")?.offsetParent);
    if (isRunning && last && (last.role === "user" || isPlaceholder(last))) note("box", text("answer_interrupted"));
  }

  function end(controller) {
    sayInterrupted();
    controller.enqueue(event(INTERRUPTED));
    controller.enqueue(event({ msg: "close_stream" }));
    check();
  }

  async function openStream(input, options) {
    try {
      const response = await send(input, options);
      if (response.ok) return new Response(completed(response.body), response);
    } catch (error) {
      if (isAborted(error)) throw error;
    }
    markLost();
    return new Response(new ReadableStream({ start: (controller) => { end(controller); controller.close(); } }));
  }

  window.fetch = async (input, options) => {
    const path = pathOf(input);
    if (path.endsWith("/queue/data")) return openStream(input, options);
    if (!path.endsWith("/queue/join") && !path.endsWith("/upload")) return send(input, options);
    const response = await deliver(input, options);
    refusal = response.ok ? null : response.headers.get("X-Error-Code");
    return response;
  };

  /** The code of the newest request that the server refused, once. */
  const takeRefusal = () => { const code = refusal; refusal = null; return code; };

  function markLost() {
    if (isLost) return;
    isLost = true;
    note("page", text("connection_lost"));
    watch();
  }

  async function reach() {
    try {
      const response = await send(`${prefix()}/app_id`, { cache: "no-store", signal: AbortSignal.timeout(TIMEOUT) });
      return response.ok ? (await response.json()).app_id : null;
    } catch {
      return null;
    }
  }

  async function goOn(id) {
    if (id !== appId) {
      const config = await (await send(`${window.gradio_config.root}/config`, { signal: AbortSignal.timeout(TIMEOUT) })).json();
      if (layoutOf(config) !== layout) return location.reload();
      appId = id;
      await window.blipSpace.currentConversation.renew();
    }
    if (isLost) note("page", text("connection_back"), { isError: false, seconds: 4 });
    isLost = false;
    held.splice(0).forEach((resolve) => resolve());
    document.querySelector("#refresh-status")?.click();
  }

  let isChecking = false;
  async function check() {
    if (isChecking || !appId) return;
    isChecking = true;
    try {
      const id = await reach();
      if (id === null || id === stopping) markLost();
      else if (isLost || id !== appId) await goOn(id);
    } catch {
      markLost();
    } finally {
      isChecking = false;
    }
  }

  const isWatched = () => document.visibilityState === "visible" && Date.now() - lastAction < WATCHED;
  let timer = 0;
  function watch() {
    clearTimeout(timer);
    timer = setTimeout(async () => {
      if (isLost || isWatched()) await check();
      watch();
    }, isLost ? PERIOD_WHILE_LOST : PERIOD);
  }

  for (const name of ["pointerdown", "keydown", "scroll"]) {
    document.addEventListener(name, () => { lastAction = Date.now(); }, { capture: true, passive: true });
  }
  document.addEventListener("visibilitychange", () => { if (document.visibilityState === "visible") check(); });
  for (const name of ["online", "offline"]) window.addEventListener(name, check);
  function start() {
    shown = new Set(window.gradio_config.components.map(({ id }) => id));
    [appId, layout] = [window.gradio_config.app_id, layoutOf(window.gradio_config)];
    watch();
  }
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();

  Object.assign(window.blipSpace, { takeRefusal });
})();
