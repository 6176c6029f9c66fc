"""`promptlab optimize` as people type it: what they are told before, the files of a run, and exit codes."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import pytest
from searches import called, write_lists
from studies import write_csv

from promptlab import Example, Prompt
from promptlab.cli import main
from promptlab.compare.cellfile import as_line
from promptlab.compare.optimizing.arguments import placed
from promptlab.compare.optimizing.difference import difference, words
from promptlab.optimizers import load_prompt, save_prompt

LISTS = "optimize lists.csv --output text --option proposals=6 --calls 500"
TOLD = ["--instruction", "Give a word.", "--model", "searches:Words/calls"]


@pytest.fixture
def promptlab(tmp_path, monkeypatch, capsys):
    """Types a command into a shell in a folder with lists.csv; gives the exit code, and what it printed."""
    monkeypatch.chdir(tmp_path)
    write_lists(tmp_path / "lists.csv", 120)

    def typed(command, *more):
        with pytest.raises(SystemExit) as ended:
            main([*(command.split() if isinstance(command, str) else command), *map(str, more)])
        return ended.value.code, *capsys.readouterr()

    return typed


def results(folder: str = "run") -> dict:
    return json.loads((Path(folder) / "results.json").read_text(encoding="utf-8"))


def test_a_dry_run_says_what_there_is_to_win_and_to_spend_and_asks_nothing(promptlab):
    code, said, err = promptlab(LISTS, *TOLD, "--dry-run")
    assert (code, err) == (0, "")
    parts = re.match(r"lists: 84 .* \((\d+) that proposers may read, (\d+) for races, (\d+) for the last", said)
    assert parts
    assert sum(map(int, parts.groups())) == 84
    assert re.search(r"A gain under \d+\.\d points is likely to go unaccepted \(alpha 0\.05, 80 % power\)", said)
    assert "The search may make 403 calls, the test up to 72 more; 500 calls at most." in said
    assert "the price of the model is not known" in said
    assert not Path("calls").exists()
    assert not Path("runs").exists()


def test_a_better_prompt_is_found_tested_once_and_written_down(promptlab):
    code, said, err = promptlab(LISTS, *TOLD, "--out", "run")
    assert code == 0
    assert "84 labelled examples" in err
    assert said.endswith("run/report.html\n")
    assert re.search(r"^The new prompt is better: \+0\.\d\d \[0\.\d\d, 0\.\d\d\] in accuracy on 36 test", said, re.M)
    found = results()
    assert load_prompt("run/prompt.json").instruction == found["prompts"]["final"][""]["instruction"]
    assert "second" in load_prompt("run/prompt.json").instruction
    assert len(called(Path("calls"))) <= 500
    assert found["test"]["difference"]["low"] > 0
    assert found["spent"]["task"]["calls"] + found["spent"]["proposer"]["calls"] >= found["calls"]["searched"]
    assert found["spent"]["proposer"]["calls"] == found["calls"]["proposals"] > 0
    run = json.loads(Path("run/run.json").read_text())
    assert run["files"].keys() == {"lists.csv"}
    assert run["arguments"]["options"] == {"proposals": 6}
    assert [opening["what"] for opening in run["test_openings"]] == ["first"]
    rows = [json.loads(line) for line in Path("run/rows.jsonl").read_text().splitlines()]
    assert len(rows) == 36
    assert {row["item"] for row in rows}.isdisjoint(searched_items())


def test_a_control_makes_no_more_calls_than_were_given(promptlab):
    code, _, err = promptlab(LISTS, *TOLD, "--out", "run", "--control")
    assert (code, "The search may make 201 calls, its control as many" in err) == (0, True)
    assert "500 calls at most" in err
    assert results()["control"]["why"]
    assert 201 + 72 < len(called(Path("calls"))) <= 500


def searched_items() -> set[str]:
    """The ids of all examples that stand in the ledger's events: those of the search."""
    from promptlab.compare.optimizing.arguments import Arguments, material

    train = material(Arguments.of_run(Path("run"))).task.train
    lines = [json.loads(line) for line in Path("run/ledger.jsonl").read_text().splitlines()]
    return {train[line["item"]].id for line in lines if line["event"] == "scored"}


