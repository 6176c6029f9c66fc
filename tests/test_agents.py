"""The agent scripts in tools/, as they are typed, with a script of replies for a model."""

from __future__ import annotations

import csv
import importlib
import json
import subprocess
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import pytest

from promptlab import Reply
from promptlab.errors import SetupError
from promptlab.testing import FakeServer, Script
from promptlab.types import ToolCall

TOOLS = Path(__file__).parents[1] / "tools"
SAMPLES = TOOLS / "samples"
NAMES = ("research_agent", "data_analyst", "triage_agent")


@pytest.fixture
def typed(monkeypatch, capsys):
    """Types a script's command, answered by these replies; gives the exit code, and what was printed."""
    monkeypatch.syspath_prepend(str(TOOLS))

    def typing(name, arguments, replies=()):
        script = Script(replies, scores=True)
        script.can = frozenset({"stop"})  # as a small model: it calls no tools and is held to no schema
        replied = ModuleType("replies")
        replied.__spec__, replied.scripted = ModuleSpec("replies", None), lambda: script
        monkeypatch.setitem(sys.modules, "replies", replied)
        given = [*map(str, arguments), *(["--model", "replies:scripted"] if replies else [])]
        with pytest.raises(SystemExit) as ended:
            importlib.import_module(name).main(given)
        return ended.value.code, *capsys.readouterr(), script

    return typing


def acting(*actions):
    return [f"Thought: hm.\nAction: {action}" for action in actions]


# ---- as they are typed


@pytest.mark.parametrize("name", NAMES)
def test_a_script_has_help_with_its_own_example(name):
    done = subprocess.run([sys.executable, TOOLS / f"{name}.py", "--help"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"Example: python tools/{name}.py" in " ".join(done.stdout.split())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("arguments", [[], ["--nonsense"], ["x", "y", "--model", "none-such:x"]])
def test_wrong_use_is_a_line_and_2(typed, name, arguments):
    code, _, said, _ = typed(name, arguments)
    assert code == 2
    assert len(said.strip().split("\n")) == 1


# ---- research


LOOKING = ["--folder", SAMPLES / "districts", "--facts"]
SEARCHING = ["--folder", SAMPLES / "districts", "--search"]


def test_research_looks_up_facts_and_cites_them(typed):
    replies = acting("lookup[Lorun]", "lookup[Lorun beds]", "lookup[Vask beds]", "calculator[214 + 31]", "finish[245]")
    question = "How many beds have Lorun and Vask together?"
    code, said, _, script = typed("research_agent", [question, *LOOKING], replies)
    assert (code, said) == (0, "245\n  (lorun.md:5) Lorun beds: 214\n  (vask.md:5) Vask beds: 31\n")
    chat = [message.content for message in script.requests[-1].messages]
    assert chat[0].startswith("Use tools: calculator[expression], lookup[name]. End with finish[answer].")
    assert chat[1] == f"Question: {question}"
    assert chat[3].startswith("Observation: no such entry; there is Lorun beds, Lorun wells")


def test_several_citations_may_share_their_brackets_and_a_time_of_day_is_none(typed):
    said = "Lorun is made up and has 214 beds (lorun.md:3; lorun.md:5), open from noon (12:30)."
    replies = acting("search[Lorun]", f"finish[{said}]")
    code, told, error, _ = typed("research_agent", ["What has Lorun?", *SEARCHING, "--json"], replies)
    assert code == 0, error
    assert [each["line"] for each in json.loads(told)["citations"]] == [3, 5]
    replies = acting("search[Lorun]", "finish[It has 214 beds (lorun.md:5, lorun.md:99).]")
    code, _, error, _ = typed("research_agent", ["What has Lorun?", *SEARCHING], replies)
    assert code == 1
    assert error.rstrip().endswith("cites what it was not shown: lorun.md:99.")


def test_research_searches_and_checks_what_is_cited(typed):
    replies = acting("search[beds Lorun]", "finish[Lorun has 214 beds (lorun.md:5).]")
    code, said, _, _ = typed("research_agent", ["How many beds has Lorun?", *SEARCHING, "--json"], replies)
    told = json.loads(said)
    assert code == 0
    assert told["answer"] == "Lorun has 214 beds (lorun.md:5)."
    assert told["citations"][0]["source"] == "lorun.md"
    assert "beds: 214" in told["citations"][0]["text"]


def test_a_piece_of_a_long_line_is_cited_as_it_is_shown(typed, tmp_path):
    (tmp_path / "log.txt").write_text("nothing new. " * 200 + "Lorun has 214 beds.")
    replies = acting("search[Lorun]", "finish[214 beds (log.txt:1.3).]")
    code, said, error, _ = typed("research_agent", ["Beds?", "--folder", tmp_path, "--search"], replies)
    assert (code, error) == (0, "")
    assert said.endswith("nothing new. Lorun has 214 beds.\n")


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ("It has 9 beds (lorun.md:99).", "cites what it was not shown: lorun.md:99"),
        ("Vask has 31 beds (vask.md:5).", "cites what it was not shown: vask.md:5"),  # there, and never seen
        ("It has 214 beds.", "it cites nothing"),
    ],
)
def test_an_answer_that_cites_nothing_it_was_shown_fails(typed, answer, told):
    replies = acting("search[Lorun]", f"finish[{answer}]")
    code, said, error, _ = typed("research_agent", ["How many beds?", *SEARCHING], replies)
    assert code == 1
    assert answer in said
    assert told in error


