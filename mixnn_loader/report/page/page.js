(() => {
"use strict";

const PAGE_SIZE = 50;
const data = JSON.parse(document.getElementById("data").textContent);
const storageKey = "mixnn-labels-" + data.id;
const byId = (id) => document.getElementById(id);
const rowOf = new Map(data.rows.map((row) => [row.index, row]));
const MOST_CLASSES_IN_TABLE = 30, MOST_PAIRS = 200;
const rankOf = new Map(data.rows.map((row, rank) => [row.index, rank + 1]));
const verdicts = {accept: "accepted", keep: "kept", other: "changed", unsure: "unsure"};
const decisions = new Map();
const done = [];  // for undo: what stood there before
let shown = [];
let page = 0;
let current = null;  // index of the suspect that keys are for
let pair = null;

const percent = (share) => {
  const isPlain = share === 0 || (share > 0.0995 && share < 0.995) || share > 0.9995;
  return (100 * share).toFixed(isPlain ? 0 : 1) + " %";
};
const number = (value) => value === null ? "not known" : value > 0 && value < 0.001 ? "below 0.001" : String(+value.toFixed(3));
const nameOf = (label) => data.classes[label];

function element(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "text") made.textContent = value;
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

// ------------------------------------------------------------------------------------------------ decisions

// What stands in the storage may be of a page with more suspects, or of another window: only what was decided here is
// written.
function remember(...indices) {
  try {
    const stored = new Map(JSON.parse(localStorage.getItem(storageKey) || "[]"));
    for (const index of indices) {
      if (decisions.has(index)) stored.set(index, decisions.get(index));
      else stored.delete(index);
    }
    localStorage.setItem(storageKey, JSON.stringify([...stored]));
    return true;
  } catch (error) {
    tell("Decisions cannot be kept in this browser: export them before you leave.");
    return false;
  }
}

function recall() {
  try {
    for (const [index, decision] of JSON.parse(localStorage.getItem(storageKey) || "[]")) {
      if (rowOf.has(index)) decisions.set(index, decision);
    }
  } catch (error) {
    // Storage is switched off: then there is nothing to recall.
  }
}

// With the arrow keys one goes through several classes until the one that is meant: that is one decision to undo.
function decide(index, decision, label, goesOn = false) {
  const row = rowOf.get(index);
  const chosen = {accept: row.suggested, keep: row.given, other: label, unsure: null}[decision];
  if (!goesOn) done.push([index, decisions.get(index)]);
  decisions.set(index, {decision, new: chosen});
  refresh(index);
  if (remember(index)) tell(`index ${index}: ${verdictOf(index)}`);
}

function undo() {
  if (done.length === 0) return;
  const [index, before] = done.pop();
  if (before === undefined) decisions.delete(index);
  else decisions.set(index, before);
  refresh(index);
  focusOn(index);
  if (remember(index)) tell(`index ${index}: undone`);
}

function verdictOf(index) {
  const made = decisions.get(index);
  if (made === undefined) return "";
  return made.new === null ? "unsure" : `${verdicts[made.decision]}: ${nameOf(made.new)}`;
}

function decided() {
  return data.rows.filter((row) => decisions.has(row.index)).map((row) => {
    const made = decisions.get(row.index);
    return {index: row.index, path: row.path, given: row.given, new: made.new, decision: made.decision};
  });
}

function asCsv() {
  const field = (value) => {
    const text = value === null ? "" : String(value);
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  const lines = decided().map((row) => [row.index, row.path, row.given, row.new, row.decision].map(field).join(","));
  return ["index,path,given,new,decision", ...lines].join("\r\n") + "\r\n";
}

function asJson() {
  return JSON.stringify({report: data.id, classes: data.classes, decisions: decided()}, null, 1);
}

function download(text, type, name) {
  const address = URL.createObjectURL(new Blob([text], {type}));
  const link = element("a", {href: address, download: name});
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}

function parseCsv(text) {
  const rows = [];
  let row = [], value = "", quoted = false;
  for (let place = 0; place < text.length; place++) {
    const sign = text[place];
    if (quoted) {
      if (sign !== '"') value += sign;
      else if (text[place + 1] === '"') { value += '"'; place++; }
      else quoted = false;
    } else if (sign === '"') quoted = true;
    else if (sign === ",") { row.push(value); value = ""; }
    else if (sign === "\n") { rows.push([...row, value]); row = []; value = ""; }
    else if (sign !== "\r" && sign !== "\ufeff") value += sign;
  }
  if (value !== "" || row.length > 0) rows.push([...row, value]);
  const names = rows.shift() || [];
  return rows.map((cells) => Object.fromEntries(names.map((name, place) => [name, cells[place] ?? ""])));
}

function takeOver(text) {
  const isJson = text.trimStart().startsWith("{");
  const content = isJson ? JSON.parse(text) : {decisions: parseCsv(text)};
  const found = content.decisions;
  const taken = [];
  for (const row of found) {
    const index = Number(row.index);
    const label = row.new === "" || row.new === null ? null : Number(row.new);
    const fits = label === null ? row.decision === "unsure" : label >= 0 && label < data.classes.length;
    if (!rowOf.has(index) || !(row.decision in verdicts) || !fits) continue;
    if (row.given !== undefined && row.given !== "" && Number(row.given) !== rowOf.get(index).given) continue;
    decisions.set(index, {decision: row.decision, new: row.decision === "unsure" ? null : label});
    taken.push(index);
  }
  done.length = 0;
  choose();
  draw();
  const other = content.report !== undefined && content.report !== data.id ? " They are of another report." : "";
  if (remember(...taken)) tell(`${taken.length} of ${found.length} decisions were read.${other}`);
}

// ------------------------------------------------------------------------------------------------ cards

function picture(index, size) {  // a class of the style sheet
  const what = data.shows[index] || {};
  if (what.image === undefined) return element("span", {class: "text", text: what.text || ""});
  return element("img", {src: what.image, alt: `sample ${index}`, class: size, loading: "lazy"});
}

function reasons(row) {
  const found = [`${row.agreeing} of ${row.asked} neighbors say ${nameOf(row.suggested)}`];
  if (row.events !== null) {
    found.push(`predicted otherwise in ${percent(row.events)} of all looks, mean probability of the given label `
      + `${percent(row.history)}`);
  }
  found.push(`P(clean) ${number(row.clean)}, confidence ${number(row.confidence)}, loss ${number(row.loss)}`);
  return found;
}

function card(row) {
  const index = row.index;
  const same = row.given === row.suggested;
  const title = same ? `${nameOf(row.given)}, which seems right` : `${nameOf(row.given)} \u2192 ${nameOf(row.suggested)}?`;
  const choice = element("select", {"aria-label": `another class for index ${index}`},
    element("option", {value: "", text: "another class \u2026", disabled: "", selected: ""}));
  const fill = () => {  // when it is wanted: fifty cards of a thousand classes would be slow
    if (choice.options.length > 1) return;
    const made = decisions.get(index);
    choice.append(...data.classes.map((name, label) => element("option", {value: label, text: name})));
    choice.value = made !== undefined && made.decision === "other" ? String(made.new) : "";
  };
  choice.addEventListener("pointerdown", fill);
  let hasChosen = false;  // since the list got the focus
  choice.addEventListener("focus", () => {
    fill();
    hasChosen = false;
  });
  choice.addEventListener("change", () => {
    if (choice.value === "") return;
    decide(index, "other", Number(choice.value), hasChosen);
    hasChosen = true;
  });
  choice.addEventListener("keydown", (event) => {
    if (event.key === "Enter") move(1, index);
    else if (event.key === "Escape" && hasChosen) undo();
    else if (event.key === "Escape") focusOn(index);
    else return;
    event.preventDefault();
  });
  const button = (decision, text, hint) => {
    const made = element("button", {type: "button", "data-act": decision, title: `${hint} (${text[0]})`, text});
    made.addEventListener("click", () => decide(index, decision));
    return made;
  };
  const near = row.neighbors.map((neighbor) => element("li", {title: `dataset index ${neighbor.index}`},
    picture(neighbor.index, "small"),
    element("span", {class: neighbor.given === row.suggested ? "agrees" : "", text: nameOf(neighbor.given)})));
  const made = element("article", {
    class: "card", tabindex: "-1", id: `suspect-${index}`,
    "aria-label": `suspect ${rankOf.get(index)}, dataset index ${index}: ${title}`,
  },
    element("div", {class: "top"}, picture(index, "large"), element("div", {},
      element("h2", {text: title}),
      element("div", {class: "path", text: `#${rankOf.get(index)}, index ${index}${row.path === null ? "" : ", " + row.path}`}),
      element("ul", {}, ...reasons(row).map((reason) => element("li", {text: reason}))))),
    element("ul", {class: "near", "aria-label": "nearest neighbors and their labels"}, ...near),
    element("div", {class: "verdict"}),
    element("div", {class: "acts"}, button("accept", "Accept", "the suggested label"), button("keep", "Keep", "the given label"),
      button("unsure", "Unsure", "leave it open"), choice));
  made.addEventListener("focusin", () => { current = index; });
  return made;
}

function refresh(index) {
  const found = byId(`suspect-${index}`);
  if (found !== null) {
    const made = decisions.get(index);
    if (made === undefined) delete found.dataset.decision;
    else found.dataset.decision = made.decision;
    found.querySelector(".verdict").textContent = verdictOf(index);
    found.querySelector("select").value = made !== undefined && made.decision === "other" ? String(made.new) : "";
    for (const button of found.querySelectorAll("button[data-act]")) {
      button.setAttribute("aria-pressed", String(made !== undefined && made.decision === button.dataset.act));
    }
  }
  byId("done").textContent = `${decided().length} decided`;
}

function choose() {
  const top = Number(byId("top").value);
  const least = Number(byId("least").value) / 100;
  const state = byId("state").value;
  const keys = {
    suspicion: () => 0, confidence: (row) => -row.confidence, loss: (row) => -row.loss,
    given: (row) => row.given, index: (row) => row.index,
  };
  const keyOf = keys[byId("sort").value];
  // A pair of classes shows as many as its number says.
  shown = (pair === null ? data.rows.slice(0, top) : data.rows).filter((row) =>
    row.confidence >= least
    && (pair === null || (row.given === pair[0] && row.suggested === pair[1]))
    && (state === "all" || (state === "decided") === decisions.has(row.index)));
  if (byId("sort").value !== "suspicion") shown.sort((one, other) => keyOf(one) - keyOf(other));
  const wrong = shown.reduce((sum, row) => sum + 1 - row.clean, 0);
  const either = [wrong, ...[0, 1, 2].map((reading) => shown.reduce((sum, row) => sum + 1 - row.readings[reading], 0))];
  const [low, high] = [Math.min(...either), Math.max(...either)].map((sum) => percent(sum / shown.length));
  byId("top-value").textContent = top;
  byId("least-value").textContent = least.toFixed(2);
  byId("precision").textContent = shown.length === 0 ? ""
    : `Expected precision ${percent(wrong / shown.length)} (${low} to ${high}): about ${Math.round(wrong)} of these `
      + `${shown.length} labels are wrong.`;
}

function draw() {
  const pages = Math.max(1, Math.ceil(shown.length / PAGE_SIZE));
  page = Math.min(Math.max(page, 0), pages - 1);
  const part = shown.slice(page * PAGE_SIZE, (page + 1) * PAGE_SIZE);
  const nothing = element("p", {text: "No suspect is left with these filters."});
  byId("cards").replaceChildren(...(part.length > 0 ? part.map(card) : [nothing]));
  part.forEach((row) => refresh(row.index));
  if (part.length === 0) refresh(-1);
  if (!part.some((row) => row.index === current)) current = part.length > 0 ? part[0].index : null;
  if (current !== null) byId(`suspect-${current}`).tabIndex = 0;
  for (const place of document.querySelectorAll(".place")) {
    place.textContent = `Page ${page + 1} of ${pages}, ${shown.length} suspects`;
  }
  for (const button of document.querySelectorAll(".before")) button.disabled = page === 0;
  for (const button of document.querySelectorAll(".after")) button.disabled = page === pages - 1;
}

function focusOn(index) {
  const place = shown.findIndex((row) => row.index === index);
  if (place < 0) return;
  if (Math.floor(place / PAGE_SIZE) !== page) {
    page = Math.floor(place / PAGE_SIZE);
    current = index;
    draw();
  }
  for (const other of document.querySelectorAll(".card")) other.tabIndex = -1;
  const found = byId(`suspect-${index}`);
  found.tabIndex = 0;
  found.focus();
}

function move(step, from = current) {
  const place = shown.findIndex((row) => row.index === from);
  const next = shown[Math.min(Math.max(place + step, 0), shown.length - 1)];
  if (next !== undefined) focusOn(next.index);
}

function tell(text) {
  byId("told").textContent = text;
}

// ------------------------------------------------------------------------------------------------ overview

function drawPairs() {
  const table = byId("pairs");
  if (data.pairs.length === 0) {
    table.append(element("tr", {}, element("td", {text: "There are no issues."})));
    return;
  }
  const used = [...new Set(data.pairs.flatMap(([given, suggested]) => [given, suggested]))].sort((a, b) => a - b);
  const pairButton = ([given, suggested, count]) => {
    const button = element("button", {type: "button", "aria-pressed": "false", text: count,
      "aria-label": `${count} with given label ${nameOf(given)} and suggested label ${nameOf(suggested)}`});
    button.addEventListener("click", () => filterBy(pair !== null && pair[0] === given && pair[1] === suggested
      ? null : [given, suggested], button));
    return button;
  };
  if (used.length > MOST_CLASSES_IN_TABLE) {  // too many for a matrix: the most frequent pairs, one below the other
    table.append(element("tr", {}, ...["given", "suggested", "issues"].map((text) => element("th", {scope: "col", text}))));
    table.append(...data.pairs.slice(0, MOST_PAIRS).map((row) => element("tr", {}, element("td", {text: nameOf(row[0])}),
      element("td", {text: nameOf(row[1])}), element("td", {}, pairButton(row)))));
    return;
  }
  const counts = new Map(data.pairs.map(([given, suggested, count]) => [`${given} ${suggested}`, count]));
  const head = element("tr", {}, element("th", {scope: "col", text: "given \\ suggested"}),
    ...used.map((label) => element("th", {scope: "col", text: nameOf(label)})),
    ...(data.rates === null ? [] : [element("th", {scope: "col", text: "expected wrong"})]));
  const body = used.map((given) => element("tr", {}, element("th", {scope: "row", text: nameOf(given)}),
    ...used.map((suggested) => {
      const count = counts.get(`${given} ${suggested}`);
      if (count === undefined) return element("td", {});
      return element("td", {}, pairButton([given, suggested, count]));
    }), ...(data.rates === null ? [] : [element("td", {text: percent(data.rates[given])})])));
  table.append(head, ...body);
}

function filterBy(chosen, button) {
  pair = chosen;
  for (const other of byId("pairs").querySelectorAll("button")) other.setAttribute("aria-pressed", "false");
  if (pair !== null) button.setAttribute("aria-pressed", "true");
  byId("all-pairs").hidden = pair === null;
  byId("top").disabled = pair !== null;  // all of a pair are shown
  change();
  tell(`${shown.length} suspects`);
}

function drawLosses() {
  const losses = data.losses;
  if (losses === null) {
    byId("losses").textContent = "The losses of all samples are not in this page.";
    return;
  }
  const [width, height, below] = [400, 140, 18];
  const all = losses.others.map((count, place) => count + losses.issues[place]);
  const highest = Math.log1p(Math.max(...all));
  const svg = (tag, attributes) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    return made;
  };
  const tall = (count) => Math.log1p(count) / highest * height;
  const drawing = svg("svg", {viewBox: `0 0 ${width} ${height + below}`, role: "img",
    "aria-label": "how many samples have which loss, labels worth a look apart from the others"});
  for (const [counts, kind] of [[all, "bar"], [losses.issues, "bar issue"]]) {
    counts.forEach((count, place) => drawing.append(svg("rect", {class: kind, x: place * width / counts.length,
      y: height - tall(count), width: width / counts.length - 1, height: tall(count)})));
  }
  [[0, "start", "0"], [width / 2, "middle", "loss"], [width, "end", losses.largest]].forEach(([x, anchor, text]) => {
    const label = svg("text", {x, y: height + 13, "text-anchor": anchor});
    label.textContent = text;
    drawing.append(label);
  });
  byId("losses").append(drawing);
}

function drawDuplicates() {
  byId("duplicates-part").hidden = data.duplicates.length === 0;
  for (const group of data.duplicates) {
    const list = element("ul", {});
    for (const member of group) {
      list.append(element("li", {text: `index ${member.index}${member.path === null ? "" : ", " + member.path}: ${nameOf(member.given)}`}));
    }
    byId("duplicates").append(list);
  }
}

// ------------------------------------------------------------------------------------------------ start

let waiting = 0;

function change() {
  clearTimeout(waiting);
  page = 0;
  choose();
  draw();
}

for (const id of ["top", "least"]) {
  byId(id).addEventListener("input", () => {
    choose();
    clearTimeout(waiting);
    waiting = setTimeout(change, 80);  // a slider that is dragged asks often
  });
}
for (const id of ["top", "least", "sort", "state"]) byId(id).addEventListener("change", change);
for (const button of document.querySelectorAll(".before")) button.addEventListener("click", () => { page--; draw(); });
for (const button of document.querySelectorAll(".after")) button.addEventListener("click", () => { page++; draw(); });
byId("all-pairs").addEventListener("click", () => filterBy(null));
byId("save-csv").addEventListener("click", () => download(asCsv(), "text/csv", "decisions.csv"));
byId("save-json").addEventListener("click", () => download(asJson(), "application/json", "decisions.json"));
byId("read").addEventListener("change", async (event) => {
  const file = event.target.files[0];
  if (file === undefined) return;
  try {
    takeOver(await file.text());
  } catch (error) {
    tell(`${file.name} holds no decisions: ${error.message}`);
    byId("done").textContent = `${file.name} holds no decisions`;
  }
  event.target.value = "";
});
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input, select, textarea, summary, table")) return;
  const act = {a: "accept", k: "keep", u: "unsure"}[event.key.toLowerCase()];
  const isSeen = document.activeElement.closest(".card") !== null;
  const step = {ArrowRight: 1, ArrowLeft: -1}[event.key];
  if (step !== undefined) move(current !== null && !isSeen ? 0 : step);
  else if (event.key.toLowerCase() === "z") undo();
  else if (current === null) return;
  else if (act !== undefined && !isSeen) move(0);  // what is decided upon has to be seen first
  else if (act !== undefined && !event.repeat) { decide(current, act); move(1); }
  else if (event.key.toLowerCase() === "o") byId(`suspect-${current}`).querySelector("select").focus();
  else return;
  event.preventDefault();
});

recall();
drawPairs();
drawLosses();
drawDuplicates();
change();
})();
