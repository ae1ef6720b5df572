"use strict";
// Asks every two seconds whether the tables changed, and then shows the new page where the reader was.
(() => {
  const version = document.documentElement.dataset.version;
  const key = "scroll";
  const kept = sessionStorage.getItem(key);
  if (kept) addEventListener("load", () => scrollTo(0, Number(kept)));
  addEventListener("pagehide", () => sessionStorage.setItem(key, String(scrollY)));
  const ask = async () => {
    try {
      const answer = await fetch("version", { cache: "no-store" });
      if (answer.ok && (await answer.text()) !== version) return location.reload();
    } catch { /* the server ended: the page stays as it is */ }
    setTimeout(ask, 2000);
  };
  setTimeout(ask, 2000);
})();
