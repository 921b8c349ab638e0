// Forms of a study: suggestions, results, corrections, observations and CSV files.
// Text from studies is only ever set as textContent or as the value of an input.

export const $ = (selector, root) => root.querySelector(selector);

export function make(tag, text, className) {
  const node = document.createElement(tag);
  if (text !== undefined && text !== null) node.textContent = text;
  if (className) node.className = className;
  return node;
}

// Text of a CSV file in UTF-8, UTF-16 or Windows-1252, as spreadsheets write it.
async function fileText(file) {
  const bytes = new Uint8Array(await file.arrayBuffer());
  if (bytes[0] === 0xff && bytes[1] === 0xfe) return new TextDecoder("utf-16le").decode(bytes);
  if (bytes[0] === 0xfe && bytes[1] === 0xff) return new TextDecoder("utf-16be").decode(bytes);
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    return new TextDecoder("windows-1252").decode(bytes);
  }
}

// Further measured values, written as "colour=brown; ph=7.1".
function extraValues(text) {
  const found = {};
  for (const part of text.split(";").filter((one) => one.trim())) {
    const at = part.indexOf("=");
    if (at < 1) throw new Error(`further values must be name=value, got '${part.trim()}'`);
    found[part.slice(0, at).trim()] = part.slice(at + 1).trim();
  }
  return found;
}

// Form of a new study: its problem is a JSON file, as in POST /v1/studies.
export function creation(root, send, opened) {
  const form = $("form", root);
  const note = $(".note", root);
  root.hidden = false;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const value = (name) => $(`[name=${name}]`, form).value.trim();
    try {
      const file = $("[name=file]", form).files[0];
      const problem = JSON.parse(await fileText(file));
      const problem_name = file.name.replace(/\.json$/i, "");
      const body = { name: value("name"), problem, problem_name, strategy: { name: value("strategy") }, seed: Number(value("seed")) };
      await send("POST", "/v1/studies", body);
      opened(body.name);
    } catch (error) {
      note.textContent = error.message;
      note.classList.add("error");
    }
  });
}

// Text of an input constraint, from its JSON form.
export function constraintText(one) {
  if (one.type === "count") {
    const number = one.least === one.most ? `exactly ${one.most}` : one.least ? `${one.least} to ${one.most}` : `at most ${one.most}`;
    return `${number} of ${one.of.join(", ")} non-zero`;
  }
  if (one.type !== "linear") return one.name;
  const terms = Object.entries(one.coefficients).map(([name, c]) => `${c < 0 ? "- " : "+ "}${Math.abs(c) === 1 ? "" : `${Math.abs(c)} `}${name}`);
  const left = terms.join(" ").replace(/^\+ /, "");
  if (one.lower === one.upper) return `${left} = ${one.upper}`;
  if (one.lower === null) return `${left} ≤ ${one.upper}`;
  return one.upper === null ? `${left} ≥ ${one.lower}` : `${one.lower} ≤ ${left} ≤ ${one.upper}`;
}

// Allowed values of a parameter, and the conditions under which it exists.
function hint(about) {
  const parts = about.low === undefined ? [] : [`${about.low} to ${about.high}`];
  if (about.step) parts.push(`step ${about.step}`);
  else if (about.digits !== undefined && about.digits !== null) parts.push(`${about.digits} decimals`);
  for (const one of about.when || []) parts.push(`if ${one.parameter} = ${one.values.join(" or ")}`);
  return parts.join(", ");
}

export class Forms {
  // `send(method, path, body)` returns the parsed answer; `changed()` refreshes the page.
  constructor(root, path, about, send, changed) {
    this.root = root;
    this.path = path;
    this.send = send;
    this.changed = changed;
    this.outputs = about.problem.outputs;
    const domain = about.problem.space.domain;
    this.parameters = Object.entries((domain && domain.parameters) || {});
    root.hidden = false;
    this.build(about);
  }

  build(about) {
    const ask = $("#ask-form", this.root);
    ask.hidden = !about.asks_here;
    this.handle(ask, async () => {
      const count = Number($("[name=count]", ask).value);
      const fixed = this.values(ask, "fixed");
      const body = Object.keys(fixed).length ? { count, fixed } : { count };
      const answer = await this.send("POST", `${this.path}/ask`, body);
      if (!answer.trials.length) return `No trial: ${answer.why}.`;
      const fewer = answer.trials.length < count ? ` There are no further proposals now.` : "";
      return `Suggested: trials ${answer.trials.map((trial) => trial.number).join(", ")}.${fewer}`;
    });
    this.fields($(".fields", ask), this.parameters.filter(([, one]) => one.type !== "fixed"), "fixed");
    const constraints = (about.problem.space.domain && about.problem.space.domain.constraints) || [];
    if (constraints.length) ask.append(make("p", `All suggestions satisfy ${constraints.map(constraintText).join("; ")}.`, "hint"));
    const amend = $("#amend-form", this.root);
    this.fields($(".fields", amend), [...this.parameters, ...this.outputs.map((one) => [one, {}])], "");
    this.handle(amend, async () => {
      const number = $("[name=trial]", amend).value;
      const given = this.values(amend, "");
      const body = { reason: $("[name=reason]", amend).value, outside: $("[name=outside]", amend).checked };
      for (const [part, names] of [["outputs", this.outputs], ["parameters", this.parameters.map(([name]) => name)]]) {
        const found = names.filter((name) => name in given);
        if (found.length) body[part] = Object.fromEntries(found.map((name) => [name, this.typed(name, given[name])]));
      }
      const extra = extraValues($("[name=extra]", amend).value);
      if (Object.keys(extra).length) body.extra = extra;
      const failed = $("[name=failed]", amend).value.trim();
      if (failed) body.failed = failed;
      await this.send("POST", `${this.path}/trials/${number}/amend`, body);
      amend.reset();
      return `Trial ${number} is amended.`;
    });
    const add = $("#add-form", this.root);
    add.hidden = !this.parameters.length;
    this.fields($(".fields", add), [...this.parameters, ...this.outputs.map((one) => [one, {}])], "");
    this.handle(add, async () => {
      const row = { ...this.values(add, ""), ...extraValues($("[name=extra]", add).value) };
      const outside = $("[name=outside]", add).checked ? "model" : "error";
      const text = this.result(await this.send("POST", `${this.path}/table`, { rows: [row], outside }));
      add.reset();
      return text;
    });
    const upload = $("#upload-form", this.root);
    this.handle(upload, async () => {
      const csv = await fileText($("[name=file]", upload).files[0]);
      const kind = $("[name=kind]", upload).value;
      const outside = $("[name=outside]", upload).checked ? "model" : "error";
      const body = { csv, outside };
      const decimal = $("[name=decimal]", upload).value;
      if (decimal) body.decimal = decimal;
      if (kind === "table") body.blank = $("[name=blank]", upload).value;
      const answer = await this.send("POST", `${this.path}/${kind}`, body);
      upload.reset();
      return this.result(answer, true);
    });
    $("#download", this.root).addEventListener("click", async () => {
      const text = await this.send("GET", `${this.path}/pending?format=csv&limit=1000`);
      const link = make("a");
      link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
      link.download = "pending.csv";
      link.click();
      URL.revokeObjectURL(link.href);
    });
  }

