"use strict";
// What pages share: tables that sort, contents that follow, tips for terms, folds that open.
(() => {
  // ---- a table sorts by a click on its head; the third click gives its own order back ----
  const makeSortable = (root) => {
    for (const table of root.querySelectorAll("table.sortable")) {
      const body = table.tBodies[0], own = [...body.rows];
      [...table.tHead.rows[0].cells].forEach((head, place) => {
        const button = document.createElement("button");
        button.type = "button";
        button.append(...head.childNodes);
        head.append(button);
        button.addEventListener("click", () => {
          const order = { none: "descending", descending: "ascending", ascending: "none" }[head.ariaSort || "none"];
          for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
          if (order === "none") return body.append(...own);
          head.setAttribute("aria-sort", order);
          const sign = order === "ascending" ? 1 : -1;
          body.append(...[...own].sort((a, b) => sign * compared(a.cells[place], b.cells[place])));
        });
      });
    }
  };
  makeSortable(document);
  // A live page puts new parts in.
  document.addEventListener("part", (event) => makeSortable(event.target));
  function compared(a, b) {
    const [x, y] = [a, b].map((cell) => cell.dataset.sort ?? cell.textContent);
    const [p, q] = [x, y].map(Number);
    return Number.isNaN(p) || Number.isNaN(q) || !x || !y ? x.localeCompare(y, undefined, { numeric: true }) : p - q;
  }

  // ---- the contents mark the section that is read ----
  const links = new Map([...document.querySelectorAll(".bar-top a[href^='#']")]
    .map((link) => [document.getElementById(decodeURIComponent(link.hash.slice(1))), link])
    .filter(([target]) => target));
  const follow = () => {
    let current = null;
    for (const target of links.keys()) if (target.getBoundingClientRect().top < innerHeight / 3) current = target;
    for (const [target, link] of links) {
      if (target === current) link.setAttribute("aria-current", "location");
      else link.removeAttribute("aria-current");
    }
  };
  addEventListener("scroll", follow, { passive: true });
  document.addEventListener("toggle", follow, true); // a fold moves what is below it
  follow();

  // ---- a link into a fold opens it ----
  const openTo = (id) => {
    const target = id && document.getElementById(decodeURIComponent(id));
    if (!target) return;
    for (let fold = target.closest("details"); fold; fold = fold.parentElement.closest("details")) fold.open = true;
    const [, only, more] = target.children; // behind its heading a section may hold one fold alone
    if (only?.matches("details") && !more) only.open = true;
    target.scrollIntoView();
  };
  addEventListener("hashchange", () => openTo(location.hash.slice(1)));
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[href^='#']");
    if (link) openTo(link.hash.slice(1));
  });
  if (location.hash && !location.hash.includes("=")) openTo(location.hash.slice(1));

  // ---- a term, hovered or focused, shows what the glossary has ----
  const tip = document.createElement("div");
  tip.id = "tip";
  tip.setAttribute("role", "tooltip");
  tip.hidden = true;
  document.body.append(tip);
  const show = (event) => {
    const term = event.target.closest?.("a.term");
    const meaning = term && document.getElementById(term.hash.slice(1))?.nextElementSibling;
    if (!meaning) return hide();
    tip.textContent = meaning.textContent;
    tip.hidden = false;
    term.setAttribute("aria-describedby", "tip");
    const box = term.getBoundingClientRect();
    // Never out of the window: CSP forbids style attributes in markup, not these properties.
    tip.style.left = `${Math.max(8, Math.min(box.left, innerWidth - tip.offsetWidth - 8))}px`;
    const below = box.bottom + 6;
    tip.style.top = `${below + tip.offsetHeight > innerHeight ? box.top - tip.offsetHeight - 6 : below}px`;
  };
  const hide = () => { tip.hidden = true; };
  for (const name of ["mouseover", "focusin"]) document.addEventListener(name, show);
  for (const name of ["scroll", "focusout"]) document.addEventListener(name, hide, true);
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });

  // ---- print everything that is folded away, and fold it again afterwards ----
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open], .unprinted)")];
    for (const one of opened) one.open = true;
  });
  addEventListener("afterprint", () => { for (const one of opened) one.open = false; });
})();
