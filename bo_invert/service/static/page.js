// Page of a bo_invert server; forms.js changes studies. Text from studies is only ever set as textContent.

import { constraintText, creation, Forms } from "/static/forms.js";
import { targetQuestions } from "/static/targets.js";

import { drawChart } from "./charts.js";

const PLOT_PAUSE = 3000; // milliseconds between updates of a plot

const $ = (selector, root = document) => root.querySelector(selector);
const api = "/v1/studies";
const main = $("#main");
let token = sessionStorage.getItem("token") || "";
let writes = false; // the token may change studies
let stopping = null; // aborts the requests of the current view

// Moves a token from the address to the session storage, so that it stays out of the history.
function takeToken() {
  const found = /[#&]token=([^&]+)/.exec(location.hash);
  if (!found) return;
  token = decodeURIComponent(found[1]);
  sessionStorage.setItem("token", token);
  const rest = location.hash.replace(/[#&]token=[^&]+/, "");
  history.replaceState(null, "", location.pathname + (rest || "#/"));
}

class Refused extends Error {}

async function get(path, signal) {
  const answer = await fetch(path, { headers: { Authorization: `Bearer ${token}` }, signal });
  if (answer.status === 401) throw new Refused("Unknown token.");
  if (!answer.ok) throw new Error((await answer.json().catch(() => ({}))).detail || `status ${answer.status}`);
  writes = answer.headers.get("Token-Access") === "write";
  return answer.json();
}

// Sends a request of a form; the answer is JSON or the text of a CSV file.
async function send(method, path, body) {
  const headers = { Authorization: `Bearer ${token}` };
  if (body) headers["Content-Type"] = "application/json";
  const answer = await fetch(path, { method, headers, body: body && JSON.stringify(body) });
  if (!answer.ok) throw new Error((await answer.json().catch(() => ({}))).detail || `status ${answer.status}`);
  return (answer.headers.get("Content-Type") || "").includes("csv") ? answer.text() : answer.json();
}

function make(tag, text, className) {
  const node = document.createElement(tag);
  if (text !== undefined && text !== null) node.textContent = text;
  if (className) node.className = className;
  return node;
}

function number(value, digits = 5) {
  if (value === null || value === undefined) return "–";
  if (Number.isInteger(value) && Math.abs(value) < 1e9) return String(value);
  const size = Math.abs(value);
  if (size < 1e-4 || size >= 1e9) return value.toExponential(digits - 2).replace(/\.?0+e/, "e");
  return String(Number(value.toPrecision(digits)));
}

const clock = (seconds) => (seconds ? new Date(seconds * 1000).toLocaleString() : "–");
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

function live(state, text) {
  $("#live").className = state;
  $("#live").textContent = text;
}

function show(id) {
  main.replaceChildren($(`#${id}`).content.cloneNode(true));
  return main;
}

function askToken(message) {
  live("", "");
  $("#trail").textContent = "";
  show("ask-token");
  $(".error").textContent = message || "";
  const form = $("form", main);
  $("input", form).focus();
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    token = $("input", form).value.trim();
    sessionStorage.setItem("token", token);
    route();
  });
}

async function list(signal) {
  $("#trail").textContent = "";
  live("", "");
  let after = 0;
  let rows = [];
  let damaged = [];
  const first = await get(`${api}?limit=100`, signal);
  show("list");
  document.title = "bo_invert";
  const body = $("tbody", main);
  const filter = $("#filter");
  const more = $(".more", main);
  const draw = () => {
    const wanted = filter.value.toLowerCase();
    body.replaceChildren();
    for (const study of rows) {
      if (!`${study.name} ${study.problem_name} ${study.strategy.name}`.toLowerCase().includes(wanted)) continue;
      const row = make("tr");
      const link = make("a", study.name);
      link.href = `#/study/${encodeURIComponent(study.name)}`;
      row.append(make("td"), make("td", study.problem_name), make("td", study.strategy.name));
      row.firstChild.append(link);
      // Several criteria have a front, and no best value.
      const best = study.best_is === "mean loss" ? "front" : number(study.best);
      for (const value of [best, study.spent.calls, study.trials, study.states.running || 0]) {
        row.append(make("td", value, "n"));
      }
      row.append(make("td", new Date(study.created).toLocaleString()));
      body.append(row);
    }
    for (const study of damaged) {
      if (!study.name.toLowerCase().includes(wanted)) continue;
      const row = make("tr");
      const reason = make("td", study.detail);
      reason.colSpan = 7;
      row.append(make("td", study.name), reason);
      body.append(row);
    }
    $(".empty", main).hidden = rows.length + damaged.length > 0;
  };
  const take = (page) => {
    rows = rows.concat(page.studies);
    damaged = damaged.concat(page.damaged);
    after = page.next;
    more.hidden = after === null;
    draw();
  };
  filter.addEventListener("input", draw);
  if (writes) creation($("#create"), send, (name) => (location.hash = `#/study/${encodeURIComponent(name)}`));
  more.addEventListener("click", async () => take(await get(`${api}?after=${after}&limit=100`, signal)));
  take(first);
}

// ---- one study

class Columns {
  constructor(name) {
    this.path = `${api}/${encodeURIComponent(name)}`;
    this.rows = [];
    this.seen = 0;
    this.shown = [];
    this.known = [];
    this.steps = [];
    this.calls = 0;
  }

  // Requests only the trials that changed since the last refresh.
  async refresh(signal) {
    const since = this.seen;
    for (let from = 0, first = true; from !== null; first = false) {
      const part = await get(`${this.path}/columns?after=${from}&since=${since}`, signal);
      part.number.forEach((n, i) => {
        this.rows[n] = {};
        for (const key of Object.keys(part)) if (Array.isArray(part[key])) this.rows[n][key] = part[key][i];
      });
      if (first) this.seen = part.events; // later pages may hold newer events; the next refresh repeats them
      from = part.next;
    }
    const ended = this.rows.filter((row) => row.ended !== null && row.calls > 0);
    this.known = this.rows.filter((row) => row.ended === null && row.loss !== null && row.feasible);
    // The order of the log: clocks of workers differ.
    const order = [...ended, ...this.known].sort((a, b) => a.position - b.position || a.number - b.number);
    let calls = 0;
    let best = Infinity;
    this.shown = [];
    this.steps = [];
    for (const row of order) {
      if (row.ended !== null) this.shown.push({ ...row, at: (calls += row.calls) });
      if (row.feasible && row.loss !== null && row.loss < best) this.steps.push([calls, (best = row.loss)]);
    }
    this.calls = calls;
    this.best = best;
  }
}

function scaled(canvas) {
  const ratio = window.devicePixelRatio || 1;
  const { width, height } = canvas.getBoundingClientRect();
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const pen = canvas.getContext("2d");
  pen.scale(ratio, ratio);
  pen.clearRect(0, 0, width, height);
  pen.font = "12px system-ui, sans-serif";
  return { pen, width, height };
}

function ticks(low, high, count) {
  const span = high - low || 1;
  const rough = span / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough);
  const found = [];
  for (let x = Math.ceil(low / step) * step; x <= high + 1e-9 * span; x += step) found.push(Number(x.toPrecision(12)));
  return found;
}

