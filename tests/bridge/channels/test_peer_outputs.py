"""Outputs of the peers' own code on small models, made again here.

AC (arXiv 2501.14082, code of KVComm): the first logits with a state written. KVComm (arXiv
2510.03346): `middle_mask_fixed` is their code with the mask that keeps shortened
blocks causal, as ours are. LatentMAS (arXiv 2511.20639): the first agent's latent steps
(over random weights a rollout multiplies rounding errors), and whole chains of agents. CIPHER
(arXiv 2310.06272): the vectors that the sender writes. C2C (arXiv 2510.03215): the fused caches,
and what is decoded on them. SDE (arXiv 2506.19209): the deltas, and what is decoded with them on a
text. The shared data's README names every patch.
"""

from __future__ import annotations

import json
import runpy
import sys
import warnings
from pathlib import Path
from typing import Any

import nnsight
import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from statebridge.channels.fused import fused_into
from statebridge.channels.messages.state_deltas import changes
from statebridge.channels.operators import combine_states
from statebridge.engine.decoding.lanes import DecodingSettings, prefill
from statebridge.engine.decoding.steps import decode_lanes
from statebridge.experiment.conditions import Condition
from statebridge.experiment.message import Deltas
from statebridge.models.messages.input_vectors import (
    LatentMap,
    adding,
    input_vectors,
    latent_step,
    roll_out,
    write_mixtures,
    write_tokens,
)
from statebridge.models.messages.key_values import KeyValues
from statebridge.models.passes import Pass
from statebridge.models.traced_model import TracedModel
from statebridge.translators import load_translator
from tests.shared_data import SHARED, needs_shared

OUTPUTS = SHARED / "peers" / "outputs"
SETTINGS = ("all/llama6-llama6", "all/neox-neox", "middle_mask_fixed/llama6-llama6")

