"""Bad input, row by row: the exception, and what its one sentence names - the argument, the value, what is allowed."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import nn

import lightning_advdrop as a
from lightning_advdrop import callbacks as c
from lightning_advdrop import datamodules as d
from lightning_advdrop import functional as f
from lightning_advdrop import nn as n
from lightning_advdrop import regularizers as r
from lightning_advdrop.datamodules.downloads import download
from lightning_advdrop.datamodules.vectors import load_vectors
from lightning_advdrop.masking import find_sites
from lightning_advdrop.tasks import load_language_model
from tests.helpers.messages import names

any_: Any = None
NAN, INF = float("nan"), float("inf")
NOWHERE = Path("/nowhere/at/all")


def x(*shape: int, dtype: torch.dtype = torch.float32, **more: Any) -> torch.Tensor:
    return torch.zeros(shape, dtype=dtype, **more)


class Row(NamedTuple):
    """One call, the exception's class, and the parts of its message in their order."""

    call: Callable[[], object]
    error: type[Exception]
    parts: tuple[object, ...]


def row(call: Callable[[], object], *parts: object, error: type[Exception] = ValueError) -> Row:
    return Row(call, error, parts)


LSTM = nn.LSTM(3, 4, num_layers=2)
PLAIN = nn.Linear(3, 4)
GOOD: dict[str, Any] = {"sites": "recurrent"}
FORWARD: Any = lambda: LSTM(x(5, 2, 3))[0][-1]  # noqa: E731

