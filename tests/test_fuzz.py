"""Random tensors and mutated files: our error or a result, never another exception, a hang, or unbounded memory."""

from __future__ import annotations

import gzip
import math
import resource
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from lightning_advdrop import functional as f
from lightning_advdrop.datamodules import DocumentError, RCV1DataModule, Vocabulary
from lightning_advdrop.datamodules.archives import read_tar_gz, unpack
from lightning_advdrop.datamodules.idx import IDXFormatError, read_idx
from lightning_advdrop.datamodules.text_files import TextSource, read_lines, read_words
from lightning_advdrop.datamodules.vectors import load_vectors
from lightning_advdrop.masking import apply, find_sites
from lightning_advdrop.nn import MaskedGRU, MaskedLSTM
from lightning_advdrop.report import RunError, load_run, read_history, read_masks
from lightning_advdrop.tasks.checkpoints import read_checkpoint
from tests.helpers.corpora import zipped
from tests.helpers.document_files import make_texts, tar_gz, write_rcv1
from tests.helpers.idx_files import idx_bytes

same = settings(
    derandomize=True, max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), database=None
)
SPARE = 1 << 29
# Not any ValueError: that of a failed conversion names neither the file nor what to do.
OURS = (DocumentError, IDXFormatError, RunError)


@pytest.fixture(autouse=True)
def _bounded_memory() -> Iterator[None]:
    """No test here may take more than 512 MiB: else there is a MemoryError, which is none of ours."""
    before = resource.getrlimit(resource.RLIMIT_DATA)
    used = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmData"))
    resource.setrlimit(resource.RLIMIT_DATA, (int(used.split()[1]) * 1024 + SPARE, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


VALUES = (0.0, 1.0, -1.0, 0.5, 1e30, -1e30, 1e-30, math.inf, -math.inf, math.nan)
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.bool)


@st.composite
def tensors(draw: st.DrawFn, dtypes: tuple[torch.dtype, ...] = DTYPES, least: int = 0) -> Tensor:
    shape = draw(st.lists(st.integers(0, 3), min_size=least, max_size=3))
    values = draw(st.lists(st.sampled_from(VALUES), min_size=math.prod(shape), max_size=math.prod(shape)))
    return torch.nan_to_num(torch.tensor(values), 0, 1, -1).view(shape).to(draw(st.sampled_from(dtypes)))


DIVERGENCES: tuple[Callable[..., Any], ...] = (f.kl_divergence, f.bernoulli_kl, f.mse, f.mse_logits, f.mse_probs)


@given(function=st.sampled_from(DIVERGENCES), first=tensors(), second=tensors(), alike=st.booleans())
@same
def test_divergences(function: Callable[..., Any], first: Tensor, second: Tensor, alike: bool) -> None:
    try:
        found = function(first, first.clone() if alike else second)
    except ValueError:
        return
    assert found.dim() == 0


@given(mask=tensors(), grad=tensors(), budget=st.integers(-1, 9), flips=st.sampled_from(["both", "drop", "none"]))
@same
def test_flips(mask: Tensor, grad: Tensor, budget: int, flips: Any) -> None:
    mask = (mask > 0).to(mask.dtype)
    try:
        found = f.adversarial_flips(mask, grad, budget, flips)
    except ValueError:
        return
    assert found.shape == mask.shape
    assert ((found != mask).sum(-1) <= budget).all()


@given(mask=tensors())
@same
def test_rescaling(mask: Tensor) -> None:
    with suppress(ValueError):
        assert f.rescale_mask(mask).shape == mask.shape


NUMBERS = st.one_of(st.floats(), st.integers(-5, 5), st.text(max_size=3), st.none(), st.sampled_from([np.float32(0.5)]))


@given(rate=NUMBERS, units=NUMBERS, epochs=NUMBERS)
@same
def test_numbers(rate: Any, units: Any, epochs: Any) -> None:
    for call in (
        lambda: 0 <= f.flip_budget(rate, units) <= units,
        lambda: f.sample_bernoulli((2, 3), rate).shape == (2, 3),
        lambda: 0 <= f.sigmoid_rampup(rate, epochs) <= 1,
        lambda: 0 <= f.gaussian_rampdown(rate, units, epochs) <= 1,
    ):
        with suppress(ValueError):
            assert call()


LAYERS = {"lstm": MaskedLSTM(2, 3), "gru": MaskedGRU(2, 3)}
MODEL = nn.ModuleDict({"encoder": nn.LSTM(2, 3, num_layers=2), "drop": nn.Dropout(), "words": nn.Embedding(4, 2)})


@given(
    layer=st.sampled_from(sorted(LAYERS)),
    mask=tensors((torch.float32, torch.float64, torch.int64, torch.bool)),
    steps=st.integers(1, 3),
    batch=st.integers(1, 3),
)
@same
def test_recurrent_masks(layer: str, mask: Tensor, steps: int, batch: int) -> None:
    try:
        output, _ = LAYERS[layer](torch.zeros(steps, batch, 2), recurrent_mask=mask)
    except ValueError:
        return
    assert output.shape == (steps, batch, 3)


WORDS = st.sampled_from(["encoder", "recurrent", "weight", "dropout", "l0", ":", ".", "", "x", "embedding", "input"])


@given(parts=st.lists(WORDS, max_size=5), rate=st.one_of(st.none(), NUMBERS))
@same
def test_names_of_sites(parts: list[str], rate: Any) -> None:
    spec: Any = "".join(parts) if rate is None else {"".join(parts): rate}
    with suppress(ValueError):
        assert all(site.name for site in find_sites(MODEL, spec))


@given(mask=tensors((torch.float32, torch.bool, torch.int64)), batch=st.integers(1, 3))
@same
def test_masks_of_sites(mask: Tensor, batch: int) -> None:
    layer = MODEL["encoder"]
    site = find_sites(layer, "recurrent")[0]
    try:
        with apply(layer, {site: mask}):
            output = layer(torch.zeros(2, batch, 2))[0]
    except ValueError:
        return
    assert output.shape == (2, batch, 3)


@st.composite
def mutations(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    """Flips, cuts, repetitions and insertions, one to three of them."""
    steps = draw(
        st.lists(
            st.tuples(st.sampled_from("fcri"), st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=9)),
            min_size=1,
            max_size=3,
        )
    )

    def mutate(content: bytes) -> bytes:
        for kind, share, more in steps:
            place, length = int(len(content) * share), more[0] + 1
            piece = content[place : place + length]
            if kind == "f" and piece:
                content = content[:place] + bytes([piece[0] ^ (more[-1] or 1)]) + content[place + 1 :]
            elif kind == "c":
                content = content[:place] + content[place + length :]
            elif kind == "r":
                content = content[:place] + piece * 3 + content[place:]
            else:
                content = content[:place] + more + content[place:]
        return content

    return mutate


def _checkpoint(folder: Path) -> bytes:
    torch.save({"state_dict": {"weight": torch.ones(3)}, "epoch": 1}, folder / "made.ckpt")
    return (folder / "made.ckpt").read_bytes()


def _read_checkpoint(path: Path) -> None:
    try:
        read_checkpoint("ckpt_path", path)
    except ValueError as error:
        if not str(error).startswith(f"ckpt_path='{path}' must be a checkpoint file"):
            raise AssertionError from error


def _rcv1(folder: Path) -> bytes:
    return (write_rcv1(folder, make_texts(classes=4)) / "train.csv").read_bytes()


def _config(folder: Path) -> bytes:
    (folder / "metrics.csv").write_text("epoch,loss\n0,0.5\n")
    return b"seed_everything: 3\nregularizer:\n  class_path: a.RDrop\n  init_args: {weight: 0.5}\ntrainer: {a: 1}\n"


TEXT = "be 1 2 3\nor 4 5 6\ncaf\u00e9 7 8 9\n".encode()
TAR = {"a/0.txt": b"one two", "b/1.txt": b"three" * 100}


def _content(content: bytes) -> Callable[[Path], bytes]:
    return lambda folder: content


PARSERS: dict[str, tuple[str, Callable[[Path], bytes], Callable[[Path], object]]] = {
    "idx": ("x", _content(idx_bytes(np.arange(60, dtype=np.uint8).reshape(3, 4, 5))), lambda at: read_idx(at, 3)),
    "packed idx": ("x", _content(gzip.compress(idx_bytes(np.zeros((9,), np.uint8)))), lambda at: read_idx(at, 1)),
    "tar": ("x", _content(tar_gz(TAR)), lambda at: list(read_tar_gz(at))),
    "unpacked tar": (
        "x",
        _content(gzip.compress(gzip.decompress(tar_gz(TAR)), 0)),
        lambda at: unpack(at, at.parent, ["*.txt"]),
    ),
    "text": ("x", _content(TEXT), lambda at: list(read_words(TextSource(at)))),
    "zip": ("x", _content(zipped({"a/b": TEXT})), lambda at: list(read_words(TextSource(at, "a/b")))),
    "lines": ("x", _content(TEXT), lambda at: list(read_lines(at))),
    "vectors": ("x", _content(TEXT), lambda at: load_vectors(at, Vocabulary(["be", "or"], [1, 1]))),
    "packed vectors": (
        "x",
        _content(gzip.compress(TEXT)),
        lambda at: load_vectors(at, Vocabulary(["be", "or"], [1, 1])),
    ),
    "topics": ("rcv1/train.csv", _rcv1, lambda at: [list(each.words) for each in RCV1DataModule(at.parents[1]).read()]),
    "metrics": ("metrics.csv", _content(b"epoch,step,loss\n0,9,0.7\n1,,nan\n"), read_history),
    "masks": (
        "masks.csv",
        _content(b"epoch,site,unit,units,share\n0,lstm,0,1,0.25\n0,lstm,1,1,0.5\n"),
        read_masks,
    ),
    "config": ("config.yaml", _config, lambda at: load_run(at.parent)),
    "checkpoint": ("x.ckpt", _checkpoint, _read_checkpoint),
}


@pytest.mark.filterwarnings("ignore:.*several vectors")
@pytest.mark.parametrize(("name", "make", "parse"), PARSERS.values(), ids=list(PARSERS))
def test_mutated_files(
    name: str, make: Callable[[Path], bytes], parse: Callable[[Path], object], tmp_path: Path
) -> None:
    content = make(tmp_path)
    path = tmp_path / name
    path.write_bytes(content)
    parse(path)  # as it was

    @given(mutate=mutations())
    @same
    def check(mutate: Callable[[bytes], bytes]) -> None:
        path.write_bytes(mutate(content))
        with suppress(*OURS):
            parse(path)

    check()
