from __future__ import annotations

import math

import pytest
import torch

from statebridge.errors import NumericError, TranslatorError
from statebridge.experiment.translator_settings import KINDS, MESSAGE_KINDS
from statebridge.translators.modules.maps import initialise, l2_normalise, rescale
from statebridge.translators.translator import Translator
from tests.bridge.translators.refusal import refused
from tests.bridge.translators.synthetic_states import OF_STATES, normal

OPTIONS = {
    "affine": {},
    "mlp_1hidden": {"hidden_dim": 7},
    "mlp_3hidden": {"hidden_dim": 7},
    "low_rank": {"rank": 2},
    "gated": {},
}


def initialised(kind: str, *, normalize_input: bool = True, seed: int = 0) -> Translator:
    translator = Translator(kind, 3, 4, options=OPTIONS[kind], normalize_input=normalize_input)
    initialise(translator, torch.Generator().manual_seed(seed))
    return translator


def test_every_kind_that_settings_name_can_be_built() -> None:
    assert set(KINDS.names()) == {*OPTIONS, *MESSAGE_KINDS}
    assert set(OF_STATES) == set(OPTIONS)


@pytest.mark.parametrize("kind", OF_STATES)
@pytest.mark.parametrize("leading", [(), (5,), (2, 5), (0,), (1, 2, 3)])
def test_shapes(kind: str, leading: tuple[int, ...]) -> None:
    assert initialised(kind)(normal(*leading, 3)).shape == (*leading, 4)


def test_affine_by_hand() -> None:
    translator = Translator("affine", 2, 2)
    weights = {
        "weight": torch.tensor([[1.0, 2.0], [0.0, -1.0]]),
        "bias": torch.tensor([0.5, 0.25]),
    }
    translator.set_weights(weights, where="test")
    # (3, 4) has norm 5: the map sees (0.6, 0.8).
    states = torch.tensor([3.0, 4.0])
    expected = torch.tensor([0.6 + 1.6 + 0.5, -0.8 + 0.25])
    torch.testing.assert_close(translator(states), expected)
    torch.testing.assert_close(translator.apply_map(states), torch.tensor([11.5, -3.75]))
    translator.normalize_input = False
    torch.testing.assert_close(translator(states), torch.tensor([11.5, -3.75]))


def gelu(value: float) -> float:
    return value * 0.5 * (1 + math.erf(value / math.sqrt(2)))


def test_mlp_by_hand() -> None:
    translator = Translator("mlp_1hidden", 2, 1, options={"hidden_dim": 2})
    weights = {
        "0.weight": torch.tensor([[1.0, 0.0], [1.0, -1.0]]),
        "0.bias": torch.tensor([0.0, 0.1]),
        "2.weight": torch.tensor([[2.0, 3.0]]),
        "2.bias": torch.tensor([-1.0]),
    }
    translator.set_weights(weights, where="test")
    expected = 2 * gelu(0.6) + 3 * gelu(0.6 - 0.8 + 0.1) - 1
    torch.testing.assert_close(translator(torch.tensor([3.0, 4.0])), torch.tensor([expected]))


def test_three_hidden_layers() -> None:
    translator = initialised("mlp_3hidden", normalize_input=False)
    weights, states = translator.weights(), normal(5, 3)
    for layer in (0, 2, 4):
        states = states @ weights[f"{layer}.weight"].T + weights[f"{layer}.bias"]
        states = states * 0.5 * (1 + torch.erf(states / math.sqrt(2)))
    expected = states @ weights["6.weight"].T + weights["6.bias"]
    torch.testing.assert_close(translator(normal(5, 3)), expected)


def test_low_rank_by_hand() -> None:
    translator = Translator("low_rank", 3, 2, options={"rank": 1}, normalize_input=False)
    weights = {
        "0.weight": torch.tensor([[1.0, 2.0, 0.0]]),
        "1.weight": torch.tensor([[3.0], [-1.0]]),
        "1.bias": torch.tensor([0.5, 0.0]),
    }
    translator.set_weights(weights, where="test")
    # 1 + 2 · 2 = 5, once three times and once negative.
    expected = torch.tensor([15.5, -5.0])
    torch.testing.assert_close(translator(torch.tensor([1.0, 2.0, 9.0])), expected)


def test_low_rank_has_its_rank() -> None:
    translator = initialised("low_rank", normalize_input=False)
    offsets = translator(normal(50, 3)) - translator(torch.zeros(3))
    assert int(torch.linalg.matrix_rank(offsets)) == 2


def test_rank_beyond_the_widths_is_refused() -> None:
    assert Translator("low_rank", 3, 4, options={"rank": 3}).options == {"rank": 3}
    with refused(TranslatorError, "rank 4 is above 3", "kind affine"):
        Translator("low_rank", 3, 4, options={"rank": 4})
    with refused(TranslatorError, "low_rank takes rank, got none"):
        Translator("low_rank", 3, 4)


def test_gated_by_hand() -> None:
    translator = Translator("gated", 2, 2, normalize_input=False)
    weights = {
        "linear.weight": torch.tensor([[1.0, 2.0], [0.0, -1.0]]),
        "linear.bias": torch.tensor([0.5, 0.25]),
        "gate": torch.tensor(0.1),
    }
    translator.set_weights(weights, where="test")
    torch.testing.assert_close(translator(torch.tensor([3.0, 4.0])), torch.tensor([1.15, -0.375]))


def test_gradients_flow_through_an_open_gate() -> None:
    translator = initialised("gated")
    assert float(translator.weights()["gate"]) == 1
    translator(normal(2, 3)).square().sum().backward()
    assert all(bool(parameter.grad.any()) for parameter in translator.parameters())


