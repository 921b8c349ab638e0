// Draws charts of the server (`report/charts/chart.py`) as SVG. Texts are only ever set as textContent.

const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 250; // of a panel, in pixels
const LETTER = 6.2; // mean width of a character at 11 px

const STYLES = {
  trial: ["#0072B2", "circle"], past: ["#7F7F7F", "square"], outside: ["#7F7F7F", "square", "open"],
  violated: ["#E69F00", "triangle", "open"], failed: ["#CC79A7", "cross"], pending: ["#56B4E9", "circle", "open"],
  best: ["#D55E00", "star"], "best line": ["#D55E00", "line"], model: ["#009E73", "line"], "model point": ["#009E73", "diamond"],
  exact: ["#7F7F7F", "line", "5 3"], target: ["#7F7F7F", "line", "2 3"], axis: ["#7F7F7F", "line"], guide: ["#7F7F7F", "line"],
  excluded: ["#9ca3af", "hatch", "open"], doubtful: ["#ffffff", "hatch"],
  bar: ["#0072B2", "square"], second: ["#56B4E9", "square"], running: ["#56B4E9", "square"], completed: ["#0072B2", "square"],
  failure: ["#CC79A7", "square"], violation: ["#E69F00", "square"], beyond: ["#009E73", "square"], lost: ["#7F7F7F", "square"], background: ["#7F7F7F", "dot"],
  front: ["#D55E00", "circle"], "front line": ["#D55E00", "line"], reference: ["#7F7F7F", "cross"],
  first: ["#D55E00", "star"], "solution 2": ["#0072B2", "circle"], "solution 3": ["#009E73", "square"],
  "solution 4": ["#E69F00", "diamond"], "solution 5": ["#CC79A7", "triangle"],
  "branch 1": ["#0072B2", "circle"], "branch 2": ["#E69F00", "square"], "branch 3": ["#009E73", "diamond"],
  "branch 4": ["#CC79A7", "triangle"], "branch 5": ["#56B4E9", "circle"], "other branches": ["#7F7F7F", "circle"],
  verified: ["#D55E00", "star"],
};

const style = (role) => STYLES[role] || STYLES.trial;

function element(tag, attributes, parent, text) {
  const node = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes || {})) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  if (parent) parent.append(node);
  return node;
}

function html(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

function short(text, longest) {
  const line = String(text);
  if (line.length <= longest) return line;
  const head = Math.floor((longest - 1) / 2);
  return `${line.slice(0, head)}…${line.slice(line.length - (longest - 1 - head))}`;
}

function digits(value) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size < 1e-3 || size >= 1e6) return value.toExponential(2).replace(/\.?0+e/, "e");
  return String(Number(value.toPrecision(4)));
}

// A position from a quantity of an axis, and its ticks.
function scaled(axis, values, from, to) {
  const known = values.filter((v) => v !== null && Number.isFinite(v) && (!axis.log || v > 0));
  let [low, high] = axis.bounds || [Math.min(...known), Math.max(...known)];
  if (!known.length && !axis.bounds) [low, high] = axis.log ? [0.1, 10] : [0, 1];
  const f = axis.log ? Math.log10 : (v) => v;
  let [a, b] = [f(low), f(high)];
  if (a === b) [a, b] = [a - 1, b + 1];
  if (!axis.bounds) {
    const pad = 0.05 * (b - a);
    [a, b] = [a - pad, b + pad];
  }
  const at = (v) => from + ((f(v) - a) / (b - a)) * (to - from);
  let ticks = axis.ticks;
  if (ticks === null) {
    ticks = [];
    const [first, last] = [Math.min(a, b), Math.max(a, b)];
    if (axis.log && last - first >= 1) {
      const step = Math.ceil((last - first) / 5);
      for (let k = Math.ceil(first); k <= last; k += step) ticks.push([10 ** k, digits(10 ** k)]);
    } else {
      const rough = (last - first) / Math.max(2, Math.abs(to - from) / 70);
      const power = 10 ** Math.floor(Math.log10(rough));
      const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough);
      for (let v = Math.ceil(first / step) * step; v <= last + 1e-9 * step; v += step) {
        ticks.push([axis.log ? 10 ** v : v, digits(axis.log ? 10 ** v : Number(v.toPrecision(12)))]);
      }
    }
  }
  return { at, ticks };
}

function colourAt(scale, share) {
  const position = share * (scale.colours.length - 1);
  const lower = Math.min(Math.floor(position), scale.colours.length - 2);
  const parts = [0, 1].map((k) => [1, 3, 5].map((i) => parseInt(scale.colours[lower + k].slice(i, i + 2), 16)));
  const mixed = parts[0].map((one, i) => Math.round(one + (position - lower) * (parts[1][i] - one)));
  return `rgb(${mixed.join(",")})`;
}

