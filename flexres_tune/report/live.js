"use strict";
// Asks every two seconds whether the tables have changed; if so, reloads the page and restores the scroll position.
(() => {
  const version = document.documentElement.dataset.version;
  const key = "scroll";
  const position = sessionStorage.getItem(key);
  if (position) addEventListener("load", () => scrollTo(0, Number(position)));
  addEventListener("pagehide", () => sessionStorage.setItem(key, String(scrollY)));
  const poll = async () => {
    try {
      const response = await fetch("version", { cache: "no-store" });
      if (response.ok && (await response.text()) !== version) return location.reload();
    } catch { /* the server has ended: keep the page as it is */ }
    setTimeout(poll, 2000);
  };
  setTimeout(poll, 2000);
})();