  // Inputs of named values; choices are lists. Hints name ranges, steps and conditions.
  fields(target, named, kind) {
    for (const [name, about] of named) {
      const label = make("label", name);
      label.append(this.input(name, about, kind));
      target.append(label);
    }
  }

  input(name, about, kind) {
    const input = make(about.values ? "select" : "input");
    if (about.values) for (const value of ["", ...about.values]) input.append(make("option", String(value)));
    input.dataset.name = name;
    input.dataset.kind = kind;
    input.title = input.placeholder = hint(about);
    return input;
  }

  values(form, kind) {
    const found = {};
    for (const input of form.querySelectorAll("[data-name]")) {
      if (input.dataset.kind === kind && input.value.trim()) found[input.dataset.name] = input.value.trim();
    }
    return kind === "fixed" ? Object.fromEntries(Object.entries(found).map(([k, v]) => [k, this.typed(k, v)])) : found;
  }

  // Value of a parameter or output in text; numbers may have a decimal comma.
  typed(name, text) {
    const about = Object.fromEntries(this.parameters)[name] || {};
    if (about.values) return about.values.find((value) => String(value) === text) ?? text;
    const value = Number(text.replace(",", "."));
    if (Number.isNaN(value)) throw new Error(`${name}: '${text}' is not a number`);
    return value;
  }

  result(answer, whole) {
    if (!whole && answer.rejected.length) throw new Error(answer.rejected[0].reason);
    if (!whole && answer.repeated.length) return `Recorded before, as trial ${answer.repeated[0].trial}.`;
    return answer.summary;
  }

  handle(form, act) {
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      const button = $("button", form);
      button.disabled = true;
      try {
        this.say(await act(), false);
        await this.changed();
      } catch (error) {
        this.say(error.message, true);
      }
      button.disabled = false;
    });
  }

  say(text, failed) {
    const note = $(".note", this.root);
    note.textContent = text;
    note.classList.toggle("error", failed);
  }

  // Updates the open trials; rows that the user is completing stay.
  async refresh() {
    const { pending } = await this.send("GET", `${this.path}/pending`);
    const body = $("tbody", this.root);
    const rows = new Map([...body.children].map((row) => [row.dataset.trial, row]));
    const open = new Set(pending.map((one) => String(one.trial)));
    for (const [trial, row] of rows) if (!open.has(trial)) row.remove();
    if (pending.length) {
      const heads = make("tr");
      for (const name of [...Object.keys(pending[0]), "further values", ""]) heads.append(make("th", name));
      $("thead", this.root).replaceChildren(heads);
    }
    for (const one of pending) if (!rows.has(String(one.trial))) body.append(this.row(one));
    $(".scroll", this.root).hidden = !pending.length;
    $(".empty", this.root).hidden = pending.length > 0;
  }

  row(one) {
    const row = make("tr");
    row.dataset.trial = one.trial;
    const about = Object.fromEntries(this.parameters);
    for (const [name, value] of Object.entries(one)) {
      const cell = make("td", name === "trial" ? value : null);
      if (name !== "trial") {
        const input = this.input(name, about[name] || {}, "");
        input.value = value ?? "";
        input.setAttribute("aria-label", `${name} of trial ${one.trial}`);
        cell.append(input);
      }
      row.append(cell);
    }
    const extra = make("input");
    extra.placeholder = "colour=brown; ph=7";
    extra.setAttribute("aria-label", `further values of trial ${one.trial}`);
    const button = make("button", "Record");
    const cells = [make("td"), make("td")];
    cells[0].append(extra);
    cells[1].append(button);
    row.append(...cells);
    button.addEventListener("click", async () => {
      button.disabled = true;
      try {
        const cells = { trial: one.trial, ...this.values(row, ""), ...extraValues(extra.value) };
        const outside = $("#outside-results", this.root).checked ? "model" : "error";
        this.say(this.result(await this.send("POST", `${this.path}/results`, { rows: [cells], outside })), false);
        await this.changed();
      } catch (error) {
        this.say(error.message, true);
      }
      button.disabled = false;
    });
    return row;
  }
}