function quantile(sorted, share) {
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
}

// Losses of a curve, and a loss in the user's quantity.
const drawn = (study, other) =>
  [study, other].flatMap((s) => (s ? [...s.shown, ...s.known] : [])).flatMap((row) => row.loss ?? []);
const quantity = (loss, raised) => (raised ? -loss : loss);

function drawCurve(canvas, study, other, log, picked, raised) {
  const { pen, width, height } = scaled(canvas);
  const box = { left: 64, right: width - 12, top: 10, bottom: height - 30 };
  const losses = drawn(study, other).sort((a, b) => a - b);
  pen.fillStyle = colour("soft");
  if (!losses.length) {
    pen.fillText("No completed trials.", 20, 30);
    return () => null;
  }
  // The axis ends at the 95 % quantile, so that outliers do not flatten the curve.
  const f = (loss) => (log ? Math.log10(quantity(loss, raised)) : quantity(loss, raised));
  let [low, high] = [f(losses[0]), f(quantile(losses, losses.length > 20 ? 0.95 : 1))].sort((a, b) => a - b);
  if (high - low < 1e-12) [low, high] = [low - 1, high + 1];
  const pad = 0.05 * (high - low);
  [low, high] = [low - pad, high + pad];
  const calls = Math.max(study.calls, other ? other.calls : 0, 1);
  const X = (c) => box.left + (c / calls) * (box.right - box.left);
  // Better is down, or up for an output that is maximised.
  const along = (x) => box.bottom - ((x - low) / (high - low)) * (box.bottom - box.top);
  const Y = (l) => Math.max(box.top, Math.min(box.bottom, along(f(l))));
  const edge = raised ? box.bottom - 3 : box.top + 3;
  pen.strokeStyle = colour("line");
  pen.textAlign = "right";
  for (const tick of ticks(low, high, 5)) {
    const y = along(tick);
    pen.beginPath();
    pen.moveTo(box.left, y);
    pen.lineTo(box.right, y);
    pen.stroke();
    pen.fillText(log ? number(10 ** tick, 3) : number(tick, 4), box.left - 6, y + 4);
  }
  pen.textAlign = "center";
  for (const tick of ticks(0, calls, 6)) pen.fillText(tick, X(tick), box.bottom + 16);
  pen.fillText("calls", (box.left + box.right) / 2, height - 2);
  const dot = study.shown.length > 2000 ? 1.2 : 2.5;
  for (const row of study.shown) {
    const good = row.state === "completed" && row.loss !== null;
    pen.fillStyle = colour(good ? (row.feasible ? "grey" : "gold") : "red");
    pen.fillRect(X(row.at) - dot, (good ? Y(row.loss) : edge) - dot, 2 * dot, 2 * dot);
  }
  const step = (one, name) => {
    pen.strokeStyle = colour(name);
    pen.lineWidth = 2;
    pen.beginPath();
    let last = null;
    for (const [c, l] of one.steps) {
      if (last === null) pen.moveTo(X(c), Y(l));
      else pen.lineTo(X(c), Y(last)), pen.lineTo(X(c), Y(l));
      last = l;
    }
    if (last !== null) pen.lineTo(X(one.calls), Y(last));
    pen.stroke();
    pen.lineWidth = 1;
  };
  if (other) step(other, "gold");
  step(study, "blue");
  if (picked !== null && study.shown[picked]) {
    const row = study.shown[picked];
    pen.strokeStyle = colour("ink");
    pen.strokeRect(X(row.at) - 5, (row.loss !== null ? Y(row.loss) : edge) - 5, 10, 10);
  }
  return (x, y) => {
    let found = null;
    let least = 400;
    study.shown.forEach((row, i) => {
      const gap = (X(row.at) - x) ** 2 + ((row.loss !== null ? Y(row.loss) : edge) - y) ** 2;
      if (gap < least) [least, found] = [gap, i];
    });
    return found;
  };
}