pytestmark = [needs_shared, pytest.mark.slow]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with their models, which are drawn from seeds."""
    folder = tmp_path_factory.mktemp("peers")
    program = OUTPUTS / "make_peer_models.py"
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # it closes no file
        patch.setattr(sys, "argv", [program.name, "--out", str(folder)])
        runpy.run_path(str(program), run_name="__main__")
    return folder


def _model(folder: Path) -> TracedModel:
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    module = AutoModelForCausalLM.from_pretrained(folder).eval()
    model = nnsight.TransformersModel(module, task="text-generation", tokenizer=tokenizer)
    return TracedModel.wrap(model, tokenizer, 1)


@pytest.mark.parametrize("name", SETTINGS)
def test_messages_give_what_their_code_gives(models: Path, name: str) -> None:
    recorded = json.loads((OUTPUTS / "kvcomm.json").read_text(encoding="utf-8"))["settings"][name]
    items: list[dict[str, Any]] = recorded["items"]
    model = _model(models / recorded["receiver"])
    whole = recorded["layers_effective_sender_indices"]
    sent = model.key_values(model.pack([item["sender_ids"] for item in items])).shortened(whole)
    # On the shared path all items run together, padded; on the plain path each runs alone.
    batch = model.pack([item["receiver_ids"] for item in items])
    lanes = prefill(model, batch, 16, sent)
    together = lanes.logits.clone()
    decoded = decode_lanes(model, lanes, DecodingSettings(16, 1.0, 0))
    for place, item in enumerate(items):
        own, ids = sent.select([place]), model.pack([item["receiver_ids"]])
        lengths = [keys.shape[2] for keys, _ in own.layers]
        assert lengths == item["key_lengths_before_receiver"]
        alone, generated = model.run_passes(
            [
                Pass({"input_ids": ids.ids}, keep=1, message=own),
                model.generation(ids, None, {"max_new_tokens": 16, "do_sample": False}, own),
            ]
        )
        top = item["first_logits_top20"]
        for logits in (alone[0, -1], together[place]):
            # The tolerance of the shared data's README: their sums are in another order.
            expected = torch.tensor(top["values"])
            torch.testing.assert_close(logits[top["ids"]], expected, rtol=0, atol=1e-4)
        # A tie within rounding may go the other way; of these items none is one.
        assert min(item["step_top1_minus_top2"]) > 1e-3
        assert decoded[place] == item["generated_ids"]
        assert generated[0, ids.ids.shape[1] :].tolist() == item["generated_ids"]


@pytest.mark.parametrize("by", ["identity", "realigned"])
def test_latent_steps_are_those_of_their_code(models: Path, by: LatentMap) -> None:
    recorded = json.loads((OUTPUTS / "latentmas.json").read_text(encoding="utf-8"))["settings"]
    setting = recorded[f"m5_{by.removesuffix('ed')}/qwen3"]
    model = _model(models / "qwen3")
    step = latent_step(model, by)
    assert step.norm == pytest.approx(setting["target_norm"], rel=1e-5)
    if step.matrix is not None:
        expected = torch.tensor(setting["realign_matrix"]["first4x4"])
        torch.testing.assert_close(step.matrix[:4, :4], expected, rtol=1e-4, atol=1e-5)
    items = setting["items"]
    made: list[torch.Tensor] = []

    def noted(states: torch.Tensor) -> torch.Tensor:
        made.append(step(states))
        return made[-1]

    prompts = [item["agents"][0]["input_ids"] for item in items]
    message = roll_out(model, model.pack(prompts), 5, noted)
    for place, item in enumerate(items):
        assert message.lengths[place] == item["cache_length_after_each_agent"][0]
        of_agent = [latent for latent in item["latents"] if latent["agent"] == 0]
        for latent, vectors in zip(of_agent, made, strict=True):
            expected = torch.tensor(latent["embed_first4"])
            # A step multiplies the rounding of the one before by two to ten.
            tolerance = 1e-4 * 4 ** latent["step"]
            torch.testing.assert_close(vectors[place, :4], expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    "name",
    [
        "m5_realign",
        *(
            pytest.param(name, marks=pytest.mark.soak)
            for name in ("m5_identity", "m5_identity_latent_only")
        ),
    ],
)
def test_agents_in_a_chain_give_what_their_code_gives(models: Path, name: str) -> None:
    recorded = json.loads((OUTPUTS / "latentmas.json").read_text(encoding="utf-8"))["settings"]
    setting, model = recorded[f"{name}/qwen3"], _model(models / "qwen3")
    step = latent_step(model, "realigned" if "realign" in name else "identity")
    items = setting["items"]
    made: list[KeyValues] = []
    for place in range(3):
        prompts = [item["agents"][place]["input_ids"] for item in items]
        before = KeyValues.joined(made) if made else None
        read = roll_out(model, model.pack(prompts), 5, step, before)
        made.append(read)
        # With their lengths they state what an agent's cache had before it is cut.
        lengths = KeyValues.joined(made).lengths
        assert lengths == tuple(i["cache_length_after_each_agent"][place] for i in items)
        if name.endswith("latent_only"):
            made = [read.last(5)]
    batch = model.pack([item["agents"][3]["input_ids"] for item in items])
    new = setting["max_new_tokens"]
    lanes = prefill(model, batch, new, KeyValues.joined(made))
    for item, logits in zip(items, lanes.logits, strict=True):
        top = item["first_logits_top20"]
        expected = torch.tensor(top["values"])
        # Fifteen latent steps multiply what the first ones rounded.
        torch.testing.assert_close(logits[top["ids"]], expected, rtol=0, atol=5e-3)
    decoded = decode_lanes(model, lanes, DecodingSettings(new, 1.0, 0))
    for item, tokens in zip(items, decoded, strict=True):
        assert tokens == item["generated_ids"]


@pytest.mark.parametrize(
    # Over random weights a step at T = 1 multiplies the rounding of the one before by about ten. At
    # T = 1e-4 nothing grows, but a rounding of 1e-6 in a logit is a hundredth of a weight.
    ("name", "compared", "close", "growth"),
    [("cipher_T1/llama4-llama4", 5, 2e-6, 10.0), ("cipher_T1e-4/llama4-llama4", 24, 5e-4, 1.0)],
)
def test_written_mixtures_are_those_of_their_code(
    models: Path, name: str, compared: int, close: float, growth: float
) -> None:
    setting = json.loads((OUTPUTS / "cipher.json").read_text(encoding="utf-8"))["settings"][name]
    model, items = _model(models / "llama4"), setting["items"]
    table, batch = input_vectors(model), model.pack([item["sender_ids"] for item in items])
    steps, temperature = setting["steps_max"], setting["temperature_used"]
    made = write_mixtures(model, batch, steps, temperature, [table])[0]
    for place, item in enumerate(items):
        theirs, ours = item["sender_message"], made.select([place]).values[0]
        assert len(ours) == theirs["steps"]
        for step in range(compared):
            expected = torch.tensor(theirs["first4"][step])
            torch.testing.assert_close(ours[step, :4], expected, rtol=0, atol=close * growth**step)
        near = torch.nn.functional.normalize(ours, dim=-1)
        near = near @ torch.nn.functional.normalize(table, dim=-1).T
        assert near.argmax(dim=-1).tolist()[:compared] == theirs["nearest_ids"][:compared]


def test_fused_caches_are_those_of_their_code(models: Path) -> None:
    recorded = json.loads((OUTPUTS / "c2c.json").read_text(encoding="utf-8"))["settings"]
    sender, receiver = _model(models / "qwen2"), _model(models / "qwen3")
    fuser = load_translator(OUTPUTS / "c2c_qwen3_from_qwen2.safetensors")
    assert sum(weight.numel() for weight in fuser.map.parameters()) == 168350
    for name in ("open/qwen3<-qwen2", "closed/qwen3<-qwen2"):
        gates = "learned" if name.startswith("open") else "shut"
        for item in recorded[name]["items"]:
            batch = receiver.pack([item["ids"]])
            sent, own = (m.key_values(m.pack([item["ids"]])) for m in (sender, receiver))
            message = fused_into(
                fuser, sent.without_last(), own.without_last(), [len(item["ids"]) - 1], gates
            )
            for (keys, values), theirs in zip(
                message.layers, item["fused_cache_before_last_prompt_token"], strict=True
            ):
                for part, stated in ((keys, theirs["k"][1:]), (values, theirs["v"])):
                    ours = [float(part.mean()), float(part.std()), float(part.norm())]
                    assert ours == pytest.approx(stated, rel=1e-4, abs=1e-5)
            lanes = prefill(receiver, batch, 24, message)
            top = item["first_logits_top20"]
            torch.testing.assert_close(
                lanes.logits[0, top["ids"]], torch.tensor(top["values"]), rtol=0, atol=1e-4
            )
            assert min(item["step_top1_minus_top2"]) > 1e-3
            decoded = decode_lanes(receiver, lanes, DecodingSettings(24, 1.0, 0))
            assert decoded[0][0] == item["generated_ids"][0]
            assert (
                _seeing_the_first_key_only(receiver, message, item["ids"])
                == (item["generated_ids"])
            )


@pytest.mark.parametrize(
    "name",
    ["sum/llama4-llama6", "mean/llama4-llama6", "replace/llama4-llama6", "replace/qwen2-llama4"],
)
def test_written_states_give_what_their_code_gives(models: Path, name: str) -> None:
    recorded = json.loads((OUTPUTS / "ac.json").read_text(encoding="utf-8"))["settings"]
    known = json.loads((OUTPUTS / "kvcomm.json").read_text(encoding="utf-8"))["settings"]
    (setting,) = (value for key, value in recorded.items() if key.startswith(f"{name}/"))
    # They read the states that enter a block, and write there: the output of the block before.
    sender, receiver = (
        _model(models / setting[side]).at_layer(setting[layer] - 1)
        for side, layer in (("sender", "layer_k"), ("receiver", "layer_j"))
    )
    condition = Condition(
        name="ac",
        source="sender",
        **({} if setting["f"] == "replace" else {"operator": setting["f"]}),
        positions="last",
        source_positions="last",
        align="last_dimensions",
    )
    items = setting["items"]
    prompts = {item["id"]: item for item in known["all/llama6-llama6"]["items"]}
    read = sender.pack([prompts[item["id"]]["sender_ids"] for item in items])
    batch = receiver.pack([prompts[item["id"]]["receiver_ids"] for item in items])
    # The sender's last dimensions meet the receiver's.
    states = sender.capture(read)[..., -receiver.width :]
    written = combine_states(condition, receiver.capture(batch), batch, states, read).states
    for item, logits in zip(items, receiver.resume_with_states(batch, written), strict=True):
        top = item["first_logits_top20"]
        expected = torch.tensor(top["values"])
        torch.testing.assert_close(logits[-1, top["ids"]], expected, rtol=0, atol=1e-4)


def test_state_deltas_are_those_of_their_code(models: Path) -> None:
    recorded = json.loads((OUTPUTS / "sde.json").read_text(encoding="utf-8"))["settings"]
    setting, model = recorded["l1_2/llama4"], _model(models / "llama4")
    layers, new = setting["edit_layer_idx"], setting["max_new_tokens"]
    for item in setting["items"][:1]:
        alone, reading = item["calls"][:2], item["calls"][2:]
        prompts = [tuple(call["input_ids"]) for call in alone]
        texts = write_tokens(model, model.pack(prompts), new)
        assert [list(text) for text in texts] == [call["generated_ids"] for call in alone]
        written = dict(zip(prompts, texts, strict=True))
        found = changes(model, Deltas(layers=layers), None, written)
        for layer in layers:
            for call, prompt in zip(alone, prompts, strict=True):
                ours, close = found[layer][prompt], {"rtol": 1e-4, "atol": 1e-3}
                norms, first = (call[name][str(layer)] for name in ("delta_norms", "delta_first4"))
                torch.testing.assert_close(ours.norm(dim=-1), torch.tensor(norms), **close)
                torch.testing.assert_close(ours[:, :4], torch.tensor(first), **close)
        # Each then reads what the other wrote first, its tokens verbatim.
        for call, other in zip(reading, reversed(prompts), strict=True):
            ids, (first, last, _) = call["input_ids"], call["edited_positions_nonzero"]
            assert ids[first : last + 1] == list(written[other])
            added = {layer: torch.zeros(1, len(ids), model.width) for layer in layers}
            for layer, states in added.items():
                states[0, first : last + 1] = found[layer][other]
            for on_text, theirs in ((added, call), ({}, call["floor_same_text_no_deltas"])):
                with torch.no_grad(), adding(model, on_text):
                    read = model.module(torch.tensor([ids]), use_cache=True, logits_to_keep=1)
                logits, top = read.logits[0, -1], theirs["first_logits_top20"]
                torch.testing.assert_close(
                    logits[top["ids"]], torch.tensor(top["values"]), rtol=0, atol=1e-4
                )
                assert min(theirs.get("step_top1_minus_top2", [1.0])) > 1e-3
                text = [int(logits.argmax())]
                with torch.no_grad():
                    while len(text) < len(theirs["generated_ids"]):
                        read = model.module(
                            torch.tensor([text[-1:]]), past_key_values=read.past_key_values
                        )
                        text.append(int(read.logits[0, -1].argmax()))
                assert text == theirs["generated_ids"]


def _seeing_the_first_key_only(
    model: TracedModel, message: KeyValues, prompt: list[int]
) -> list[int]:
    """Decode as their code was found to: generated tokens attend to the first key alone."""
    cache, text = message.cache(), list(prompt)
    for place in range(len(prompt) - 1, len(prompt) + 23):
        mask = torch.full((1, 1, 1, place + 1), torch.finfo(torch.float32).min)
        mask[..., : place + 1 if place < len(prompt) else 1] = 0
        with torch.no_grad():
            logits = model.module(
                input_ids=torch.tensor([text[-1:]]),
                position_ids=torch.tensor([[place]]),
                attention_mask=mask,
                past_key_values=cache,
                use_cache=True,
            ).logits
        text.append(int(logits[0, -1].argmax()))
    return text[len(prompt) :]