def test_no_answer_is_a_failure_with_its_reason(typed):
    code, _, error, _ = typed("research_agent", ["q", *LOOKING, "--max-steps", "2"], acting("lookup[x]", "lookup[y]"))
    assert (code, error) == (1, "No answer: no answer in 2 steps.\n")


def test_research_on_a_hosted_model_calls_its_tools_natively(typed, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "x")
    replies = [
        Reply(calls=(ToolCall("c1", "search", {"query": "Lorun beds"}),), finish="calls"),
        Reply(text="214 (lorun.md:5)"),
    ]
    with FakeServer(Script(replies)) as server:
        arguments = ["Beds?", "--folder", SAMPLES / "districts", "--model", f"openai:m@{server.url}"]
        code, said, error, _ = typed("research_agent", arguments)
    assert code == 0, error
    assert said.startswith("214 (lorun.md:5)\n  (lorun.md:5) Lorun: - beds: 214")


# ---- data


TABLE = SAMPLES / "districts.csv"


def test_the_analyst_looks_up_cells_and_plots_their_column(typed, tmp_path):
    plot = tmp_path / "beds.png"
    replies = acting("lookup[Lorun beds]", "calculator[214 * 3]", "finish[642]")
    code, said, _, _ = typed("data_analyst", [TABLE, "q", "--cells", "--plot", plot], replies)
    assert (code, said) == (0, f"642\n  plot: {plot}\n")
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_the_analyst_queries_calculates_and_plots(typed, tmp_path):
    pytest.importorskip("duckdb")
    try:
        from promptlab.tools.python import python

        python()
    except SetupError as error:
        pytest.skip(str(error))
    plot = tmp_path / "beds.svg"
    select = "SELECT district, beds FROM districts ORDER BY 2"
    replies = acting(
        "sql[SELECT sum(beds) AS beds FROM districts]",
        "sql[DROP VIEW districts]",
        "python[print(sum(range(10)))]",
        f"plot[{json.dumps({'query': select, 'kind': 'bar', 'title': 'Beds'})}]",
        f"plot[{json.dumps({'query': 'SELECT 1', 'kind': 'bar', 'title': 'x'})}]",
        "finish[all of them]",
    )
    code, said, _, script = typed("data_analyst", [TABLE, "q", "--sql", "--plot", plot], replies)
    assert (code, said) == (0, f"all of them\n  plot: {plot}\n")
    with TABLE.open() as file:
        total = sum(int(row["beds"]) for row in csv.DictReader(file))
    seen = [m.content for m in script.requests[-1].messages if m.content.startswith("Observation: ")]
    assert seen[0] == f"Observation: beds\n{total}"
    assert "one SELECT at a time" in seen[1]
    assert seen[2:4] == ["Observation: 45", "Observation: Plotted 8 points."]
    assert "Error: a plot is of two columns" in seen[4]
    assert "<svg" in plot.read_text()