def test_the_report_is_one_page_that_shows_everything_and_needs_nothing(promptlab):
    promptlab(LISTS, *TOLD, "--out", "run", "--control", "--quiet")
    page = Path("run/report.html").read_text(encoding="utf-8")
    for heading in ("On the test", "How much of it was the search’s luck", "What speaks against it", "What it cost"):
        assert f"<h2>{heading}</h2>" in page
    assert "<ins>" in page
    assert "<del>" in page
    assert "Control, the same search with the labels shuffled" in page
    assert "The test was opened 1 time:" in page
    assert not re.search(r'(?:src|href)="(?!#)', page)
    assert "<script" not in page


def test_other_commands_know_the_folder_of_a_search(promptlab):
    promptlab(LISTS, *TOLD, "--out", "run", "--quiet")
    page = Path("run/report.html").read_text(encoding="utf-8")
    assert promptlab("report run") == (0, "run/report.html\n", "")
    assert Path("run/report.html").read_text(encoding="utf-8") == page
    assert promptlab("trace run")[0] == 0
    for log in ("compare --resume run", "compare run run"):
        code, _, err = promptlab(log)
        assert (code, err.startswith("run holds a run of `promptlab optimize`")) == (2, True)


def test_what_only_a_study_has_is_not_asked_of_a_search_in_silence(promptlab):
    promptlab(LISTS, *TOLD, "--out", "run", "--quiet")
    code, said, err = promptlab("report run --csv table.csv --json --queries 100")
    assert (code, said, err.count("\n")) == (2, "", 1)
    assert "the rest is of studies: leave out --csv, --json, --queries." in err
    assert not Path("table.csv").exists()