@pytest.mark.parametrize("kind", OF_STATES)
def test_rescaled_maps(kind: str) -> None:
    translator, scaled = (initialised(kind, normalize_input=False) for _ in range(2))
    rescale(scaled.map, inputs=0.25, outputs=8.0)
    # Powers of two alter no digit.
    torch.testing.assert_close(
        scaled(normal(5, 3)), 8 * translator(0.25 * normal(5, 3)), rtol=1e-6, atol=0
    )
    rescale(scaled.map, inputs=4.0, outputs=0.125)
    for name, tensor in translator.weights().items():
        assert torch.equal(scaled.weights()[name], tensor)


def test_only_the_input_is_normalised() -> None:
    translator = initialised("affine")
    states = normal(9, 3)
    output = translator(states).detach()
    assert float((output.norm(dim=-1) - 1).abs().min()) > 1e-3
    torch.testing.assert_close(translator(states * 1000).detach(), output)


def test_zero_states_are_translated_to_the_bias() -> None:
    translator = initialised("affine")
    assert torch.equal(translator(torch.zeros(2, 3)), translator.weights()["bias"].expand(2, 4))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_follows_its_dtype(dtype: torch.dtype) -> None:
    translator = initialised("mlp_1hidden")
    reference = translator(normal(4, 3))
    translator.to(dtype)
    output = translator(normal(4, 3))
    assert translator.dtype == output.dtype == dtype
    # A few roundings of the dtype at values of size one.
    torch.testing.assert_close(
        output.float(), reference, atol=8 * max(torch.finfo(dtype).eps, 1e-7), rtol=0
    )


def test_half_precision_states_beyond_the_range_of_their_squares() -> None:
    states = torch.tensor([[30000.0, 40000.0]], dtype=torch.float16)
    expected = torch.tensor([[0.6, 0.8]])
    torch.testing.assert_close(
        l2_normalise(states), expected, atol=1e-3, rtol=0
    )  # float16's digits


def test_states_beyond_the_range_of_the_weights_dtype() -> None:
    translator = initialised("affine").half()
    states = normal(4, 3)
    # float16 ends at 65504; the states are normalised before they are rounded to it.
    assert torch.equal(translator(states * 2**20), translator(states))


def test_same_input_same_bits() -> None:
    translator, states = initialised("mlp_3hidden"), normal(33, 3)
    assert torch.equal(translator(states), translator(states))


def test_building_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    first, second = initialised("mlp_3hidden", seed=3), initialised("mlp_3hidden", seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(
        torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True)
    )


def test_initial_weights_are_those_of_torch() -> None:
    torch.manual_seed(5)
    reference = torch.nn.Linear(3, 4)
    translator = initialised("affine", seed=5)
    assert torch.equal(translator.weights()["weight"], reference.weight)
    assert torch.equal(translator.weights()["bias"], reference.bias)


@pytest.mark.parametrize("shape", [(4,), (2, 4), (5, 2), ()])
def test_wrong_width_is_refused(shape: tuple[int, ...]) -> None:
    width = str(shape[-1]) if shape else "None"
    with refused(TranslatorError, f"width {width}", "width 3"):
        initialised("affine")(normal(*shape))
    with refused(TranslatorError, f"width {width}", "width 3"):
        initialised("affine").apply_map(normal(*shape))


def test_unknown_kind_offers_the_nearest() -> None:
    with refused(TranslatorError, "'mlp_2hidden'", "mlp_1hidden"):
        Translator("mlp_2hidden", 3, 4)


def test_options_must_fit_the_kind() -> None:
    with refused(TranslatorError, "mlp_1hidden takes hidden_dim, got none"):
        Translator("mlp_1hidden", 3, 4)
    with refused(TranslatorError, "affine takes no option, got hidden_dim"):
        Translator("affine", 3, 4, options={"hidden_dim": 2})
    with refused(TranslatorError, "hidden_dim must be 1 or more, got 0"):
        Translator("mlp_1hidden", 3, 4, options={"hidden_dim": 0})
    with refused(TranslatorError, "width_out must be 1 or more"):
        Translator("affine", 3, 0)


def test_unfit_weights_are_refused_and_change_nothing() -> None:
    translator = initialised("affine")
    before = translator.weights()
    good = {"weight": torch.ones(4, 3), "bias": torch.ones(4)}
    for change, error, words in (
        ({"bias": torch.ones(5)}, TranslatorError, ("bias", "(5,)", "(4,)")),
        ({"extra": torch.ones(1)}, TranslatorError, ("surplus ['extra']",)),
        ({"bias": torch.ones(4, dtype=torch.int64)}, TranslatorError, ("bias", "int64")),
        ({"bias": torch.full((4,), math.nan)}, NumericError, ("bias", "NaN")),
        ({"bias": torch.full((4,), -math.inf)}, NumericError, ("bias", "infinity")),
        ({"bias": torch.full((4,), 1e300, dtype=torch.float64)}, NumericError, ("bias",)),
    ):
        with refused(error, "somewhere", *words):
            translator.set_weights({**good, **change}, where="somewhere")
    with refused(TranslatorError, "missing ['bias']"):
        translator.set_weights({"weight": good["weight"]}, where="somewhere")
    assert all(torch.equal(tensor, before[name]) for name, tensor in translator.weights().items())


def test_gradients_reach_the_states_and_the_weights() -> None:
    translator, states = initialised("affine"), normal(2, 3).requires_grad_()
    translator(states).square().sum().backward()
    assert states.grad is not None
    assert all(parameter.grad is not None for parameter in translator.parameters())
