"""The benchmarks run, and count and compare what they claim to."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks import (
    attention,
    channels,
    fits,
    flips,
    overhead,
    published_set,
    quick,
    side_by_side,
    waiting,
)
from benchmarks.limit import counted_flops, products_on
from benchmarks.random_pairs import CONDITIONS, random_pair, random_rows, random_workload
from benchmarks.ray_scaling import draws, simulate

from statebridge.engine.executors.shared_path import SharedPath
from statebridge.engine.planning.groups import grouped
from statebridge.models.token_batch import TokenBatch

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def pair() -> Any:
    return random_pair("demo")


@pytest.mark.slow
def test_the_quick_table_has_every_method(tmp_path: Path) -> None:
    side_by_side.main(["--quick", "--out", str(tmp_path / "methods")])
    record = json.loads((tmp_path / "methods.json").read_text("utf-8"))
    (table,) = record["sizes"].values()
    names = [entry["name"] for entry in table["entries"]]
    methods = ["(a)", "(b)", "(b)", "(c)", "(d)", "(d)", "(d)"]
    # Each kind of product that there is; attention; what is counted.
    kinds = products_on(torch.device("cpu"), torch.float32)
    assert [name[:3] for name in names] == [*methods, *["(e)"] * (len(kinds) + 2)]
    for entry in table["entries"]:
        assert entry["median_seconds_per_lane"] > 0
        assert 1 <= entry["repeats"] <= record["plan"]["rounds"]
    assert sum(table["overhead"].values()) == pytest.approx(1)
    assert {(point["rows"], point["cells"]) for point in table["scaling"]} == {
        (rows, cells) for rows in (1, 2) for cells in (1, 5, 25)
    }
    page = (tmp_path / "methods.md").read_text("utf-8")
    assert all(name in page for name in names)


def test_overhead_is_what_is_neither_arithmetic_nor_the_models(
    capsys: pytest.CaptureFixture[str],
) -> None:
    overhead.main(["--size", "demo", "--rows", "1", "--prompt", "7", "--new", "3"])
    *parts, last = capsys.readouterr().out.splitlines()
    shares = {line.split("%")[1].strip(): float(line.split("%")[0]) for line in parts}
    assert all(share > 0 for share in shares.values())
    # Each is printed to a tenth of a percent.
    assert sum(shares.values()) == pytest.approx(100, abs=0.4)
    expected = sum(shares[what] for what in overhead.OVERHEAD)
    assert float(last.split("%")[0]) == pytest.approx(expected, abs=0.2)


def test_what_is_waited_for_is_timed_alone_and_beside_others(
    capsys: pytest.CaptureFixture[str],
) -> None:
    waiting.main(["--runs", "1", "--neighbours", "1", "--only", "python -c pass"])
    (line,) = capsys.readouterr().out.splitlines()[2:]
    wall, cpu, megabytes, beside, _ = (float(part) for part in line.split("|")[2:-1])
    assert cpu > 0
    assert wall > 0
    assert beside > 0
    assert megabytes > 5


def test_a_command_that_fails_is_no_time() -> None:
    failing = waiting.Waiting("failing", (*waiting.PYTHON, "raise SystemExit('no reason')"))
    with pytest.raises(RuntimeError, match="failing: no reason"):
        waiting.took(failing)


@pytest.mark.parametrize("cells", CONDITIONS)
def test_conditions_make_the_cells_that_they_are_listed_under(pair: Any, cells: int) -> None:
    workload = random_workload(pair, random_rows([9, 7]), CONDITIONS[cells], 2)
    assert len(workload.plan.cells) == cells
    # Prompts are as long as asked for, or a table would compare methods at other lengths.
    assert workload.plan.prompts.lengths == (9, 7)


def test_the_limit_counts_what_a_forward_pass_multiplies() -> None:
    # Of a single cell and row: torch's own count over the passes that the engine makes.
    from torch.utils.flop_counter import FlopCounterMode

    pair = random_pair("demo")
    prompt, new, receiver = 11, 4, pair.receiver
    # The counter knows matrix products; it does not know the CPU's attention kernel.
    receiver.module.set_attn_implementation("eager")
    batch = TokenBatch.pack([list(range(1, prompt + 1))], receiver.pad_id)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        output = receiver.module(**batch.inputs(), use_cache=True, logits_to_keep=1)
        for _ in range(new - 1):
            output = receiver.module(
                input_ids=torch.tensor([[5]]), past_key_values=output.past_key_values
            )
    attention = 4 * receiver.width * len(receiver.block_paths) * prompt**2
    sender = sum(p.numel() for n, p in _block_weights(pair.sender))
    own = counted_flops(pair, 1, prompt, new)
    own -= 2 * sender * prompt * (pair.sender.layer + 1)
    # The prompt's attention to itself is left out of the limit.
    assert own == pytest.approx(counter.get_total_flops() - attention)


def _block_weights(model: Any) -> list[tuple[str, torch.Tensor]]:
    block = model.module.get_submodule(model.block_paths[0])
    return [(name, p) for name, p in block.named_parameters() if p.ndim == 2]


@pytest.mark.slow
def test_flips_are_found_and_measured(tmp_path: Path) -> None:
    fast = ["--rows", "2", "--new-tokens", "4", "--out", str(tmp_path / "flips")]
    flips.main([*fast, "--dtypes", "float32"])
    record = json.loads((tmp_path / "flips.json").read_text("utf-8"))
    choices = record["sizes"][0]["choices"]
    assert {(choice["lanes"], choice["padded"]) for choice in choices} == {
        (1, False), (8, False), (8, True), (64, False), (64, True),
    }  # fmt: skip
    assert all(choice["compared"] == 2 * len(flips.CONDITIONS) for choice in choices)
    assert all(choice["flipped"] == 0 for choice in choices)


def test_a_wrong_token_is_reported_with_its_step(pair: Any) -> None:
    oracle = flips.OraclePair(
        pair.sender.module, pair.receiver.module, pair.sender.layer, pair.receiver.layer,
        pair.receiver.tokenizer,
    )  # fmt: skip
    conditions = f"[{', '.join(flips.CONDITIONS)}]"
    workload = random_workload(pair, random_rows([9, 7]), conditions, 4, seeds=(42,))
    translator = next(t for (_, seed), t in workload.translators.items() if seed == 42)
    expected = flips.expected_rows(oracle, workload, translator)
    key = ("replace", "row_0001")
    tokens = expected[key].token_ids
    assert tokens is not None
    broken = (*tokens[:2], tokens[2] + 1, *tokens[3:])
    expected[key] = type(expected[key])(**{**vars(expected[key]), "token_ids": broken})
    (flip,) = flips.flips(oracle, expected, workload, 8, padded=True)
    assert (flip.cell, flip.row_id, flip.step) == ("replace/seed42", "row_0001", 2)
    assert flip.margin > 0


def test_the_published_set_is_run_scored_and_recorded(tmp_path: Path) -> None:
    lines = tmp_path / "published.jsonl"
    published_set.main(["--rows", "4", "--new-tokens", "2", "--json", str(lines)])
    (record,) = [json.loads(line) for line in lines.read_text("utf-8").splitlines()]
    assert record["files"] == 24
    assert record["dtype"] == "float32"
    assert 21 * 4 <= record["lanes"] <= 24 * 4
    lengths = published_set.prompt_lengths(396)
    assert (min(lengths), max(lengths)) == (30, 89)
    # The published mean is 47.74.
    assert abs(sum(lengths) / 396 - 47.74) < 3


def test_the_ways_to_attend_agree_where_they_are_timed() -> None:
    times, found = attention.ways((2, 3, 8), prompt=6, own=3, repeats=1)
    assert set(times) == {"kernel", "products", "shared"}
    assert all(value > 0 for value in times.values())
    for result in found.values():
        # Float32 sums in another order, of numbers about one.
        torch.testing.assert_close(result, found["kernel"], rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU: it would run for long")
def test_the_gpu_script_says_in_one_line_that_there_is_no_gpu(tmp_path: Path) -> None:
    import sys

    bash = shutil.which("bash")
    assert bash is not None
    done = subprocess.run(
        [bash, str(ROOT / "benchmarks" / "gpu.sh"), "--out", str(tmp_path / "out")],
        env={"PYTHON": sys.executable, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("gpu.sh: torch finds no CUDA here")
    assert done.stderr.count("\n") == 1


def test_a_simulated_driver_is_the_limit_where_it_is_too_slow() -> None:
    # Eight groups a second from each of 50 actors, of which a driver of 5 ms takes 200.
    efficiency, busy, waiting_groups = simulate(50, 2000, draws(0.125, 0.0), 0.005)
    assert efficiency == pytest.approx(0.5, abs=0.02)
    assert busy > 0.98
    assert waiting_groups < 100
    efficiency, busy, _ = simulate(10, 2000, draws(0.125, 0.0), 0.0005)
    assert efficiency > 0.98
    assert busy == pytest.approx(0.04, abs=0.005)


@pytest.mark.slow
def test_fits_are_timed_beside_what_they_need(capsys: pytest.CaptureFixture[str]) -> None:
    fits.main(["--quick"])
    lines = capsys.readouterr().out.splitlines()[2:]
    ratios = [float(line.split("|")[3]) for line in lines]
    assert len(ratios) == 8
    assert all(ratio > 0 for ratio in ratios)


def test_moved_names_changes_beyond_the_bar_and_the_noise() -> None:
    before = {"a": {"calls": 100.0, "products": 1.0, "spread": 0.02}}
    assert quick.moved(before, before) == []
    assert quick.moved({"a": {"calls": 106.0, "products": 1.06, "spread": 0.0}}, before) == [
        "a: calls 100 to 106 (+6%)"
    ]
    assert quick.moved({"a": {"calls": 100.0, "products": 0.9, "spread": 0.0}}, before) == [
        "a: products 1 to 0.9 (-10%)"
    ]
    assert quick.moved({"b": before["a"]}, before) == ["b: new"]


def test_calls_are_counted_in_all_threads_and_the_same_each_time() -> None:
    def work() -> None:
        threads = [threading.Thread(target=lambda: plus(1)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def plus(number: int) -> int:
        return number + 1

    counts = []
    for _ in range(2):
        with quick.counted_calls() as found:
            work()
        counts.append(found[0])
    # Two in each of three threads, and `work`; the rest is of the context manager.
    assert counts[0] == counts[1]
    assert counts[0] >= 7


@pytest.mark.slow
def test_the_committed_figures_have_all_five_paths() -> None:
    committed = json.loads(quick.COMMITTED.read_text("utf-8"))
    with ExitStack() as opened:
        assert set(committed) == set(quick.hot_paths(opened))


@pytest.mark.slow
def test_a_channel_is_timed_beside_a_loop_and_the_products(
    capsys: pytest.CaptureFixture[str],
) -> None:
    few = ["--rows", "2", "--prompt", "9", "--new-tokens", "2", "--rounds", "1"]
    channels.main(["--channel", "fused", *few])
    (line,) = capsys.readouterr().out.splitlines()[2:]
    loop, ours, products, *_ = (float(part) for part in line.split("|")[2:-1])
    assert min(loop, ours, products) > 0


@pytest.mark.slow
def test_the_loops_answer_as_the_engine_does() -> None:
    """One that skips its channel would be no peer."""
    model = channels.model_of("demo")
    rows, new, alone = random_rows([12, 12]), 6, channels.loops(model)
    for channel in channels.CONDITIONS:
        work, both = channels.ready(model, channel, rows, new)
        work = replace(work, plan=grouped(work.plan, 64))
        path = SharedPath(work)
        lanes = {row: lane for group in work.plan.groups for _, row, lane in path.run(group)}
        with torch.no_grad():
            found = [alone[channel](sent, asked, new) for sent, asked in both]
        assert found == [lanes[row].token_ids for row in range(len(rows))], channel