def test_no_plot_is_told(typed, tmp_path):
    code, said, _, _ = typed("data_analyst", [TABLE, "q", "--cells", "--plot", tmp_path / "x.png"], acting("finish[1]"))
    assert (code, said) == (0, "1\n  no plot was made\n")
    assert not (tmp_path / "x.png").exists()


@pytest.mark.parametrize("more", [["none.csv", "q"], [TABLE, "q", "--plot", "x.exe"]])
def test_a_file_that_cannot_be_used_is_wrong_use(typed, more):
    code, _, said, _ = typed("data_analyst", more)
    assert code == 2
    assert "See data_analyst.py --help." in said


def test_a_plot_of_cells_is_of_the_numbers_in_one_column(typed, tmp_path):
    """Not of another whose name ends alike, nor of what is no number."""
    (tmp_path / "t.csv").write_text('place,hospital beds,school beds\nLorun,"1,214",9\nVask,n/a,8\nHask,31,7\n')
    arguments = [tmp_path / "t.csv", "q", "--cells", "--plot", tmp_path / "beds.svg"]
    code, said, _, _ = typed("data_analyst", arguments, acting("lookup[Lorun hospital beds]", "finish[1,214]"))
    assert (code, said) == (0, f"1,214\n  plot: {tmp_path / 'beds.svg'}\n")
    drawn = (tmp_path / "beds.svg").read_text()
    assert [f"<!-- {each} -->" in drawn for each in ("Lorun", "Hask", "hospital beds", "Vask")] == [True] * 3 + [False]


def test_a_table_as_excel_saves_it_is_looked_up(typed, tmp_path):
    """In the encoding of Western Windows, with semicolons where the comma is the decimal sign."""
    (tmp_path / "t.csv").write_bytes("Ort;beds;wells\nLöhn;214;\nVask;31;5\n".encode("cp1252"))
    replies = acting("lookup[Löhn beds]", "lookup[Löhn wells]", "finish[214]")
    code, said, told, script = typed("data_analyst", [tmp_path / "t.csv", "q", "--cells"], replies)
    assert (code, said) == (0, "214\n")
    assert told == "t.csv: Not UTF-8 (1 byte(s), first: line 2), so it was read as cp1252.\n"
    seen = [m.content for m in script.requests[-1].messages if m.content.startswith("Observation: ")]
    assert seen == ["Observation: 214", "Observation: "]


def test_sheets_in_another_encoding_are_looked_up(typed, tmp_path):
    (tmp_path / "lohn.md").write_bytes("# Löhn\nbeds: 214\n".encode("cp1252"))
    (tmp_path / "empty.txt").write_text("\n")
    replies = acting("lookup[Löhn beds]", "finish[214]")
    code, said, told, _ = typed("research_agent", ["q", "--folder", tmp_path, "--facts"], replies)
    assert (code, said) == (0, "214\n  (lohn.md:2) Löhn beds: 214\n")
    assert "lohn.md: Not UTF-8" in told


@pytest.mark.parametrize("where", ["nowhere/x.png", "folder.png"])
@pytest.mark.parametrize("name", ["data_analyst", "triage_agent"])
def test_what_could_not_be_written_is_told_before_anything_is_asked(typed, tmp_path, name, where):
    (tmp_path / "folder.png").mkdir()
    given = [TABLE, "q", "--cells", "--plot"] if name == "data_analyst" else [*NOTES, "--examples", "--yes", "--out"]
    code, said, told, script = typed(name, [*given, tmp_path / where], ["never asked"])
    assert (code, said, script.requests) == (2, "", [])
    assert "give the name of a file in a folder that is there" in told
    assert told.count("\n") == 1


