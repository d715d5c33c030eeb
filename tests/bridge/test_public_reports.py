"""Small inputs from other projects' public reports, each a member of a kind that once failed here.

Each case names the report that its input was adapted from: an issue or a pull request of a public
repository on GitHub. The inputs are ours.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from statebridge.data import read_dataset
from statebridge.errors import ExperimentError, InputError
from statebridge.experiment import load_experiment, parse_experiment
from statebridge.scoring.containment import contains_answer
from statebridge.scoring.conventions import choice_letter, final_number
from statebridge.scoring.gold import Gold
from statebridge_client import Client

# -------------------------------------------------- rules of plain text meet other text

LETTERS = [
    ("UKGovernmentBEIS/inspect_ai#5055", "ANSWER: $A$", "A"),
    ("UKGovernmentBEIS/inspect_ai#5145", "I weigh it up.\nANSWER: (B)", "B"),
    ("UKGovernmentBEIS/inspect_ai PR#5058", "ANSWER: I don't know", None),
    ("Azure/azureml-assets PR#5274", "***ANSWER***: ***B***", "B"),
    ("groq/openbench#348", "It is 11.\n\nAnswer seems to be A.\n\nAnswer: A\n", "A"),
    ("NVIDIA-NeMo/Skills PR#1526", r"\boxed{\Delta E} is large. Answer: B", "B"),
    ("ai-twinkle/Eval#166", "先看 (D)，不對。\n答案: $A", "A"),
]


@pytest.mark.parametrize(("source", "prediction", "letter"), LETTERS)
def test_letters(source: str, prediction: str, letter: str | None) -> None:
    letters = ("A", "B", "C", "D", "E", "I")
    found = [each for each in letters if choice_letter(prediction, Gold(each, options=letters))]
    assert found == ([] if letter is None else [letter])


NUMBERS = [
    ("open-compass/opencompass PR#2426", "His profit is $200,000 - $130,000 = $70,000.", "70000"),
    ("sgl-project/sglang PR#29933", "So 18.\n#### 18\n\nQuestion: Next?\nAnswer: #### 42", "18"),
    ("jundot/omlx PR#3484", "The total is 72 clips, altogether.", "72"),
    ("EleutherAI/lm-evaluation-harness#3214", "the total cost of the order is $29.00.", "29"),
    ("google-deepmind/proeval PR#19", "It falls from 2 degrees.\n#### -3", "-3"),
    ("mapbox/carmen#820", "答えは４２です。", "42"),
]


@pytest.mark.parametrize(("source", "prediction", "number"), NUMBERS)
def test_numbers(source: str, prediction: str, number: str) -> None:
    assert final_number(prediction, Gold(number))
    assert not final_number(prediction, Gold("7"))


TEXTS = [
    ("ShokoAnime/ShokoServer PR#1338", "It is Ｇｉｎｔａｍａ.", "Gintama"),
    ("maziyarpanahi/openmed#1468", "編號：ＡＢ１２３，謝謝", "AB123"),
    ("maziyarpanahi/openmed PR#2266", "the ﬁnal ﬂoor", "final floor"),
    ("earendil-works/pi PR#2046", "在 ㈱ 北京 市", "北京"),
]


@pytest.mark.parametrize(("source", "prediction", "answer"), TEXTS)
def test_texts(source: str, prediction: str, answer: str) -> None:
    assert contains_answer(prediction, Gold(answer))
    assert not contains_answer(prediction, Gold("elsewhere"))


# -------------------------------------------------- files as other programs write them

ROWS = [
    {"id": str(number), "context": "c", "question": "q", "answer": f"a{number}"}
    for number in range(3)
]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)
TABLE = "id,context,question,answer\n" + "".join(",".join(row.values()) + "\n" for row in ROWS)
FILES = [
    ("huggingface/datasets#8241", "rows.jsonl", LINES),
    ("viggy28/recall#38", "rows.jsonl", LINES.replace("\n", "\r\n")),
    ("UKGovernmentBEIS/inspect_ai#5474", "rows.csv", TABLE),
    ("infiniflow/ragflow#19179", "rows.tsv", TABLE.replace(",", "\t")),
]


@pytest.mark.parametrize(("source", "name", "text"), FILES)
def test_files_with_a_byte_order_mark(source: str, name: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(text.encode("utf-8-sig"))
    assert [row.answer for row in read_dataset(path)] == ["a0", "a1", "a2"]


DECLARED = """
name: x
sender: {model: a/b, layer: 0}
receiver: {model: a/b, layer: 0}
dataset: {generate: {rows: 2}}
conditions: [no_inject]
"""


@pytest.mark.parametrize(
    ("source", "suffix"), [("pydantic/pydantic-ai#8316", "json"), ("cityjson/cjio#21", "yaml")]
)
def test_experiments_with_a_byte_order_mark(source: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"x.{suffix}"
    text = DECLARED
    if suffix == "json":
        fields = parse_experiment(DECLARED).model_dump(mode="json", exclude_unset=True)
        text = json.dumps(fields)
    path.write_bytes(text.encode("utf-8-sig"))
    assert load_experiment(path).name == "x"


# -------------------------------------------------- numbers of YAML 1.1

# Readers of YAML 1.1 and 1.2 differ in them: read as decimal where no reader differs, else refused.
YAML = [
    ("aaubry/YamlDotNet#447", "limit: 0008", 8),
    ("kynema/kynema-ugf PR#584", "limit: 0010", "0010 is octal to some readers of YAML; write 10"),
    ("opensanctions/opensanctions#3845", "seeds: [0555567]", "write 555567"),
    ("kislyuk/yq#201", "seeds: [08, 011]", "write 11"),
    ("warpnet/salt-lint PR#36", "seeds: [1, 00]", "write 0"),
    ("ManiacalLabs/BiblioPixel#753", "translators: {042: a.pt, 08: b.pt}", "write 42"),
]


@pytest.mark.parametrize(("source", "line", "expected"), YAML)
def test_numbers_of_a_file(source: str, line: str, expected: int | str) -> None:
    if isinstance(expected, int):
        assert parse_experiment(DECLARED + line + "\n").limit == expected
    else:
        with pytest.raises(ExperimentError, match=f"{expected}(,|$)"):
            parse_experiment(DECLARED + line + "\n")


# -------------------------------------------------- the environment of a command

PROXIES = [
    ("NousResearch/hermes-agent PR#6403", {"HTTP_PROXY": "http://127.0.0.1:6153export"}),
    ("encode/httpx#806", {"HTTP_PROXY": "127.0.0.1:7890x"}),
    ("openai/openai-python PR#3395", {"NO_PROXY": "localhost\nexample.org"}),
    ("safedep/pmg#339", {"NO_PROXY": "localhost,127.0.0.1,[::1]"}),
]


@pytest.mark.parametrize(("source", "proxies"), PROXIES)
def test_a_proxy_that_is_none_is_named(
    source: str, proxies: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name, value in proxies.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=next(iter(proxies))) as caught:
        Client("http://127.0.0.1:9", "k")
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "encoding"),
    [("ffroliva/gflow-cli#82", "cp1252"), ("teng-lin/notebooklm-py#318", "cp950")],
)
def test_lists_are_printed_in_any_encoding(
    source: str, encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", encoding)
    done = subprocess.run(
        [sys.executable, "-m", "statebridge", "ls", "presets"], capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