function shareOf(scale, value) {
  const width = scale.last - scale.first;
  return width ? Math.min(1, Math.max(0, (value - scale.first) / width)) : 0.5;
}

function marker(parent, symbol, x, y, size, attributes) {
  const r = size / 2;
  if (symbol === "circle" || symbol === "dot") return element("circle", { cx: x, cy: y, r, ...attributes }, parent);
  const star = Array.from({ length: 10 }, (_, i) => {
    const reach = i % 2 ? 0.45 * r : 1.25 * r;
    return [x + reach * Math.sin((i * Math.PI) / 5), y - reach * Math.cos((i * Math.PI) / 5)];
  });
  const shapes = {
    square: [[x - r, y - r], [x + r, y - r], [x + r, y + r], [x - r, y + r]],
    diamond: [[x, y - r], [x + r, y], [x, y + r], [x - r, y]],
    triangle: [[x, y - r], [x + r, y + r], [x - r, y + r]],
    star,
  };
  if (symbol === "cross") {
    const d = `M${x - r} ${y - r}L${x + r} ${y + r}M${x + r} ${y - r}L${x - r} ${y + r}`;
    return element("path", { d, ...attributes, fill: "none" }, parent);
  }
  return element("polygon", { points: (shapes[symbol] || shapes.square).map((p) => p.join()).join(" "), ...attributes }, parent);
}

const finite = (...values) => values.every((v) => v !== null && v !== undefined && Number.isFinite(v));

// One path of x and y with gaps; a step line keeps its value until the next point.
function track(X, Y, xs, ys, step) {
  let d = "";
  let last = null;
  xs.forEach((x, i) => {
    if (!finite(x, ys[i])) return (last = null);
    const [px, py] = [X(x), Y(ys[i])];
    if (last === null) d += `M${px} ${py}`;
    else d += step ? `H${px}V${py}` : `L${px} ${py}`;
    last = py;
  });
  return d;
}

const DRAW = {
  points(layer, group, X, Y, scale) {
    const [colour, symbol, open] = style(layer.role);
    layer.x.forEach((x, i) => {
      if (!finite(x, layer.y[i])) return;
      const [px, py] = [X(x), Y(layer.y[i])];
      if (layer.low && finite(layer.low[i], layer.high[i])) {
        element("line", { x1: px, x2: px, y1: Y(layer.low[i]), y2: Y(layer.high[i]), stroke: colour, "stroke-opacity": 0.45 }, group);
      }
      const fill = layer.values ? colourAt(scale, shareOf(scale, layer.values[i])) : colour;
      const hollow = open || symbol === "cross";
      const size = { star: 13, dot: 3, front: 9 }[symbol] || 7;
      const node = marker(group, symbol, px, py, size, {
        fill: open ? "none" : fill, stroke: hollow ? colour : "var(--card)", "stroke-width": hollow ? 1.6 : 0.7,
        opacity: symbol === "dot" ? 0.35 : 0.9,
      });
      if (layer.texts[i]) element("title", {}, node, layer.texts[i]);
    });
  },
  line(layer, group, X, Y) {
    const [colour, , dash] = style(layer.role);
    const d = track(X, Y, layer.x, layer.y, layer.step);
    element("path", { d, fill: "none", stroke: colour, "stroke-width": { axis: 1, guide: 0.5 }[layer.role] || 2, "stroke-dasharray": dash || "none" }, group);
  },
  band(layer, group, X, Y) {
    const rows = layer.x.map((x, i) => [x, layer.low[i], layer.high[i]]).filter((row) => finite(...row));
    const ends = [...rows.map(([x, , high]) => [X(x), Y(high)]), ...rows.reverse().map(([x, low]) => [X(x), Y(low)])];
    element("polygon", { points: ends.map((p) => p.join()).join(" "), fill: style(layer.role)[0], "fill-opacity": 0.18 }, group);
  },
  bars(layer, group, X, Y) {
    layer.y.forEach((y, i) => {
      const [a, b] = [X(layer.start[i]), X(layer.end[i])];
      const height = Math.max(2, Math.abs(Y(layer.height) - Y(0)));
      const node = element("rect", { x: a, y: Y(y) - height / 2, width: Math.max(1, b - a), height, fill: style(layer.role)[0] }, group);
      if (layer.texts[i]) element("title", {}, node, layer.texts[i]);
      if (!layer.low) return;
      element("line", { x1: X(layer.low[i]), x2: X(layer.high[i]), y1: Y(y), y2: Y(y), stroke: "var(--soft)", "stroke-width": 1.3 }, group);
    });
  },
  heat(layer, group, X, Y, scale) {
    const edges = (at) => at.map((p, i) => [i ? (p + at[i - 1]) / 2 : p, i < at.length - 1 ? (p + at[i + 1]) / 2 : p]);
    const [columns, rows] = [edges(layer.x.map(X)), edges(layer.y.map(Y))];
    layer.z.forEach((row, j) => row.forEach((z, i) => {
      if (z === null) return;
      const [[x0, x1], [y0, y1]] = [columns[i], rows[j]];
      element("rect", {
        x: Math.min(x0, x1), y: Math.min(y0, y1), width: Math.abs(x1 - x0) + 0.5, height: Math.abs(y1 - y0) + 0.5,
        fill: colourAt(scale, shareOf(scale, z)), "shape-rendering": "crispEdges",
      }, group);
    }));
  },
  hatch(layer, group, X, Y) {
    let d = "";
    for (let j = 0; j + 1 < layer.y.length; j++) {
      for (let i = 0; i + 1 < layer.x.length; i++) {
        const whole = layer.excluded[j][i] && layer.excluded[j + 1][i + 1] && layer.excluded[j][i + 1] && layer.excluded[j + 1][i];
        if (whole && (i - j) % 2 === 0) d += `M${X(layer.x[i])} ${Y(layer.y[j])}L${X(layer.x[i + 1])} ${Y(layer.y[j + 1])}`;
      }
    }
    element("path", { d, stroke: style(layer.role)[0], "stroke-opacity": 0.9, fill: "none" }, group);
  },
  paths(layer, group, X, Y, scale) {
    layer.y.forEach((ys, i) => {
      const share = shareOf(scale, layer.values[i]);
      const node = element("path", {
        d: track(X, Y, layer.x, ys), fill: "none", stroke: colourAt(scale, share), "stroke-width": 1 + 1.2 * share,
        "stroke-opacity": 0.25 + 0.7 * share * share,
      }, group);
      if (layer.texts[i]) element("title", {}, node, layer.texts[i]);
    });
  },
  labels(layer, group, X, Y) {
    const anchors = { left: "start", centre: "middle", right: "end" };
    layer.texts.forEach((text, i) => {
      element("text", {
        x: X(layer.x[i]), y: Y(layer.y[i]), "text-anchor": anchors[layer.anchor], class: "halo",
        "dominant-baseline": { above: "auto", middle: "central", below: "hanging" }[layer.side],
      }, group, text);
    });
  },
};