ROWS: dict[str, Row] = {
    # Regularizers and their callbacks.
    "rate above 1": row(lambda: r.AdversarialDropout(rate=1.5), "rate", "[0, 1]", 1.5),
    "rate below 0": row(lambda: r.AdversarialDropout(rate=-0.1), "rate", "[0, 1]", -0.1),
    "rate NaN": row(lambda: r.AdversarialDropout(rate=NAN), "rate", "[0, 1]", "nan"),
    "rate text": row(lambda: r.AdversarialDropout(rate="much"), "rate", "[0, 1]", "'much'"),  # type: ignore[arg-type]
    "rate None": row(lambda: r.AdversarialDropout(rate=any_), "rate", "[0, 1]", None),
    "rate tensor": row(lambda: r.AdversarialDropout(rate=torch.ones(2)), "rate", "[0, 1]"),  # type: ignore[arg-type]
    "weight below 0": row(lambda: a.AdversarialDropoutCallback(weight=-1.0), "weight", -1.0),
    "weight NaN": row(lambda: a.RDropCallback(weight=NAN), "weight", "nan"),
    "weight infinite": row(lambda: a.RDropCallback(weight=INF), "weight", "inf"),
    "weight text": row(lambda: a.RDropCallback(weight="1"), "weight", "'1'"),
    "steps 0": row(lambda: r.AdversarialDropout(steps=0), "steps", 1, 0),
    "steps fraction": row(lambda: r.AdversarialDropout(steps=1.5), "steps", "integer", 1.5),  # type: ignore[arg-type]
    "start": row(lambda: r.AdversarialDropout(start="onedrop"), "start", "one_drop", "'onedrop'", "'one_drop'"),  # type: ignore[arg-type]
    "search": row(lambda: r.AdversarialDropout(search="gradients"), "search", "gradient", "'gradients'"),  # type: ignore[arg-type]
    "flips": row(lambda: r.AdversarialDropout(flips="drops"), "flips", "drop", "'drops'"),  # type: ignore[arg-type]
    "divergence": row(lambda: r.AdversarialDropout(divergence="kll"), "divergence", "kl", "'kll'", "'kl'"),  # type: ignore[arg-type]
    "divergence None": row(lambda: r.AdversarialDropout(divergence=any_), "divergence", "kl", None),
    "direction": row(
        lambda: r.AdversarialDropout(direction="advbase"),  # type: ignore[arg-type]
        *("direction", "adv_base", "'advbase'", "'adv_base'"),
    ),
    "epsilon below 0": row(lambda: r.VirtualAdversarialTraining(epsilon=-1.0), "epsilon", -1.0),
    "epsilon NaN": row(lambda: r.AdversarialTraining(epsilon=NAN), "epsilon", "nan"),
    "perturbation": row(lambda: r.RandomPerturbation(epsilon=-1.0), "epsilon", -1.0),
    "callback rate": row(lambda: a.AdversarialDropoutCallback(rate=2.0), "rate", "[0, 1]", 2.0),
    "callback sites": row(lambda: a.AdversarialDropoutCallback(sites="recurent"), "sites", "'recurent'", "'recurrent'"),
    "callback no sites": row(lambda: a.AdversarialDropoutCallback(sites=[]), "sites", "[]"),
    "callback sites None": row(lambda: a.AdversarialDropoutCallback(sites=any_), "sites", None),
    "callback sites number": row(lambda: a.AdversarialDropoutCallback(sites=3), "sites", 3),  # type: ignore[arg-type]
    "callback sites numbers": row(lambda: a.AdversarialDropoutCallback(sites=[3]), "sites", 3),  # type: ignore[list-item]
    "callback site rate": row(lambda: a.AdversarialDropoutCallback(sites={"recurrent": 1.5}), "rate", "[0, 1]", 1.5),
    "callback rampup": row(lambda: a.AdversarialDropoutCallback(rampup_epochs=-1), "rampup_epochs", 0, -1),
    "callback regularizer": row(lambda: a.RegularizerCallback(any_, **GOOD), "regularizer", None, error=TypeError),
    "callback class": row(lambda: a.RegularizerCallback(r.RDrop, **GOOD), "regularizer", "RDrop", error=TypeError),  # type: ignore[arg-type]
    "monitor batches": row(lambda: a.InferenceGapMonitor(limit_batches=0), "limit_batches", 1, 0),
    "averaging decay": row(lambda: a.ExponentialAveraging(decay=1.5), "decay", 1.5),
    "averaging NaN": row(lambda: a.ExponentialAveraging(decay=NAN), "decay", "nan"),
    "non-monotonic": row(lambda: a.NonMonotonicAveraging(nonmono=0), "nonmono", 0),
    # Functions.
    "budget rate": row(lambda: f.flip_budget(1.5, 10), "rate", "[0, 1]", 1.5),
    "budget units": row(lambda: f.flip_budget(0.5, -1), "units", -1),
    "shapes": row(lambda: f.kl_divergence(x(2, 3), x(2, 4)), "shape", "(2, 3)", "(2, 4)"),
    "shapes mse": row(lambda: f.mse(x(2, 3), x(2)), "shape", "(2, 3)", "(2,)"),
    "divergence name": row(lambda: f.check_divergence("ms", "base_adv"), "divergence", "mse", "'ms'", "'mse'"),
    "direction name": row(lambda: f.check_divergence("kl", "adv"), "direction", "adv_base", "'adv'"),
    "flips shape": row(lambda: f.adversarial_flips(torch.ones(2, 3), x(3, 2), 1), "shape", "(2, 3)", "(3, 2)"),
    "flips budget": row(lambda: f.adversarial_flips(torch.ones(2, 3), x(2, 3), -1), "budget", -1),
    "sample rate": row(lambda: f.sample_bernoulli((2, 3), 1.5), "rate", "[0, 1]", 1.5),
    "ramp epochs": row(lambda: f.sigmoid_rampup(1, -1), -1),
    "cache theta": row(lambda: f.check_neural_cache([-1.0], [0.1], 10), "thetas", -1.0),
    "cache share": row(lambda: f.check_neural_cache([0.1], [1.5], 10), "interpolations", 1.5),
    "cache window": row(lambda: f.check_neural_cache([0.1], [0.1], 0), "window", 1, 0),
    # Sites and passes.
    "site kind": row(lambda: find_sites(LSTM, "reccurrent"), "sites", "'reccurrent'", "'recurrent'"),
    "site of none": row(lambda: find_sites(PLAIN, "recurrent"), "sites", "'recurrent'", "Linear", "none"),
    "site path": row(lambda: find_sites(nn.ModuleDict({"encoder": LSTM}), "encodr:recurrent"), "'encodr'", "encoder"),
    "site number": row(lambda: find_sites(LSTM, 3), "sites", 3),  # type: ignore[arg-type]
    "site None": row(lambda: find_sites(LSTM, any_), "sites", None),
    "site rate": row(lambda: find_sites(LSTM, {"recurrent": NAN}), "rate", "[0, 1]", "nan"),
    "no module": row(lambda: find_sites(any_, "recurrent"), "module", None, error=TypeError),
    # Modules.
    "lstm input": row(lambda: n.MaskedLSTM(3, 4)(x(5, 2, 7)), "input_size", 3, 7, error=RuntimeError),
    "lstm input dims": row(lambda: n.MaskedLSTM(3, 4)(x(5)), "input", "2D", "1D"),
    "lstm dtype": row(lambda: n.MaskedLSTM(3, 4)(x(5, 2, 3, dtype=torch.int64)), "input", "int64"),
    "lstm meta": row(lambda: n.MaskedLSTM(3, 4)(x(5, 2, 3, device="meta")), "input", "meta", "cpu", error=RuntimeError),
    "gru input": row(lambda: n.MaskedGRU(3, 4)(x(5, 2, 7)), "input_size", 3, 7, error=RuntimeError),
    "rnn input": row(lambda: n.MaskedRNN(3, 4)(x(5, 2, 7)), "input_size", 3, 7, error=RuntimeError),
    "locked dropout": row(lambda: n.LockedDropout(1.5), "dropout", "between 0 and 1", 1.5),
    "awd words": row(lambda: n.AWDLSTM(0, 4, 5), "vocabulary_size", 1, 0),
    "awd dropout": row(lambda: n.AWDLSTM(9, 4, 5, word_dropout=1.0), "word_dropout", "[0, 1)", 1.0),
    "awd tokens shape": row(lambda: n.AWDLSTM(9, 4, 5)(x(5, dtype=torch.int64)), "tokens", "(5,)"),
    "awd tokens dtype": row(lambda: n.AWDLSTM(9, 4, 5)(x(5, 2)), "tokens", "int64", "float32"),
    "awd tokens range": row(lambda: n.AWDLSTM(9, 4, 5)(torch.full((5, 2), 9)), "tokens", 8, 9),
    # Tasks.
    "task size": row(lambda: a.SequentialMNISTTask(hidden_size=0), "hidden_size", 1, 0),
    "task size None": row(lambda: a.SequentialMNISTTask(hidden_size=any_), "hidden_size", 1, None),
    "task size text": row(lambda: a.SequentialMNISTTask(hidden_size="8"), "hidden_size", 1, "'8'"),  # type: ignore[arg-type]
    "task size fraction": row(lambda: a.SequentialMNISTTask(hidden_size=1.5), "hidden_size", "integer", 1.5),  # type: ignore[arg-type]
    "task rate NaN": row(lambda: a.SequentialMNISTTask(learning_rate=NAN), "learning_rate", 0, "nan"),
    "task rate infinite": row(lambda: a.SequentialMNISTTask(learning_rate=INF), "learning_rate", 0, "inf"),
    "task shape": row(lambda: a.SequentialMNISTTask(hidden_size=3)(x(2, 5, 7)), "sequences", "(2, 5, 7)"),
    "language dropout": row(lambda: a.LanguageModelingTask(9, output_dropout=1.0), "output_dropout", "[0, 1)", 1.0),
    "language argument": row(lambda: a.LanguageModelingTask(9, dropuot=1.0), "'dropuot'", error=TypeError),
    "language untold": row(
        lambda: a.LanguageModelingTask()(x(5, 2, dtype=torch.int64)), "vocabulary_size", None, error=RuntimeError
    ),
    "classes": row(lambda: a.TextClassificationTask(num_classes=1), "num_classes", 2, 1),
    "classifier backward": row(
        lambda: a.TextClassificationTask(pretrained_backward="b.ckpt"), "pretrained_backward", "bidirectional", False
    ),
    "decay": row(lambda: a.TextPretrainingTask(decay=1.5), "decay", "(0, 1]", 1.5),
    "checkpoint": row(lambda: load_language_model(NOWHERE), "ckpt_path", NOWHERE, error=FileNotFoundError),
    "load": row(
        lambda: a.SequentialMNISTTask.load_from_checkpoint(NOWHERE),
        *("checkpoint_path", NOWHERE),
        error=FileNotFoundError,
    ),
    # Data.
    "root": row(lambda: a.MNISTDataModule(""), "root", "''"),
    "root number": row(lambda: a.MNISTDataModule(3), "root", 3, error=TypeError),  # type: ignore[arg-type]
    "image size": row(lambda: a.MNISTDataModule(image_size=13), "image_size", 28, 13),
    "by": row(lambda: a.DigitsDataModule(by="pixels"), "by", "'pixel'", "'pixels'"),  # type: ignore[arg-type]
    "batch size": row(lambda: a.DigitsDataModule(batch_size=0), "batch_size", 1, 0),
    "batch size fraction": row(lambda: a.DigitsDataModule(batch_size=1.5), "batch_size", 1.5, error=TypeError),  # type: ignore[arg-type]
    "batch size None": row(lambda: a.DigitsDataModule(batch_size=any_), "batch_size", None, error=TypeError),
    "train size": row(lambda: a.DigitsDataModule(train_size=9999), "train_size", 1297, 9999),
    "stage": row(lambda: a.DigitsDataModule().setup("train"), "stage", "'fit'", "'train'"),
    "seed": row(lambda: a.DigitsDataModule(seed=-1), "seed", 0, -1),
    "mirrors": row(lambda: a.IMDBDataModule(mirrors="http://a.org"), "mirrors", "'http://a.org'"),
    "mirror": row(lambda: a.IMDBDataModule(mirrors=["ftp://a.org"]), "mirrors", "https://", "'ftp://a.org'"),
    "open mirror": row(lambda: download(NOWHERE, ["http://a.org"], None), "mirrors", "https://", "'http://a.org/'"),
    "timeout": row(lambda: download(NOWHERE, ["https://a.org"], None, timeout=NAN), "timeout", 0, "nan"),
    "task of data": row(lambda: a.ElecDataModule(task="pretrian"), "task", "'pretrain'", "'pretrian'"),
    "reverse": row(lambda: a.ElecDataModule(reverse=True), "reverse", "'pretrain'", "'classify'"),
    "pattern": row(lambda: a.ElecDataModule(unlabelled="a/b"), "unlabelled", "'a/b'"),
    "tokens": row(lambda: a.TextFileDataModule("a", "b", "c", tokens="words"), "tokens", "'word'", "'words'"),  # type: ignore[arg-type]
    "min count": row(lambda: a.TextFileDataModule("a", "b", "c", min_count=0), "min_count", 1, 0),
    "path None": row(lambda: a.TextFileDataModule("a", any_, "c"), "validation", None, error=TypeError),
    "missing text": row(lambda: a.TextFileDataModule("a", "b", "c").sources(), "a, b, c", error=FileNotFoundError),
    "missing mnist": row(lambda: a.MNISTDataModule(NOWHERE).setup("fit"), NOWHERE, error=FileNotFoundError),
    "missing vectors": row(
        lambda: load_vectors(NOWHERE, d.Vocabulary(["a"], [1])), NOWHERE, "vectors", error=FileNotFoundError
    ),
    "words twice": row(lambda: d.Vocabulary(["a", "a"], [1, 1]), "words", "'a'"),
    "counts": row(lambda: d.Vocabulary(["a", "b"], [1]), "counts", 2, 1),
    "unknown": row(lambda: d.Vocabulary(["a"], [1], unknown="b"), "unknown", "'b'"),
    "word": row(lambda: d.Vocabulary(["a"], [1]).encode(["b"]), "words", "'b'"),
    "columns": row(lambda: d.ContiguousBatches(np.arange(10), 0, 5), "batch_size", 1, 0),
    "short text": row(lambda: d.ContiguousBatches(np.arange(3), 5, 5), "batch_size", 5),
    "callback call": row(lambda: a.AdversarialDropoutCallback(call=-1), "call", 0, -1),
    "statistics": row(lambda: c.MaskStatistics(max_units=0), "max_units", 1, 0),
}


def test_there_are_enough() -> None:
    assert len(ROWS) >= 100


@pytest.mark.parametrize(("call", "error", "parts"), ROWS.values(), ids=list(ROWS))
def test_it_is_refused_in_one_sentence(
    call: Callable[[], object], error: type[Exception], parts: tuple[object, ...]
) -> None:
    with pytest.raises(error) as caught:
        call()
    message = str(caught.value)
    assert re.search(names(*parts), message), message
    assert 10 < len(message) < 500
    assert len(message.splitlines()) == 1
    assert len(re.findall(r"[.!?] [A-Z]", message)) <= 1  # two sentences at most
