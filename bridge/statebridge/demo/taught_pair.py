"""The small GPT-NeoX pair that was taught to answer generated two-hop rows.

Its files are package data, written by `scripts/demo_pair/train.py`.
"""

from __future__ import annotations

from pathlib import Path

from statebridge.errors import PairError

TAUGHT = Path(__file__).parent / "taught"
SIDES = ("sender", "receiver")
SEEDS = (42, 123, 456)


def taught_pair_folders() -> dict[str, Path]:
    """Return the folders of `sender` and `receiver`, each as `save_pretrained` wrote it.

    Raises:
        PairError: The files are not there: they were left out of the installed package.
    """
    folders = {side: TAUGHT / side for side in SIDES}
    for folder in folders.values():
        for name in ("config.json", "model.safetensors", "tokenizer.json"):
            if not (folder / name).is_file():
                raise PairError(
                    f"taught pair: no {name} in {folder}; install the package whole, or write "
                    "the pair with scripts/demo_pair/train.py"
                )
    return folders


def taught_translators() -> dict[int, Path]:
    """Return the pair's translators that were trained through the receiver, by seed.

    Made by `statebridge fit experiments/taught-pair.yaml`; another machine's differ in the last
    digits.

    Raises:
        PairError: The files are not there: they were left out of the installed package.
    """
    files = {seed: TAUGHT / "translators" / f"seed{seed}.safetensors" for seed in SEEDS}
    for file in files.values():
        if not file.is_file():
            raise PairError(
                f"taught pair: no {file.name} in {file.parent}; install the package whole, or fit "
                "experiments/taught-pair.yaml"
            )
    return files
