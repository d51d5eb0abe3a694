/* The list of the page's languages, from which the user can choose another one. */
(() => {
  const { tag } = window.blipSpace;
  const COOKIE = "blip-space-language", PARAMETER = "language", YEAR_SECONDS = 31_536_000;

  /** Keeps a choice in a cookie of this page. In a site's frame it needs a partition of its own. @param {string} chosen */
  function keep(chosen) {
    const path = location.pathname.replace(/[^/]*$/, "");
    const base = `${COOKIE}=${chosen}; path=${path}; max-age=${YEAR_SECONDS}`;
    const framed = window.top !== window && location.protocol === "https:";
    document.cookie = framed ? `${base}; samesite=none; secure; partitioned` : `${base}; samesite=lax`;
    return document.cookie.split("; ").includes(`${COOKIE}=${chosen}`);
  }

  /** Shows the page in another language. Where the browser refuses cookies its address says which. @param {string} chosen */
  function choose(chosen) {
    const address = new URL(location.href);
    address.searchParams.delete(PARAMETER);
    if (!keep(chosen)) address.searchParams.set(PARAMETER, chosen);
    if (address.href === location.href) location.reload();
    else location.assign(address.href);
  }

  const menu = () => /** @type {HTMLDetailsElement} */ (document.querySelector("#page-language"));
  document.addEventListener("click", (event) => {
    const button = event.target.closest?.("[data-page-language]");
    if (button) choose(button.dataset.pageLanguage);
    else if (menu()?.open && !menu().contains(event.target)) menu().open = false;
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !menu()?.open) return;
    menu().open = false;
    menu().querySelector("summary").focus();
  });
  document.addEventListener("toggle", (event) => {
    if (event.target !== menu()) return;
    for (const button of menu().querySelectorAll("button"))
      button.toggleAttribute("aria-current", button.dataset.pageLanguage === tag);
  }, true);
  document.addEventListener("focusout", (event) => {
    if (menu()?.open && event.relatedTarget && !menu().contains(event.relatedTarget)) menu().open = false;
  });
})();