const NAMES = {
  parallel_coordinate: "parameters", slice: "slices", contour: "contours", param_importances: "importances",
  predicted_vs_observed: "predicted and observed", pareto_front: "Pareto front", optimization_history: "history",
  hypervolume_history: "hypervolume",
  latent_map: "map", posterior: "all solutions", timeline: "timeline",
};

const TARGETED = ["parallel_coordinate", "slice", "contour", "param_importances", "optimization_history", "latent_map"];

// Shows one plot of the server at a time; `refresh` requests it again after new events.
function plots(path, about, signal) {
  const tabs = $(".tabs");
  const body = $("#plot");
  const pareto = about.problem.objective.type === "pareto";
  const domain = about.problem.space.domain;
  const boxed = Boolean(domain && domain.parameters && Object.keys(domain.parameters).length);
  const kinds = Object.keys(NAMES).filter((kind) => {
    if (kind === "pareto_front") return pareto;
    if (kind === "posterior") return about.problem.objective.type === "target";
    // The card of the curve shows the hypervolume of a front.
    return kind !== "hypervolume_history" && (boxed || kind !== "contour");
  });
  const outputs = about.problem.outputs;
  const target = $("#target");
  target.replaceChildren(...["", ...outputs].map((output) => {
    const option = make("option", output || (pareto ? "first criterion" : "objective"));
    option.value = output;
    return option;
  }));
  let shown = pareto ? "pareto_front" : boxed ? "parallel_coordinate" : "latent_map";
  let drawing = new AbortController();
  let events = -1;
  const load = async () => {
    drawing.abort();
    drawing = new AbortController();
    const { signal: mine } = drawing;
    signal.addEventListener("abort", () => drawing.abort(), { once: true });
    body.setAttribute("aria-busy", "true");
    try {
      const asked = TARGETED.includes(shown) && target.value ? `?target=${encodeURIComponent(target.value)}` : "";
      $("#output").hidden = outputs.length < 2 || !TARGETED.includes(shown);
      const { chart, events: seen } = await get(`${path}/plots/${shown}${asked}`, mine);
      if (mine.aborted) return;
      events = seen;
      $("#plot-title").textContent = chart.title;
      drawChart(body, chart, mine);
      body.dataset.kind = chart.kind;
    } catch (error) {
      if (mine.aborted) return;
      body.replaceChildren(make("p", error.message, "empty"));
      body.dataset.kind = "none";
    } finally {
      body.removeAttribute("aria-busy");
    }
  };
  tabs.replaceChildren(
    ...kinds.map((kind) => {
      const tab = make("button", NAMES[kind]);
      tab.type = "button";
      tab.setAttribute("role", "tab");
      tab.setAttribute("aria-selected", String(kind === shown));
      tab.dataset.kind = kind;
      tab.addEventListener("click", () => {
        shown = kind;
        for (const one of tabs.children) one.setAttribute("aria-selected", String(one === tab));
        load();
      });
      return tab;
    }),
  );
  let waiting = null;
  signal.addEventListener("abort", () => clearTimeout(waiting));
  target.addEventListener("change", load);
  load();
  // A plot of a model takes the server seconds, so it follows the study at intervals.
  return (position) => {
    if (position === events || waiting !== null) return;
    waiting = setTimeout(() => {
      waiting = null;
      load();
    }, PLOT_PAUSE);
  };
}

