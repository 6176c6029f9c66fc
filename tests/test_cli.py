"""The command line: what people type, what they are told, and the exit codes 0, 1 and 2."""

from __future__ import annotations

import json
import re
from importlib.metadata import version
from pathlib import Path

import pytest
from studies import called, rows_of, write_csv

from promptlab.cli import main
from promptlab.compare.telling import Pace

TRAIN = ("pretrain", "mlm", "text", "sft", "head", "lora", "reward", "dpo", "rlhf")
COMMANDS = [
    "compare",
    "optimize",
    "duels",
    "fragility",
    "ask",
    "lint",
    "report",
    "models",
    "card",
    "export",
    "mcp serve",
    "train",
]
COMMANDS += [f"train {command}" for command in TRAIN]


@pytest.fixture
def promptlab(tmp_path, monkeypatch, capsys):
    """Types a command into a shell in an empty folder; gives the exit code, and what it printed."""
    monkeypatch.chdir(tmp_path)

    def typed(command, *more):
        with pytest.raises(SystemExit) as ended:
            main([*(command.split() if isinstance(command, str) else command), *map(str, more)])
        return ended.value.code, *capsys.readouterr()

    return typed


@pytest.fixture
def fruit(tmp_path) -> Path:
    return write_csv(tmp_path / "fruit.csv")


SMALL = "compare fruit.csv --arms majority,few-shot --labels 0,2 --seeds 1 --test-items 8 --jobs 1 --out run"
MODEL = ("--model", "studies:Asked/calls")


# ---- every command


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example_that_is_that_command(promptlab, command):
    code, said, _ = promptlab(f"{command} --help")
    assert code == 0
    assert f"Example: promptlab {command}" in said


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("cmpare", "No such command 'cmpare'"),
        ("compare --seeds 0", "--seeds"),
        ("compare --sedes 1", "No such option: --sedes"),
        ("compare", "Give either a file to study or --resume"),
        ("compare x.csv --resume run", "Give either a file to study or --resume"),
        ("compare x.csv", "No file"),
        ("ask", "Missing argument"),
        ("card guess", "Unknown strategy 'guess'. Known: zero-shot"),
        ("ask hello --strategy guess", "Unknown strategy 'guess'. Known: zero-shot"),
        ("ask hello --model tinny", 'Did you mean "tiny"?'),
        ("ask hello --task game24", "--task is for strategies that search; zero-shot does not: leave it out."),
        ("ask hello --strategy depth-first", "depth-first searches for the solution of a task: give one, as --task"),
        ("ask hello --strategy tree-of-thoughts --task chess", "There is no task 'chess'. Tasks: game24, countdown"),
        ("ask hello --n 5", "--n is how many paths are sampled, and zero-shot samples none: leave it out."),
        (
            "compare x.csv --test y.csv --test-share 0.5",
            "--test-share is held back of the file where there is no --test",
        ),
        ("report nowhere", "There is no folder nowhere."),
        ("report .", ". holds no run (no run.json). Give that of a finished `promptlab compare` run."),
        ("lint nothing.csv", "No file nothing.csv"),
        ("compare --resume nowhere", "nowhere holds no run to resume (no run.json)."),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_2(promptlab, command, said):
    code, out, err = promptlab(command)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert said in err


def test_an_empty_question_is_not_asked(promptlab):
    assert promptlab(["ask", " ", *MODEL]) == (2, "", "The question is empty: write one.\n")
    assert not Path("calls").exists()


def test_the_version_is_that_of_the_package(promptlab):
    assert promptlab("--version") == (0, f"promptlab {version('promptlab')}\n", "")


def test_models_lists_backends_and_arms(promptlab):
    code, said, _ = promptlab("models")
    assert code == 0
    assert "tiny" in said
    assert re.search(
        r"^strategies: zero-shot, chain-of-thought, .*react, tree-of-thoughts, depth-first", said, re.MULTILINE
    )
    assert "few-shot*" in said
    assert "tools:      calculator, python[:PACKAGE,PACKAGE], search:FOLDER, sql:FILE" in said


