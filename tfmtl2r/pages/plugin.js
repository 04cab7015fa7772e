// The page of TensorBoard: matrices of conflicts, shares of the update and gates over time, and the front of all runs.

const COLOURS = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#8c6bb1", "#7f7f7f", "#b5a900", "#4d4d4d"];
const TITLES = {
  cosine: ["Which goals fight", "Cosines of the tasks' gradients. Below 0 (orange), two tasks pull the shared parameters apart."],
  share: ["Who moves the model", "The share of each task in the update: its weight times the length of its gradient."],
  weight: ["Weights of the method", "The weight that the method gives each task."],
  norm: ["Lengths of gradients", "The length of each task's gradient, as a share of the sum."],
};
const state = { data: {}, hidden: new Set(), at: 1, axes: [0, 1], card: null };

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

function heatMap(title, one) {
  const [rows, columns] = one.labels;
  const now = place(one.steps);
  const left = 12 + 6.4 * Math.max(...rows.map((row) => short(row).length));
  const cell = { w: Math.max(46, Math.min(84, 300 / columns.length)), h: 30 };
  const top = 22;
  const size = [left + cell.w * columns.length + 4, top + cell.h * rows.length + 4];
  const svg = make("svg", { viewBox: `0 0 ${size[0]} ${size[1]}`, width: size[0], role: "img",
    "aria-label": `${title} at step ${one.steps[now]}: ` + rows.map((row, r) => columns.map((column, c) =>
      `${row} and ${column} ${shown(one.values[now][r * columns.length + c])}`).join(", ")).join("; ") });
  columns.forEach((column, c) => svg.append(make("text", { x: left + cell.w * (c + 0.5), y: 14, "text-anchor": "middle" },
    short(column, Math.floor(cell.w / 6)), make("title", {}, column))));
  rows.forEach((row, r) => {
    svg.append(make("text", { x: left - 6, y: top + cell.h * (r + 0.5) + 4, "text-anchor": "end" }, short(row), make("title", {}, row)));
    columns.forEach((column, c) => {
      const value = one.values[now][r * columns.length + c];
      const [fill, ink] = tint(value);
      const x = left + cell.w * c;
      const y = top + cell.h * r;
      svg.append(make("rect", { x, y, width: cell.w - 2, height: cell.h - 2, rx: 3, fill },
        make("title", {}, `${row}, ${column}: ${shown(value)}`)),
      make("text", { x: x + cell.w / 2 - 1, y: y + cell.h / 2 + 3, "text-anchor": "middle", class: ink }, shown(value)));
    });
  });
  return svg;
}

function shares(title, one) {
  const [labels] = one.labels;
  const width = 400, height = 150, right = 112;
  const last = one.steps.length - 1;
  const span = Math.max(1, one.steps[last] - one.steps[0]);
  const x = (index) => (last ? ((one.steps[index] - one.steps[0]) / span) * (width - right) : 0);
  const parts = one.values.map((row) => {
    const total = row.reduce((sum, value) => sum + Math.abs(value ?? 0), 0) || 1;
    return row.map((value) => Math.abs(value ?? 0) / total);
  });
  const now = place(one.steps);
  const svg = make("svg", { viewBox: `0 0 ${width} ${height + 20}`, width, role: "img", "aria-label":
    `${title} at step ${one.steps[now]}: ` + labels.map((label, t) => `${label} ${shown(parts[now][t])}`).join(", ") });
  const wide = last ? [...parts.keys()] : [0, 0];
  const across = (index, order) => (last ? x(index) : order * (width - right));
  let below = parts.map(() => 0);
  const ends = [];
  labels.forEach((label, t) => {
    const above = below.map((value, index) => value + parts[index][t]);
    const line = (values) => wide.map((index, order) => `${across(index, order).toFixed(1)},${(height * (1 - values[index])).toFixed(1)}`);
    svg.append(make("path", { d: `M${line(above).join("L")}L${line(below).reverse().join("L")}Z`, fill: COLOURS[t % COLOURS.length] },
      make("title", {}, `${label}: ${shown(parts[now][t])} at step ${one.steps[now]}`)));
    ends.push([height * (1 - (above[last] + below[last]) / 2), `${short(label, 10)} ${shown(parts[now][t])}`, t]);
    below = above;
  });
  ends.sort((a, b) => a[0] - b[0]);
  let free = 8; // labels that would overlap move down
  ends.forEach((end) => { end[0] = free = Math.max(end[0], free); free += 13; });
  const over = Math.max(0, free - 13 - height);
  ends.forEach(([y, text, t]) => svg.append(
    make("rect", { x: width - right + 6, y: y - over - 4, width: 8, height: 8, fill: COLOURS[t % COLOURS.length] }),
    make("text", { x: width - right + 18, y: y - over + 4 }, text)));
  svg.append(make("line", { x1: x(now), x2: x(now), y1: 0, y2: height, class: "now" }),
    make("text", { x: 0, y: height + 14 }, `step ${one.steps[0]}`),
    make("text", { x: width - right, y: height + 14, "text-anchor": "end" }, `${one.steps[last]}`));
  return svg;
}

