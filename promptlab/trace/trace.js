"use strict";
(() => {
  // What a link names may stand in something that is folded.
  const reveal = () => {
    const target = document.getElementById(location.hash.slice(1));
    if (!target) return;
    for (let node = target; node; node = node.parentElement) if (node.tagName === "DETAILS") node.open = true;
    target.querySelector("summary").focus();
    target.scrollIntoView();
  };
  addEventListener("hashchange", reveal);
  for (const link of document.querySelectorAll('a[href^="#"]')) {
    link.addEventListener("click", () => { if (link.hash === location.hash) reveal(); });
  }
  for (const controls of document.querySelectorAll(".controls")) controls.hidden = false;
  for (const button of document.querySelectorAll("button[data-open]")) {
    button.addEventListener("click", () => {
      for (const program of document.querySelectorAll("details.program")) program.open = button.dataset.open === "true";
    });
  }
  addEventListener("beforeprint", () => { for (const one of document.querySelectorAll("details.program")) one.open = true; });
  reveal();
})();