def test_a_question_is_answered(promptlab):
    code, said, _ = promptlab(["ask", "fruit?", "--model", "studies:Slow/calls", "--json"])
    assert code == 0
    assert json.loads(said)["value"] in ("yes", "no", "maybe")


@pytest.mark.parametrize("strategy", ["depth-first", "best-first", "monte-carlo"])
def test_any_search_solves_a_task(promptlab, strategy):
    code, said, _ = promptlab(
        ["ask", "2 3 6", "--strategy", strategy, "--task", "countdown", "--model", "studies:Counts"]
    )
    assert (code, said.splitlines()[0]) == (0, "3 * 2 = 6")


def test_a_search_shows_its_way_and_writes_its_page(promptlab):
    command = ["ask", "2 3 6", "--strategy", "tree-of-thoughts", "--task", "countdown", "--model", "studies:Counts"]
    code, said, err = promptlab([*command, "--out", "pages/answer.html"])
    assert (code, err) == (0, f"{Path('pages/answer.html')}\n")
    assert said == "3 * 2 = 6\n  3 * 2 = 6 (left: 6)\n  states met: 1; a solution was found\n"
    assert "<svg" in Path("pages/answer.html").read_text(encoding="utf-8")
    trace = json.loads(promptlab([*command, "--json"])[1])["trace"]
    assert [node["fate"] for node in trace["nodes"]] == ["kept", "solved"]


def test_a_backend_that_breaks_is_one_line_with_its_place(promptlab):
    code, out, err = promptlab("ask hello --model studies:Asked/no/such/folder")
    assert (code, out) == (1, "")
    assert re.fullmatch(r"studies:Asked/no/such/folder failed: FileNotFoundError: .* \(studies.py, line \d+\)\n", err)


def test_lint_says_what_is_wrong(promptlab, fruit):
    fruit.write_text(fruit.read_text() + "apple lot 0,yes\n")
    code, said, _ = promptlab("lint fruit.csv")
    assert code == 0
    assert "duplicates: data: 1 of 41 rows" in said
    assert said.endswith("41 examples read.\n")
    assert "read" not in promptlab("lint fruit.csv --quiet")[1]


def test_lint_says_which_of_two_files_is_odd(promptlab, fruit):
    Path("held.csv").write_text("text,label\nfig,yes\n,no\n")
    said = promptlab("lint fruit.csv --test held.csv")[1]
    assert said.startswith("held.csv: 1 row(s) with no text left out")


# ---- compare


def test_a_study_of_a_file(promptlab, fruit):
    code, out, err = promptlab(SMALL.split(), *MODEL)
    assert code == 0
    assert "fruit: 28 labelled examples to learn from, 8 to test on, 2 labels" in err
    assert "8 of 12 test items are asked" in err
    assert "answering" not in err  # no bar where there is no terminal
    assert out.rstrip().endswith("run/report.html")
    assert len(rows_of(Path("run"))) == 8 * 3
    run = json.loads(Path("run/run.json").read_text())
    assert run["command"] == f"promptlab {SMALL} {' '.join(MODEL)}"
    assert run["files"].keys() == {"fruit.csv"}
    assert re.fullmatch("[0-9a-f]{64}", run["files"]["fruit.csv"])
    assert run["arguments"]["labels"] == [0, 2]


def test_an_instruction_may_stand_in_a_file(promptlab, fruit):
    Path("now.txt").write_text("Is it a fruit?\n")
    assert promptlab(SMALL, *MODEL, "--instruction", "@now.txt")[0] == 0
    assert json.loads(Path("run/run.json").read_text())["arguments"]["instruction"] == "Is it a fruit?"
    code, _, err = promptlab("compare fruit.csv --instruction @nowhere.txt")
    assert (code, "--instruction @nowhere.txt: nowhere.txt cannot be read" in err) == (2, True)


