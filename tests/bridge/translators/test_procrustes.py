from __future__ import annotations

import pytest
import scipy.linalg
import torch

from statebridge.errors import NumericError, TranslatorError
from statebridge.experiment.translator_settings import ProcrustesSettings
from statebridge.results.translator_card import ProcrustesRecord
from statebridge.translators.closed_form.procrustes import fit_procrustes
from statebridge.translators.fit import Fit
from statebridge.translators.positions import BLOCK_SIZE
from tests.bridge.translators.live_tensors import PeakBytes
from tests.bridge.translators.refusal import refused
from tests.bridge.translators.synthetic_states import linear_pair, normal

WIDTHS = [(6, 6), (4, 7), (7, 4)]
RIGID = ProcrustesSettings(scale=False)


def rotation(width_in: int, width_out: int, seed: int = 7) -> torch.Tensor:
    """A semi-orthogonal (width_out, width_in)."""
    wide = max(width_in, width_out)
    return torch.linalg.qr(normal(wide, wide, seed=seed).double())[0][:width_out, :width_in]


def turned(
    positions: int, width_in: int, width_out: int, *, noise: float = 0.0, scale: float = 1.5
) -> tuple[torch.Tensor, torch.Tensor]:
    """Receiver states that are the sender's turned, stretched and shifted."""
    sender = normal(positions, width_in) * torch.linspace(0.5, 2, width_in) + 3
    receiver = scale * sender.double() @ rotation(width_in, width_out).T
    receiver = receiver - 2 + noise * normal(positions, width_out, seed=1)
    return sender, receiver.float()


def weight_of(fit: Fit) -> torch.Tensor:
    return fit.translator.weights()["weight"].double()


def record_of(fit: Fit) -> ProcrustesRecord:
    assert isinstance(fit.record, ProcrustesRecord)
    return fit.record


