// Parts of a page that are fetched again: by a clock, or when a server-sent event arrives.
"use strict";
(() => {
  /** Put fetched markup into a part, with ticks, open folds and the focus as they were. */
  function replace(part, markup) {
    const ticked = new Set([...part.querySelectorAll("input:checked")].map((each) => each.value));
    const folds = new Map([...part.querySelectorAll("details[id]")].map((each) => [each.id, each.open]));
    const focus = part.contains(document.activeElement) ? document.activeElement.id : "";
    part.innerHTML = markup;
    for (const input of part.querySelectorAll("input[type=checkbox]")) input.checked = ticked.has(input.value);
    for (const fold of part.querySelectorAll("details[id]")) {
      if (folds.has(fold.id)) fold.open = folds.get(fold.id);
    }
    if (focus) document.getElementById(focus)?.focus();
    part.dispatchEvent(new Event("part", { bubbles: true }));
  }

  class Part {
    constructor(element) {
      this.element = element;
      this.least = Number(element.dataset.least ?? 0);
      this.last = 0;
      this.cost = 0;
      this.timer = 0;
      this.busy = false;
    }

    /**
     * Fetch soon: at once, or when the shortest time between two fetches has passed. It is ten
     * times what a fetch takes, since the machine has models to run.
     */
    ask() {
      if (this.timer) return;
      const wait = this.busy ? 250 : Math.max(0, this.last + Math.max(this.least, 10 * this.cost) - Date.now());
      this.timer = setTimeout(() => {
        this.timer = 0;
        if (this.busy) this.ask();
        else this.fetch();
      }, wait);
    }

    async fetch() {
      this.busy = true;
      const began = Date.now();
      try {
        const answer = await fetch(this.element.dataset.live, { redirect: "manual" });
        if (answer.type === "opaqueredirect") location.reload(); // signed out meanwhile
        const markup = await answer.text();
        if (answer.ok && markup !== this.shown) {
          replace(this.element, markup);
          this.shown = markup;
        }
      } catch {
        // The server is being restarted; the next event or tick asks again.
      } finally {
        this.busy = false;
        this.last = Date.now();
        this.cost = this.last - began;
      }
    }
  }

  const parts = [...document.querySelectorAll("[data-live]")].map((element) => new Part(element));
  for (const part of parts) {
    const every = Number(part.element.dataset.every ?? 0);
    if (every) setInterval(() => document.hidden || part.ask(), every);
    if ("now" in part.element.dataset) part.ask();
  }

  const followed = document.querySelector("[data-events]");
  if (followed) {
    const source = new EventSource(followed.dataset.events);
    const seen = (event) => {
      for (const part of parts) part.ask();
      if (["done", "failed", "cancelled"].includes(JSON.parse(event.data).state)) source.close();
    };
    source.addEventListener("state", seen);
    source.addEventListener("progress", seen);
  }

  for (const form of document.querySelectorAll("form[data-upload]")) {
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      const problem = form.querySelector("[role=alert]");
      const button = form.querySelector("button");
      button.disabled = true;
      const [body] = form.querySelector("input[type=file]").files;
      const answer = await fetch(form.dataset.upload, { method: "POST", body }).catch(() => null);
      button.disabled = false;
      if (answer?.ok) return location.reload();
      problem.hidden = false;
      problem.textContent = answer ? (await answer.json()).detail : "the server cannot be reached";
    });
  }
})();
