"""Pretraining through its one function and its one command."""

import json
import os
import re
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import SafetensorError

from promptlab.cli import main
from promptlab.errors import SetupError
from promptlab.tiny import parallel, presets
from promptlab.tiny.adapt import adapt
from promptlab.tiny.checkpoint import load, save
from promptlab.tiny.data.mixture import EARLY, LATER, MIXTURE, ablated
from promptlab.tiny.data.stream import Reading, rows_ahead
from promptlab.tiny.mlm import pretrain_masked
from promptlab.tiny.model import Transformer
from promptlab.tiny.precision import precision
from promptlab.tiny.presets import Preset
from promptlab.tiny.pretrain import Plan, batches, pretrain
from promptlab.tiny.tokenizer import Tokenizer
from promptlab.tiny.train import next_token_loss
from promptlab.tiny.vocabulary import with_vocabulary

QUIET = {"bf16": False, "threads": 1, "quiet": True}


def weights(folder: Path) -> list[torch.Tensor]:
    return list(load(folder).model.parameters())


def same(a: Path, b: Path) -> bool:
    return all(torch.equal(x, y) for x, y in zip(weights(a), weights(b), strict=True))


def test_a_run_can_be_continued_from_another_ones_weights(tmp_path: Path) -> None:
    pretrain(tmp_path / "first", steps=1, long_from=1, **QUIET)
    pretrain(tmp_path / "second", init=tmp_path / "first", steps=0, **QUIET)
    assert same(tmp_path / "first", tmp_path / "second")
    with pytest.raises(SetupError, match="begun with"):
        pretrain(tmp_path / "first", steps=2, seed=1, **QUIET)


FEVER = {"texts": ["fever and cough " * 60], "steps": 0, "threads": 1, "bf16": False}
BEGUN = {
    "pretrain.json": lambda run, init: pretrain(run, init=init, steps=0, **QUIET),
    "mlm.json": lambda run, init: pretrain_masked(run, init=init, quiet=True, **FEVER),
    "adapt.json": lambda run, init: adapt(run, init, **FEVER),
}


@pytest.mark.parametrize("note", BEGUN)
def test_a_run_knows_its_start_by_the_weights_and_not_by_where_they_lie(
    tmp_path: Path, random_folder: Path, monkeypatch: pytest.MonkeyPatch, note: str
) -> None:
    monkeypatch.chdir(tmp_path)
    go_on = partial(BEGUN[note], tmp_path / "run")
    shutil.copytree(random_folder, "start")
    go_on(Path("start"))
    go_on(tmp_path / "start")
    shutil.move("start", "moved")
    go_on(Path("moved"))
    model, tokenizer, _ = load("moved")
    with torch.no_grad():
        model.model.norm.weight *= 2
    save(Path("start"), model, tokenizer)  # other weights where those of the run lay
    with pytest.raises(SetupError, match="was begun with"):
        go_on(Path("start"))
    file = tmp_path / "run" / note
    file.write_text(json.dumps({key: value for key, value in json.loads(file.read_text()).items() if key != "sha256"}))
    go_on(Path("start"))  # a note from before knows the path only
    with pytest.raises(SetupError, match="was begun with"):
        go_on(Path("moved"))