def test_words_of_a_proposal_cannot_break_the_page(promptlab):
    promptlab(LISTS, "--model", "searches:Words", "--instruction", "</style><script>alert(1)</script>", "--out", "run")
    page = Path("run/report.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_a_second_look_at_the_test_is_recorded(promptlab):
    promptlab(LISTS, *TOLD, "--out", "run", "--quiet")
    asked, first = len(called(Path("calls"))), results()
    code, _, _ = promptlab("optimize --resume run --quiet")
    again = results()
    assert code == 0
    assert len(called(Path("calls"))) == asked
    assert (again["sentence"], again["test"], again["prompts"]) == (first["sentence"], first["test"], first["prompts"])
    openings = json.loads(Path("run/run.json").read_text())["test_openings"]
    assert [opening["what"] for opening in openings] == ["first", "again, after the run was finished"]
    assert any("opened 2 times" in alarm for alarm in again["alarms"])
    assert "opened 2 times" in Path("run/report.html").read_text(encoding="utf-8")


def test_test_items_that_another_run_has_opened_are_told_of_by_both_commands(promptlab):
    told = "All 36 test items were opened before by {}: what was changed in view of that was chosen on this test."
    promptlab(LISTS, *TOLD, "--out", "runs/one", "--quiet")
    assert not any("opened before" in alarm for alarm in results("runs/one")["alarms"])
    promptlab(LISTS, *TOLD, "--out", "runs/two", "--quiet")
    assert told.format("another run beside this one (one)") in results("runs/two")["alarms"]
    assert "beside this one (one)" in Path("runs/two/report.html").read_text(encoding="utf-8")
    promptlab("compare lists.csv --text text --label label --arms majority --labels 8 --quiet --out runs/three")
    said = " ".join(results("runs/three")["decision"]["not_established"])  # it takes answers for classes: another test
    assert re.search(r"\d+ of the 36 test items were opened before by 2 other runs beside this one \(one, two\)", said)
    promptlab(LISTS, *TOLD, "--out", "runs/four", "--quiet")
    assert told.format("3 other runs beside this one (one, three, two)") in results("runs/four")["alarms"]


def test_answers_that_could_not_be_written_again_are_still_there(promptlab, monkeypatch):
    promptlab(LISTS, *TOLD, "--out", "run", "--quiet")
    before = Path("run/rows.jsonl").read_bytes()
    third = json.loads(before.splitlines()[2])["item"]

    def full_at_the_third(value):
        if "final" in value and value["item"] == third:
            raise OSError("No space left on device")
        return as_line(value)

    monkeypatch.setattr("promptlab.compare.optimizing.run.as_line", full_at_the_third)
    assert promptlab("optimize --resume run --quiet")[0] != 0
    assert Path("run/rows.jsonl").read_bytes() == before


def test_labels_are_classes_unless_answers_are_free(promptlab):
    write_csv(Path("fruit.csv"), 80)
    given = ["--model", "studies:Asked", "--calls", "400", "--option", "proposals=4", "--out", "run"]
    code, said, _ = promptlab("optimize fruit.csv", *given)
    assert code == 0
    assert said.splitlines()[-2].startswith("Keep the prompt you have:")
    assert load_prompt("run/prompt.json").labels == ("no", "yes")
    assert results()["failures"]


def test_a_file_of_answers_as_instruction_induction_has_it_can_be_used(promptlab):
    rows = [line.split(",") for line in Path("lists.csv").read_text().splitlines()[1:]]
    examples = {str(i): {"input": text, "output": word} for i, (text, word) in enumerate(rows)}
    with gzip.open("task.json.gz", "wt") as out:
        json.dump({"metadata": {"num_examples": len(rows)}, "examples": examples}, out)
    given = ["--text", "input", "--label", "output", "--output", "text", "--dry-run"]
    code, said, _ = promptlab("optimize task.json.gz --model searches:Words", *given)
    assert code == 0
    assert said.startswith("task: 84 labelled examples to search with")


def test_free_answers_that_are_numbers_are_not_taken_for_classes(promptlab):
    rows = [f"{i} and {i + 1},{2 * i + 1}" for i in range(120)]
    Path("sums.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    code, said, _ = promptlab("optimize sums.csv --output text --model searches:Words --dry-run")
    assert code == 0
    assert "as labels" not in said


def test_an_instruction_and_options_may_stand_in_files(promptlab):
    Path("now.txt").write_text("Give a word.\n")
    Path("pool.txt").write_text("Give the second word of the three.\nSay anything.\n")
    more = ["--method", "pool", "--option", "instructions=@pool.txt", "--instruction", "@now.txt"]
    code, _, _ = promptlab("optimize lists.csv --output text --calls 400 --model searches:Words --out run", *more)
    assert code == 0
    assert results()["prompts"]["seed"][""]["instruction"] == "Give a word."
    assert load_prompt("run/prompt.json").instruction == "Give the second word of the three."


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("--method guess", "Unknown method 'guess'. Known: ape"),
        ("--method duels", "`promptlab duels` is a command of its own."),
        ("--output poem", "--output is classification or text, got 'poem'"),
        ("--calls 60", "60 --calls are too few for an honest comparison and a test: give 69 or more, or 207,"),
        ("--strategy guess", "Unknown strategy 'guess'"),
        ("--option proposals", "--option takes name=value"),
        ("--option colour=3", "ape has no option colour"),
        ("--option calls=3", "the command has its own option"),
        ("--option proposals=many", "--option proposals takes a whole number, got 'many'"),
        ("--option proposals=-3", "--option proposals takes a whole number, got -3"),
        ("--option shares=[0.5,0.5]", "shares are those of feed, race and confirm"),
        ("--option test=t", "one of exact, betting"),
        ("--option limits={}", "in Python only"),
        ("--method pool", "give --option instructions=…"),
        ("--method pool --option instructions=one", "--option instructions takes a list"),
        ("--instruction @nowhere.txt", "nowhere.txt cannot be read"),
        ("--budget-usd 1", "the price of searches:Words is not known"),
        ("--text words", 'lists.csv has no text column "words"'),
        ("--resume run", "Give either a file of examples or --resume"),
        ("--test lists.csv --test-share 0.5", "--test-share is held back"),
        ("--export-sft x.jsonl", "give its folder with --resume"),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_2(promptlab, more, said):
    code, out, err = promptlab(
        "optimize lists.csv --output text --model searches:Words --quiet --out run", *more.split()
    )
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert said in err


def test_what_is_told_to_be_enough_is_enough(promptlab):
    asked = "optimize lists.csv --output text --model searches:Words --dry-run --calls".split()
    assert promptlab(*asked, "68")[0] == 2
    assert promptlab(*asked, "69")[0] == 0
    lines = Path("lists.csv").read_text().splitlines(keepends=True)
    for n, code in ((34, 2), (35, 0)):
        Path("few.csv").write_text("".join(lines[: n + 1]))
        found, _, err = promptlab("optimize", "few.csv", "--output", "text", "--model", "searches:Words", "--dry-run")
        assert (found, "that is 35 in all" in err) == (code, code == 2)


def test_a_model_that_may_not_stay_here_is_refused(promptlab):
    code, _, err = promptlab(LISTS, "--model", "studies:Down", "--local-only", "-q", "--out", "far")
    assert (code, "--local-only: studies:Down is not known to stay on this machine" in err) == (2, True)


def test_money_is_kept_for_the_test_and_never_exceeded(promptlab):
    given = ["--model", "searches:Priced/calls", "--option", "proposals=4", "--out", "run", "--quiet"]
    command = ["optimize", "lists.csv", "--output", "text", "--instruction", "Give a word.", *given]
    code, said, _ = promptlab(command, "--budget-usd", "0.0065")
    found = results()
    assert (code, found["test"]["failed"]) == (0, {"seed": 0, "final": 0})
    assert "the budget was spent before the search was done" in said
    assert 0 < found["spent_usd"] <= 0.0065
    assert found["spent_usd"] == pytest.approx(32e-6 * len(called(Path("calls"))))
    assert found["spent"]["task"]["usd"] + found["spent"]["proposer"]["usd"] == pytest.approx(found["spent_usd"])


def test_money_at_a_price_not_known_is_not_nothing(promptlab):
    promptlab(LISTS, *TOLD, "--out", "run", "--quiet")
    assert results()["spent_usd"] is None
    assert "for a price not known" in Path("run/report.html").read_text(encoding="utf-8")


def test_a_test_that_could_not_be_paid_is_not_a_test_that_was_failed(promptlab):
    command = "optimize lists.csv --output text --model searches:Priced --budget-usd 0.0005 --out run --quiet"
    code, said, _ = promptlab(command)
    assert code == 1
    assert said.startswith("Nothing is known: ")
    assert "BudgetExceeded" in said


def test_a_server_that_answers_nothing_is_a_failed_run_with_its_reason(promptlab):
    code, said, _ = promptlab(LISTS, "--model", "searches:Down", "--out", "run", "--quiet")
    assert code == 1
    assert "none of the first 20 requests was answered" in said
    assert results()["test"]["failed"]["seed"] == 36


def test_a_proposer_that_never_answers_is_a_failed_run_with_its_reason(promptlab):
    told = ["--instruction", "Give a word.", "--model", "searches:Mute"]
    code, said, _ = promptlab(LISTS, *told, "--out", "run", "--quiet")
    assert code == 1
    assert re.search(r"Keep the prompt you have: nothing was proposed .*the proposer did not answer .*no credit", said)


def test_the_place_of_the_input_in_an_instruction_is_filled(promptlab):
    template = "Give a word.\n\n# Now\nText: {{ text }}\nWord:\n"
    Path("now.txt").write_text(template)
    code, _, _ = promptlab(LISTS, "--instruction", "@now.txt", "--model", "searches:Words", "--out", "run", "--quiet")
    assert code == 0
    [seed] = results()["prompts"]["seed"].values()
    assert (seed["instruction"], seed["frame"]) == ("Give a word.\n\n# Now", ["Text: ", "\nWord:"])
    assert placed("{{note}}: which?", "note") == ("", ("", ": which?"))
    assert placed('{"a": "{{b}}"}', "text") == ('{"a": "{{b}}"}', ("", ""))
    code, _, err = promptlab(LISTS, "--instruction", "{{ text }} or {{text}}?", "--out", "other")
    assert code == 2
    assert "one place for the input, got 2" in err


def test_a_run_goes_on_only_as_it_was_begun(promptlab):
    promptlab(LISTS, *TOLD, "--out", "run", "--quiet")
    assert "holds a run already. Continue it with --resume run" in promptlab(LISTS, *TOLD, "--out", "run", "-q")[2]
    assert "leave out --seed" in promptlab("optimize --resume run --seed 3")[2]
    write_lists(Path("lists.csv"), 119)
    assert "lists.csv has changed since run was begun" in promptlab("optimize --resume run -q")[2]


def test_a_prompt_is_read_from_a_file_as_it_was_written(tmp_path):
    for output, target in ((str, "a {b} `c`"), (int, 3), (bool, True), (float, 0.5)):
        prompt = Prompt("Say <it>:\n# {x}", output, (Example("in $1", target),), False, frame=("Q: ", "\nA:"))
        save_prompt(prompt, tmp_path / "prompt.json")
        assert load_prompt(tmp_path / "prompt.json") == prompt


def test_demonstrations_that_came_went_and_moved_are_told_apart():
    one, two, three = (Example(text, "x") for text in "abc")
    before = Prompt("Say.", str, (one, two))
    told = difference(before, before.with_shots([three, two]))["shots"]
    assert (told["out"], told["in"], told["same"]) == ([("a", "x")], [("c", "x")], [("b", "x")])
    assert difference(before, before.with_shots([two, one]))["shots"]["reordered"]
    assert difference(before, Prompt("Say.", str, (one, two), frame=("Q: ", "")))["settings"] == {
        "frame": [("", ""), ("Q: ", "")]
    }


def test_what_changed_is_shown_by_words_and_nothing_is_lost():
    before, after = "Read the text. Say yes or no.", "Read the whole text, then say yes or no!"
    marked = words(before, after)
    assert "".join(text for mark, text in marked if mark != "in") == before
    assert "".join(text for mark, text in marked if mark != "out") == after
    assert ("same", " yes or no") in marked


def test_a_prompt_that_copies_an_example_or_grows_is_told(promptlab):
    from promptlab.compare.optimizing.arguments import Arguments, material
    from promptlab.optimizers.sections import sections

    task = material(Arguments(str(Path("lists.csv").resolve()), output="text", calls=500)).task
    shown = sections(task.train, task.prompt, 0).feed[0].example
    copied = f"Give the second word of the three, as in: {shown.input} {shown.target}. {'It is easy. ' * 40}"
    Path("pool.json").write_text(json.dumps([copied]))
    more = ["--method", "pool", "--option", "instructions=@pool.json", "--instruction", "Give a word."]
    promptlab("optimize lists.csv --output text --calls 500 --model searches:Words --out run", *more)
    alarms = results()["alarms"]
    assert results()["accepted"]
    assert any(alarm.startswith("The instruction copies an example") for alarm in alarms)
    assert any(alarm.startswith("The prompt has grown from 12 to ") for alarm in alarms)


@pytest.mark.parametrize(
    "more", ["--option colour=3", "--strategy guess", "--model nobody:x", "--budget-usd 1", "--calls 60"]
)
def test_what_is_refused_leaves_no_folder(promptlab, more):
    assert promptlab("optimize lists.csv --output text --model searches:Words --out run", *more.split())[0] == 2
    assert not Path("run").exists()


def test_a_strategy_answers_with_the_prompt_and_may_take_more_calls(promptlab):
    given = ["--strategy", "self-consistency", "--calls", "1500", "--out", "run"]
    code, _, _ = promptlab("optimize lists.csv --output text --option proposals=2", *TOLD, *given)
    found = results()
    assert code == 0
    assert len(called(Path("calls"))) <= 1_500
    assert found["test"]["n"] <= 36
    assert found["spent"]["task"]["calls"] > 5 * found["test"]["n"]


def test_fragility_that_cannot_be_measured_costs_the_run_nothing_else(promptlab):
    write_lists(Path("lists.csv"), 70)
    given = ["--test-share", "0.15", "--fragility", "--out", "run"]
    code, _, _ = promptlab("optimize lists.csv --output text --option proposals=6 --calls 400", *TOLD, *given)
    assert code == 0
    assert any("is not known: 10 items and 500 calls are too few" in alarm for alarm in results()["alarms"])
