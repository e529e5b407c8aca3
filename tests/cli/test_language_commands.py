"""The commands ``advdrop cache`` and ``advdrop generate``, from a fit to their answers."""

from __future__ import annotations

import re
from pathlib import Path

import lightning as L
import pytest

from lightning_advdrop.cli import main
from lightning_advdrop.tasks import generate, load_language_model
from tests.helpers.language_models import trained, write_experiment
from tests.helpers.messages import each_names, names

pytestmark = pytest.mark.filterwarnings("ignore:The `srun` command is available")


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    L.seed_everything(0, verbose=False)
    config, checkpoint = trained(tmp_path_factory.mktemp("experiment"))
    return str(config), str(checkpoint)


def test_generate_prints_the_prompt_and_what_follows(
    experiment: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--length", "7", "--temperature", "0.5", "--top_k", "4", "--seed", "2"]
    assert main(["generate", "--ckpt_path", experiment[1], "--prompt", "the Bank said", *options]) == 0
    out, err = capsys.readouterr()
    wanted = generate(load_language_model(experiment[1]), "the <unk> said", 7, 0.5, 4, 2)
    assert out.startswith("the Bank said")
    assert out.split() == ["the", "Bank", "said", *wanted.text.split()]
    assert each_names(err.splitlines(), [("Note", "vocabulary", "<unk>", "Bank")])


def test_generate_needs_a_checkpoint_and_a_prompt(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["generate"])
    assert stopped.value.code == 2
    assert re.search(names("--ckpt_path, --prompt"), capsys.readouterr().err.splitlines()[-1])


def test_cache_prints_perplexities(experiment: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    config, checkpoint = experiment
    options = ["--window", "30", "--theta", "0", "0.5", "--lambda", "0.05", "0.1"]
    more = ["--config", config, "--data.init_args.eval_batch_size", "2"]
    assert main(["cache", "--ckpt_path", checkpoint, *options, *more]) == 0
    out, err = capsys.readouterr()
    number = r"(\d+\.\d\d)"
    pattern = (
        r"\| perplexity \| without cache \| window=30, theta=(0|0\.5), lambda=0\.(05|1) \|\n\| --- \| ---: \| ---: \|\n"
        rf"\| validation \| {number} \| {number} \|\n\| test \| {number} \| {number} \|\n"
    )
    found = re.fullmatch(pattern, out)
    assert found is not None
    assert all(1 < float(value) < 15 for value in found.groups()[2:])
    assert "Error" not in err


def test_cache_is_that_of_the_evaluation(experiment: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    config, checkpoint = experiment
    assert main(["cache", "--ckpt_path", checkpoint, "--config", config]) == 0
    alone = capsys.readouterr().out.splitlines()[3].split("|")[2].strip()
    assert main(["test", "--config", config, "--ckpt_path", checkpoint]) == 0
    shown = re.search(r"test/perplexity\s+\W\s+([\d.]+)", capsys.readouterr().out)
    assert shown is not None
    assert f"{float(shown[1]):.2f}" == alone


def test_cache_refuses_data_of_another_vocabulary(
    experiment: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_experiment(tmp_path)
    (tmp_path / "train.txt").write_text("other words\n" * 50)
    assert main(["cache", "--ckpt_path", experiment[1], "--config", str(other)]) == 2
    assert each_names(capsys.readouterr().err.splitlines()[-1:], [("Error", "vocabulary", "word 2")])


def test_cache_refuses_data_that_are_no_texts(experiment: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    quickstart = Path(__file__).parents[2] / "configs" / "quickstart.yaml"
    assert main(["cache", "--ckpt_path", experiment[1], "--config", str(quickstart)]) == 2
    assert each_names(capsys.readouterr().err.splitlines()[-1:], [("Error", "data", "language", "DigitsDataModule")])


@pytest.mark.parametrize(("content", "what"), [(None, "missing"), ("", "empty")])
def test_experiments_say_which_text_is_wrong(
    content: str | None, what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, path = write_experiment(tmp_path), tmp_path / "test.txt"
    path.unlink()
    if content is not None:
        path.write_text(content)
    assert main(["fit", "--config", str(config)]) == 2
    last = capsys.readouterr().err.splitlines()[-1:]
    assert each_names(last, [("Error", what)])
    assert each_names(last, [("Error", path)])


@pytest.mark.parametrize(
    ("command", "options", "parts"),
    [
        ("generate", ["--temperature", "-1"], ("temperature", 0, -1.0)),
        ("generate", ["--top_k", "-1"], ("top_k", 1, 0, -1)),
        ("generate", ["--length", "0"], ("length", 1, 0)),
        ("generate", ["--ckpt_path", "no"], ("ckpt_path='no'", "no such file")),
        ("cache", ["--window", "0"], ("window", 1, 0)),
        ("cache", ["--theta", "-1"], ("thetas", 0, [-1.0])),
        ("cache", ["--lambda", "0.5", "1"], ("interpolations", "[0, 1)", [0.5, 1.0])),
    ],
)
def test_what_they_refuse(
    experiment: tuple[str, str],
    command: str,
    options: list[str],
    parts: tuple[object, ...],
    capsys: pytest.CaptureFixture[str],
) -> None:
    needed = ["--prompt", "the"] if command == "generate" else ["--config", experiment[0]]
    assert main([command, "--ckpt_path", experiment[1], *needed, *options]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert each_names(err.splitlines(), [("Error", *parts)])
