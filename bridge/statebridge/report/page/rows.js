"use strict";
// The row browser. Everything shown is set as text: predictions are hostile until proven dull.
(() => {
  const NO_ROW = -2, SPARE = 12;
  const data = JSON.parse(document.getElementById("row-data").textContent);
  const byId = (id) => document.getElementById(id);
  const list = byId("row-list"), frame = byId("row-window"), detail = byId("row-detail"), count = byId("row-count");
  const controls = {
    condition: byId("filter-condition"),
    against: byId("filter-against"),
    outcome: byId("filter-outcome"),
    metric: byId("filter-metric"),
    order: byId("filter-order"),
    seed: byId("filter-seed"),
    q: byId("filter-text"),
    only: byId("filter-only"),
  };
  const attributeControls = [];
  const groups = [...new Set(data.cells.map((cell) => cell.group))];
  const seeds = [...new Set(data.cells.map((cell) => cell.seed))].filter((seed) => seed !== null);
  let shown = [];      // places of the rows that pass the filters
  let change = null;   // by row, the bits that it is ordered by
  let selected = -1;   // place in `shown`
  let lowered = null;  // texts in lower case, made on the first search
  let height = 0;      // of one item of the list, in pixels

  const OUTCOMES = {
    any: () => true,
    gained: (cell, other, row) => hit(cell, row) && !hit(other, row),
    lost: (cell, other, row) => !hit(cell, row) && hit(other, row),
    tied: (cell, other, row) => hit(cell, row) === hit(other, row),
    right: (cell, other, row) => hit(cell, row) && hit(other, row),
    wrong: (cell, other, row) => !hit(cell, row) && !hit(other, row),
    changed: (cell, other, row) => cell.text[row] !== other.text[row],
    same: (cell, other, row) => cell.text[row] === other.text[row],
  };

  // The cell that another is compared with: of the same seed, or the only one.
  function otherOf(cell) {
    const group = controls.against.value;
    if (!group) return cell.baseline === null ? null : data.cells[cell.baseline];
    const there = data.cells.filter((other) => other.group === group);
    return there.find((other) => other.seed === cell.seed) || there.find((other) => other.seed === null) || there[0];
  }
  function hit(cell, row) {
    return ((cell.hits[row] >> controls.metric.selectedIndex) & 1) === 1;
  }
  function comparable(cell, other, row) {
    return other !== null && other !== cell && cell.text[row] >= 0 && other.text[row] >= 0;
  }
  function outcomeOf(cell, other, row) {
    if (!comparable(cell, other, row)) return null;
    return ["gained", "lost", "right", "wrong"].find((name) => OUTCOMES[name](cell, other, row));
  }
  function bitsOf(cell, other, row) {
    if (other === null || other === cell || !cell.gold_logprob || !other.gold_logprob) return null;
    const [here, there] = [cell.gold_logprob[row], other.gold_logprob[row]];
    return here === null || there === null ? null : (here - there) / Math.LN2;
  }
  function bitsText(bits) {
    const text = bits.toFixed(1);
    return Number(text) ? `${bits > 0 ? "+" : ""}${text} bits`.replace("-", "−") : "0.0 bits";
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
  function pairs() {
    const group = controls.condition.value, seed = controls.seed.value;
    return data.cells
      .filter((cell) => (!group || cell.group === group) && (!seed || cell.seed === null || String(cell.seed) === seed))
      .map((cell) => [cell, otherOf(cell)]);
  }
  function filter(keepRow) {
    const compared = pairs(), words = controls.q.value.trim().toLowerCase();
    const test = OUTCOMES[controls.outcome.value], any = controls.outcome.value === "any";
    const wanted = attributeControls.filter(({ control }) => control.value);
    if (words && !lowered) lowered = data.texts.map((text) => text.toLowerCase());
    // Each text once, however many rows have it.
    const said = words ? lowered.map((text) => text.includes(words)) : null;
    const found = (text) => text && text.toLowerCase().includes(words);
    shown = [];
    data.rows.forEach((example, row) => {
      if (wanted.some(({ control, place }) => example.attributes[place] !== control.value)) return;
      if (!compared.some(([cell]) => cell.text[row] !== NO_ROW)) return;
      if (!any && !compared.some(([cell, other]) => comparable(cell, other, row) && test(cell, other, row))) return;
      if (words && ![example.id, example.context, example.question, example.answer].some(found)
        && !compared.some(([cell]) => cell.text[row] >= 0 && said[cell.text[row]])) return;
      shown.push(row);
    });
    order(compared);
    count.textContent = `${shown.length} of ${data.rows.length} rows`;
    list.scrollTop = 0;
    select(shown.length ? Math.max(shown.indexOf(keepRow), 0) : -1);
  }
  // By the mean over seeds, of the condition that is changed most.
  function order(compared) {
    change = null;
    if (controls.order.value === "any") return;
    const sign = controls.order.value === "up" ? 1 : -1;
    change = new Map(shown.map((row) => {
      const byGroup = new Map();
      for (const [cell, other] of compared) {
        const bits = bitsOf(cell, other, row);
        if (bits !== null) byGroup.set(cell.group, [...(byGroup.get(cell.group) || []), bits]);
      }
      const means = [...byGroup.values()].map((found) => found.reduce((a, b) => a + b, 0) / found.length);
      return [row, means.length ? sign * Math.max(...means.map((mean) => sign * mean)) : null];
    }));
    shown = shown.filter((row) => change.get(row) !== null).sort((a, b) => sign * (change.get(b) - change.get(a)));
  }

  // ---- the list: only the items in sight exist ----
  function draw() {
    if (!shown.length) return frame.replaceChildren();
    if (!height) {
      frame.replaceChildren(listItem(0, []));
      height = frame.firstChild.offsetHeight || 56;
    }
    const first = Math.max(0, Math.floor(list.scrollTop / height) - SPARE);
    const last = Math.min(shown.length, first + Math.ceil(list.clientHeight / height) + 2 * SPARE);
    const compared = pairs(), items = [];
    for (let place = first; place < last; place++) items.push(listItem(place, compared));
    frame.style.height = `${shown.length * height}px`;
    frame.style.paddingTop = `${first * height}px`;
    frame.replaceChildren(...items);
    const active = byId(`row-option-${selected}`);
    if (active) list.setAttribute("aria-activedescendant", active.id);
    else list.removeAttribute("aria-activedescendant");
  }
  function listItem(place, compared) {
    const row = shown[place], example = data.rows[row];
    const counts = { gained: 0, lost: 0 };
    for (const [cell, other] of compared) {
      const outcome = outcomeOf(cell, other, row);
      if (outcome in counts) counts[outcome]++;
    }
    const marks = ["gained", "lost"].filter((name) => counts[name])
      .map((name) => element("span", { class: `mark ${name}` }, `${counts[name]} ${name}`));
    if (change) marks.push(element("span", { class: "mark bits" }, bitsText(change.get(row))));
    const item = element("div", { role: "option", id: `row-option-${place}`, class: "item",
      "aria-selected": String(place === selected), "aria-setsize": shown.length, "aria-posinset": place + 1 },
      element("span", { class: "row-id" }, example.id), ...marks,
      element("span", { class: "row-question" }, example.question || `answer: ${example.answer}`));
    item.addEventListener("click", () => { touched = true; select(place); });
    return item;
  }
  function select(place) {
    selected = place;
    draw();
    if (place < 0) {
      detail.replaceChildren(element("p", { class: "empty" }, "No row passes the filters."));
    } else {
      // Not scrollIntoView: that would move the page as well.
      const top = place * height, bottom = top + height - list.clientHeight;
      if (top < list.scrollTop) list.scrollTop = top;
      else if (bottom > list.scrollTop) list.scrollTop = bottom;
      draw();
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
      && (!group || cell.group === group || data.cells.some((one) => one.group === group
        && otherOf(one) === cell)));
    // Those that were asked for, and what they are compared with, first.
    const asked = new Set(controls.condition.value ? pairs().flat() : []);
    cells.sort((a, b) => asked.has(b) - asked.has(a));
    detail.replaceChildren(
      element("h3", {}, example.id),
      element("ul", { class: "facts" }, ...facts),
      given,
      element("div", { class: "cards" }, ...cells.map((cell) => card(cell, row, example.answer))),
    );
  }
  function card(cell, row, answer) {
    const text = textOf(cell, row), baseline = otherOf(cell);
    const outcome = outcomeOf(cell, baseline, row), bits = bitsOf(cell, baseline, row);
    const body = element("p", { class: "text", dir: "auto" });
    const notes = [];
    let from = null;
    if (text === null) {
      body.append(element("i", {}, "no prediction"));
    } else {
      if (comparable(cell, baseline, row)) {
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
    if (bits !== null) numbers.push(`${bitsText(bits)} against ${baseline.label}`);
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
      state, body, strip(cell, row), relay, ...notes.map((note) => element("p", { class: "note" }, note)));
  }
  // The probability of the gold answer, from none to certain, on a scale of bits: of each token
  // where the run has recorded that, else of the whole.
  function strip(cell, row) {
    const tokens = cell.gold_tokens ? cell.gold_tokens[row] : null;
    if (tokens !== null) {
      return element("ol", { class: "tokens", "aria-label": "gold answer, token by token" },
        ...tokens.map(([text, logprob]) => element("li", {},
          element("span", { class: "token", dir: "auto" }, text), gauge(logprob, `of ${text}`),
          element("small", {}, (logprob / Math.LN2).toFixed(1).replace("-", "−")))));
    }
    const logprob = cell.gold_logprob ? cell.gold_logprob[row] : null;
    return logprob === null ? null : gauge(logprob, "of the gold answer");
  }
  function gauge(logprob, what) {
    return element("meter", { min: "-16", max: "0", value: Math.max(logprob / Math.LN2, -16),
      "aria-label": `log2 of the probability ${what}: ${(logprob / Math.LN2).toFixed(1)}` });
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
  controls.against.append(option("", "its floor"), ...groups.map((group) => option(group, group)));
  controls.seed.append(option("", "any"), ...seeds.map((seed) => option(String(seed), String(seed))));
  controls.metric.append(...data.metrics.map(([name, label]) => option(name, label)));
  // One click to the rows that a channel wins: the first of them is shown at once.
  for (const group of groups.filter((one) => data.cells.some((cell) => cell.group === one && cell.role === "channel under test"))) {
    for (const [outcome, word] of [["gained", "right"], ["lost", "wrong"]]) {
      const cells = data.cells.filter((cell) => cell.group === group).map((cell) => [cell, otherOf(cell)]);
      const rows = data.rows.filter((_, row) => cells.some(([cell, other]) => outcomeOf(cell, other, row) === outcome));
      if (!rows.length) continue;
      const button = element("button", { type: "button" }, `${group} makes ${rows.length} ${word}`);
      button.addEventListener("click", () => {
        byId("row-filters").reset();
        controls.condition.value = group;
        controls.outcome.value = outcome;
        touched = true;
        filter(-1);
      });
      byId("row-shortcuts").append(button);
    }
  }
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
  list.addEventListener("scroll", draw, { passive: true });
  addEventListener("resize", () => { height = 0; draw(); });
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

  const asked = readHash();
  touched = false;
  byId("row-browser").hidden = false;
  filter(rowPlace(asked));
  byId("row-browser-off").hidden = true;
  if (location.hash.includes("=")) byId("rows").scrollIntoView();
  document.documentElement.dataset.rowBrowser = "ready";
})();
