// The page of TensorBoard: conflicts, shares of the update, gates and solvers over time, what is served, and the front of all runs.

const COLOURS = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#8c6bb1", "#7f7f7f", "#b5a900", "#4d4d4d"];
const TITLES = {
  cosine: ["Which goals fight", "Cosines of the tasks' gradients. Below 0 (orange), two tasks pull the shared parameters apart."],
  conflict: ["How often goals fight", "The share of an epoch's samples in which the cosine of two tasks is below 0."],
  share: ["Who moves the model", "The share of each task in the update: its weight times the length of its gradient."],
  weight: ["Weights of the method", "The weight that the method gives each task."],
  norm: ["Lengths of gradients", "The length of each task's gradient, as a share of the sum."],
  layers: ["Who pulls which layer", "The length of each task's gradient in a shared layer, as a share of all tasks' lengths there (exact gradients only)."],
  multiplier: ["What constraints cost", "The multiplier of each constraint: above 0, the constraint pulls; it grows while its bound is violated."],
  solver: ["Work of the method's solver", "The rounds of all solvers in a sampled step."],
  unsettled: ["Solvers that gave up", "Solvers that stopped at their cap of rounds, since the start. 0 is what it should be."],
  loss_ratio: ["Gain by sharing", "Loss on vali divided by that of the run that trains the task alone: below 1 (the line), the task gains by sharing."],
};
const ORDER = ["cosine", "conflict", "share", "weight", "norm", "layers", "loss_ratio", "multiplier", "solver", "unsettled"];
const WIDE = 8; // a matrix of more columns takes the whole width
const state = { data: {}, hidden: new Set(), at: 1, axes: [0, 1], card: null, preference: 0.5 };