def test_the_seed_is_of_all_that_is_random_and_budgets_beyond_the_file_are_named(promptlab, fruit):
    options = ("--arms", "majority", "--seeds", "2", "--jobs", "1")
    for seed in (0, 5):
        code, _, err = promptlab("compare fruit.csv", *MODEL, *options, "--seed", seed, "--out", f"run{seed}")
        assert code == 0
        assert "No budget of 32 or 128 labels: only 28 are left to learn from." in err
        assert {row["seed"] for row in rows_of(Path(f"run{seed}"))} == {seed, seed + 1}
    assert {row["labels"] for row in rows_of(Path("run0"))} == {8}


def test_quiet_prints_the_result_only(promptlab, fruit):
    code, out, err = promptlab(SMALL, *MODEL, "--quiet")
    assert (code, out.count("\n")) == (0, 2)
    assert "failed" in err or not err  # what failed is part of the result


def test_the_pace_of_a_resumed_run_is_its_own():
    pace = Pace(900, 1000, started=50.0)
    assert pace.at(900, 60.0) == ""
    assert pace.at(920, 60.0) == "2.0/s · 0:00:40 left"
    assert pace.at(1000, 100.0) == "2.0/s · 0:00:00 left"


def test_a_finished_run_goes_nowhere_but_to_a_new_report(promptlab, fruit):
    promptlab(SMALL, *MODEL)
    n_calls = len(called(Path("calls")))
    assert promptlab(SMALL, *MODEL, "--quiet")[::2] == (
        2,
        "run holds a run already. Continue it with --resume run (resume=True in Python), or choose another --out.\n",
    )
    Path("run/report.html").unlink()
    assert promptlab("compare --resume run --jobs 1 --quiet")[0] == 0
    assert Path("run/report.html").exists()
    Path("run/report.html").unlink()
    assert promptlab("report run --quiet")[:2] == (0, "run/report.html\n")
    assert len(called(Path("calls"))) == n_calls
    code, _, err = promptlab("compare --resume run --labels 0,4 --seed 3")
    assert (code, err) == (2, "--resume goes on with a run as it was begun; leave out --labels, --seed.\n")


def test_runs_that_cannot_be_resumed_say_why(promptlab, fruit):
    promptlab(SMALL, *MODEL)
    path = Path("run/run.json")
    run = json.loads(path.read_text())
    for text, said in (
        (json.dumps({k: v for k, v in run.items() if k != "arguments"}), "was begun from Python"),
        (json.dumps({**run, "arguments": {**run["arguments"], "colour": "red"}}), "another version of promptlab"),
        ("{", "is not JSON any more"),
    ):
        path.write_text(text)
        code, _, err = promptlab("compare --resume run")
        assert (code, err.count("\n")) == (2, 1)
        assert said in err
    path.write_text(json.dumps(run))
    fruit.write_text(fruit.read_text().replace("lot 3,", "lot 3!,"))
    code, _, err = promptlab("compare --resume run --quiet")
    assert (code, err.count("\n")) == (2, 1)
    assert "fruit.csv has changed since run was begun" in err


