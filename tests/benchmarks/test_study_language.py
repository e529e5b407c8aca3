"""Language in the study: each method trains, and perplexities are compared as they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from lightning_advdrop import LanguageModelingTask
from lightning_advdrop.datamodules.roots import DATA_ROOT_VARIABLE
from tests.benchmarks.study import __main__ as study
from tests.benchmarks.study.language import LanguageTask
from tests.benchmarks.study.tasks import TASKS
from tests.helpers.studied import built_at_lowest, result_of
from tests.helpers.tiny_data import TINY_DATA

_NAME = "penn_treebank"


@pytest.fixture
def few_words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A small text in the place of the Penn Treebank, and a task of a few steps."""
    TINY_DATA["PennTreebankDataModule"].write(tmp_path, monkeypatch)
    monkeypatch.setenv(DATA_ROOT_VARIABLE, str(tmp_path))
    monkeypatch.setitem(TASKS, _NAME, LanguageTask(n_train=200, steps=4, batch_size=4, units=8))


@pytest.mark.usefixtures("few_words")
@pytest.mark.parametrize("name", LanguageTask.methods)
def test_language_is_trained_with_each_method(name: str, tmp_path: Path) -> None:
    parts = built_at_lowest(_NAME, name, tmp_path / "run")
    found = result_of(_NAME, parts, tmp_path / "run")
    assert isinstance(parts.model, LanguageModelingTask)
    assert found["steps"] == 4
    assert 1 < found["value"] < 4  # of 11 words
    assert 4 < found["test"] < 20


def test_perplexities_are_compared_as_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = study.file_of(_NAME, tmp_path)
    assert path == tmp_path / "language" / "penn_treebank.csv"
    path.parent.mkdir()
    results = {"none": [120.0, 121.0, 122.0], "r_drop": [119.0, 120.0, 120.7]}
    lines = [
        f"{name},seeds,{seed},{{}},test/perplexity,{value},"
        for name in results
        for seed, value in enumerate(results[name])
    ]
    path.write_text("\n".join(["method,phase,seed,values,metric,result,step_seconds", *lines]), encoding="utf-8")

    assert study.main([_NAME, "--data", str(tmp_path), "--against", "none", "--methods", "none", "r_drop"]) == 0

    # -1, -1 and -1.3: the deviation is 0.1732, and 4.3027 the quantile of t with two degrees.
    assert "-1.10 (-1.53 to -0.67)" in capsys.readouterr().out