function make(name, attributes = {}, ...children) {
  const svg = ["svg", "rect", "text", "path", "line", "circle", "title", "g"].includes(name);
  const element = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

const pen = document.createElement("canvas").getContext("2d");
pen.font = "11px system-ui, sans-serif"; // that of the texts in charts
const long = (text) => pen.measureText(text).width;

function fit(text, most) { // the beginning of a text that is not longer than this number of pixels
  if (long(text) <= most) return text;
  let kept = text;
  while (kept && long(`${kept}…`) > most) kept = kept.slice(0, -1);
  return `${kept}…`;
}

const short = (text, most = 16) => (text.length <= most ? text : `${text.slice(0, most - 1)}…`);
const shown = (value) => (value === null || value === undefined ? "–" : value.toFixed(2).replace(/^-(0\.00)$/, "$1"));

function tint(value) { // blue above 0, orange below: both are told apart without red and green
  if (value === null) return ["#8884", "dark"];
  const strength = Math.min(1, Math.abs(value));
  const [r, g, b] = value >= 0 ? [0, 90, 170] : [200, 90, 0];
  const mix = (full) => Math.round(245 + (full - 245) * strength);
  return [`rgb(${mix(r)},${mix(g)},${mix(b)})`, strength > 0.55 ? "light" : "dark"];
}

function place(steps) { // the last of the steps up to the chosen moment
  const wanted = steps[0] + (steps[steps.length - 1] - steps[0]) * state.at;
  let at = 0;
  steps.forEach((step, index) => { if (step <= wanted + 1e-6) at = index; });
  return at;
}

const when = (one, at) => `${one.unit ?? "step"} ${one.steps[at]}`;

function heatMap(title, one) {
  const [rows, columns] = one.labels;
  const now = place(one.steps);
  const left = 12 + Math.max(...rows.map((row) => long(short(row))));
  const cell = { w: Math.max(46, Math.min(84, (columns.length > WIDE ? 960 : 300) / columns.length)), h: 30 };
  const top = 22;
  const size = [left + cell.w * columns.length + 4, top + cell.h * rows.length + 4];
  const svg = make("svg", { viewBox: `0 0 ${size[0]} ${size[1]}`, width: size[0], role: "img",
    "aria-label": `${title} at ${when(one, now)}: ` + rows.map((row, r) => columns.map((column, c) =>
      `${row} and ${column} ${shown(one.values[now][r * columns.length + c])}`).join(", ")).join("; ") });
  columns.forEach((column, c) => svg.append(make("text", { x: left + cell.w * (c + 0.5), y: 14, "text-anchor": "middle" },
    fit(column, cell.w - 5), make("title", {}, column))));
  rows.forEach((row, r) => {
    svg.append(make("text", { x: left - 6, y: top + cell.h * (r + 0.5) + 4, "text-anchor": "end" }, short(row), make("title", {}, row)));
    columns.forEach((column, c) => {
      const value = one.values[now][r * columns.length + c];
      const [fill, ink] = tint(one.kind === "rates" && value !== null ? -value : value); // a conflict is orange
      const x = left + cell.w * c;
      const y = top + cell.h * r;
      svg.append(make("rect", { x, y, width: cell.w - 2, height: cell.h - 2, rx: 3, fill },
        make("title", {}, `${row}, ${column}: ${shown(value)}`)),
      make("text", { x: x + cell.w / 2 - 1, y: y + cell.h / 2 + 3, "text-anchor": "middle", class: ink }, shown(value)));
    });
  });
  return svg;
}

// Texts at the ends of lines or bands, each [y, text, number of its colour]; texts that would overlap move down, then up.
function ends(svg, texts, x, height) {
  texts.sort((a, b) => a[0] - b[0]);
  let free = 8;
  texts.forEach((one) => { one[0] = Math.max(one[0], free); free = one[0] + 13; });
  free = height - 4;
  texts.toReversed().forEach((one) => { one[0] = Math.min(one[0], free); free = one[0] - 13; });
  texts.forEach(([y, text, t]) => svg.append(
    make("rect", { x: x + 6, y: y - 4, width: 8, height: 8, fill: COLOURS[t % COLOURS.length] }),
    make("text", { x: x + 18, y: y + 4 }, text)));
}

const spaceFor = (texts) => 24 + Math.max(...texts.map(long));
const heightFor = (texts) => Math.max(150, 13 * texts.length + 12);

function along(svg, one, x, now, from, to, height) { // the axis of steps, and the chosen one
  svg.append(make("line", { x1: x(now), x2: x(now), y1: 0, y2: height, class: "now" }),
    make("text", { x: from, y: height + 14 }, when(one, 0)),
    make("text", { x: to, y: height + 14, "text-anchor": "end" }, `${one.steps[one.steps.length - 1]}`));
}

function shares(title, one) {
  const [labels] = one.labels;
  const parts = one.values.map((row) => {
    const total = row.reduce((sum, value) => sum + Math.abs(value ?? 0), 0) || 1;
    return row.map((value) => Math.abs(value ?? 0) / total);
  });
  const now = place(one.steps);
  const last = one.steps.length - 1;
  const told = labels.map((label, t) => `${fit(label, 130)} ${shown(parts[last][t])}`);
  const width = 400, height = heightFor(told), right = spaceFor(told);
  const span = Math.max(1, one.steps[last] - one.steps[0]);
  const x = (index) => (last ? ((one.steps[index] - one.steps[0]) / span) * (width - right) : 0);
  const svg = make("svg", { viewBox: `0 0 ${width} ${height + 20}`, width, role: "img", "aria-label":
    `${title} at ${when(one, now)}: ` + labels.map((label, t) => `${label} ${shown(parts[now][t])}`).join(", ") });
  const wide = last ? [...parts.keys()] : [0, 0];
  const across = (index, order) => (last ? x(index) : order * (width - right));
  let below = parts.map(() => 0);
  const texts = [];
  labels.forEach((label, t) => {
    const above = below.map((value, index) => value + parts[index][t]);
    const line = (values) => wide.map((index, order) => `${across(index, order).toFixed(1)},${(height * (1 - values[index])).toFixed(1)}`);
    svg.append(make("path", { d: `M${line(above).join("L")}L${line(below).reverse().join("L")}Z`, fill: COLOURS[t % COLOURS.length] },
      make("title", {}, `${label}: ${shown(parts[now][t])} at ${when(one, now)}`)));
    texts.push([height * (1 - (above[last] + below[last]) / 2), told[t], t]);
    below = above;
  });
  ends(svg, texts, width - right, height);
  along(svg, one, x, now, 0, width - right, height);
  return svg;
}

// Lines over steps or over preferences: names, a row of values for each place, and the chosen place.
function plot(label, names, xs, rows, now, level = null) {
  const last = xs.length - 1;
  const told = names.map((name, t) => `${fit(name, 130)} ${rows[now][t] === null ? "–" : Number(rows[now][t].toPrecision(3))}`);
  const width = 400, height = heightFor(told), right = spaceFor(told);
  const known = [...rows.flat(), level].filter((value) => value !== null);
  const low = Math.min(...known), high = Math.max(...known), gap = (high - low) * 0.08 || Math.abs(high) * 0.1 || 1;
  const marks = [low, high].map((value) => String(Number(value.toPrecision(3))));
  const left = 8 + Math.max(...marks.map(long));
  const x = (index) => left + 4 + (last ? ((xs[index] - xs[0]) / (xs[last] - xs[0])) * (width - right - left - 8) : 0);
  const y = (value) => height * (1 - (value - low + gap) / (high - low + 2 * gap));
  const svg = make("svg", { viewBox: `0 0 ${width} ${height + 20}`, width, role: "img", "aria-label": `${label}: ${told.join(", ")}` },
    make("line", { x1: left, x2: left, y1: 0, y2: height, class: "axis" }),
    make("line", { x1: left, x2: width - right, y1: height, y2: height, class: "axis" }));
  (low === high ? marks.slice(1) : marks).forEach((mark, index) => svg.append(
    make("text", { x: left - 4, y: Math.max(9, y(low === high ? high : [low, high][index]) + 4), "text-anchor": "end" }, mark)));
  if (level !== null) svg.append(make("line", { x1: left, x2: width - right, y1: y(level), y2: y(level), class: "axis" }));
  const texts = [];
  names.forEach((name, t) => {
    const fill = COLOURS[t % COLOURS.length];
    const points = rows.map((row, index) => [index, row[t]]).filter(([, value]) => value !== null);
    if (!points.length) return;
    svg.append(make("path", { d: `M${points.map(([index, value]) => `${x(index).toFixed(1)},${y(value).toFixed(1)}`).join("L")}`,
      fill: "none", stroke: fill, "stroke-width": 2 }, make("title", {}, name)));
    if (rows[now][t] !== null) svg.append(make("circle", { cx: x(now), cy: y(rows[now][t]), r: 4, fill }));
    texts.push([y(points[points.length - 1][1]), told[t], t]);
  });
  ends(svg, texts, width - right, height);
  return [svg, x, left, width - right, height];
}

function lines(title, one, tag) {
  const now = place(one.steps);
  const [svg, x, left, right, height] = plot(`${title} at ${when(one, now)}`, one.labels[0], one.steps, one.values, now,
    tag === "loss_ratio" ? 1 : null);
  along(svg, one, x, now, left, right, height);
  return svg;
}

const runOf = (part) => part.replace(/\/?(logs\/)?(train|validation|results|served)$/, "") || part; // a run writes several folders
const visible = () => Object.keys(state.data).filter((part) => !state.hidden.has(runOf(part))).sort();

function section(tag) {
  const runs = visible().filter((run) => state.data[run][tag]);
  if (!runs.length) return null;
  const name = tag.replace(/^(inside|gate_entropy)\//, "");
  const [title, says] = TITLES[tag] ?? (tag.startsWith("gate_entropy/")
    ? [`How widely ${name} read`, "The entropy of each gate: 1 reads all experts alike, 0 reads a single one."]
    : [`Inside: ${name}`, "What the architecture computes for a sample of vali, the mean over items: rows read columns."]);
  const grid = make("div", { class: "runs" });
  for (const run of runs) {
    const one = state.data[run][tag];
    const draw = { shares, lines }[one.kind] ?? heatMap;
    grid.append(make("div", one.labels.length > 1 && one.labels[1].length > WIDE ? { class: "wide" } : {}, make("h3", {}, `${runOf(run)} `, make("small", {}, when(one, place(one.steps)))), draw(title, one, tag)));
  }
  return make("section", { "data-tag": tag }, make("h2", {}, title), make("p", {}, says), grid);
}

const HOW = "A ranker that reads the preference has them after its training "
  + "(conditioned = 1.0), every other ranker of lists has them in a sweep (tfmtl2r sweep).";

function served() { // what each run serves at the preferences of its grid, and a slider over the grid
  const runs = [...new Set(visible().map(runOf))].filter((run) => visible().some((part) => runOf(part) === run && state.data[part].results));
  if (!runs.length) return null;
  const found = runs.map((run) => [run, visible().filter((part) => runOf(part) === run).map((part) => state.data[part])
    .map((tags) => tags.served ?? tags.curve).find((one) => one)]);
  const grid = make("div", { class: "runs" });
  const at = (one) => Math.round(state.preference * (one.values.length - 1));
  const asked = (one) => one.labels[0].map((task, t) => `${task} ${shown(one.values[at(one)][t])}`).join(", ");
  const first = found.find(([, one]) => one)?.[1];
  const section = make("section", { "data-tag": "served" }, make("h2", {}, "What is served at each preference"));
  if (!first) {
    section.append(make("p", {}, `No run here has results at several preferences. ${HOW}`));
    return section;
  }
  const slider = make("input", { type: "range", min: 0, max: first.values.length - 1, value: at(first), "aria-label": "preference",
    "aria-valuetext": asked(first), oninput: (event) => {
      state.preference = event.target.value / Math.max(1, first.values.length - 1);
      show();
    } });
  const show = () => {
    slider.setAttribute("aria-valuetext", asked(first));
    grid.replaceChildren(...found.map(([run, one]) => {
      if (!one) return make("div", {}, make("h3", {}, run), make("p", {}, `This run has no results at several preferences. ${HOW}`));
      const tasks = one.labels[0].length;
      const places = one.values.map((_, index) => index);
      const [svg, x, , , height] = plot(`${run} at the preference ${asked(one)}`, one.labels[1], places,
        one.values.map((row) => row.slice(tasks)), at(one));
      svg.append(make("line", { x1: x(at(one)), x2: x(at(one)), y1: 0, y2: height, class: "now" }));
      return make("div", {}, make("h3", {}, `${run} `, make("small", {}, asked(one))), svg);
    }));
  };
  show();
  section.append(make("p", {}, "The metric of each goal on test, for each preference of the grid: on the order that is served, or where "
    + "that was not measured, on the order of the goal's own scores. The slider moves through the grid, also with the arrow keys."),
  make("label", { class: "slider" }, "preference", slider), grid);
  return section;
}

function front() {
  const runs = visible().filter((run) => state.data[run].results);
  if (!runs.length) return null;
  const measured = runs.flatMap((run) => state.data[run].results.labels[0]);
  const count = (goal) => measured.filter((other) => other === goal).length;
  const goals = [...new Set(measured)].sort((a, b) => count(b) - count(a)); // those of most runs come first
  const section = make("section", { "data-tag": "front" }, make("h2", {}, "What the runs reach on test"),
    make("p", {}, "A run on the upper right of another one is better in both goals; runs that no other one dominates are filled. Choose a point for its settings."));
  const value = (run, goal) => {
    const one = state.data[run].results;
    const at = one.labels[0].indexOf(goal);
    return at < 0 ? null : one.values[one.values.length - 1][at];
  };
  const choose = (axis) => make("select", { "aria-label": axis ? "goal on the vertical axis" : "goal on the horizontal axis",
    onchange: (event) => { state.axes[axis] = event.target.selectedIndex; draw(); } },
  ...goals.map((goal, index) => make("option", index === state.axes[axis] % goals.length ? { selected: "" } : {}, goal)));
  section.append(make("div", {}, "across ", choose(0), " upwards ", choose(1)));
  const names = state.axes.map((axis) => goals[axis % goals.length]);
  const points = runs.map((run) => [run, ...names.map((goal) => value(run, goal))]).filter((point) => point[1] !== null && point[2] !== null);
  if (!points.length) return section;
  const signs = names.map((goal) => (/mse|loss|arp|ece|entropy/.test(goal) ? -1 : 1));
  const beats = (a, b) => a[1] * signs[0] >= b[1] * signs[0] && a[2] * signs[1] >= b[2] * signs[1] && (a[1] !== b[1] || a[2] !== b[2]);
  const width = 520, height = 316, edge = 56;
  const scale = (index, length, flip) => {
    const all = points.map((point) => point[index]);
    const low = Math.min(...all), high = Math.max(...all), gap = (high - low) * 0.1 || Math.abs(high) * 0.05 || 1;
    return (number) => { const part = (number - low + gap) / (high - low + 2 * gap); return flip ? length * (1 - part) : edge + length * part; };
  };
  const base = height - 40;
  const x = scale(1, width - edge - 10, false), y = scale(2, base, true);
  const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, width, role: "group", "aria-label": `Results: ${names.join(" and ")}` },
    make("line", { x1: edge, x2: width, y1: base, y2: base, class: "axis" }),
    make("line", { x1: edge, x2: edge, y1: 0, y2: base, class: "axis" }),
    make("text", { x: width - 2, y: height - 6, "text-anchor": "end" }, names[0]),
    make("text", { x: edge + 6, y: 12 }, names[1]));
  for (const index of [1, 2]) {
    for (const number of new Set([Math.min, Math.max].map((end) => end(...points.map((p) => p[index]))))) {
      svg.append(index === 1 ? make("text", { x: x(number), y: base + 15, "text-anchor": "middle" }, number.toPrecision(3))
        : make("text", { x: edge - 4, y: y(number) + 4, "text-anchor": "end" }, number.toPrecision(3)));
    }
  }
  const taken = [[edge, 0, edge + 12 + long(names[1]), 16], ...points.map(([, across, up]) => [x(across) - 7, y(up) - 7, x(across) + 7, y(up) + 7])];
  const free = (box) => box[0] > edge && box[2] < width && box[1] > 0 && box[3] < base
    && !taken.some((other) => box[0] < other[2] && other[0] < box[2] && box[1] < other[3] && other[1] < box[3]);
  points.forEach((point) => {
    const best = !points.some((other) => beats(other, point));
    const open = () => { state.card = point[0]; draw(); };
    svg.append(make("circle", { cx: x(point[1]), cy: y(point[2]), r: 6, fill: best ? COLOURS[0] : "#8888", tabindex: 0,
      role: "button", "aria-label": `${runOf(point[0])}: ${names[0]} ${point[1]}, ${names[1]} ${point[2]}`, onclick: open,
      onkeydown: (event) => { if (event.key === "Enter" || event.key === " ") open(); } },
    make("title", {}, `${runOf(point[0])}\n${names[0]} ${point[1]}\n${names[1]} ${point[2]}`)));
    const name = short(runOf(point[0]), 22); // where there is room; every point has its name under the pointer
    const wide = long(name);
    const spot = [[9, 4], [-9 - wide, 4], [9, -9], [9, 17], [-9 - wide, -9], [-9 - wide, 17], [-wide / 2, -12], [-wide / 2, 20]]
      .map(([right, down]) => [x(point[1]) + right, y(point[2]) + down])
      .find(([left, low]) => free([left - 2, low - 11, left + wide + 2, low + 4]));
    if (spot) {
      taken.push([spot[0] - 2, spot[1] - 11, spot[0] + wide + 2, spot[1] + 4]);
      svg.append(make("text", { x: spot[0], y: spot[1] }, name));
    }
  });
  section.append(svg);
  if (state.card && state.data[state.card]?.results) {
    const rows = Object.entries(state.data[state.card].results.settings ?? {});
    section.append(make("div", { id: "card" }, make("h3", {}, runOf(state.card)), make("table", {}, make("tbody", {},
      ...rows.map(([key, text]) => make("tr", {}, make("td", {}, key), make("td", {}, String(text))))))));
  }
  return section;
}

