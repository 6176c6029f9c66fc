"""The page: one file, everything in it, nothing of the user's text taken as HTML."""

import base64
import json
import re
import zlib
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic import ARMS, write_run

from promptlab.compare.cells import read_cells
from promptlab.compare.measures import measure
from promptlab.compare.report import write_report
from promptlab.compare.report.browser import browser_data, escaped
from promptlab.compare.report.curves import learning_curves, spread
from promptlab.compare.report.packing import all_rows
from promptlab.compare.telling import tell_beforehand
from promptlab.task import Task
from promptlab.types import Example

NASTY = "<script>alert(1)</script></script><!-- \u2028 & 'quoted' "
DRAWS = 200


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("run"), n_items=40)


@pytest.fixture(scope="module")
def page(run):
    return write_report(run, DRAWS).read_text()


class Reader(HTMLParser):
    """Counts elements, checks that they are closed in order, and collects what they point at and hold."""

    VOID = frozenset({"meta", "input", "br", "path", "line", "circle", "use"})

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.links, self.texts, self.ids = [], [], [], {}, []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href", "xlink:href", "action")]
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href", "xlink:href")]

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.setdefault(self.open[-1] if self.open else "", []).append(data)


def test_the_page_is_well_formed_and_asks_for_nothing(page):
    read = Reader(page)
    assert read.open == []
    assert all(link.startswith("#") for link in read.links)
    assert not re.search(r"url\((?!#)|@import|fetch\(|XMLHttpRequest", page)
    assert len(read.ids) == len(set(read.ids))


def test_the_page_leads_with_the_decision_and_ends_with_where_it_comes_from(page, run):
    found = json.loads((run / "results.json").read_text())
    body = page[page.index("<body>") :]
    places = [body.index(clause["said"][1:]) for clause in found["decision"]["clauses"]]
    heads = [
        "How accuracy grows",
        "<h2>Results",
        "Who is ahead",
        "What it costs",
        "What was not established",
        "What the data look like",
        "The answers",
        "Where this comes from",
    ]
    places += [body.index(head) for head in heads]
    assert places == sorted(places)


def test_every_number_of_labels_and_arm_has_its_interval_on_the_page(page, run):
    plain = re.sub(r"<[^>]+>", "", page)
    for point in json.loads((run / "results.json").read_text())["points"]:
        accuracy = point["accuracy"]
        assert f"{accuracy['value']:.2f} [{accuracy['low']:.2f}, {accuracy['high']:.2f}]" in plain


def test_what_cannot_be_written_whole_leaves_the_old_files(tmp_path):
    run = write_run(tmp_path, n_items=20, seeds=(0,))
    path = write_report(run, DRAWS)
    before = path.read_bytes(), (run / "results.json").read_bytes()
    assert not list(run.glob("*.part"))
    (run / "report.html.part").mkdir()
    with pytest.raises(OSError, match=r"report\.html\.part"):
        write_report(run, DRAWS)
    assert (path.read_bytes(), (run / "results.json").read_bytes()) == before


def test_every_doubt_is_on_the_page(page, run):
    told = Reader(page).texts["li"]
    for doubt in json.loads((run / "results.json").read_text())["decision"]["not_established"]:
        assert doubt in told


def test_text_from_the_run_is_never_html(tmp_path):
    arms = {NASTY + name: value for name, value in ARMS.items()}
    lint = [{"kind": NASTY, "count": 1, "message": NASTY}]
    run = write_run(
        tmp_path, n_items=20, arms=arms, text=NASTY, command=NASTY, lint=lint, model=NASTY, files={NASTY: NASTY}
    )
    html = write_report(run, DRAWS).read_text()
    read = Reader(html)
    assert read.tags.count("script") == 2
    assert "<script>alert" not in html
    data = json.loads("".join(read.texts["script"][:1]))
    assert any(NASTY in text for text in data["texts"])


@given(st.text(alphabet=st.sampled_from("</script>!-&\u2028\u2029\"'\\ é🙂"), max_size=40))
def test_escaped_json_reads_back_the_same_and_cannot_end_its_element(text):
    out = escaped({text: [text]})
    assert json.loads(out) == {text: [text]}
    assert not set(out) & set("<>&\u2028\u2029")


