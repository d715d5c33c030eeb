// The editor of an experiment: completions and help from the JSON Schema, marks from the server's
// check, and the doctor's answer. Without this script it is a plain text field in a form.
"use strict";
(() => {
  /**
   * Where a place of YAML or JSON is: the path of its field, and the word there.
   * `text` ends at the place. A list's item is "[]" in the path.
   */
  function placeIn(text) {
    const block = []; // of fields by indentation: {indent, part, used}
    const flow = []; // of open brackets: {open, key, used}
    const root = new Set();
    let word = "", wordAt = 0, quote = "", isKey = true;
    const begin = (at) => { word = ""; wordAt = at; };
    let at = 0;
    for (const line of text.split("\n")) {
      const end = at + line.length;
      let i = at;
      if (!flow.length && !quote) {
        const [lead, dashes] = /^\s*((?:- +|-$)*)/.exec(line);
        const indent = lead.length - dashes.length;
        if (lead.length < line.length || end === text.length) {
          const keeps = (each) => each.indent < indent || (dashes && each.indent === indent && each.part !== "[]");
          while (block.length && !keeps(block.at(-1))) block.pop();
          for (let dash = 0; dash < dashes.length; dash += 1) {
            if (dashes[dash] === "-") block.push({ indent: indent + dash, part: "[]", used: new Set() });
          }
          i = at + lead.length;
          const key = /^(?:"([^"]*)"|'([^']*)'|([^\s"'#{}[\],&*!|>%@`-][^:#]*?))\s*:(?=\s|$)/.exec(line.slice(lead.length));
          isKey = !key;
          if (key) {
            const part = key[1] ?? key[2] ?? key[3];
            (block.at(-1)?.used ?? root).add(part);
            block.push({ indent: lead.length, part, used: new Set() });
            i += key[0].length;
          }
          while (text[i] === " ") i += 1;
        }
        begin(i);
      }
      for (; i < end; i += 1) {
        const letter = text[i];
        const top = flow.at(-1);
        if (quote) {
          if (letter === "\\" && quote === '"') i += 1;
          else if (letter === quote) quote = "";
          else word += letter;
        } else if ((letter === '"' || letter === "'") && !word.trim()) {
          quote = letter;
          begin(i);
        } else if (letter === "#" && (i === at || /\s/.test(text[i - 1]))) {
          if (end === text.length) return null; // in a comment
          break;
        } else if ((letter === "{" || letter === "[") && (flow.length || !word.trim())) {
          flow.push({ open: letter, key: null, used: new Set() });
          begin(i + 1);
        } else if (top && (letter === "}" || letter === "]")) {
          flow.pop();
          begin(i + 1);
        } else if (top?.open === "{" && top.key === null && letter === ":") {
          top.key = word.trim();
          top.used.add(top.key);
          begin(i + 1);
        } else if (top && letter === ",") {
          top.key = null;
          begin(i + 1);
        } else if (/\s/.test(letter) && !word) {
          wordAt = i + 1;
        } else {
          word += letter;
        }
      }
      if (flow.length && !quote && end < text.length && !word) wordAt = end + 1;
      at = end + 1;
    }
    const path = block.map((each) => each.part);
    for (const each of flow) {
      if (each.open === "[") path.push("[]");
      else if (each.key !== null) path.push(each.key);
    }
    const top = flow.at(-1);
    const atKey = top ? top.open === "{" && top.key === null : isKey;
    return { path, word, wordAt, atKey, quote, used: top?.used ?? block.at(-1)?.used ?? root };
  }

  /** What of a JSON Schema is at a path. */
  class Schema {
    constructor({ schema, names }) {
      this.schema = schema;
      this.names = names;
    }

    /** The alternatives that a node stands for, with references followed. */
    expanded(node) {
      if (!node || typeof node !== "object") return [];
      if (node.$ref) return this.expanded(this.schema.$defs[node.$ref.split("/").pop()]);
      const choices = node.anyOf ?? node.oneOf ?? node.allOf;
      const among = (choices ?? []).flatMap((each) => this.expanded(each));
      return choices && !node.properties ? among : [node, ...among]; // a model may have rules beside fields
    }

    inside(node, part) {
      return this.expanded(node).flatMap((each) => {
        if (part === "[]") return [each.items, ...(each.prefixItems ?? [])];
        const own = each.properties?.[part];
        return own ? [own] : [...Object.values(each.patternProperties ?? {}), each.additionalProperties];
      }).filter((each) => each && typeof each === "object");
    }

    at(path) {
      return path.reduce((nodes, part) => nodes.flatMap((each) => this.inside(each, part)), [this.schema]);
    }

    keys({ path, used }) {
      const found = new Map();
      for (const node of this.at(path).flatMap((each) => this.expanded(each))) {
        for (const [name, declared] of Object.entries(node.properties ?? {})) {
          const needed = node.required?.includes(name) ? "needed. " : "";
          if (!used.has(name)) found.set(name, needed + this.about(declared));
        }
      }
      return found;
    }

    values({ path }) {
      const found = new Map();
      const named = this.names[path.join(".")] ?? this.names[[...path.slice(0, -1), "*"].join(".")];
      for (const name of named ?? []) found.set(name, "");
      for (const node of this.at(path).flatMap((each) => this.expanded(each))) {
        for (const value of node.enum ?? ("const" in node ? [node.const] : [])) found.set(String(value), "");
        if (node.type === "boolean") for (const value of ["true", "false"]) found.set(value, "");
      }
      return found;
    }

    about(declared) {
      const kinds = new Set(this.expanded(declared).map((each) => (each.enum ? each.enum.join(" | ") : each.type)));
      const words = declared.description ?? this.expanded(declared).find((each) => each.description)?.description;
      const given = declared.default;
      const shown = given === undefined || given === null || typeof given === "object" ? "" : `; ${given} by default`;
      return `${[...kinds].filter((each) => each && each !== "null").join(", ")}${shown}${words ? `. ${words}` : ""}`.replaceAll("\n", " ");
    }

    help(path) {
      const parts = path.filter((part) => part !== "[]");
      const [node] = this.at(path);
      return node && parts.length ? `${parts.join(".")}: ${this.about(node)}` : "";
    }
  }

  class Editor {
    constructor(form) {
      this.form = form;
      this.field = form.querySelector("textarea");
      this.answer = form.querySelector("#answer");
      this.help = form.querySelector(".help");
      this.schema = null;
      this.chosen = 0;
      this.asked = 0;
      this.timer = 0;
      const frame = document.createElement("div");
      frame.className = "frame";
      this.field.replaceWith(frame);
      this.lines = document.createElement("div");
      this.lines.className = "lines";
      this.lines.setAttribute("aria-hidden", "true");
      this.list = document.createElement("ul");
      Object.assign(this.list, { id: "completions", className: "completions", hidden: true });
      this.list.setAttribute("role", "listbox");
      this.list.setAttribute("aria-label", "Completions");
      frame.append(this.lines, this.field, this.list);
      this.field.setAttribute("aria-autocomplete", "list");
      this.field.setAttribute("aria-controls", "completions");
      this.field.setAttribute("aria-describedby", "answer");
      this.field.addEventListener("input", () => this.changed());
      this.field.addEventListener("keydown", (event) => this.pressed(event));
      this.field.addEventListener("scroll", () => this.scrolled());
      this.field.addEventListener("blur", () => this.close());
      addEventListener("resize", () => this.close());
      this.field.addEventListener("mousemove", (event) => this.pointed(event));
      document.addEventListener("selectionchange", () => {
        if (document.activeElement === this.field) this.moved();
      });
      this.list.addEventListener("mousedown", (event) => {
        event.preventDefault(); // the field keeps the focus
        const item = event.target.closest("li");
        if (item) this.take([...this.list.children].indexOf(item));
      });
      form.addEventListener("submit", (event) => {
        if (event.submitter?.value !== "check") return;
        event.preventDefault();
        this.ask(form.dataset.doctor, "The doctor looks at it. That takes some seconds …");
      });
      this.answer.addEventListener("click", (event) => {
        const line = event.target.closest("[data-line]")?.dataset.line;
        if (line) this.goTo(Number(line));
      });
      this.mark();
      fetch(form.dataset.schema).then((found) => found.json()).then((found) => {
        this.schema = new Schema(found);
        form.dataset.ready = "yes";
      }).catch(() => {}); // without it, the server's check remains
    }

    changed() {
      this.answer.querySelector("#queue")?.remove(); // what was checked is no longer what is there
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.ask(this.form.dataset.check), 600);
      this.mark();
      this.offer(false);
    }

    async ask(address, meanwhile) {
      clearTimeout(this.timer);
      const mine = ++this.asked;
      this.waiting?.abort(); // the server ends what nobody waits for
      this.waiting = new AbortController();
      const body = new URLSearchParams(new FormData(this.form));
      if (meanwhile) {
        this.answer.setAttribute("aria-busy", "true");
        const note = Object.assign(document.createElement("p"), { className: "note waiting", textContent: meanwhile });
        this.answer.replaceChildren(note);
      }
      let shown = "<p class=\"failed\">The server cannot be reached; check again.</p>";
      try {
        const found = await fetch(address, { method: "POST", body, redirect: "manual", signal: this.waiting.signal });
        if (found.type === "opaqueredirect") return location.reload();
        if (found.ok) shown = await found.text();
      } catch {
        if (mine !== this.asked) return;
      }
      if (mine !== this.asked) return;
      this.answer.removeAttribute("aria-busy");
      this.answer.innerHTML = shown;
      this.mark();
    }

    /** Number the lines, and mark those with a mistake. */
    mark() {
      const wrong = new Map();
      for (const each of this.answer.querySelectorAll("[data-line]")) {
        wrong.set(Number(each.dataset.line), each.textContent);
      }
      const count = this.field.value.split("\n").length;
      this.lines.replaceChildren(...Array.from({ length: count }, (_, index) => {
        const line = document.createElement("span");
        line.textContent = index + 1;
        if (wrong.has(index + 1)) Object.assign(line, { className: "wrong", title: wrong.get(index + 1) });
        return line;
      }));
      this.field.setAttribute("aria-invalid", String(wrong.size > 0));
      this.scrolled();
    }

    scrolled() {
      this.lines.scrollTop = this.field.scrollTop;
    }

    goTo(line) {
      const before = this.field.value.split("\n").slice(0, line - 1).join("\n").length;
      const start = line > 1 ? before + 1 : 0;
      const end = this.field.value.indexOf("\n", start);
      this.field.focus();
      this.field.setSelectionRange(start, end < 0 ? this.field.value.length : end);
    }

    /** The size of a letter, and where the first one is in the field. */
    measures() {
      const style = getComputedStyle(this.field);
      const pen = document.createElement("canvas").getContext("2d");
      pen.font = style.font;
      return {
        width: pen.measureText("0").width,
        height: parseFloat(style.lineHeight),
        left: parseFloat(style.paddingLeft),
        top: parseFloat(style.paddingTop),
      };
    }

    pointed(event) {
      if (!this.schema) return;
      const { width, height, left, top } = this.measures();
      const row = Math.floor((event.offsetY - top + this.field.scrollTop) / height);
      const column = Math.floor((event.offsetX - left + this.field.scrollLeft) / width);
      this.field.title = this.helpAt(row, column);
    }

    helpAt(row, column) {
      const lines = this.field.value.split("\n");
      const line = lines[row] ?? "";
      if (!/\S/.test(line[column] ?? "")) return "";
      // To the end of the word, and over the colon of a field.
      const word = /^[^\s:,{}[\]]*["']?\s*(:(?=\s|$|"))?/.exec(line.slice(column))[0].length;
      const before = lines.slice(0, row).reduce((sum, each) => sum + each.length + 1, 0);
      const place = placeIn(this.field.value.slice(0, before + column + word));
      return place ? this.schema.help(place.path) : "";
    }

    moved() {
      if (!this.schema) return;
      const before = this.field.value.slice(0, this.field.selectionStart).split("\n");
      const text = this.helpAt(before.length - 1, before.at(-1).length) || this.helpAt(before.length - 1, before.at(-1).length - 1);
      this.help.textContent = text;
      this.help.hidden = !text;
    }

    /** Offer what may be written at the caret; `always` also where nothing of it is written yet. */
    offer(always) {
      this.close();
      const { selectionStart: caret, selectionEnd: end, value } = this.field;
      if (!this.schema || caret !== end) return;
      const place = placeIn(value.slice(0, caret));
      if (!place) return;
      this.place = place;
      const word = place.word.trim().toLowerCase();
      if (!word && !always) return;
      const offers = [...(place.atKey ? this.schema.keys(place) : [])].map(([name, about]) => ({ name, about, key: true }));
      offers.push(...[...this.schema.values(place)].map(([name, about]) => ({ name, about, key: false })));
      this.offers = offers.filter(({ name }) => name.toLowerCase().includes(word))
        .sort((a, b) => b.name.toLowerCase().startsWith(word) - a.name.toLowerCase().startsWith(word)).slice(0, 40);
      if (!this.offers.length || this.offers[0].name.toLowerCase() === word) return;
      this.list.replaceChildren(...this.offers.map(({ name, about }, index) => {
        const item = Object.assign(document.createElement("li"), { id: `completion-${index}` });
        item.setAttribute("role", "option");
        item.append(Object.assign(document.createElement("b"), { textContent: name }));
        if (about) item.append(Object.assign(document.createElement("span"), { textContent: about }));
        return item;
      }));
      const { width, height, left, top } = this.measures();
      const before = value.slice(0, caret).split("\n");
      const x = this.field.offsetLeft + left + before.at(-1).length * width - this.field.scrollLeft;
      this.list.hidden = false;
      this.list.style.top = `${this.field.offsetTop + top + before.length * height - this.field.scrollTop}px`;
      this.list.style.left = `${Math.max(0, Math.min(x, this.list.parentElement.clientWidth - this.list.offsetWidth))}px`;
      this.choose(0);
    }

    choose(index) {
      const items = [...this.list.children];
      this.chosen = (index + items.length) % items.length;
      items.forEach((item, each) => item.setAttribute("aria-selected", String(each === this.chosen)));
      items[this.chosen].scrollIntoView({ block: "nearest" });
      this.field.setAttribute("aria-activedescendant", items[this.chosen].id);
    }

    close() {
      this.list.hidden = true;
      this.field.removeAttribute("aria-activedescendant");
    }

    take(index) {
      const { name, key } = this.offers[index];
      const json = this.field.value.trimStart().startsWith("{");
      const plain = !json || (!key && /^(true|false)$/.test(name));
      const written = plain && !this.place.quote ? name : `${this.place.quote || '"'}${name}${this.place.quote || '"'}`;
      this.field.setSelectionRange(this.place.wordAt, this.field.selectionStart);
      const text = key ? `${written}: ` : written;
      // It alone keeps the field's own undo.
      if (!document.execCommand("insertText", false, text)) this.field.setRangeText(text, this.place.wordAt, this.field.selectionEnd, "end");
      this.close();
    }

    pressed(event) {
      if (event.key === " " && event.ctrlKey) {
        event.preventDefault();
        this.offer(true);
      } else if (!this.list.hidden) {
        const steps = { ArrowDown: 1, ArrowUp: -1 };
        if (event.key in steps) this.choose(this.chosen + steps[event.key]);
        else if (event.key === "Enter" || event.key === "Tab") this.take(this.chosen);
        else if (event.key === "Escape") this.close();
        else return;
        event.preventDefault();
      }
    }
  }

  for (const form of document.querySelectorAll("form[data-check]")) new Editor(form);
})();