function positions(layer, axis) {
  if (layer.type === "paths") return axis === "x" ? layer.x : layer.y.flat();
  if (layer.type === "bars") return axis === "x" ? [...layer.start, ...layer.end, ...(layer.high || [])] : layer.y;
  if (axis === "x") return layer.x;
  return [...(layer.y || []), ...(layer.low || []), ...(layer.high || [])];
}

function drawPanel(box, panel, scale) {
  if (panel.picture) {
    const image = html("img", "design");
    image.src = panel.picture;
    image.alt = panel.title;
    box.replaceChildren(image, html("p", "note", panel.title));
    return;
  }
  const width = Math.max(220, box.clientWidth);
  const height = panel.height ? Math.min(panel.height, 420) : HEIGHT;
  const svg = element("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": panel.title || panel.y.label });
  const all = (axis) => panel.layers.flatMap((layer) => positions(layer, axis));
  const levels = panel.y.ticks || [];
  const names = Math.min(0.34 * width, LETTER * Math.max(0, ...levels.map(([, text]) => Math.min(text.length, 22))) + 8);
  const columns = panel.x.ticks || [];
  const crowded = columns.length && columns.reduce((sum, [, text]) => sum + LETTER * Math.min(text.length, 18) + 8, 0) > 0.85 * width;
  const turned = crowded ? 58 : 0;
  const left = panel.bare ? 14 : (levels.length ? names : 46) + (panel.y.label ? 16 : 0);
  const top = (panel.title ? 20 : 6) + (panel.x.top ? 18 + turned : 0);
  const bottom = height - (panel.x.label ? 20 : 4) - (panel.x.top ? 6 : 18 + turned);
  let [right, lowest] = [width - (panel.x.top && turned ? 40 : 10), bottom];
  if (panel.equal) {
    const [w, h] = [panel.x.bounds, panel.y.bounds].map(([a, b]) => b - a);
    const unit = Math.min((right - left) / w, (bottom - top) / h);
    [right, lowest] = [left + unit * w, top + unit * h];
  }
  const X = scaled(panel.x, all("x"), left, right);
  const Y = scaled(panel.y, all("y"), lowest, top);
  const frame = element("g", {}, svg);
  if (panel.title) element("text", { x: left, y: 12, class: "title" }, svg, short(panel.title, Math.floor(width / LETTER) - 8));
  for (const [value, text] of X.ticks) {
    const x = X.at(value);
    if (x < left - 1 || x > width) continue;
    if (!panel.bare) element("line", { x1: x, x2: x, y1: top, y2: bottom, class: "rule" }, frame);
    const y = panel.x.top ? top - 8 : bottom + 14;
    const place = turned ? { transform: `translate(${x} ${y}) rotate(-35)`, "text-anchor": panel.x.top ? "start" : "end" } : { x, y, "text-anchor": "middle" };
    element("text", place, frame, short(text, 18));
  }
  if (!panel.bare) {
    for (const [value, text] of Y.ticks) {
      const y = Y.at(value);
      if (y < top - 1 || y > bottom + 1) continue;
      element("line", { x1: left, x2: width - 10, y1: y, y2: y, class: "rule" }, frame);
      element("text", { x: left - 6, y, "text-anchor": "end", "dominant-baseline": "central" }, frame, short(text, 22));
    }
  }
  if (panel.x.label) element("text", { x: (left + width) / 2, y: height - 6, "text-anchor": "middle" }, frame, short(panel.x.label, Math.floor(width / LETTER) - 10));
  if (panel.y.label) element("text", { transform: `translate(11 ${(top + bottom) / 2}) rotate(-90)`, "text-anchor": "middle" }, frame, short(panel.y.label, 34));
  if (panel.message) {
    const words = element("foreignObject", { x: left, y: top, width: width - 10 - left, height: bottom - top }, svg);
    words.append(html("p", "empty", panel.message));
  }
  for (const layer of panel.layers) DRAW[layer.type](layer, element("g", {}, svg), X.at, Y.at, scale);
  box.replaceChildren(svg);
}