@contextmanager
def room_for_files_of(most: int) -> Iterator[None]:
    """A file that grows longer than so many bytes stays as it is by then: as on a full disk, or after a kill."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("note", BEGUN)
def test_a_run_that_was_stopped_while_it_wrote_a_note_goes_on(tmp_path: Path, random_folder: Path, note: str) -> None:
    begin = BEGUN[note]
    for room in (0, 20, 300, 3_000, 30_000, 60_000):  # the first note, half of a tokenizer, the weights …
        with suppress(OSError, SafetensorError), room_for_files_of(room):
            begin(tmp_path / "stopped", random_folder)
    begin(tmp_path / "stopped", random_folder)
    begin(tmp_path / "whole", random_folder)
    assert same(tmp_path / "stopped", tmp_path / "whole")


def test_a_note_that_cannot_be_read_is_named(tmp_path: Path, random_folder: Path) -> None:
    for note, begin in BEGUN.items():
        run = tmp_path / note
        begin(run, random_folder)
        (run / note).write_text("")
        with pytest.raises(SetupError, match=note):
            begin(run, random_folder)


def test_a_run_can_be_continued_with_a_vocabulary_of_its_own(
    tmp_path: Path, random_folder: Path, random_model: Transformer, tiny_tokenizer: Tokenizer
) -> None:
    pretrain(tmp_path / "run", init=random_folder, new_vocabulary=True, steps=0, **QUIET)
    model, tokenizer, _ = load(tmp_path / "run")
    assert len(tokenizer) == model.config.vocab_size == presets.preset("organism").config.vocab_size
    old, new = random_model.model.embed_tokens.weight, model.model.embed_tokens.weight
    known = tiny_tokenizer.bpe.get_vocab()
    grown = {token: i for token, i in tokenizer.bpe.get_vocab().items() if token not in known}
    assert len(grown) > 500
    for i in list(grown.values())[::50]:  # the mean of what it was written with before
        torch.testing.assert_close(new[i], old[tiny_tokenizer.encode(tokenizer.decode([i]))].mean(0))
    assert torch.equal(new[tokenizer.encode("7")], old[tiny_tokenizer.encode("7")])
    same_again = with_vocabulary(random_model, tiny_tokenizer, tiny_tokenizer)
    assert all(torch.equal(a, b) for a, b in zip(same_again.parameters(), random_model.parameters(), strict=True))


def test_a_run_from_before_there_were_presets_and_twins_goes_on(tmp_path: Path) -> None:
    pretrain(tmp_path / "run", steps=0, **QUIET)
    file = tmp_path / "run" / "pretrain.json"
    begun = json.loads(file.read_text())
    file.write_text(json.dumps({name: begun[name] for name in ("seed", "lr", "init", "bf16")}))
    pretrain(tmp_path / "run", steps=0, **QUIET)
    with pytest.raises(SetupError, match="begun with"):
        pretrain(tmp_path / "run", steps=0, fixed_labels=True, **QUIET)


def test_rows_are_short_at_first_and_then_as_long_as_the_context(tiny_tokenizer: Tokenizer) -> None:
    reading = Reading(seed=0, context=1024, long_from=2, early=1)
    for step, size in ((0, 256), (1, 256), (2, 1024)):
        made = batches(reading.rows(tiny_tokenizer, step))
        tokens = np.concatenate([batch.tokens for batch in made])
        assert tokens.shape == (8192 // size, size + 1)
        assert len(np.unique(tokens, axis=0)) == len(tokens)
        assert {batch.weights.shape[1] for batch in made} == {size}


def test_a_step_of_fewer_tokens_than_the_context_reads_a_row(tmp_path: Path, random_folder: Path) -> None:
    given = {"steps": 1, "lr": 1e-3, "long_from": 0, **QUIET}
    pretrain_masked(tmp_path / "run", init=random_folder, tokens_per_step=16, **given)
    assert not same(tmp_path / "run", random_folder)


def test_rows_that_another_process_makes_are_the_same_rows(tmp_path: Path, tiny_tokenizer: Tokenizer) -> None:
    tiny_tokenizer.save(tmp_path / "tokenizer.json")
    reading = Reading(0, 128, long_from=9, early=1, tokens_per_step=512, later=2)
    with rows_ahead(reading, tmp_path / "tokenizer.json") as at:
        for step in (0, 1, 2, 7, 3):  # also where a step is not the one after the last
            for made, expected in zip(at(step), reading.rows(tiny_tokenizer, step), strict=True):
                np.testing.assert_array_equal(made, expected)


@pytest.mark.parametrize("n", [2, 3, 11])
def test_processes_share_the_rows_of_a_step(tiny_tokenizer: Tokenizer, n: int) -> None:
    """Also where they cannot have as many each, or some have none."""
    whole = Reading(0, 128, 9, 0, 1024).rows(tiny_tokenizer, 3)
    parts = [Reading(0, 128, 9, 0, 1024, rank=i, processes=n).rows(tiny_tokenizer, 3) for i in range(n)]
    assert len(whole[0]) == 8
    for i in (0, 1):
        np.testing.assert_array_equal(whole[i], np.concatenate([part[i] for part in parts]))


def test_twins_lack_what_they_are_to_lack(tiny_tokenizer: Tokenizer) -> None:
    def read(**twin: object) -> str:
        ids, _ = Reading(0, 512, 0, 0, 16_384, **twin).rows(tiny_tokenizer, 0)  # type: ignore[arg-type]
        return tiny_tokenizer.decode([int(i) for i in ids.flatten()])

    assert "step by step" in read()
    assert "step by step" not in read(without=("scratchpads",))
    assert not {"repetition", "recall"} & set(ablated(EARLY, ("repetition",)))
    assert set(ablated(LATER, ("countdown",))) == set(MIXTURE) - {"countdown"}
    assert read() != read(fixed_labels=True)
    with pytest.raises(SetupError, match="Known: scratchpads, repetition"):
        ablated(MIXTURE, ("poetry",))


SMALL = Preset(presets.Config(vocab_size=512, d_model=32, n_layers=2, n_heads=2, d_ff=64, context=64), 4, 1e-3, 256)


CPUS = [({"avx512_bf16": True}, True), ({"amx_bf16": True, "avx2": True}, True), ({"avx2": True}, False), ({}, False)]


@pytest.mark.parametrize(("has", "bf16"), CPUS)
def test_precision_is_as_asked_else_as_begun_else_as_suits_the_processor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has: dict[str, bool], bf16: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: has)
    noted = tmp_path / "noted.json"
    assert precision(noted, None) is bf16
    assert precision(noted, not bf16) is not bf16
    for begun in (True, False):  # perhaps on another machine
        noted.write_text(json.dumps({"bf16": begun}))
        assert precision(noted, None) is begun
        assert precision(noted, not begun) is not begun


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_tokenizer: Tokenizer) -> None:
    """A preset that is trained in no time, and folders of runs that have a tokenizer."""
    monkeypatch.setitem(presets.PRESETS, "nano", SMALL)
    for name in ("run", "other", "whole", "parts", "one", "two"):
        (tmp_path / name).mkdir()
        tiny_tokenizer.save(tmp_path / name / "tokenizer.json")


def test_minutes_become_steps_that_a_resumed_run_keeps(
    tmp_path: Path, small: None, capsys: pytest.CaptureFixture[str]
) -> None:
    pretrain(tmp_path / "run", preset="nano", minutes=0.02, bf16=False, threads=1)
    plan = Plan(**json.loads((tmp_path / "run" / "plan.json").read_text()))
    assert plan.steps >= 10
    told = capsys.readouterr().out
    assert re.match(r"[\d,]+ parameters, .* FLOPs .* of memory, about .* tokens/s", told)
    trained = weights(tmp_path / "run")
    pretrain(tmp_path / "run", preset="nano", minutes=0.02, bf16=False, threads=1)  # finished: it is not begun anew
    assert capsys.readouterr().out == f"already done: {plan.steps} steps\n"
    pretrain(tmp_path / "run", preset="nano", steps=2, bf16=False, threads=1)
    assert capsys.readouterr().out == f"already done: {plan.steps} steps\n"
    assert Plan(**json.loads((tmp_path / "run" / "plan.json").read_text())) == plan
    assert all(torch.equal(a, b) for a, b in zip(trained, weights(tmp_path / "run"), strict=True))
    with pytest.raises(SetupError, match="not both"):
        pretrain(tmp_path / "other", preset="nano", steps=3, minutes=1, **QUIET)


@pytest.mark.parametrize("given", [{"minutes": 1}, {"early": 2}, {"later": 3}, {"long_from": 0}], ids=str)
def test_what_is_not_of_a_runs_plan_is_refused_unless_it_is_planned_anew(
    tmp_path: Path, small: None, given: dict[str, int]
) -> None:
    pretrain(tmp_path / "run", preset="nano", early=1, **QUIET)
    pretrain(tmp_path / "run", preset="nano", early=1, **QUIET)
    file = tmp_path / "run" / "plan.json"
    planned = file.read_text()
    with pytest.raises(SetupError, match=r"plan\.json is .*'steps': 4, .* give --steps"):
        pretrain(tmp_path / "run", preset="nano", **given, **QUIET)
    assert file.read_text() == planned
    anew = {"steps": 5, **given} if "minutes" not in given else {"steps": 5}
    pretrain(tmp_path / "run", preset="nano", **anew, **QUIET)
    assert json.loads(file.read_text()).items() >= anew.items()


def test_a_plan_from_before_does_not_know_its_minutes(tmp_path: Path, small: None) -> None:
    pretrain(tmp_path / "run", preset="nano", **QUIET)
    file = tmp_path / "run" / "plan.json"
    file.write_text(json.dumps({name: n for name, n in json.loads(file.read_text()).items() if name != "minutes"}))
    pretrain(tmp_path / "run", preset="nano", minutes=1, **QUIET)


def test_models_are_kept_at_doublings_and_a_stopped_run_ends_as_one_that_was_not(tmp_path: Path, small: None) -> None:
    pretrain(tmp_path / "whole", preset="nano", steps=201, decay=0.0, **QUIET)
    assert sorted(path.name for path in (tmp_path / "whole").glob("at-*")) == ["at-100", "at-200"]
    shares = {"early": 30, "later": 111, "long_from": 131}
    assert json.loads((tmp_path / "whole" / "plan.json").read_text()) == {"steps": 201, **shares, "minutes": None}
    pretrain(tmp_path / "parts", preset="nano", steps=150, decay=0.0, **shares, **QUIET)
    assert same(tmp_path / "parts" / "at-100", tmp_path / "whole" / "at-100")
    pretrain(tmp_path / "parts", preset="nano", steps=201, decay=0.0, **QUIET)
    assert same(tmp_path / "parts", tmp_path / "whole")


@pytest.mark.parametrize("bf16", [True, False])
def test_a_run_keeps_its_precision_on_another_machine(
    tmp_path: Path, small: None, monkeypatch: pytest.MonkeyPatch, bf16: bool
) -> None:
    def goes_on(name: str, steps: int, has: bool, **asked: bool) -> None:
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": has})
        plan = {"steps": steps, "decay": 0.0, "early": 1, "later": 2, "long_from": 3}
        pretrain(tmp_path / name, preset="nano", threads=1, quiet=True, **plan, **asked)

    goes_on("whole", 4, has=bf16)
    goes_on("parts", 2, has=bf16)
    goes_on("parts", 4, has=not bf16)
    assert same(tmp_path / "whole", tmp_path / "parts")
    goes_on("other", 4, has=bf16, bf16=not bf16)
    assert not same(tmp_path / "whole", tmp_path / "other")
    with pytest.raises(SetupError, match="begun with"):
        goes_on("parts", 4, has=bf16, bf16=not bf16)


def share(run: Path) -> None:
    """What each of two processes does. Only one of them may plan how many steps there are."""
    presets.PRESETS["nano"] = replace(SMALL, steps=3)
    pretrain(run, preset="nano", long_from=1, decay=0.0, **QUIET)


def test_two_processes_train_as_one(tmp_path: Path, small: None) -> None:
    share(tmp_path / "one")
    parallel.run_in(2, share, tmp_path / "two")
    for a, b in zip(weights(tmp_path / "one"), weights(tmp_path / "two"), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)


def test_what_does_not_fit_is_refused_before_anything_is_written_and_estimated(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presets, "installed", lambda: 4e9)
    with pytest.raises(SystemExit) as ended:
        main(["train", "pretrain", "nowhere", "--without", "nothing known", "--preset", "nano"])
    assert ended.value.code == 2
    assert "Cannot leave out nothing known. Known: scratchpads, repetition" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["train", "mlm", "nowhere", "--fill", "no gap", "--steps", "2"])
    assert "write [MASK] where the one is" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        main(["train", "pretrain", "nowhere", "--preset", "large"])
    assert ended.value.code == 2
    assert "GB of memory, more than the 4.0 GB there are; --estimate says what else" in capsys.readouterr().err
    with pytest.raises(SetupError, match=r"There is no preset 'huge'\. Known: nano, organism"):
        presets.estimate("huge", 10, 5)
    with pytest.raises(SystemExit) as ended:
        main(["train", "pretrain", "nowhere", "--preset", "nano", "--estimate", "--threads", "1"])
    assert not ended.value.code
    told = capsys.readouterr().out
    assert "tokens/s" in told
    assert f"in {'bf16' if presets.native_bf16() else 'float32'}, " in told
    monkeypatch.setattr(presets, "installed", lambda: 1e8)
    told = str(presets.estimate("nano", 10, 5))
    assert "more than the 0.1 GB there are, about " in told
    assert not Path("nowhere").exists()


def test_the_estimate_of_operations_is_that_of_the_model(
    tiny_tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two operations a multiplication, forward, and twice that backward: as counted by torch, but for the embedding."""
    from torch.utils.flop_counter import FlopCounterMode

    config = presets.PRESETS["nano"].config
    model = presets.Transformer(config).initialise(torch.Generator().manual_seed(0))
    tokens = torch.randint(0, config.vocab_size, (2, 257))
    monkeypatch.setenv("PROMPTLAB_COMPILE", "0")  # PyTorch counts its own operations only
    with FlopCounterMode(display=False) as counter:
        next_token_loss(model, presets.Batch(tokens, torch.ones(2, 256))).backward()
    expected = presets.flops_per_token(config, presets.parameters_of(config), 256) * tokens[:, 1:].numel()
    assert counter.get_total_flops() == pytest.approx(expected, rel=0.15)


def test_processes_end_when_the_one_that_waits_for_them_is_killed(tmp_path: Path) -> None:
    """Also where a shell has started it in the background, with SIGINT ignored."""
    begin = "import pathlib, signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); import small_run; "
    begin += "from promptlab.tiny import parallel; parallel.run_in(2, small_run.asleep, pathlib.Path(sys.argv[1]))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    waiting = subprocess.Popen([sys.executable, "-c", begin, tmp_path], env=environment, stderr=subprocess.DEVNULL)
    until(lambda: len(list(tmp_path.iterdir())) == 2)
    waiting.kill()
    waiting.wait()
    until(lambda: not any(Path(f"/proc/{file.name}/mem").exists() for file in tmp_path.iterdir()))


def until(condition: Callable[[], bool], at_most_s: float = 120) -> None:
    end = time.monotonic() + at_most_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)
