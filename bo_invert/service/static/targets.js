// Questions about a target: whether it can be reached, tolerances of the best design, other targets.
// Text from studies is only ever set as textContent or as the value of an input.

import { $, make } from "/static/forms.js";

const number = (value) => (value === null ? "" : String(Number(value.toPrecision(5))));
const shown = (value) => (Array.isArray(value) ? value.map(number).join(" to ") : number(value));

// A number, or a range such as "1 to 2", "1 to" or "to 2".
function wanted(text, name) {
  const ends = text.split("to").map((one) => one.trim());
  const values = ends.map((one) => (one === "" ? null : Number(one)));
  if (ends.length > 2 || values.some(Number.isNaN) || values.every((one) => one === null)) {
    throw new Error(`${name} must be a number, or a range such as 1 to 2, 1 to, or to 2; got '${text}'`);
  }
  return values.length === 1 ? values[0] : values;
}

// Answer a question on request, because its models take seconds.
function onRequest(root, question) {
  const line = $("[role=status]", root);
  $("button", root).addEventListener("click", async () => {
    line.textContent = "estimating …";
    line.textContent = await question().catch((error) => error.message);
  });
}

function moves(found, table) {
  const range = ([low, high]) => `${number(low)} to ${number(high)}`;
  $("tbody", table).replaceChildren(...found.parameters.map((one) => {
    const row = make("tr");
    row.append(make("th", one.name), make("td", number(one.value), "n"), make("td", range(one.alone), "n"), make("td", range(one.box), "n"));
    return row;
  }));
  table.parentElement.hidden = !found.found;
  const percent = (share) => `${(100 * share).toFixed(1)} %`;
  const share = `${percent(found.expected)} of the box meet the target (${found.interval.map(percent).join(" to ")})`;
  return `Trial ${found.trial}: ${found.found ? `${share}. ${found.note}` : found.note}`;
}

// `ask.get(path)` and `ask.send(method, path, body)` return the parsed answer.
export function targetQuestions(root, path, about, ask, opened) {
  const goal = about.problem.objective;
  root.hidden = goal.type !== "target";
  if (root.hidden) return;
  onRequest($("#verdict", root), async () => (await ask.get(`${path}/verdict`)).text);
  onRequest($("#tolerances", root), async () => {
    const { best, recommended } = await ask.get(`${path}/best`);
    const trial = recommended || best;
    if (!trial) throw new Error("There is no observation yet.");
    return moves(await ask.get(`${path}/trials/${trial.number}/tolerances`), $("#moves", root));
  });
  const further = $("#retarget", root);
  further.hidden = !ask.writes;
  const form = $("form", further);
  const inputs = goal.outputs.map((name, j) => {
    const input = make("input");
    input.value = shown(goal.value[j]);
    input.required = true;
    const label = make("label", `${name || about.problem.outputs[j]} `);
    label.append(input);
    $(".fields", form).append(label);
    return input;
  });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const name = $("[name=name]", form).value.trim();
    try {
      const value = inputs.map((input, j) => wanted(input.value, goal.outputs[j]));
      await ask.send("POST", `${path}/retarget`, { name, objective: { ...goal, value } });
      opened(name);
    } catch (error) {
      $("[role=status]", further).textContent = error.message;
    }
  });
}