function tiles(about, front) {
  const spent = about.spent;
  const best = front
    ? [[number(front.hypervolume), "hypervolume"], [front.numbers.length, "trials on the Pareto front"]]
    : [[number(about.best), `best: ${about.best_is}`]];
  const facts = [
    ...best,
    [
      about.budget === null ? spent.calls : `${spent.calls} of ${about.budget}`,
      spent.gradients ? `calls (${spent.values} values, ${spent.gradients} gradients)` : "calls",
    ],
    [spent.attempts, "attempts"],
    [spent.failed + spent.infeasible, "failed or infeasible"],
    [spent.lost, "lost attempts"],
    [about.states.running || 0, "running"],
    [`${number(spent.seconds, 3)} s`, "in the oracle"],
    [`${number(spent.asking, 3)} s`, `in the strategy (${spent.asks} asks)`],
  ];
  $(".tiles").replaceChildren(
    ...facts.map(([value, label]) => {
      const tile = make("div", null, "tile");
      tile.append(make("b", value), make("span", label));
      return tile;
    }),
  );
}

// Prediction of a query: median and 90 % interval of each output.
function predictionText(prediction) {
  return Object.entries(prediction)
    .map(([output, ends]) => `${output} ${number(ends[1], 4)} (${number(ends[0], 4)} to ${number(ends[2], 4)})`)
    .slice(0, 6)
    .join(", ");
}

function rowWriter(list) {
  list.replaceChildren();
  return (term, text) => list.append(make("dt", term), make("dd", text));
}

