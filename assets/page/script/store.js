/* Keeps conversations in the user's own browser: their messages and, apart from those, their pictures. */
(() => {
  /**
   * A conversation as it is stored. `revision` grows with each write, so that a tab sees that another one wrote.
   * @typedef {{id: string, revision: number, created: number, updated: number, title: string, messages: any[],
   *   draft: string, isRunning: boolean, interrupted: string, thumbnail: string, picture: Picture | null,
   *   awaited: {name: string, sha256: string} | null}} Conversation
   * @typedef {{key: string, name: string, type: string, size: number, sha256: string, value: any}} Picture
   */
  const DATABASE = "blip-space", KEEP = "blip-space-keep", SESSION = "blip-space-conversation";
  /** How long an image without a question is kept. */
  const UNUSED_MS = 24 * 3600 * 1000;
  const STORES = ["conversations", "pictures"];

  /** How much is kept: the oldest conversations are deleted for newer ones. */
  const limits = { conversations: 200, bytes: 300e6 };

  const newId = () => Date.now().toString(36) + Math.random().toString(36).slice(2);

  /** @param {IDBRequest} request @returns {Promise<any>} */
  const result = (request) => new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

  /** @type {Promise<IDBDatabase> | null} */
  let opened = null;
  const open = () => (opened ??= (async () => {
    const request = indexedDB.open(DATABASE, 1);
    request.onupgradeneeded = () => {
      request.result.createObjectStore(STORES[0], { keyPath: "id" });
      request.result.createObjectStore(STORES[1]);
    };
    const database = await result(request);
    database.onclose = database.onversionchange = () => { database.close(); opened = null; };
    return database;
  })());

  /** Runs `work` in one transaction, which is complete when this returns. */
  async function transact(mode, work) {
    const transaction = (await open()).transaction(STORES, mode);
    const complete = new Promise((resolve, reject) => {
      transaction.oncomplete = resolve;
      transaction.onabort = transaction.onerror = () => reject(transaction.error);
    });
    complete.catch(() => {});
    const value = await work(...STORES.map((name) => transaction.objectStore(name)));
    await complete;
    return value;
  }

  const get = (id) => transact("readonly", (conversations) => result(conversations.get(id)));
  /** @param {string} key @returns {Promise<Blob | undefined>} */
  const picture = async (key) => {
    const kept = await transact("readonly", (_, pictures) => result(pictures.get(key)));
    return !kept || kept instanceof Blob ? kept : new Blob([kept.bytes], { type: kept.type });
  };

  /** Every conversation with a message, the newest first. @returns {Promise<Conversation[]>} */
  const list = async () => (await transact("readonly", (conversations) => result(conversations.getAll())))
    .filter((conversation) => conversation.messages.length)
    .sort((one, other) => other.updated - one.updated);

  /** Deletes a conversation, and its picture unless another one has it too. */
  const remove = (id) => transact("readwrite", async (conversations, pictures) => {
    const removed = await result(conversations.get(id));
    conversations.delete(id);
    await dropPicture(conversations, pictures, removed?.picture?.key);
  });

  async function dropPicture(conversations, pictures, key) {
    const kept = await result(conversations.getAll());
    if (key && !kept.some((conversation) => conversation.picture?.key === key)) pictures.delete(key);
  }

  const clear = () => transact("readwrite", (conversations, pictures) => { conversations.clear(); pictures.clear(); });

  /**
   * Writes a conversation; one that another tab has changed meanwhile stays, and this becomes a second one.
   * Returns how many of the oldest were deleted to make room.
   * @param {Conversation} conversation @param {Blob | null} blob
   */
  async function put(conversation, blob) {
    const image = await missing(conversation.picture?.key, blob);
    const dropped = conversation.revision ? 0 : await makeRoom(conversation, limits.conversations, limits.bytes);
    for (let count = dropped; ; count += 1) {
      try {
        await write(conversation, image);
        return count;
      } catch (error) {
        if (error?.name !== "QuotaExceededError") throw error;
        const kept = (await transact("readonly", (conversations) => result(conversations.count())));
        if (!(await makeRoom(conversation, kept - 1, Infinity))) throw error;
      }
    }
  }

  /** What is stored of an image that is not stored yet. It is no Blob, which Safari's private windows cannot store. */
  async function missing(key, blob) {
    if (!blob || !key || (await transact("readonly", (_, pictures) => result(pictures.count(key))))) return null;
    return { bytes: await blob.arrayBuffer(), type: blob.type };
  }

  async function write(conversation, image) {
    const revision = conversation.revision + 1;
    await transact("readwrite", async (conversations, pictures) => {
      let stored = await result(conversations.get(conversation.id));
      if (stored && stored.revision !== conversation.revision) {
        conversation.id = newId();
        stored = null;
      }
      const key = conversation.picture?.key;
      if (image && key && !(await result(pictures.count(key)))) pictures.put(image, key);
      conversations.put({ ...conversation, revision, updated: Date.now() });
      if (stored?.picture && stored.picture.key !== key) await dropPicture(conversations, pictures, stored.picture.key);
    });
    conversation.revision = revision;
  }

  /** Deletes the oldest other conversations until `most` and `bytes` hold this one too. Returns how many. */
  async function makeRoom(conversation, most, bytes) {
    const all = await transact("readonly", (conversations) => result(conversations.getAll()));
    const isUsed = ({ messages, updated }) => messages.length || updated > Date.now() - UNUSED_MS;
    for (const { id } of all.filter((kept) => kept.id !== conversation.id && !isUsed(kept))) await remove(id);
    const others = all.filter((kept) => kept.id !== conversation.id && isUsed(kept)).sort((one, other) => one.updated - other.updated);
    const sizeOf = (kept) => (kept.picture?.size ?? 0) + 2 * JSON.stringify(kept.messages).length;
    let count = others.length + 1, size = sizeOf(conversation) + others.reduce((sum, other) => sum + sizeOf(other), 0);
    let removed = 0;
    for (const other of others) {
      if (count <= most && size <= bytes) break;
      await remove(other.id);
      count -= 1;
      size -= sizeOf(other);
      removed += 1;
    }
    return removed;
  }

  /** Whether the browser lets the page keep anything. */
  const isAvailable = () => open().then(() => true, () => { opened = null; return false; });

  /** Storage of the browser, which may be blocked. */
  const attempt = (action) => { try { return action(); } catch { return null; } };
  const isOn = () => attempt(() => localStorage.getItem(KEEP)) !== "off";
  const setOn = (on) => {
    attempt(() => (on ? localStorage.removeItem(KEEP) : localStorage.setItem(KEEP, "off")));
    if (!on) setSession(null);
  };

  /** What this tab shows, for the case that it is loaded again. */
  const session = () => attempt(() => JSON.parse(sessionStorage.getItem(SESSION)));
  const setSession = (value) => attempt(() => (
    value ? sessionStorage.setItem(SESSION, JSON.stringify(value)) : sessionStorage.removeItem(SESSION)));

  window.blipSpace.store = {
    limits, newId, get, picture, list, put, remove, clear, isAvailable, isOn, setOn, session, setSession,
  };
})();