# ---- triage


NOTES = [SAMPLES / "notes.csv", "--guidelines", SAMPLES / "guidelines"]
LEVELS = ("refer", "routine", "urgent")


def scoring(level):
    """A model to which this level is the likeliest."""
    return Reply(scores=tuple(-0.1 if each == level else -5.0 for each in LEVELS))


def a_note(tmp_path, *notes):
    path = tmp_path / "notes.csv"
    path.write_text("note\n" + "".join(f"{note}\n" for note in notes))
    return [path, "--guidelines", SAMPLES / "guidelines", "--out", tmp_path / "out.jsonl"]


def rows_of(tmp_path):
    return [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().split("\n") if line]


def test_triage_does_not_write_over_what_was_decided_before(typed, tmp_path):
    arguments = [*a_note(tmp_path, "rash then hives"), "--examples", "--yes"]
    typed("triage_agent", arguments, [scoring("routine")])
    code, _, told, script = typed("triage_agent", arguments, [scoring("urgent")])
    assert (code, script.requests) == (2, [])
    assert "out.jsonl is there already" in told
    assert "give another --out" in told
    assert [row["level"] for row in rows_of(tmp_path)] == ["routine"]


def test_triage_goes_by_the_likeliest_level_after_the_examples(typed, tmp_path):
    arguments = [*a_note(tmp_path, "rash then hives"), "--examples", "--yes"]
    code, said, _, script = typed("triage_agent", arguments, [scoring("routine")])
    assert code == 0
    assert "routine: Advise by telephone" in said
    [row] = rows_of(tmp_path)
    assert (row["level"], row["guideline"], row["approved_by"]) == ("routine", "routine.md:3", "nobody (--yes)")
    assert row["share"] > 0.9
    chat = script.requests[0].messages
    assert chat[-1].content == "rash then hives"
    assert len(chat) == 2 + 2 * 24
    assert {m.content for m in chat if m.role == "assistant"} == set(LEVELS)


def test_a_person_approves_changes_or_rejects(typed, tmp_path, monkeypatch):
    said_by_person = iter(["", "what", "urgent", "r"])
    monkeypatch.setattr("typer.prompt", lambda *_, **__: next(said_by_person))
    arguments = [*a_note(tmp_path, "cramps", "nausea", "hives"), "--examples"]
    code, *_ = typed("triage_agent", arguments, [scoring("refer")] * 3)
    assert code == 0
    assert [(row["level"], row["proposed"]) for row in rows_of(tmp_path)] == [
        ("refer", "refer"),
        ("urgent", "refer"),
        (None, "refer"),
    ]
    assert [row["approved_by"] for row in rows_of(tmp_path)] == ["a person"] * 3


def test_a_person_may_name_a_level_as_its_file_does(typed, tmp_path, monkeypatch):
    for name in ("Refer", "Routine"):
        (tmp_path / f"{name}.md").write_text(f"# {name}\n\naction: do it\n")
    (tmp_path / "examples.csv").write_text("note,level\ncramps,Refer\nhives,Routine\n")
    monkeypatch.setattr("typer.prompt", lambda *_, **__: next(said_by_person))
    said_by_person = iter(["Routine", "routine"])
    arguments = [*a_note(tmp_path, "cramps", "nausea")[:1], "--guidelines", tmp_path, "--examples"]
    arguments += ["--out", tmp_path / "out.jsonl"]
    code, *_ = typed("triage_agent", arguments, [Reply(scores=(-0.1, -5.0))] * 2)
    assert (code, [row["level"] for row in rows_of(tmp_path)]) == (0, ["Routine", "Routine"])