const plain = (value) => (typeof value === "number" ? number(value) : value);
const isOutput = (about) => ["minimize", "maximize"].includes(about.problem.objective.type);

const withUnit = (name, units) => (units[name] ? `${name} [${units[name]}]` : name);

// The trial of the front nearest to the best value of each criterion.
function compromise(found) {
  const row = rowWriter($("#best"));
  $("#best-title").textContent = "Compromise of the front";
  const place = found.numbers.indexOf(found.compromise);
  if (place < 0) return row("none", "");
  row("trial", found.compromise);
  found.labels.forEach((label, j) => row(withUnit(label, found.units), number(found.values[place][j])));
  for (const [name, value] of Object.entries(found.parameters ? found.parameters[place] : {})) {
    row(withUnit(name, found.units), plain(value));
  }
}

// The recommended trial of a noisy study, else the best one.
function bestTrial({ best, recommended, expected }, about) {
  const row = rowWriter($("#best"));
  const trial = recommended || best;
  $("#best-title").textContent = recommended ? "Recommended trial" : "Best trial";
  if (!trial) return row("none", "");
  const some = (pairs, most) => {
    for (const [name, value] of pairs.slice(0, most)) row(name, plain(value));
    if (pairs.length > most) row("…", `${pairs.length - most} more`);
  };
  if (expected) {
    row(`expected ${about.best_is}`, `${number(expected[1], 4)} (90 %: ${number(expected[0], 4)} to ${number(expected[2], 4)})`);
    row("best single value", `${number(about.best, 4)}, partly luck (trial ${best.number})`);
  }
  row("trial", trial.number);
  some(trial.outputs.map((value, j) => [about.problem.outputs[j], value]), 12);
  if (!isOutput(about)) row("loss", number(trial.loss));
  if (trial.parameters) some(Object.entries(trial.parameters), 100);
  else some(trial.point.map((value, j) => [`z${j}`, value]), 12);
}

function strategyFacts(about, latest) {
  const row = rowWriter($("#strategy"));
  row("strategy", about.strategy.name);
  const options = Object.entries(about.strategy.options || {}).filter(([, value]) => value !== null);
  if (options.length) row("options", options.map(([k, v]) => `${k}: ${JSON.stringify(v)}`).join(", "));
  row("seed", about.seed);
  if (latest && latest.query.meta.why) row("latest query", latest.query.meta.why);
  const prediction = latest && latest.query.meta.foretold;
  if (prediction) row("predicted for the latest trial", predictionText(prediction));
  row("time per ask", about.spent.asks ? `${number(about.spent.asking / about.spent.asks, 3)} s` : "–");
  for (const [state, count] of Object.entries(about.states)) row(`${state} trials`, count);
  if (about.why_not) row("read only", about.why_not);
}

const violates = (trial) => trial.state === "completed" && !trial.feasible;
const stateText = (trial) => {
  if (trial.outside) return "completed, outside of the search space";
  return violates(trial) ? "completed, violates a constraint" : trial.state;
};

// Loss: a column of its own unless it is plus or minus an output.
function table(rows, names, outputs, loss, target, append) {
  const body = $("tbody", target);
  const labels = ["Trial", "State", "Origin", ...outputs, ...(loss ? ["Loss"] : []), "Calls", ...names, "Reason"];
  const heads = make("tr");
  labels.forEach((label, i) => heads.append(make("th", label, i === 0 || (i > 2 && i < labels.length - 1) ? "n" : "")));
  $("thead", target).replaceChildren(heads);
  if (!append) body.replaceChildren();
  for (const trial of rows) {
    const row = make("tr");
    row.append(make("td", trial.number, "n"), make("td", stateText(trial), `s-${violates(trial) ? "infeasible" : trial.state}`), make("td", trial.origin));
    outputs.forEach((_, j) => row.append(make("td", trial.outputs ? number(trial.outputs[j]) : "", "n")));
    if (loss) row.append(make("td", number(trial.loss), "n"));
    row.append(make("td", trial.cost.values + trial.cost.gradients, "n"));
    names.forEach((name, j) => {
      const value = trial.parameters ? trial.parameters[name] : trial.point[j];
      row.append(make("td", value === undefined ? "" : plain(value), "n"));
    });
    row.append(make("td", trial.reason));
    body.append(row);
  }
}

