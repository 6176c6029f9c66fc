"use strict";
(() => {
  const data = JSON.parse(document.getElementById("answers").textContent);
  const at = id => document.getElementById(id);
  const text = i => (i < 0 ? null : data.texts[i]);
  const [ANSWER, RIGHT, WHY, WROTE, READ, READ_RIGHT, CHAT, LAST, SHOTS, LEFT_OUT] = Array(10).keys();
  const PAGE = 20;
  let shown = PAGE;

  // Every text from the run goes in through textContent, never as HTML.
  const make = (tag, className, content, ...children) => {
    const node = document.createElement(tag);
    if (className) node.className = className;
    if (content !== null && content !== undefined) node.textContent = content;
    node.append(...children);
    return node;
  };

  const arms = [...new Set(data.cells.map(cell => cell.arm))];
  const budgets = [...new Set(data.cells.map(cell => cell.labels))].sort((a, b) => a - b);
  const cellOf = (arm, labels) =>
    data.cells.find(cell => cell.arm === arm && cell.labels === labels) ||
    data.cells.find(cell => cell.arm === arm && cell.labels === 0);
  const named = cell => `${cell.arm}, ${cell.labels === 1 ? "1 label" : `${cell.labels || "no"} labels`}`;

  const filters = {
    disagree: (a, b) => a[RIGHT] !== b[RIGHT],
    "a-right": (a, b) => a[RIGHT] && !b[RIGHT],
    "b-right": (a, b) => !a[RIGHT] && b[RIGHT],
    wrong: (a, b) => !a[RIGHT] && !b[RIGHT],
    all: () => true,
  };

  function turn([role, content]) {
    return make("div", `turn ${role}`, null, make("b", "", role), make("div", "", text(content)));
  }

  function prompt(row) {
    if (row[LAST] < 0) return make("p", "small", "No prompt: this arm reads the text only.");
    const turns = data.chats[row[CHAT]].map(i => data.turns[i]);
    const box = make("details", "", null, make("summary", "", "The prompt"));
    // Filled when it is opened: a few hundred demonstrations an item would make the page slow.
    box.addEventListener("toggle", () => {
      if (box.children.length > 1) return;
      const first = turns.findIndex(([role]) => role !== "system");
      const lead = first < 0 ? turns : turns.slice(0, first);
      const demos = first < 0 ? [] : turns.slice(first);
      box.append(...lead.map(turn));
      if (demos.length) {
        const count = row[SHOTS] || demos.filter(([role]) => role === "user").length;
        const left = row[LEFT_OUT] ? `, ${row[LEFT_OUT]} more did not fit` : "";
        const label = `${count} ${count === 1 ? "demonstration" : "demonstrations"}${left}`;
        const fold = make("details", "", null, make("summary", "", label), ...demos.map(turn));
        box.append(fold);
      }
      box.append(turn(data.turns[row[LAST]]));
    });
    return box;
  }

  function side(cell, row) {
    const said = text(row[ANSWER]);
    const verdict = make("p", `verdict ${row[RIGHT] ? "right" : "wrong"}`);
    verdict.textContent = `${said === null ? "no answer" : said} (${row[RIGHT] ? "right" : "wrong"})`;
    const box = make("div", "side", null, make("h4", "", named(cell)), verdict);
    if (row[WHY] >= 0) box.append(make("p", "small", text(row[WHY])));
    if (row[WROTE] >= 0) {
      const read = row[READ] < 0 ? "unreadable" : `read as ${text(row[READ])}, ${row[READ_RIGHT] ? "right" : "wrong"}`;
      box.append(make("p", "small", `Wrote freely: “${text(row[WROTE])}” (${read})`));
    }
    box.append(prompt(row));
    return box;
  }

  function card([id, target, group, asked], a, b, rows) {
    const head = make("header", "", null, "Label ", make("b", "", text(target)), ` · item ${id}`);
    if (group !== null) head.append(` · group ${group}`);
    const sides = make("div", "sides", null, side(a, rows[0]), side(b, rows[1]));
    const body = asked < 0 ? "The run keeps no text of this item." : text(asked);
    return make("article", "item", null, head, make("p", "", body), sides);
  }

  function draw() {
    const labels = Number(at("pick-labels").value);
    const a = cellOf(at("pick-a").value, labels);
    const b = cellOf(at("pick-b").value, labels);
    const list = at("items");
    if (!a || !b) {
      const lacks = (a ? at("pick-b") : at("pick-a")).value;
      list.replaceChildren(make("p", "", `${lacks} was not run with ${labels} labels. Choose another number.`));
      at("found").textContent = "";
      at("more").hidden = true;
      return;
    }
    const keep = filters[at("pick-filter").value];
    const words = at("pick-words").value.trim().toLowerCase();
    const hits = data.items.flatMap((item, i) => {
      const rows = [a.rows[i], b.rows[i]];
      const said = rows.flatMap(row => [text(row[ANSWER]), text(row[WROTE])]);
      const hay = [item[0], text(item[1]), item[2], text(item[3]), ...said].join("\n").toLowerCase();
      return keep(...rows) && hay.includes(words) ? [[item, rows]] : [];
    });
    at("found").textContent = `${hits.length} of ${data.items.length} items, answered on seed ${a.seed}`;
    list.replaceChildren(...hits.slice(0, shown).map(([item, rows]) => card(item, a, b, rows)));
    at("more").hidden = hits.length <= shown;
  }

  const fill = (id, values, chosen) => {
    at(id).append(...values.map(([value, label]) => {
      const option = make("option", "", label);
      option.value = value;
      return option;
    }));
    at(id).value = chosen;
  };
  const start = JSON.parse(at("answers").dataset.start);
  fill("pick-a", arms.map(arm => [arm, arm]), start.a);
  fill("pick-b", arms.map(arm => [arm, arm]), start.b);
  fill("pick-labels", budgets.map(k => [String(k), String(k)]), String(start.labels));
  for (const id of ["pick-a", "pick-b", "pick-labels", "pick-filter", "pick-words"]) {
    at(id).addEventListener("input", () => { shown = PAGE; draw(); });
  }
  at("more").addEventListener("click", () => { shown += PAGE; draw(); });
  at("chooser").hidden = false;
  draw();
})();