function glyph(role) {
  const [colour, symbol, open] = style(role);
  const svg = element("svg", { width: 16, height: 14, "aria-hidden": "true" });
  if (symbol === "line") element("path", { d: "M0 7H16", stroke: colour, "stroke-width": 2.4, "stroke-dasharray": open || "none" }, svg);
  else if (symbol === "hatch") {
    element("rect", { x: 1, y: 1, width: 14, height: 12, fill: open ? "none" : "#8a8779" }, svg);
    element("path", { d: "M2 13L8 1M8 13L14 1", stroke: colour }, svg);
  } else marker(svg, symbol, 8, 7, symbol === "star" ? 10 : 8, { fill: open ? "none" : colour, stroke: colour, "stroke-width": 1.6 });
  return svg;
}

// Fills a node with a chart; it follows the width of the node until `signal` aborts.
export function drawChart(node, chart, signal) {
  const legend = html("p", "legend");
  for (const [name, role] of Object.entries(chart.legend)) {
    const entry = html("span", "");
    entry.append(glyph(role), ` ${name}`);
    legend.append(entry);
  }
  if (chart.scale) {
    const [low, high] = [chart.scale.first, chart.scale.last].sort((a, b) => a - b);
    const colours = chart.scale.first <= chart.scale.last ? chart.scale.colours : [...chart.scale.colours].reverse();
    const bar = element("svg", { width: 90, height: 12, "aria-hidden": "true" });
    colours.forEach((colour, i) => element("rect", { x: (90 * i) / colours.length, width: 90 / colours.length + 0.5, height: 12, fill: colour }, bar));
    const entry = html("span", "");
    entry.append(`${chart.scale.name}: ${digits(low)} `, bar, ` ${digits(high)}`);
    legend.append(entry);
  }
  const grid = html("div", chart.corner > 1 ? "panels corner" : "panels");
  grid.style.setProperty("--side", chart.corner);
  const cells = Array.from({ length: chart.corner }, (_, row) => Array.from({ length: row + 1 }, (__, column) => [row + 1, column + 1])).flat();
  const boxes = chart.panels.map((panel, i) => {
    const box = html("div", panel.wide || chart.panels.length === 1 ? "panel wide" : "panel");
    (cells[i] || []).forEach((cell, k) => box.style.setProperty(k ? "--column" : "--row", cell));
    grid.append(box);
    return box;
  });
  node.replaceChildren(legend, grid, ...chart.notes.map((note) => html("p", "note", note)));
  const draw = () => boxes.forEach((box, i) => drawPanel(box, chart.panels[i], chart.scale));
  draw();
  let width = node.clientWidth;
  const resized = new ResizeObserver(() => {
    if (node.clientWidth === width) return;
    width = node.clientWidth;
    draw();
  });
  resized.observe(node);
  signal.addEventListener("abort", () => resized.disconnect());
}