function aimText(goal, outputs) {
  if (goal.type === "pareto") return goal.objectives.map((one) => aimText(one, outputs)).join(" and ");
  if (goal.type === "target") {
    const range = ([low, high]) => low === null ? `<= ${number(high)}` : high === null ? `>= ${number(low)}` : `${number(low)} to ${number(high)}`;
    const wanted = goal.value.map((value) => Array.isArray(value) ? range(value) : number(value));
    const avoided = Object.entries(goal.avoid || {}).map(([output, ends]) => `avoid ${output} ${range(ends)}`);
    return `target ${[...wanted, ...avoided].slice(0, 4).join(", ")}`;
  }
  if (goal.type === "nearest") return `least change, ${aimText(goal.target, outputs)}`;
  if (goal.type === "plausibility") return "maximize plausibility";
  return `${goal.type} ${goal.output || outputs[0]}`;
}

// Pareto front: one row per trial, with its criteria and parameters.
function frontTable(found, card) {
  card.hidden = !found.numbers.length;
  const names = [...new Set((found.parameters || []).flatMap(Object.keys))];
  const head = make("tr");
  head.append(
    make("th", "Trial", "n"),
    ...found.labels.map((label, j) => make("th", `${found.directions[j]} ${withUnit(label, found.units)}`, "n")),
    ...names.map((name) => make("th", withUnit(name, found.units), "n")),
  );
  $("thead", card).replaceChildren(head);
  $("tbody", card).replaceChildren(...found.numbers.map((trial, i) => {
    const row = make("tr");
    row.append(make("td", trial === found.compromise ? `${trial} (compromise)` : trial, "n"));
    row.append(...found.values[i].map((value) => make("td", number(value), "n")));
    row.append(...names.map((name) => make("td", plain(found.parameters[i][name] ?? "–"), "n")));
    return row;
  }));
  const reference = (found.reference || []).map((value, j) => `${withUnit(found.labels[j], found.units)} ${number(value)}`).join(", ");
  $(".note", card).textContent = `Hypervolume ${number(found.hypervolume)} up to the reference point (${reference}).${found.expected ? " Values are expected ones under a model of all data." : ""}`;
}