function header() {
  const runs = [...new Set(Object.keys(state.data).map(runOf))].sort();
  const boxes = make("fieldset", { "aria-label": "runs" }, ...runs.map((run) => make("label", {}, make("input", {
    type: "checkbox", ...(state.hidden.has(run) ? {} : { checked: "" }),
    onchange: (event) => { state.hidden[event.target.checked ? "delete" : "add"](run); draw(); } }), ` ${run}`)));
  const slider = make("input", { type: "range", min: 0, max: 1000, value: Math.round(state.at * 1000), "aria-label": "moment of the training",
    oninput: (event) => { state.at = event.target.value / 1000; body(); } });
  const theme = () => {
    const root = document.documentElement;
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
  };
  return make("header", {}, make("h1", {}, "tfmtl2r"), make("label", { class: "slider" }, "start", slider, "end"),
    make("button", { onclick: theme }, "light or dark"), make("button", { onclick: load }, "read again"), boxes);
}

function body() {
  const main = document.querySelector("main");
  const tags = new Set(visible().flatMap((run) => Object.keys(state.data[run])));
  const inside = [...tags].filter((tag) => /^(inside|gate_entropy)\//.test(tag)).sort((a, b) => (a > b) - (a < b));
  const found = [...ORDER.filter((tag) => tags.has(tag)), ...inside].map(section);
  const none = tags.has("cosine") ? null : make("p", {}, "No conflicts to show: the gradients of these runs were not sampled. A training of "
    + "fewer steps than training.telemetry_every (100) has no sample; a smaller number gives more.");
  main.replaceChildren(...[none, ...found, served(), front()].filter((one) => one !== null));
}

function draw() {
  const focused = document.activeElement?.getAttribute?.("aria-label");
  document.body.replaceChildren(header(), make("main", {}));
  body();
  if (focused) document.querySelector(`[aria-label="${CSS.escape(focused)}"]`)?.focus();
}

function explain(text, kind = "") {
  document.body.replaceChildren(make("header", {}, make("h1", {}, "tfmtl2r"), make("button", { onclick: load }, "read again")),
    make("main", {}, make("p", { class: kind }, text)));
}

async function load() {
  let answer;
  try {
    answer = await (await fetch("./data")).json();
  } catch (error) {
    answer = { error: String(error) };
  }
  if (typeof answer.error === "string") {
    explain(`The data cannot be read now: ${answer.error}. A training may be writing them: read again in a moment.`, "error");
  } else if (!Object.keys(answer).length) {
    explain("No run below this log folder has data of tfmtl2r yet. `tfmtl2r train` writes them after its first epoch "
      + "(training.telemetry_every above 0); in Python, give fit the callback tfmtl2r.report.TensorBoard(folder).");
  } else {
    state.data = answer;
    draw();
  }
}

export async function render() {
  const here = new URL(".", import.meta.url);
  document.head.append(make("link", { rel: "stylesheet", href: new URL("plugin.css", here).href }));
  document.documentElement.lang = "en";
  await load();
}
