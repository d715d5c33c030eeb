"use strict";
// The row browser. Everything shown is set as text: predictions are hostile until proven dull.
(() => {
  const NO_ROW = -2, CHUNK = 100;
  const data = JSON.parse(document.getElementById("row-data").textContent);
  const byId = (id) => document.getElementById(id);
  const list = byId("row-list"), detail = byId("row-detail"), count = byId("row-count");
  const controls = {
    condition: byId("filter-condition"),
    outcome: byId("filter-outcome"),
    metric: byId("filter-metric"),
    q: byId("filter-text"),
    only: byId("filter-only"),
  };
  const attributeControls = [];
  const groups = [...new Set(data.cells.map((cell) => cell.group))];
  let shown = [];      // places of the rows that pass the filters
  let rendered = 0;    // how many of them stand in the list
  let selected = -1;   // place in `shown`
  let lowered = null;  // texts in lower case, made on the first search

  const OUTCOMES = {
    any: () => true,
    gained: (cell, row) => hit(cell, row) && !baselineHit(cell, row),
    lost: (cell, row) => !hit(cell, row) && baselineHit(cell, row),
    tied: (cell, row) => hit(cell, row) === baselineHit(cell, row),
    right: (cell, row) => hit(cell, row) && baselineHit(cell, row),
    wrong: (cell, row) => !hit(cell, row) && !baselineHit(cell, row),
    changed: (cell, row) => cell.text[row] !== baselineOf(cell).text[row],
    same: (cell, row) => cell.text[row] === baselineOf(cell).text[row],
  };

  function baselineOf(cell) {
    return cell.baseline === null ? null : data.cells[cell.baseline];
  }
  function bit() {
    return controls.metric.selectedIndex;
  }
  function hit(cell, row) {
    return ((cell.hits[row] >> bit()) & 1) === 1;
  }
  function baselineHit(cell, row) {
    return hit(baselineOf(cell), row);
  }
  function comparable(cell, row) {
    const baseline = baselineOf(cell);
    return baseline !== null && baseline !== cell && cell.text[row] >= 0 && baseline.text[row] >= 0;
  }
  function outcomeOf(cell, row) {
    if (!comparable(cell, row)) return null;
    return ["gained", "lost", "right", "wrong"].find((name) => OUTCOMES[name](cell, row));
  }
  function textOf(cell, row) {
    return cell.text[row] >= 0 ? data.texts[cell.text[row]] : null;
  }
  function element(tag, attributes, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) made.setAttribute(name, value);
    made.append(...children.filter((child) => child !== null));
    return made;
  }
  function option(value, text) {
    return element("option", { value }, text);
  }

  // ---- filters ----
  function chosenCells() {
    const group = controls.condition.value;
    return data.cells.filter((cell) => !group || cell.group === group);
  }
  function passes(row, cells, words) {
    const example = data.rows[row];
    for (const { control, place } of attributeControls) {
      if (control.value && example.attributes[place] !== control.value) return false;
    }
    if (!cells.some((cell) => cell.text[row] !== NO_ROW)) return false;
    const outcome = controls.outcome.value;
    if (outcome !== "any" && OUTCOMES[outcome]) {
      const test = OUTCOMES[outcome];
      if (!cells.some((cell) => comparable(cell, row) && test(cell, row))) return false;
    }
    if (!words) return true;
    const own = [example.id, example.context, example.question, example.answer];
    if (own.some((text) => text && text.toLowerCase().includes(words))) return true;
    return cells.some((cell) => cell.text[row] >= 0 && lowered[cell.text[row]].includes(words));
  }
  function filter(keepRow) {
    const cells = chosenCells();
    const words = controls.q.value.trim().toLowerCase();
    if (words && !lowered) lowered = data.texts.map((text) => text.toLowerCase());
    shown = data.rows.map((_, row) => row).filter((row) => passes(row, cells, words));
    count.textContent = `${shown.length} of ${data.rows.length} rows`;
    list.replaceChildren();
    list.scrollTop = 0;
    rendered = 0;
    more();
    const place = shown.indexOf(keepRow);
    select(shown.length ? Math.max(place, 0) : -1);
  }

  // ---- the list ----
  function more() {
    const cells = chosenCells();
    const end = Math.min(rendered + CHUNK, shown.length);
    for (; rendered < end; rendered++) list.append(listItem(rendered, cells));
  }
  function listItem(place, cells) {
    const row = shown[place], example = data.rows[row];
    const counts = { gained: 0, lost: 0 };
    for (const cell of cells) {
      const outcome = outcomeOf(cell, row);
      if (outcome in counts) counts[outcome]++;
    }
    const marks = ["gained", "lost"].filter((name) => counts[name])
      .map((name) => element("span", { class: `mark ${name}` }, `${counts[name]} ${name}`));
    const item = element("li", { role: "option", id: `row-option-${place}`, "aria-selected": "false" },
      element("span", { class: "row-id" }, example.id), ...marks,
      element("span", { class: "row-question" }, example.question || `answer: ${example.answer}`));
    item.addEventListener("click", () => select(place));
    return item;
  }
  function select(place) {
    while (place >= rendered && rendered < shown.length) more();
    const before = list.querySelector('[aria-selected="true"]');
    if (before) before.setAttribute("aria-selected", "false");
    selected = place;
    if (place < 0) {
      list.removeAttribute("aria-activedescendant");
      detail.replaceChildren(element("p", { class: "empty" }, "No row passes the filters."));
    } else {
      const item = list.children[place];
      item.setAttribute("aria-selected", "true");
      list.setAttribute("aria-activedescendant", item.id);
      // Not scrollIntoView: that would move the page as well.
      if (item.offsetTop < list.scrollTop) list.scrollTop = item.offsetTop;
      const bottom = item.offsetTop + item.offsetHeight - list.clientHeight;
      if (bottom > list.scrollTop) list.scrollTop = bottom;
      showRow(shown[place]);
    }
    writeHash();
  }
  function step(by) {
    if (shown.length) select(Math.min(Math.max(selected + by, 0), shown.length - 1));
  }

  // ---- one row ----
  function showRow(row) {
    const example = data.rows[row];
    const facts = data.attributes
      .map((name, place) => [name.replaceAll("_", " "), example.attributes[place]])
      .filter(([, value]) => value)
      .map(([name, value]) => element("li", {}, element("b", {}, `${name} `), value));
    const given = element("dl", { class: "given" });
    for (const [name, value] of [["Context", example.context], ["Question", example.question],
      ["Answer", example.answer]]) {
      if (value === null) continue;
      given.append(element("dt", {}, name), element("dd", { dir: "auto", class: name.toLowerCase() }, value));
    }
    const group = controls.only.checked ? controls.condition.value : "";
    const cells = data.cells.filter((cell) => cell.text[row] !== NO_ROW
      && (!group || cell.group === group || data.cells.some((other) => other.group === group
        && baselineOf(other) === cell)));
    detail.replaceChildren(
      element("h3", {}, example.id),
      element("ul", { class: "facts" }, ...facts),
      given,
      element("div", { class: "cards" }, ...cells.map((cell) => card(cell, row, example.answer))),
    );
  }
  function card(cell, row, answer) {
    const text = textOf(cell, row), baseline = baselineOf(cell);
    const outcome = outcomeOf(cell, row);
    const body = element("p", { class: "text", dir: "auto" });
    const notes = [];
    let from = null;
    if (text === null) {
      body.append(element("i", {}, "no prediction"));
    } else {
      if (comparable(cell, row)) {
        from = firstDifference(text, textOf(baseline, row));
        const token = cell.first_changed_token ? cell.first_changed_token[row] : null;
        const tokens = token === null ? "" : ` (new token ${token + 1})`;
        notes.push(from === null
          ? (token === null ? `same text as ${baseline.label}` : `same text as ${baseline.label}, other tokens from new token ${token + 1}`)
          : `differs from ${baseline.label} at character ${[...text.slice(0, from)].length + 1}${tokens}`);
      }
      writeText(body, text, from, answer);
    }
    const numbers = [["gold_logprob", "gold log p"], ["gold_rank", "gold rank"], ["kl_from_no_inject", "KL"]]
      .filter(([name]) => cell[name] && cell[name][row] !== null)
      .map(([name, label]) => `${label} ${String(cell[name][row]).replace("-", "−")}`);
    if (numbers.length) notes.push(numbers.join(", "));
    if (cell.donor && cell.donor[row] !== null) notes.push(`state of row ${data.rows[cell.donor[row]].id}`);
    const right = text !== null && hit(cell, row);
    const state = text === null ? null
      : element("span", { class: `mark ${outcome === "gained" || outcome === "lost" ? outcome : (right ? "right" : "wrong")}` },
        outcome === "gained" || outcome === "lost" ? `${right ? "right" : "wrong"}: ${outcome}` : (right ? "right" : "wrong"));
    const relay = cell.relay && cell.relay[row] >= 0
      ? element("details", {}, element("summary", {}, "relayed text"),
        element("p", { class: "text", dir: "auto" }, data.texts[cell.relay[row]]))
      : null;
    return element("section", { class: "card", "data-cell": cell.label },
      element("h4", {}, cell.label, " ", element("small", {}, cell.role)),
      state, body, relay, ...notes.map((note) => element("p", { class: "note" }, note)));
  }
  function firstDifference(text, other) {
    if (text === other) return null;
    let place = 0;
    while (place < text.length && text[place] === other[place]) place++;
    // Never between the halves of a surrogate pair.
    if (place > 0 && /[\uD800-\uDBFF]/.test(text[place - 1])) place--;
    return place;
  }
  function writeText(body, text, from, answer) {
    const ranges = [];
    if (from !== null) {
      if (from >= text.length) ranges.push([from, from, "end"]);
      else {
        const word = /^\s*[^\s]*/u.exec(text.slice(from))[0];
        ranges.push([from, from + Math.max(word.length, 1), "mark"]);
      }
    }
    if (answer) {
      const pattern = new RegExp(answer.trim().replace(/[.*+?^${}()|[\]\\]/g, "\\$&"), "giu");
      for (const found of text.matchAll(pattern)) {
        if (found[0]) ranges.push([found.index, found.index + found[0].length, "answer"]);
      }
    }
    const cuts = [...new Set([0, text.length, ...ranges.flatMap(([a, b]) => [a, b])])].sort((a, b) => a - b);
    for (let i = 0; i + 1 < cuts.length; i++) {
      const piece = text.slice(cuts[i], cuts[i + 1]);
      const covering = ranges.filter(([a, b]) => a <= cuts[i] && cuts[i + 1] <= b).map((range) => range[2]);
      let node = document.createTextNode(piece);
      if (covering.includes("answer")) node = element("b", { class: "answer" }, node);
      if (covering.includes("mark")) node = element("mark", {}, node);
      body.append(node);
    }
    if (ranges.some((range) => range[2] === "end")) body.append(element("mark", {}, "[ends here]"));
  }

  // ---- the address: a row and its filters can be linked to ----
  function writeHash() {
    const state = new URLSearchParams();
    if (selected >= 0) state.set("row", data.rows[shown[selected]].id);
    for (const [name, control] of Object.entries(controls)) {
      if (control.type === "checkbox") { if (control.checked) state.set(name, "1"); }
      else if (control.value && control !== controls.metric && control.value !== "any") state.set(name, control.value);
    }
    if (controls.metric.selectedIndex > 0) state.set("metric", controls.metric.value);
    for (const { control, place } of attributeControls) {
      if (control.value) state.set(`attr.${data.attributes[place]}`, control.value);
    }
    if (!touched) return;
    try { history.replaceState(null, "", `#${state}`); } catch { /* some viewers forbid it */ }
  }
  function readHash() {
    if (!location.hash.includes("=")) return null;
    const state = new URLSearchParams(location.hash.slice(1));
    for (const [name, control] of Object.entries(controls)) {
      const value = state.get(name);
      if (control.type === "checkbox") control.checked = value === "1";
      else if (value !== null) control.value = value;
      if (control.tagName === "SELECT" && control.selectedIndex < 0) control.selectedIndex = 0;
    }
    for (const { control, place } of attributeControls) {
      control.value = state.get(`attr.${data.attributes[place]}`) || "";
      if (control.selectedIndex < 0) control.selectedIndex = 0;
    }
    return state.get("row");
  }
  let touched = false;

  // ---- start ----
  controls.condition.append(option("", "any"), ...groups.map((group) => option(group, group)));
  controls.metric.append(...data.metrics.map(([name, label]) => option(name, label)));
  data.attributes.forEach((name, place) => {
    if (!data.filters[place].length) return;
    const id = `filter-attribute-${place}`;
    const control = element("select", { id }, option("", "any"),
      ...data.filters[place].map((value) => option(value, value)));
    attributeControls.push({ control, place });
    byId("attribute-filters").append(element("label", { for: id }, name.replaceAll("_", " "), control));
  });
  const rowPlace = (id) => data.rows.findIndex((row) => row.id === id);
  const current = () => (selected >= 0 ? shown[selected] : -1);
  const refilter = () => { touched = true; filter(current()); };
  for (const control of [...Object.values(controls), ...attributeControls.map(({ control }) => control)]) {
    control.addEventListener(control.type === "search" ? "input" : "change", refilter);
  }
  byId("row-filters").addEventListener("submit", (event) => event.preventDefault());
  byId("row-filters").addEventListener("reset", () => setTimeout(refilter));
  byId("row-previous").addEventListener("click", () => { touched = true; step(-1); });
  byId("row-next").addEventListener("click", () => { touched = true; step(1); });
  list.addEventListener("click", () => { touched = true; writeHash(); });
  list.addEventListener("scroll", () => {
    if (list.scrollTop + list.clientHeight > list.scrollHeight - 200) more();
  });
  list.addEventListener("keydown", (event) => {
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10, Home: -Infinity, End: Infinity };
    if (!(event.key in steps) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    touched = true;
    step(steps[event.key]);
  });
  addEventListener("hashchange", () => {
    const id = readHash();
    if (id !== null || location.hash.includes("=")) filter(rowPlace(id));
  });
  // Print everything that is folded away, and fold it again afterwards.
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open])")];
    opened.forEach((one) => { one.open = true; });
  });
  addEventListener("afterprint", () => opened.forEach((one) => { one.open = false; }));

  const asked = readHash();
  touched = false;
  filter(rowPlace(asked));
  byId("row-browser").hidden = false;
  byId("row-browser-off").hidden = true;
  if (location.hash.includes("=")) byId("rows").scrollIntoView();
  document.documentElement.dataset.rowBrowser = "ready";
})();