async function study(name, signal) {
  const path = `${api}/${encodeURIComponent(name)}`;
  let about = await get(path, signal);
  const data = new Columns(name);
  show("study");
  document.title = `${name} · bo_invert`;
  $("#trail").textContent = `› ${name}`;
  $("h1", main).textContent = name;
  const goal = about.problem.objective;
  const pareto = goal.type === "pareto";
  let found = null; // the Pareto front
  const aim = aimText(goal, about.problem.outputs);
  const bounds = about.problem.constraints.map((one) => `${one.output} ${one.sense} ${number(one.bound)}`).join(", ");
  const inputs = ((about.problem.space.domain || {}).constraints || []).map(constraintText).join(", ");
  const facts = [about.problem_name, aim, `created ${new Date(about.created).toLocaleString()}`, bounds, inputs];
  $("#curve-title").textContent = pareto ? "Hypervolume by calls" : `Best value by calls: ${about.best_is === "off by" ? "loss" : about.best_is}`;
  $(".about").textContent = facts.filter(Boolean).join(" · ");
  const ask = { get: (at) => get(at, signal), send, writes };
  targetQuestions($("#questions"), path, about, ask, (made) => (location.hash = `#/study/${encodeURIComponent(made)}`));
  const curve = $("#curve");
  const log = $("#logscale");
  const compare = $("#compare");
  let other = null;
  let nearest = () => null;
  let picked = null;
  let shownFrom = 0;
  let names = [];

  const describe = () => {
    const row = picked === null ? null : data.shown[picked];
    $(".tip").textContent = row
      ? `trial ${row.number} (${row.origin || "unknown"}): ${stateText(row)}, ${about.raised ? about.best_is : "loss"} ${number(row.loss === null ? null : quantity(row.loss, about.raised))}, after ${row.at} calls`
      : `blue line: best value; ${other ? "orange line: compared study; " : ""}grey: trials; orange: constraint violated; red: no value`;
  };
  for (const node of [curve, $(".tip"), log.closest(".tools")]) node.hidden = pareto;
  $("#volumes").hidden = !pareto;
  const redraw = () => {
    if (pareto) return;
    log.disabled = !drawn(data, other).every((loss) => quantity(loss, about.raised) > 0);
    log.title = log.disabled ? "A log scale needs values above 0." : "";
    if (log.disabled) log.checked = false;
    nearest = drawCurve(curve, data, other, log.checked, picked, about.raised);
    describe();
  };
  const pick = (i) => {
    picked = i;
    nearest = drawCurve(curve, data, other, log.checked, picked, about.raised);
    describe();
  };
  curve.addEventListener("mousemove", (event) => pick(nearest(event.offsetX, event.offsetY)));
  curve.addEventListener("keydown", (event) => {
    const move = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!move || !data.shown.length) return;
    event.preventDefault();
    const from = picked === null ? (move > 0 ? -1 : data.shown.length) : picked;
    pick(Math.max(0, Math.min(data.shown.length - 1, from + move)));
  });
  log.addEventListener("change", redraw);
  const resized = new ResizeObserver(redraw);
  resized.observe(curve);
  signal.addEventListener("abort", () => resized.disconnect());

  compare.addEventListener("change", async () => {
    other = null;
    compare.classList.toggle("other", compare.value !== "");
    if (compare.value) {
      other = new Columns(compare.value);
      await other.refresh(signal);
    }
    redraw();
  });

  const PAGE = 25;
  const state = $("#state");
  const more = $("#trials").parentElement.parentElement.querySelector(".more");
  // Newest first; trials of one state oldest first, as the server returns them.
  const page = async (append) => {
    let part;
    if (state.value) {
      part = await get(`${path}/trials?after=${append ? shownFrom : 0}&limit=${PAGE}&state=${state.value}`, signal);
      shownFrom = part.next;
      more.hidden = part.next === null;
    } else {
      const end = append ? shownFrom : about.trials;
      shownFrom = Math.max(0, end - PAGE);
      part = await get(`${path}/trials?after=${shownFrom}&limit=${Math.max(1, end - shownFrom)}`, signal);
      part.trials.reverse();
      more.hidden = shownFrom === 0;
    }
    if (!names.length && part.trials.length) {
      const trial = part.trials[0];
      const domain = about.problem.space.domain;
      // All parameters: those of one trial lack the ones that are inactive in it.
      names = domain && domain.parameters ? Object.keys(domain.parameters) : [];
      if (!names.length) names = trial.parameters ? Object.keys(trial.parameters) : trial.point.map((_, j) => `z${j}`);
      names = names.slice(0, 12);
    }
    const outputs = about.problem.outputs;
    table(part.trials, names, outputs.slice(0, 6), !isOutput(about) && !pareto, $("#trials"), append);
    return part.trials;
  };
  more.addEventListener("click", () => page(true));
  for (const one of ["completed", "failed", "infeasible", "running", "lost", "queued", "cancelled"]) {
    const option = make("option", one);
    option.value = one;
    state.append(option);
  }
  state.addEventListener("change", () => page(false));

  let forms = null;
  const plot = plots(path, about, signal);
  const refresh = async () => {
    if (forms) await forms.refresh();
    await data.refresh(signal);
    if (!pareto) bestTrial(await get(`${path}/best`, signal), about);
    tiles(about, found);
    redraw();
    plot(about.events);
    const latest = await page(false);
    strategyFacts(about, latest[0]);
    const running = (await get(`${path}/trials?state=running&limit=50`, signal)).trials;
    const body = $("tbody", $("#running"));
    body.replaceChildren();
    for (const trial of running) {
      const last = trial.attempts[trial.attempts.length - 1];
      const row = make("tr");
      row.append(make("td", trial.number, "n"), make("td", last.worker || "no worker"), make("td", trial.attempt, "n"));
      row.append(make("td", clock(last.started)), make("td", last.lease ? `${number(last.lease)} s` : "none"));
      body.append(row);
    }
    $("#running").hidden = !running.length;
    $("#running").parentElement.nextElementSibling.hidden = running.length > 0;
  };
  let volumes = new AbortController();
  const front = async () => {
    if (!pareto) return;
    found = await get(`${path}/front`, signal);
    frontTable(found, $("#front"));
    compromise(found);
    tiles(about, found);
    volumes.abort();
    volumes = new AbortController();
    signal.addEventListener("abort", () => volumes.abort(), { once: true });
    drawChart($("#volumes"), (await get(`${path}/plots/hypervolume_history`, signal)).chart, volumes.signal);
  };
  const gallery = async () => {
    const { pictures } = await get(`${path}/gallery`, signal);
    $("#gallery").hidden = !pictures.length;
    $(".pictures").replaceChildren(
      ...pictures.map((one) => {
        const figure = make("figure");
        const image = make("img");
        image.src = one.picture;
        image.alt = `design of trial ${one.number}`;
        const place = found ? found.numbers.indexOf(one.number) : -1;
        const values = place < 0 ? [quantity(one.loss, about.raised)] : found.values[place];
        figure.append(image, make("figcaption", `${values.map((value) => number(value, 4)).join(", ")} (trial ${one.number})`));
        return figure;
      }),
    );
  };
  if (writes && !about.why_not) {
    forms = new Forms($("#work"), path, about, send, async () => {
      about = await get(path, signal);
      await refresh();
    });
  }
  await refresh();
  front().catch(() => {}).then(gallery).catch(() => {});
  const goalOf = ({ problem }) => JSON.stringify([problem.outputs, problem.objective]);
  for (const one of (await get(`${api}?limit=200`, signal)).studies) {
    if (one.name === name || goalOf(one) !== goalOf(about)) continue;
    const option = make("option", one.name);
    option.value = one.name;
    compare.append(option);
  }
  follow(path, about.events, signal, async (news) => {
    about = news;
    await refresh();
    front().catch(() => {}).then(gallery).catch(() => {});
  });
}