@pytest.mark.parametrize("file", ["run.json", "rows.jsonl", "cells.jsonl", "messages.jsonl"])
def test_a_damaged_run_is_one_line_that_names_the_file(promptlab, fruit, file):
    promptlab(SMALL, *MODEL)
    for content in (b"{", b"\xff\xfe\xff\n", b"\0\0\n", b"3\n"):
        Path("run", file).write_bytes(content)
        code, out, err = promptlab("report run")
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert f"run/{file}" in err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--text note", 'fruit.csv has no text column "note". Its columns: text, label.'),
        ("--labels 0,many", "--labels takes numbers separated by commas, got '0,many'."),
        ("--labels ,", "--labels takes numbers separated by commas, got ','."),
        ("--labels=", "--labels takes numbers separated by commas, got ''."),
        ("--labels -4,8", "label budgets are 0 or more, got [-4, 8]"),
        ("--labels 0,100", "A budget of 100 labels was asked for, but only 28 labelled examples are left"),
        ("--arms few_shot", "Unknown arm 'few_shot'. Did you mean few-shot?"),
        ("--arms few-shot,head", "cannot be fine-tuned here; tiny can. Leave it out, or take another model."),
        ("--arms few-shot-calibrated", "The arm few-shot-calibrated: calibration needs log-probabilities"),
        ("--model tinny", 'Unknown model "tinny". Did you mean "tiny"?'),
        ("--format xml", 'No format "xml"'),
        ("--test-share 2", "--test-share"),
        ("--out fruit.csv", "fruit.csv cannot be written (File exists): choose another --out."),
        ("--local-only --model studies:Slow/calls --out x", None),
        ("--local-only --model promptlab.learners.solver:Silent", "is not known to stay on this machine"),
        ("--local-only --model promptlab.learners.solver:Silent --dry-run", "is not known to stay on this machine"),
        (
            "--local-only --also-model promptlab.learners.solver:Silent --dry-run",
            "is not known to stay on this machine",
        ),
    ],
)
def test_a_study_that_cannot_be_is_one_line_and_exit_code_2(promptlab, fruit, options, said):
    given = ["compare", "fruit.csv", "--quiet", "--arms", "few-shot", "--labels", "0", "--seeds", "1", "--jobs", "1"]
    code, _, err = promptlab([*given, *MODEL, *options.split()])
    if said is None:
        assert code == 0
    else:
        assert (code, err.count("\n")) == (2, 1)
        assert said in err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("text,label\na,yes\nb,yes\nc,yes\n", 'Every row of fruit.csv has the same label, "yes".'),
        ("text,label\n,\n,\n", "fruit.csv has 0 row(s) with both text and label."),
        ("text,label\n", "fruit.csv has no rows of data."),
        ("", "fruit.csv is empty."),
    ],
)
def test_a_file_that_nothing_can_be_learned_from_is_one_line(promptlab, fruit, text, said):
    fruit.write_text(text)
    code, _, err = promptlab("compare fruit.csv")
    assert (code, err.count("\n")) == (2, 1)
    assert said in err


@pytest.mark.parametrize("encoding", ["utf-8-sig", "latin-1", "utf-16"])
def test_files_from_everywhere_are_read(promptlab, fruit, encoding):
    fruit.write_bytes(fruit.read_text().replace("apple", "käse").encode(encoding))
    code, _, err = promptlab(SMALL, *MODEL)
    assert code == 0
    assert ("Not UTF-8" in err) == (encoding == "latin-1")
    assert any("käse" in line for line in Path("run/messages.jsonl").read_text().splitlines())


def test_what_is_odd_about_the_data_is_said_before_anything_is_asked(promptlab, fruit):
    fruit.write_text(fruit.read_text() + "apple lot 0,yes\napple LOT 0,yes\n,yes\n")
    Path("held.csv").write_text("text,label\napple lot 2,yes\nhammer,no\na [/b] note,perhaps\n")
    code, _, err = promptlab(SMALL, *MODEL, "--test", "held.csv", "--labels", "0,2")
    assert code == 0
    assert "duplicates: train: 2 of 42 rows repeat an earlier text" in err
    assert '1 label(s) only in test, in 1 rows: "perhaps"' in err
    assert "1 row(s) with no text left out" in err
    told = json.loads(Path("run/run.json").read_text())
    assert told["files"].keys() == {"fruit.csv", "held.csv"}
    assert {"duplicates", "labels only in test"} <= {finding["kind"] for finding in told["lint"]}


def test_default_arms_that_the_model_cannot_do_are_left_out_and_named(promptlab, fruit):
    options = "--labels 4 --seeds 1 --test-items 4 --jobs 1 --out run"
    code, _, err = promptlab(f"compare fruit.csv {options}", *MODEL)
    assert code == 0
    assert {row["arm"] for row in rows_of(Path("run"))} == {"majority", "tfidf", "few-shot", "few-shot-nearest"}
    [line] = [line for line in err.splitlines() if "Left out, since the model cannot do them" in line]
    assert "few-shot-calibrated (calibration needs log-probabilities, which Asked does not give)" in line
    assert "head (Asked cannot be fine-tuned here; tiny can)" in line
    assert "sft (Asked cannot be fine-tuned here; tiny and hf can)." in line
    assert promptlab("compare --resume run --jobs 1")[0] == 0


