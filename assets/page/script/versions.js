/* The row under an answer: the versions of its turn to step through (see versions.py), and its details. */
(() => {
  const { text, tag, factsOf, describe, changesOf, isPlaceholder } = window.blipSpace;
  const number = new Intl.NumberFormat(tag);
  const MAX_VERSIONS = 8;
  const VERSION_FACTS = ["others", "shown", "previous"];

  /** @type {{position: number, by: number} | null} */
  let wanted = null;

  /** The other versions of the turn of a question, and the place of the shown one. @param {any} question */
  function versionsOf(question) {
    const { others, shown, previous } = factsOf(question);
    const kept = Array.isArray(others) ? others.filter(Array.isArray) : [];
    const place = Number.isInteger(shown) ? Math.min(Math.max(shown, 0), kept.length) : kept.length;
    return { others: kept, shown: place, previous };
  }

  const pack = (message) => ({ role: message.role, content: contentOf(message), facts: factsOf(message) });
  const contentOf = ({ content }) => (Array.isArray(content) ? content : [content])
    .map((part) => (typeof part === "string" ? part : part.text ?? "")).join("");
  const unpack = ({ role, content, facts }) => ({
    role, content: [{ type: "text", text: content }],
    ...(Object.keys(facts ?? {}).length ? { metadata: { log: JSON.stringify(facts) } } : {}),
  });
  const without = (facts, names) => Object.fromEntries(Object.entries(facts ?? {}).filter(([name]) => !names.includes(name)));

  /** All versions of the turn at `position`, each as a list of packed messages. */
  function allVersions(messages, position) {
    const { others, shown } = versionsOf(messages[position]);
    const turn = messages.slice(position).map(pack);
    turn[0].facts = without(turn[0].facts, VERSION_FACTS);
    return [...others.slice(0, shown), turn, ...others.slice(shown)];
  }

  /** The conversation with another version of the turn at `position`. */
  function show(messages, position, place, { keep = true } = {}) {
    const versions = allVersions(messages, position), { shown } = versionsOf(messages[position]);
    const [question, ...later] = versions[place];
    const kept = versions.filter((_, index) => index !== place && (keep || index !== shown));
    const facts = { ...question.facts, others: kept, shown: place };
    const first = { ...question, facts: kept.length ? facts : question.facts };
    return [...messages.slice(0, position), first, ...later].map((message) => ("facts" in message ? unpack(message) : message));
  }

  /** Runs when a version is chosen. @param {any[]} messages @param {boolean} busy */
  function step(messages, busy) {
    const { position, by } = wanted ?? { position: -1, by: 0 };
    if (busy || messages?.[position]?.role !== "user") return messages;
    const { others, shown } = versionsOf(messages[position]);
    const place = shown + by;
    return place < 0 || place > others.length ? messages : show(messages, position, place);
  }

  /** The conversation with the version before the one that got no answer, or null if its last question has no other. */
  function restoreVersion(messages) {
    const position = messages.length - 1, { others, shown, previous } = versionsOf(messages[position]);
    if (messages[position]?.role !== "user" || !others.length) return null;
    return show(messages, position, Number.isInteger(previous) && others[previous] ? previous : shown - 1, { keep: false });
  }

  /** The conversation with a new version of the turn at `position`, which it then shows. */
  function addVersion(messages, position, [question, ...later]) {
    const others = allVersions(messages, position).slice(1 - MAX_VERSIONS);
    const facts = { ...factsOf(question), others, shown: others.length };
    return [...messages.slice(0, position), unpack({ ...pack(question), facts }), ...later];
  }

  function button(label, sign, onclick) {
    const element = document.createElement("button");
    element.type = "button";
    Object.assign(element, { textContent: sign, onclick }, label ? { ariaLabel: label, title: label } : {});
    return element;
  }

  function create(row) {
    const bar = document.createElement("div"), place = document.createElement("span"), details = document.createElement("details");
    const go = (by) => () => {
      wanted = { position: Number(bar.dataset.question), by };
      document.getElementById("step")?.click();
    };
    bar.className = "ways";
    Object.assign(bar, { lang: tag, dir: document.documentElement.dir || "ltr", ariaLive: "off" });
    bar.append(button(text("previous_version"), "‹", go(-1)), place, button(text("next_version"), "›", go(1)), details);
    const again = button("", "", () => document.getElementById("ask-again")?.click());
    again.className = "again";
    bar.append(again);
    details.append(Object.assign(document.createElement("summary"), { textContent: text("answer_details") }), document.createElement("span"));
    row.querySelector(".flex-wrap")?.append(bar);
    return bar;
  }

  const set = (element, name, value) => { if (element[name] !== value) element[name] = value; };

  /** Show the row under the answer at `index`, if there is anything to show. */
  function showBar(id, row, messages, index) {
    const { others, shown } = versionsOf(messages[index - 1]), details = describe(factsOf(messages[index]));
    let bar = row.querySelector(".ways");
    if (isPlaceholder(messages[index]) || !(details || others.length)) return void bar?.remove();
    bar ??= create(row);
    const [previous, place, next, facts, again] = bar.children, total = others.length + 1;
    bar.classList.toggle("has-versions", total > 1);
    bar.dataset.question = String(index - 1);
    for (const element of [previous, place, next]) set(element, "hidden", total === 1 || id !== "chat");
    set(previous, "ariaDisabled", String(shown === 0));  // not `disabled`, which would take the focus away
    set(next, "ariaDisabled", String(shown === total - 1));
    set(place, "textContent", `${number.format(shown + 1)}/${number.format(total)}`);
    set(place, "ariaLabel", text("version_of", { shown: shown + 1, total }));
    const changes = id === "chat" && index === messages.length - 1 ? changesOf(factsOf(messages[index])) : "";
    set(again, "hidden", !changes);
    set(again, "textContent", changes && text("ask_again", { changes }));
    set(facts, "hidden", !details);
    set(facts.lastChild, "textContent", details);
  }

  Object.assign(window.blipSpace, { versionsOf, step, restoreVersion, addVersion, showBar });
})();