const runOf = (part) => part.replace(/\/?(logs\/)?(train|validation|results)$/, "") || part; // a run writes several folders
const visible = () => Object.keys(state.data).filter((part) => !state.hidden.has(runOf(part))).sort();

function section(tag) {
  const runs = visible().filter((run) => state.data[run][tag]);
  if (!runs.length) return null;
  const name = tag.replace(/^inside\//, "");
  const [title, says] = TITLES[tag] ?? [`Inside: ${name}`, "What the architecture computes for a sample of vali, the mean over items: rows read columns."];
  const grid = make("div", { class: "runs" });
  for (const run of runs) {
    const one = state.data[run][tag];
    const draw = one.kind === "shares" ? shares : heatMap;
    grid.append(make("div", {}, make("h3", {}, `${runOf(run)} `, make("small", {}, `step ${one.steps[place(one.steps)]}`)), draw(title, one)));
  }
  return make("section", { "data-tag": tag }, make("h2", {}, title), make("p", {}, says), grid);
}

function front() {
  const runs = visible().filter((run) => state.data[run].results);
  if (!runs.length) return null;
  const goals = [...new Set(runs.flatMap((run) => state.data[run].results.labels[0]))];
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
  const width = 520, height = 300, edge = 46;
  const scale = (index, length, flip) => {
    const all = points.map((point) => point[index]);
    const low = Math.min(...all), high = Math.max(...all), gap = (high - low) * 0.1 || Math.abs(high) * 0.05 || 1;
    return (number) => { const part = (number - low + gap) / (high - low + 2 * gap); return flip ? length * (1 - part) : edge + length * part; };
  };
  const x = scale(1, width - edge - 10, false), y = scale(2, height - 30, true);
  const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, width, role: "group", "aria-label": `Results: ${names.join(" and ")}` },
    make("line", { x1: edge, x2: width, y1: height - 28, y2: height - 28, class: "axis" }),
    make("line", { x1: edge, x2: edge, y1: 0, y2: height - 28, class: "axis" }),
    make("text", { x: width, y: height - 12, "text-anchor": "end" }, names[0]),
    make("text", { x: edge + 6, y: 12 }, names[1]));
  for (const index of [1, 2]) {
    for (const number of new Set([Math.min, Math.max].map((end) => end(...points.map((p) => p[index]))))) {
      svg.append(index === 1 ? make("text", { x: x(number), y: height - 14, "text-anchor": "middle" }, number.toPrecision(3))
        : make("text", { x: edge - 4, y: y(number) + 4, "text-anchor": "end" }, number.toPrecision(3)));
    }
  }
  points.forEach((point, index) => {
    const best = !points.some((other) => beats(other, point));
    const open = () => { state.card = point[0]; draw(); };
    svg.append(make("circle", { cx: x(point[1]), cy: y(point[2]), r: 6, fill: best ? COLOURS[0] : "#8888", tabindex: 0,
      role: "button", "aria-label": `${runOf(point[0])}: ${names[0]} ${point[1]}, ${names[1]} ${point[2]}`, onclick: open,
      onkeydown: (event) => { if (event.key === "Enter" || event.key === " ") open(); } },
    make("title", {}, `${runOf(point[0])}\n${names[0]} ${point[1]}\n${names[1]} ${point[2]}`)));
    if (points.length <= 12) svg.append(make("text", { x: x(point[1]) + 9, y: y(point[2]) + (index % 2 ? 13 : -5) }, short(runOf(point[0]), 22)));
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
  const inside = [...tags].filter((tag) => tag.startsWith("inside/")).sort();
  const found = [...["cosine", "share", "weight", "norm"].filter((tag) => tags.has(tag)), ...inside].map(section);
  main.replaceChildren(...[...found, front()].filter((one) => one !== null));
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