def test_no_more_test_items_are_asked_than_were_wanted(promptlab, fruit):
    rows = [line.split(",") for line in fruit.read_text().splitlines()]
    grouped = [f"{text},{label},{'case' if at == 0 else (at - 1) // 8}" for at, (text, label) in enumerate(rows)]
    fruit.write_text("\n".join(grouped))
    command = "compare fruit.csv --group case --test-share 0.7 --arms majority --labels 4 --seeds 1 --jobs 1"
    for most, asked in ((6, None), (13, 8), (20, 16)):
        code, _, err = promptlab(command, "--test-items", most, "--out", f"run{most}", *MODEL)
        if asked is None:
            assert (code, err) == (
                2,
                f"No {most} or fewer test items can be drawn by class and whole groups. Ask for more, or for all.\n",
            )
        else:
            assert (code, len(rows_of(Path(f"run{most}")))) == (0, asked)


def test_budgets_are_those_that_the_data_have_where_none_are_asked_for(promptlab, fruit):
    promptlab(["compare", "fruit.csv", "--arms", "majority", "--seeds", "1", "--out", "run", "--jobs", "1"], *MODEL)
    assert json.loads(Path("run/run.json").read_text())["label_budgets"] == [0, 8]


def test_a_cell_that_fails_whole_is_named_and_the_exit_code_is_1(promptlab, fruit):
    command = ["compare", "fruit.csv", "--quiet", "--arms", "majority,few-shot", "--labels", "2", "--seeds", "1"]
    code, out, err = promptlab([*command, "--jobs", "1", "--out", "run", "--model", "studies:Down"])
    assert code == 1
    assert "few-shot with 2 labels, seed 0: failed, ModelError: the server is down\n" in err
    assert "remove its file in run/cells and resume" in err
    assert out.endswith("run/report.html\n")


def test_texts_too_long_for_the_model_are_not_said_to_be_worth_another_try(promptlab, fruit):
    fruit.write_text(fruit.read_text().replace("lot", "lot " * 4000))
    command = ["compare", "fruit.csv", "--quiet", "--arms", "few-shot", "--labels", "0", "--seeds", "1", "--jobs", "1"]
    code, _, err = promptlab([*command, "--out", "run"])
    assert code == 1
    assert "failed, ContextOverflow" in err
    assert "What is too long for the model fails again" in err
    assert "resume the run" not in err
    [told] = json.loads(Path("run/run.json").read_text())["warnings"]
    assert re.match(r"\d+ of \d+ train texts and \d+ of \d+ test texts are longer than the 1,024 tokens", told)


def test_a_label_in_brackets_is_not_markup(promptlab, fruit):
    fruit.write_text(fruit.read_text().replace(",yes", ",[/red]").replace(",no", ",[bold]"))
    code, out, _ = promptlab(SMALL, *MODEL)
    assert code == 0
    assert "┃" in out


def test_one_enormous_text_among_others_takes_neither_minutes_nor_all_memory(promptlab, fruit):
    import resource

    fruit.write_text(fruit.read_text() + "apple pie " * 1_000_000 + ",yes\n")
    before = resource.getrusage(resource.RUSAGE_SELF)
    options = "--arms majority,tfidf,few-shot,few-shot-nearest --labels 2,28 --seeds 1 --jobs 1 --out run --quiet"
    code, _, _ = promptlab(["compare", "fruit.csv", "--model", "studies:Small", *options.split()])
    after = resource.getrusage(resource.RUSAGE_SELF)
    assert code == 0
    assert after.ru_utime - before.ru_utime < 60
    assert after.ru_maxrss < 1_500_000  # kB