@pytest.mark.parametrize(("width_in", "width_out"), [(6, 6), (4, 7)])
def test_finds_the_rotation_the_scale_and_the_offset(width_in: int, width_out: int) -> None:
    sender, receiver = turned(200, width_in, width_out)
    fit = fit_procrustes([(sender, receiver)], normalize=False)
    # Float32 states of size about 5.
    expected = 1.5 * rotation(width_in, width_out)
    torch.testing.assert_close(weight_of(fit), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(fit.translator(sender), receiver, atol=3e-5, rtol=0)
    record = record_of(fit)
    assert record.scale == pytest.approx(1.5, rel=1e-6)
    assert (record.rank, record.training_positions) == (min(width_in, width_out), 200)
    assert (fit.translator.kind, record.method) == ("affine", "procrustes")
    assert not any(parameter.requires_grad for parameter in fit.translator.parameters())


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize(("width_in", "width_out"), WIDTHS)
def test_equals_scipy_on_padded_states(width_in: int, width_out: int, normalize: bool) -> None:
    sender, receiver = linear_pair(300, width_in, width_out)
    fit = fit_procrustes([(sender, receiver)], RIGID, normalize=normalize)
    if normalize:
        sender, receiver = (torch.nn.functional.normalize(s, dim=-1) for s in (sender, receiver))
    x, y = sender.double(), receiver.double()
    x, y = x - x.mean(dim=0), y - y.mean(dim=0)
    wide = max(width_in, width_out)
    padded = [torch.nn.functional.pad(s, (0, wide - s.shape[1])).numpy() for s in (x, y)]
    square, _ = scipy.linalg.orthogonal_procrustes(*padded)
    expected = torch.from_numpy(square)[:width_in, :width_out].T
    # The map is rounded to float32, and the states were normalised in it.
    torch.testing.assert_close(weight_of(fit), expected, atol=1e-6, rtol=0)
    assert record_of(fit).scale == 1
    assert record_of(fit).normalize_target is fit.translator.normalize_input is normalize


@pytest.mark.parametrize(("width_in", "width_out"), WIDTHS)
@pytest.mark.parametrize("settings", [RIGID, ProcrustesSettings()])
def test_is_semi_orthogonal(settings: ProcrustesSettings, width_in: int, width_out: int) -> None:
    fit = fit_procrustes([linear_pair(300, width_in, width_out)], settings)
    weight = weight_of(fit) / record_of(fit).scale
    narrow = min(width_in, width_out)
    product = weight.T @ weight if width_in == narrow else weight @ weight.T
    # Float32 entries below 1.
    torch.testing.assert_close(product, torch.eye(narrow).double(), atol=1e-6, rtol=0)


@pytest.mark.parametrize(("width_in", "width_out"), WIDTHS)
def test_the_scale_fits_best(width_in: int, width_out: int) -> None:
    sender, receiver = linear_pair(300, width_in, width_out)

    def error(factor: float) -> float:
        x, y = sender.double(), receiver.double()
        x, y = x - x.mean(dim=0), y - y.mean(dim=0)
        return float((y - factor * x @ weight_of(fit).T).square().sum())

    fit = fit_procrustes([(sender, receiver)], normalize=False)
    assert error(1.0) < min(error(0.999), error(1.001))


@pytest.mark.parametrize(("width_in", "width_out"), [(6, 6), (4, 7)])
def test_no_nearby_rotation_fits_better(width_in: int, width_out: int) -> None:
    sender, receiver = linear_pair(300, width_in, width_out)
    weight = weight_of(fit_procrustes([(sender, receiver)], RIGID, normalize=False))
    x, y = sender.double(), receiver.double()
    x, y = x - x.mean(dim=0), y - y.mean(dim=0)
    least = float((y - x @ weight.T).square().sum())
    for seed in range(20):
        skew = normal(width_out, width_out, seed=seed).double() * 0.02
        near = torch.linalg.matrix_exp(skew - skew.T) @ weight
        assert float((y - x @ near.T).square().sum()) > least


@pytest.mark.parametrize("size", [1, 500, BLOCK_SIZE])
def test_same_bits_however_the_stream_is_cut(size: int) -> None:
    pair = linear_pair(BLOCK_SIZE + 100)
    whole = fit_procrustes([pair])
    cut = fit_procrustes(zip(pair[0].split(size), pair[1].split(size), strict=True))
    assert torch.equal(weight_of(cut), weight_of(whole))
    assert cut.record == whole.record
    assert torch.equal(cut.means.raw, whole.means.raw)


def test_memory_does_not_grow_with_the_corpus() -> None:
    peaks = []
    for batches in (8, 40):
        with PeakBytes() as peak:
            fit_procrustes(linear_pair(BLOCK_SIZE // 2 + 3, seed=i) for i in range(batches))
        peaks.append(peak.bytes)
    assert 0 < peaks[0] == peaks[1]


@pytest.mark.parametrize(("width_in", "width_out"), WIDTHS)
def test_too_few_positions(width_in: int, width_out: int) -> None:
    needed = min(width_in, width_out) + 1
    few = linear_pair(needed - 1, width_in, width_out)
    with refused(TranslatorError, f"{needed - 1} positions", f"at least {needed}", "more text"):
        fit_procrustes([few])
    enough = linear_pair(needed, width_in, width_out)
    assert record_of(fit_procrustes([enough], normalize=False)).rank == needed - 1


def test_repeated_positions_are_no_new_ones() -> None:
    sender, receiver = linear_pair(4)
    many = (sender.repeat(40, 1), receiver.repeat(40, 1))
    with refused(TranslatorError, "160 corpus positions", "3 of 5 directions", "kind ridge"):
        fit_procrustes([many], normalize=False)


def test_states_that_do_not_vary() -> None:
    same = torch.ones(100, 6)
    with refused(TranslatorError, "100 corpus positions", "do not vary together", "at least 6"):
        fit_procrustes([(same, normal(100, 5))], normalize=False)


def test_bad_streams() -> None:
    with refused(TranslatorError, "no positions"):
        fit_procrustes([])
    sender, receiver = linear_pair(20)
    sender[3, 0] = torch.nan
    with refused(NumericError, "sender", "position 3"):
        fit_procrustes([(sender, receiver)])