def test_the_browser_holds_each_answer_with_its_whole_prompt(run):
    text, shown, total = browser_data(run)
    data = json.loads(text)
    assert (shown, total, len(data["items"])) == (40, 40, 40)
    messages = [json.loads(line) for line in (run / "messages.jsonl").read_text().splitlines()]
    rows = [json.loads(line) for line in (run / "rows.jsonl").read_text().splitlines()]
    cell = next(cell for cell in data["cells"] if (cell["arm"], cell["labels"]) == ("few-shot-knn", 8))
    assert cell["seed"] == 0
    wanted = [row for row in rows if (row["arm"], row["labels"], row["seed"]) == ("few-shot-knn", 8, 0)]
    for packed, row in zip(cell["rows"], wanted, strict=True):
        answer, right, _, wrote, _, _, chat, last, shots, left_out = packed
        turns = [data["turns"][i] for i in (*data["chats"][chat], last)]
        assert [(role, data["texts"][i]) for role, i in turns] == [
            (messages[i]["role"], messages[i]["content"]) for i in row["prompt"]
        ]
        assert (data["texts"][answer], bool(right), shots, left_out) == (row["answer"], row["correct"], 8, 0)
        assert data["texts"][wrote] == row["generated"]["text"]


def test_no_answer_is_told_apart_from_an_empty_one(tmp_path):
    run = write_run(tmp_path, n_items=20)
    rows = [json.loads(line) for line in (run / "rows.jsonl").read_text().splitlines()]
    rows[0] |= {"answer": None, "correct": False, "why": "no label in the text"}
    rows[1] |= {"answer": "", "correct": False}
    (run / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = json.loads(browser_data(run)[0])
    first, second = data["cells"][0]["rows"][:2]
    assert first[0] == -1
    assert data["texts"][first[2]] == "no label in the text"
    assert data["texts"][second[0]] == ""


def unpacked(text):
    return zlib.decompress(base64.b64decode(text))


def test_every_row_of_every_seed_is_in_the_page(run, page):
    everything = json.loads("".join(Reader(page).texts["script"][:1]))["all"]
    chunks = [json.loads(unpacked(chunk)) for chunk in everything["chunks"]]
    ids = [item[0] for chunk in chunks for item in chunk["items"]]
    assert (everything["n"], len(ids)) == (40, 40)
    found = {}
    for number, cell in enumerate(everything["cells"]):
        right = np.unpackbits(np.frombuffer(unpacked(cell["right"]), np.uint8), bitorder="little")
        answers = [chunk["texts"][place] for chunk in chunks for place in chunk["answers"][number]]
        for item, answer, bit in zip(ids, answers, right[: len(ids)], strict=True):
            found[cell["arm"], cell["labels"], cell["seed"], item] = answer, bool(bit)
    rows = [json.loads(line) for line in (run / "rows.jsonl").read_text().splitlines()]
    wanted = {(r["arm"], r["labels"], r["seed"], r["item"]): (r["answer"], r["correct"]) for r in rows}
    assert found == wanted
    some = dict(zip(ids, (item for chunk in chunks for item in chunk["items"]), strict=True))["s0007"]
    row = next(row for row in rows if row["item"] == "s0007" and row["prompt"])
    messages = [json.loads(line) for line in (run / "messages.jsonl").read_text().splitlines()]
    assert some[1:] == [row["target"], row["group"], messages[row["prompt"][-1]]["content"]]


def test_answers_of_a_task_without_classes_are_in_the_page_as_texts(tmp_path):
    arms = {"ask": ("prompting", "", (0.8,)), "tune": ("fine-tuning", "", (0.6,))}
    run = write_run(tmp_path, n_items=340, arms=arms, budgets=(8,), labels=[])
    items, cells = read_cells(run)
    rows = [json.loads(line) for line in (run / "rows.jsonl").read_text().splitlines()]
    said = [items.answer_text(int(code)) for cell in cells for row in cell.answers for code in row]
    assert said == [row["answer"] for row in rows]
    assert items.answer_text(-2) == "…"
    packed = all_rows(run, items, cells)
    assert set(json.loads(unpacked(packed["chunks"][0]))["texts"]) == set(said)


def test_rows_that_are_packed_too_large_go_without_the_texts_of_their_items(tmp_path, monkeypatch):
    monkeypatch.setattr("promptlab.compare.report.packing.MOST_BYTES", 500)
    run = write_run(tmp_path, n_items=40, seeds=(0,))
    packed = all_rows(run, *read_cells(run))
    assert packed["elsewhere"]
    assert json.loads(unpacked(packed["chunks"][0]))["items"][0][3] is None


def test_a_large_run_keeps_the_page_small_and_says_what_is_left_out(tmp_path):
    run = write_run(tmp_path, n_items=60, seeds=(0,), text="A long text. " * 200)
    text, shown, total = browser_data(run, most_bytes=120_000)
    assert len(text.encode()) <= 120_000
    assert 0 < shown < total == 60
    kept = [item[0] for item in json.loads(text)["items"]]
    assert kept == sorted(kept)
    assert len(kept) == shown


def test_the_page_says_how_many_items_are_left_out(tmp_path):
    arms = {"ask": ("prompting", "", (0.8,)), "tune": ("fine-tuning", "", (0.6,))}
    run = write_run(tmp_path, n_items=340, seeds=(0,), arms=arms, budgets=(8,))
    assert "300 of 340 test items are in this page" in write_report(run, DRAWS).read_text()


def test_the_curve_is_text_in_the_pages_colours_and_the_same_every_time(run):
    results = measure(run, DRAWS)
    svg = learning_curves(results)
    assert svg == learning_curves(results)
    assert "few-shot-knn" in svg
    assert "chance" in svg
    assert "var(--fine-tuning-1)" in svg
    assert not re.search(r"#[0-9a-fA-F]{6}\b", svg)


def test_what_is_reached_without_a_model_is_on_the_chart_also_above_all_arms(tmp_path):
    run = write_run(tmp_path, n_items=40, arms={"ask": ("prompting", "", (0.02,))}, budgets=(0,))
    svg = learning_curves(measure(run, DRAWS))
    height = float(re.search(r'viewBox="0 0 [\d.]+ ([\d.]+)"', svg)[1])
    at = {name: float(y) for y, name in re.findall(r' y="(-?[\d.]+)"[^>]*>\d\.\d\d  ([a-z ]+)<', svg)}
    assert at.keys() == {"chance", "most frequent", "ask"}
    assert all(0 < y < height for y in at.values())


def test_an_arm_called_like_a_formula_is_drawn_as_written(tmp_path):
    arms = {"costs $5 & $6 <b>": ("prompting", "", (0.8, 0.9)), "^_": ("fine-tuning", "", (0.4, 0.9))}
    run = write_run(tmp_path, n_items=20, arms=arms, budgets=(8, 16))
    assert "costs $5 &amp; $6 &lt;b&gt;" in learning_curves(measure(run, DRAWS))


@given(st.lists(st.floats(0, 400), min_size=1, max_size=12))
def test_labels_are_spread_in_order_and_no_further_than_needed(wanted):
    wanted = sorted(wanted)
    placed = spread(wanted, 18)
    assert all(b - a >= 18 - 1e-9 for a, b in pairwise(placed))
    assert sum(placed) == pytest.approx(sum(wanted), abs=1e-6)
    if all(b - a >= 18 for a, b in pairwise(wanted)):
        assert placed == pytest.approx(wanted)


@pytest.mark.parametrize("budgets", [(0,), (16,)])
def test_a_run_with_one_number_of_labels_has_a_page(tmp_path, budgets):
    run = write_run(tmp_path, n_items=20, seeds=(0,), arms={"ask": ("prompting", "", (0.8,))}, budgets=budgets)
    assert "ask" in write_report(run, DRAWS).read_text()


def test_a_page_without_labels_does_not_speak_of_seeds_that_were_not_drawn(tmp_path):
    run = write_run(tmp_path, n_items=20, arms={"ask": ("prompting", "", (0.8,))}, budgets=(0,))
    html = write_report(run, DRAWS).read_text()
    assert "nothing was drawn" in html
    assert "One seed was run" not in html
    assert "over seeds and test items" not in html


@pytest.mark.parametrize(("groups", "words"), [("aabbc", "5 test items in 3 groups ("), ("abcde", "5 test items (")])
def test_the_smallest_difference_names_the_groups_that_it_is_counted_by(capsys, groups, words):
    test = [Example(f"text {i}", "ab"[i % 2], id=str(i), group=group) for i, group in enumerate(groups)]
    task = Task.classification("t", [Example("one", "a"), Example("two", "b")], test, "")
    tell_beforehand(task, 0.1, [], [], quiet=False)
    assert words in capsys.readouterr().err


def test_a_task_without_classes_has_a_page_without_macro_f1(tmp_path):
    arms = {"ask": ("prompting", "", (0.8, 0.8)), "tune": ("fine-tuning", "", (0.6, 0.8))}
    run = write_run(tmp_path, n_items=20, arms=arms, budgets=(8, 16), labels=[])
    html = write_report(run, DRAWS).read_text()
    assert "<th>Macro-F1</th>" not in html
    assert all(point.macro_f1 is None for point in measure(run, DRAWS).points)
