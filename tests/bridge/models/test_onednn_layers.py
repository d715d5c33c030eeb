"""oneDNN's products: the engine's tokens stay the oracle's, and nothing else sees a difference."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers.models.gpt_neox.modeling_gpt_neox import GPTNeoXMLP

from statebridge.experiment.experiment import ModelAtLayer
from statebridge.models import onednn_layers
from statebridge.models.loading import load_model
from statebridge.models.onednn_layers import (
    OneDnnLinear,
    OneDnnNeoXMLP,
    onednn_available,
    onednn_products,
    take_onednn,
)
from statebridge.models.token_batch import TokenBatch
from tests.bridge.engine.tiny_experiment import (
    dataset_rows,
    engine_pair,
    llama_pair,
    neox_pair,
    random_translator,
    run_engine,
)
from tests.reference.oracle import OraclePair, run_cell
from tests.tiny_models import mixed_rows, save_pair_folder, tiny_neox, tiny_tokenizer

pytestmark = pytest.mark.skipif(not onednn_available(), reason="no oneDNN products in this torch")

ROWS = mixed_rows(7, seed=3)
DECODING = {"max_new_tokens": 12, "relay_max_new_tokens": 8}
CONDITIONS = ("no_inject", "replace", "additive", "nl_relay")

# Sums of up to a few hundred terms of size one in another order; one rounding is 6e-8.
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


@pytest.fixture
def products(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The shapes of all that oneDNN multiplies, layers of any size included."""
    monkeypatch.setattr(onednn_layers, "SMALLEST_WEIGHT", 0)
    seen: list[tuple[int, ...]] = []
    real = onednn_layers._product

    def counted(values: torch.Tensor, *args: Any) -> torch.Tensor:
        seen.append(tuple(values.shape))
        return real(values, *args)

    monkeypatch.setattr(onednn_layers, "_product", counted)
    return seen


def _copied(pair: OraclePair) -> OraclePair:
    # The oracle's own modules stay as transformers made them.
    changed = copy.deepcopy(pair)
    for module in (changed.sender, changed.receiver):
        linear = [part for part in module.modules() if type(part) is torch.nn.Linear]
        assert take_onednn(module) == len(linear) > 0
    return changed


@pytest.mark.slow
@pytest.mark.parametrize(("pair_of", "rows_together"), [(neox_pair, 1), (llama_pair, 7)])
def test_the_shared_path_equals_the_oracle(
    pair_of: Callable[[], OraclePair], rows_together: int, products: list[tuple[int, ...]]
) -> None:
    pair = pair_of()
    widths = pair.sender.config.hidden_size, pair.receiver.config.hidden_size
    translator = random_translator(*widths, seed=42)
    run = run_engine(
        engine_pair(_copied(pair)),
        dataset_rows(ROWS),
        {42: translator},
        rows_together=rows_together,
        conditions=list(CONDITIONS),
        decoding=DECODING,
    )
    assert products
    before = len(products)
    for condition in CONDITIONS:
        seed = 42 if condition in ("replace", "additive") else None
        name = condition if seed is None else f"{condition}/seed{seed}"
        translate = None if seed is None else translator
        for row in run_cell(pair, ROWS, condition, seed, translate, **DECODING):
            found = run.rows[name, row.row_id]
            assert found.token_ids == row.token_ids, (name, row.row_id)
            # A hundred times the rounding of one operation, as in test_parity.
            assert found.gold_logprob == pytest.approx(row.gold_logprob, rel=1e-5, abs=2e-5)
    assert len(products) == before, "the oracle multiplied by oneDNN"


def test_the_product_is_the_product(products: list[tuple[int, ...]]) -> None:
    torch.manual_seed(0)
    layer = torch.nn.Linear(48, 80)
    assert take_onednn(layer) == 1
    whole = torch.randn(6, 9, 48)
    views = (whole, whole[:, -1:], whole[:, -1], whole[0, 0], whole[:0], whole.transpose(0, 1))
    for values in (*views, torch.randn(6, 96)[:, ::2], torch.randn(3, 1).expand(3, 48)):
        weight, bias = layer.weight.double(), layer.bias.double()
        right = values.double() @ weight.T + bias
        with torch.no_grad(), onednn_products():
            found = layer(values)
        assert found.shape == right.shape
        torch.testing.assert_close(found, right.float(), **CLOSE)
    assert len(products) == 8


def test_without_a_bias(products: list[tuple[int, ...]]) -> None:
    layer = torch.nn.Linear(48, 80, bias=False)
    take_onednn(layer)
    values = torch.randn(5, 48)
    with torch.no_grad(), onednn_products():
        torch.testing.assert_close(layer(values), values @ layer.weight.T, **CLOSE)
    assert products