def test_a_row_without_a_note_is_told(typed, tmp_path):
    (tmp_path / "notes.csv").write_text("id,note\n1,rash\n2\n")
    arguments = [tmp_path / "notes.csv", "--guidelines", SAMPLES / "guidelines", "--yes"]
    code, _, told, _ = typed("triage_agent", arguments)
    assert code == 2
    assert "has no note in row 2" in told


def test_notes_as_excel_saves_them_are_triaged(typed, tmp_path):
    arguments = [*a_note(tmp_path), "--examples", "--yes"]
    arguments[0].write_bytes("note\nrash after the café\n".encode("cp1252"))
    code, _, told, _ = typed("triage_agent", arguments, [scoring("routine")])
    assert (code, [row["note"] for row in rows_of(tmp_path)]) == (0, ["rash after the café"])
    assert "so it was read as cp1252" in told


def test_a_note_that_commas_cut_is_told(typed, tmp_path):
    arguments = [*a_note(tmp_path, "rash", "rash, then hives", "cough"), "--examples", "--yes"]
    code, _, told, script = typed("triage_agent", arguments, [scoring("routine")] * 3)
    assert (code, script.requests) == (2, [])
    assert "too many cells in line 3: put quotes around a note that holds commas" in told


def test_what_was_decided_before_stopping_is_kept(tmp_path):
    """As a process: a person who stops ends it."""
    (tmp_path / "replies.py").write_text(
        "from promptlab.testing import Script\nfrom promptlab import Reply\n"
        "def scripted():\n    return Script([Reply(scores=(-0.1, -5.0, -5.0))] * 2, scores=True)\n"
    )
    command = [sys.executable, TOOLS / "triage_agent.py", *a_note(tmp_path, "cramps", "hives"), "--examples"]
    command += ["--model", "replies:scripted"]
    done = subprocess.run(command, input="\nq\n", capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr == "Stopped.\n"
    assert [row["level"] for row in rows_of(tmp_path)] == ["refer"]


def test_triage_by_prose_cites_a_passage_it_was_shown(typed, tmp_path):
    reply = json.dumps({"level": "urgent", "reason": "breath", "guideline": "urgent.md:5"})
    arguments = [*a_note(tmp_path, "she has a tight chest"), "--prose", "--yes"]
    code, _, _, script = typed("triage_agent", arguments, [reply])
    assert code == 0
    [row] = rows_of(tmp_path)
    assert (row["level"], row["guideline"], row["reason"]) == ("urgent", "urgent.md:5", "breath")
    shown = script.requests[0].messages[-1].content
    assert "(urgent.md:5) urgent: Trouble with breathing" in shown
    assert all(f"({level}.md:3)" in shown for level in LEVELS)


def test_a_passage_that_is_made_up_is_no_level_and_a_failure(typed, tmp_path):
    made_up = json.dumps({"level": "urgent", "reason": "breath", "guideline": "handbook.md:1"})
    arguments = [*a_note(tmp_path, "she has a tight chest"), "--prose", "--yes"]
    code, *_ = typed("triage_agent", arguments, [made_up, made_up])
    assert code == 1
    [row] = rows_of(tmp_path)
    assert row["level"] is None
    assert "guideline" in row["why"]


def test_guidelines_that_cannot_be_used_are_wrong_set_up(typed, tmp_path):
    (tmp_path / "urgent.md").write_text("# urgent\n")
    code, _, said, _ = typed("triage_agent", [SAMPLES / "notes.csv", "--guidelines", tmp_path])
    assert code == 2
    assert "has no line that begins with “action:”" in said


# ---- on the bundled model


def test_the_bundled_model_triages_the_sample(typed, tmp_path):
    """Ten of twelve, where a guess would be right in four."""
    out = tmp_path / "out.jsonl"
    code, *_ = typed("triage_agent", [*NOTES, "--yes", "--out", out])
    assert code == 0
    with (SAMPLES / "notes.csv").open() as file:
        wanted = [row["level"] for row in csv.DictReader(file)]
    assert sum(row["level"] == level for row, level in zip(rows_of(tmp_path), wanted, strict=True)) >= 10
