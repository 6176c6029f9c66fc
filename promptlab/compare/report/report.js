"use strict";
(() => {
  const data = JSON.parse(document.getElementById("answers").textContent);
  const at = id => document.getElementById(id);
  const text = i => (i < 0 ? null : data.texts[i]);
  const [ANSWER, RIGHT, WHY, WROTE, READ, READ_RIGHT, CHAT, LAST, SHOTS, LEFT_OUT] = Array(10).keys();
  const PAGE = 20, KEPT = 30;
  let shown = PAGE, turnOf = 0;

  // Every text from the run goes in through textContent, never as HTML.
  const make = (tag, className, content, ...children) => {
    const node = document.createElement(tag);
    if (className) node.className = className;
    if (content !== null && content !== undefined) node.textContent = content;
    node.append(...children);
    return node;
  };

  // ---- Where answers come from. Some items are in the page with their prompts and first seed: the sample. All rows are
  // there packed, where the browser can unpack them: who was right in bits, the rest in chunks opened when looked at.

  const all = typeof DecompressionStream === "function" ? data.all : undefined;
  const cells = all ? all.cells : data.cells;
  const count = all ? all.n : data.items.length;
  const inSample = new Map(data.places.map((place, i) => [place, i]));

  async function unpacked(packed) {
    const raw = Uint8Array.from(atob(packed), sign => sign.charCodeAt(0));
    const stream = new Blob([raw]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Response(stream).arrayBuffer();
  }

  const bits = new Map();  // cell -> a bit an item
  async function rightOf(cell) {
    if (!all) return i => Boolean(cell.rows[i][RIGHT]);
    if (!bits.has(cell)) bits.set(cell, new Uint8Array(await unpacked(cell.right)));
    const found = bits.get(cell);
    return i => Boolean((found[i >> 3] >> (i & 7)) & 1);
  }

  const chunks = new Map();  // number -> chunk, the ones used last
  async function chunkOf(number) {
    const found = chunks.get(number) || JSON.parse(new TextDecoder().decode(await unpacked(all.chunks[number])));
    chunks.delete(number);
    chunks.set(number, found);
    if (chunks.size > KEPT) chunks.delete(chunks.keys().next().value);
    return found;
  }

  // An item as {id, target, group, asked, sides}: a side is {said, row}, the row being the sample's, where it has it.
  async function itemAt(i, a, b) {
    if (!all) return ofSample(i, a, b);
    const chunk = await chunkOf(Math.floor(i / all.chunk)), place = i % all.chunk;
    const [id, target, group, asked] = chunk.items[place];
    const sides = [a, b].map(cell => ({ said: chunk.texts[chunk.answers[cells.indexOf(cell)][place]], row: sampled(i, cell) }));
    const known = inSample.get(i);
    return { id, target, group, asked: known === undefined ? asked : text(data.items[known][3]), sides };
  }

  function ofSample(i, a, b) {
    const [id, target, group, asked] = data.items[i];
    const sides = [a, b].map(cell => ({ said: text(cell.rows[i][ANSWER]), row: cell.rows[i] }));
    return { id, target: text(target), group, asked: text(asked), sides };
  }

  function sampled(i, { arm, labels, seed }) {
    const cell = data.cells.find(one => one.arm === arm && one.labels === labels && one.seed === seed);
    return cell && inSample.has(i) ? cell.rows[inSample.get(i)] : undefined;
  }

  const arms = [...new Set(cells.map(cell => cell.arm))];
  const budgets = [...new Set(cells.map(cell => cell.labels))].sort((a, b) => a - b);
  const seeds = [...new Set(cells.map(cell => cell.seed))].sort((a, b) => a - b);
  // A cell without labels may have been run with one seed only: it stands for all.
  const cellOf = (arm, labels, seed) => {
    const ran = k => cells.filter(cell => cell.arm === arm && cell.labels === k);
    const there = ran(labels).length ? ran(labels) : ran(0);
    return there.find(cell => cell.seed === seed) || there[0];
  };
  const named = cell => `${cell.arm}, ${cell.labels === 1 ? "1 label" : `${cell.labels || "no"} labels`}`;

  const filters = {
    disagree: (a, b) => a !== b,
    "a-right": (a, b) => a && !b,
    "b-right": (a, b) => !a && b,
    wrong: (a, b) => !a && !b,
    all: () => true,
  };

  // ---- What is shown

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

  function side(cell, right, { said, row }) {
    const verdict = make("p", `verdict ${right ? "right" : "wrong"}`);
    verdict.textContent = `${said === null ? "no answer" : said} (${right ? "right" : "wrong"})`;
    const box = make("div", "side", null, make("h4", "", named(cell)), verdict);
    if (!row) return box;
    if (row[WHY] >= 0) box.append(make("p", "small", text(row[WHY])));
    if (row[WROTE] >= 0) {
      const read = row[READ] < 0 ? "unreadable" : `read as ${text(row[READ])}, ${row[READ_RIGHT] ? "right" : "wrong"}`;
      box.append(make("p", "small", `Wrote freely: “${text(row[WROTE])}” (${read})`));
    }
    box.append(prompt(row));
    return box;
  }

  function card(item, a, b, rightA, rightB) {
    const head = make("header", "", null, "Label ", make("b", "", item.target), ` · item ${item.id}`);
    if (item.group !== null) head.append(` · group ${item.group}`);
    const sides = make("div", "sides", null, side(a, rightA, item.sides[0]), side(b, rightB, item.sides[1]));
    const lost = all && all.elsewhere ? "The text of this item is left out of this page: it stands in messages.jsonl." : "The run keeps no text of this item.";
    const body = item.asked === null ? lost : item.asked;
    return make("article", "item", null, head, make("p", "", body), sides);
  }

  const holds = (item, words) =>
    [item.id, item.target, item.group, item.asked, ...item.sides.flatMap(({ said, row }) => [said, row ? text(row[WROTE]) : null])]
      .join("\n").toLowerCase().includes(words);

  // A later choice makes an earlier one's drawing stop where it next waits.
  async function draw() {
    const mine = ++turnOf;
    const labels = Number(at("pick-labels").value), seed = Number(at("pick-seed").value);
    const a = cellOf(at("pick-a").value, labels, seed);
    const b = cellOf(at("pick-b").value, labels, seed);
    const list = at("items");
    if (!a || !b) {
      const lacks = (a ? at("pick-b") : at("pick-a")).value;
      list.replaceChildren(make("p", "", `${lacks} was not run with ${labels} labels. Choose another number.`));
      at("found").textContent = "";
      at("more").hidden = true;
      return;
    }
    const [rightA, rightB] = [await rightOf(a), await rightOf(b)];
    const keep = filters[at("pick-filter").value];
    const words = at("pick-words").value.trim().toLowerCase();
    let hits = [];
    for (let i = 0; i < count; i++) if (keep(rightA(i), rightB(i))) hits.push(i);
    if (words) {
      const found = [];
      for (const [n, i] of hits.entries()) {
        if (holds(await itemAt(i, a, b), words)) found.push(i);
        if (n % 2000 === 1999) {  // let the page live, and the words be changed
          at("found").textContent = `searching: ${(n + 1).toLocaleString("en")} of ${hits.length.toLocaleString("en")} read`;
          await new Promise(resolve => setTimeout(resolve));
          if (mine !== turnOf) return;
        }
      }
      hits = found;
    }
    const items = [];
    for (const i of hits.slice(0, shown)) items.push(card(await itemAt(i, a, b), a, b, rightA(i), rightB(i)));
    if (mine !== turnOf) return;
    const on = a.seed === b.seed ? `seed ${a.seed}` : `seeds ${a.seed} and ${b.seed}`;
    at("found").textContent = `${hits.length.toLocaleString("en")} of ${count.toLocaleString("en")} items, answered on ${on}`;
    list.replaceChildren(...items);
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
  fill("pick-seed", seeds.map(k => [String(k), String(k)]), String(seeds[0]));
  at("pick-seed").parentElement.hidden = seeds.length < 2;
  at("packed").hidden = Boolean(all) || !data.all;
  for (const id of ["pick-a", "pick-b", "pick-labels", "pick-seed", "pick-filter", "pick-words"]) {
    at(id).addEventListener("input", () => { shown = PAGE; draw(); });
  }
  at("more").addEventListener("click", () => { shown += PAGE; draw(); });
  at("chooser").hidden = false;
  draw();
})();