def test_gelu_is_exact_within_the_first_product(products: list[tuple[int, ...]]) -> None:
    mlp = tiny_neox(0).gpt_neox.layers[0].mlp
    take_onednn(mlp)
    assert type(mlp) is OneDnnNeoXMLP
    values = 3 * torch.randn(4, 7, 48)
    with torch.no_grad():
        plain = mlp(values)
        assert not products
        with onednn_products():
            found = mlp(values)
    assert len(products) == 2
    torch.testing.assert_close(found, plain, **CLOSE)
    # The difference from GELU by tanh is in the fourth digit.
    hidden = torch.nn.functional.gelu(mlp.dense_h_to_4h(values), approximate="tanh")
    assert (mlp.dense_4h_to_h(hidden) - plain).abs().max() > 1e-4


def test_another_activation_stays_on_its_own(products: list[tuple[int, ...]]) -> None:
    mlp = tiny_neox(0, hidden_act="gelu_new").gpt_neox.layers[0].mlp
    assert take_onednn(mlp) == 2
    assert type(mlp) is GPTNeoXMLP
    values = torch.randn(4, 48)
    with torch.no_grad(), onednn_products():
        found = mlp(values)
    assert len(products) == 2
    torch.testing.assert_close(found, mlp(values), **CLOSE)


def test_gradients_are_torchs_own(products: list[tuple[int, ...]]) -> None:
    module = tiny_neox(0).gpt_neox.layers[0].mlp
    take_onednn(module)
    values = torch.randn(5, 48, requires_grad=True)
    with onednn_products():
        module(values).sum().backward()
    assert not products
    assert values.grad is not None
    assert all(parameter.grad is not None for parameter in module.parameters())


def test_it_holds_for_one_thread_and_one_block_of_code(products: list[tuple[int, ...]]) -> None:
    layer = torch.nn.Linear(48, 80)
    take_onednn(layer)
    values = torch.randn(5, 48)

    def call() -> None:
        with torch.no_grad():
            layer(values)

    with onednn_products():
        other = threading.Thread(target=call)
        other.start()
        other.join()
    call()
    assert not products
    with pytest.raises(ZeroDivisionError), onednn_products():
        raise ZeroDivisionError
    call()
    assert not products
    with onednn_products():
        with onednn_products():
            pass
        call()
    assert len(products) == 1


def test_what_is_left_as_it_is(products: list[tuple[int, ...]]) -> None:
    class Special(torch.nn.Linear):
        pass

    for layer in (
        torch.nn.Linear(48, 80, dtype=torch.float64),
        torch.nn.Linear(48, 80, dtype=torch.bfloat16),
        torch.nn.Linear(48, 80, device="meta"),
        Special(48, 80),
    ):
        before = type(layer)
        assert take_onednn(layer) == 0
        assert type(layer) is before
    # One that was moved to another dtype later is multiplied as torch does.
    layer = torch.nn.Linear(48, 80)
    take_onednn(layer)
    with torch.no_grad(), onednn_products():
        layer.double()(torch.randn(5, 48, dtype=torch.float64))
    assert not products


def test_small_layers_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_neox(0)
    assert take_onednn(model) == 0
    assert not any(isinstance(part, OneDnnLinear | OneDnnNeoXMLP) for part in model.modules())
    sizes = [part.weight.numel() for part in model.modules() if isinstance(part, torch.nn.Linear)]
    smallest = sorted(set(sizes))[1]
    monkeypatch.setattr(onednn_layers, "SMALLEST_WEIGHT", smallest)
    taken = sum(size >= smallest for size in sizes)
    assert 0 < take_onednn(model) == taken < len(sizes)


def test_weights_and_their_names_stay(products: list[tuple[int, ...]]) -> None:
    model = tiny_neox(0, tie_word_embeddings=True)
    before = {name: tensor.data_ptr() for name, tensor in model.state_dict().items()}
    take_onednn(model)
    assert {name: tensor.data_ptr() for name, tensor in model.state_dict().items()} == before
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    again = copy.deepcopy(model)
    assert type(again.gpt_neox.layers[0].mlp) is OneDnnNeoXMLP


def test_traces_of_a_loaded_model_multiply_by_it(
    products: list[tuple[int, ...]], tmp_path: Path
) -> None:
    folder = save_pair_folder(tiny_neox(0), tiny_tokenizer(), tmp_path / "model")
    loaded = load_model(ModelAtLayer(model=str(folder), layer=1), device="cpu")
    batch = TokenBatch.pack([(5, 6, 7), (8, 9)], loaded.pad_id, loaded.device)
    plain = loaded.capture(batch)
    assert not products
    with onednn_products():
        found = loaded.capture(batch)
    # Four products in each of the blocks 0 and 1.
    assert len(products) == 8
    torch.testing.assert_close(found[batch.mask], plain[batch.mask], **CLOSE)