// Server-sent events by fetch, because EventSource cannot send the token.
async function follow(path, after, signal, update) {
  let pause = 500;
  while (!signal.aborted) {
    try {
      const answer = await fetch(`${path}/live?after=${after}`, { headers: { Authorization: `Bearer ${token}` }, signal });
      if (!answer.ok) throw new Error(`status ${answer.status}`);
      live("on", "live");
      pause = 500;
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      let text = "";
      for (;;) {
        const { value, done } = await reader.read();
        if (done) break;
        text += value;
        const blocks = text.split("\n\n");
        text = blocks.pop();
        const news = blocks.map((block) => /^data: (.*)$/m.exec(block)).filter(Boolean);
        if (!news.length) continue;
        const about = JSON.parse(news[news.length - 1][1]);
        after = about.events;
        await update(about);
      }
    } catch (error) {
      if (signal.aborted) return;
      live("off", "not connected");
    }
    await new Promise((resolve) => setTimeout(resolve, pause));
    pause = Math.min(2 * pause, 10000);
  }
}

async function route() {
  if (stopping) stopping.abort();
  stopping = new AbortController();
  const { signal } = stopping;
  takeToken();
  if (!token) return askToken();
  const wanted = /^#\/study\/(.+)$/.exec(location.hash);
  try {
    if (wanted) await study(decodeURIComponent(wanted[1]), signal);
    else await list(signal);
  } catch (error) {
    if (signal.aborted) return;
    if (error instanceof Refused) {
      sessionStorage.removeItem("token");
      token = "";
      askToken(error.message);
      return;
    }
    live("off", "failed");
    main.replaceChildren(make("p", error.message, "card error"));
  }
  main.focus({ preventScroll: true });
}

window.addEventListener("hashchange", route);
route();
