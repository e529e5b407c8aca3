import math
from pathlib import Path
from typing import Any

import pytest

from lightning_advdrop.report import RegularizerEntry, RunError, find_runs, load_run, read_history
from tests.helpers.messages import refused
from tests.helpers.runs import ADVERSARIAL, FRATERNAL, make_run, make_runs, regularizer


def test_a_run_of_csv_logger_is_read(tmp_path: Path) -> None:
    run = load_run(make_run(tmp_path / "digits" / "version_3", 7, test=0.8, val=[0.5, 0.625, 0.75], minutes=1.5))
    assert (run.experiment, run.version, run.seed, run.regularizers) == ("digits", 3, 7, ())
    assert run.series("test/accuracy").last == 0.8
    assert run.series("val/accuracy").last == 0.75
    assert run.series("val/accuracy").by_epoch == {0: 0.5, 1: 0.625, 2: 0.75}
    assert run.minutes == 1.5
    assert set(run.history) == {
        *("train/loss", "train/penalty", "val/loss", "val/accuracy", "test/loss", "test/accuracy"),
    }


def test_settings_leave_out_what_does_not_change_results(tmp_path: Path) -> None:
    folder = make_run(
        tmp_path / "digits" / "version_0",
        trainer={
            "max_epochs": 2,
            "logger": {"class_path": "x"},
            "default_root_dir": "here",
            "enable_progress_bar": True,
        },
        model={"class_path": "Task", "init_args": {"lr": 0.1}},
        data={"class_path": "Digits", "init_args": {"seed": 4}},
    )
    assert load_run(folder).settings == {
        "trainer.max_epochs": 2,
        "model.class_path": "Task",
        "model.init_args.lr": 0.1,
        "data.class_path": "Digits",
    }


@pytest.mark.parametrize("seed", [True, False, None])
def test_without_a_number_there_is_no_seed(tmp_path: Path, seed: bool | None) -> None:
    assert load_run(make_run(tmp_path / "digits" / "version_0", seed)).seed is None


@pytest.mark.parametrize(
    ("configured", "names"),
    [
        (None, []),
        ([], []),
        (regularizer(), ["adversarial dropout"]),
        ([regularizer(), regularizer(FRATERNAL)], ["adversarial dropout", "fraternal dropout"]),
        ({"class_path": "RDropCallback"}, ["r drop"]),
        *[
            ({"class_path": f"lightning_advdrop.{name}Callback"}, [words])
            for name, words in {
                "AdversarialDropout": "adversarial dropout",
                "AdversarialTraining": "adversarial training",
                "ExpectationLinearDropout": "expectation-linear dropout",
                "FraternalDropout": "fraternal dropout",
                "PiModel": "Pi-model",
                "PseudoEnsemble": "pseudo-ensemble agreement",
                "RDrop": "R-Drop",
                "RandomPerturbation": "random perturbation",
                "VariationalDropout": "variational dropout",
                "VirtualAdversarial": "virtual adversarial",
            }.items()
        ],
        (
            {
                "class_path": "lightning_advdrop.RegularizerCallback",
                "init_args": {"regularizer": {"class_path": "lightning_advdrop.regularizers.RDrop"}},
            },
            ["R-Drop"],
        ),
        ({"class_path": "lightning_advdrop.RegularizerCallback"}, ["regularizer"]),
        ({"class_path": "my.ExpectationLinearDropout", "init_args": None}, ["expectation linear dropout"]),
    ],
)
def test_regularizers_are_named(tmp_path: Path, configured: Any, names: list[str]) -> None:
    run = load_run(make_run(tmp_path / "digits" / "version_0", 0, configured))
    assert [found.name for found in run.regularizers] == names


def test_a_regularizer_within_a_callback_brings_its_arguments(tmp_path: Path) -> None:
    inner = {"class_path": "lightning_advdrop.regularizers.RDrop", "init_args": {"rate": 0.1}}
    outer = regularizer("lightning_advdrop.RegularizerCallback", regularizer=inner)
    (found,) = load_run(make_run(tmp_path / "digits" / "version_0", 0, outer)).regularizers
    assert found.arguments == {"rate": 0.1, "sites": "recurrent", "weight": 1.0}


def test_a_config_without_regularizer_is_plain(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "digits" / "version_0")
    (folder / "config.yaml").write_text("seed_everything: 1\ntrainer: null\n")
    assert load_run(folder).regularizers == ()


def test_a_regularizer_among_the_callbacks_is_not_taken_for_plain(tmp_path: Path) -> None:
    callbacks = [
        {"class_path": "lightning.pytorch.callbacks.ModelCheckpoint"},
        {"class_path": "lightning_advdrop.InferenceGapMonitor"},
        {"class_path": ADVERSARIAL, "init_args": {"rate": 0.1}},
    ]
    run = load_run(make_run(tmp_path / "digits" / "version_0", trainer={"callbacks": callbacks}))
    assert run.regularizers == (RegularizerEntry("adversarial dropout", {"rate": 0.1}),)


@pytest.mark.parametrize("minutes", [0.01, 0.0, -3.0])
def test_the_duration_of_copied_files_is_unknown(tmp_path: Path, minutes: float) -> None:
    assert load_run(make_run(tmp_path / "digits" / "version_0", minutes=minutes)).minutes is None


@pytest.mark.parametrize(
    ("name", "content", "parts"),
    [
        ("metrics.csv", None, ("CSVLogger",)),
        ("metrics.csv", b"", ("empty",)),
        ("metrics.csv", b"epoch,step,val/loss\n", ("no value",)),
        ("metrics.csv", b"epoch,step,val/loss\n0,1,\n", ("no value",)),
        ("metrics.csv", b"epoch,val/loss\n0,1\n1,oops\n", ("val/loss='oops'", "line 3", "number")),
        ("metrics.csv", b"epoch,val/loss\n0,\xff\n", ("utf-8",)),
        ("config.yaml", None, ("LightningCLI",)),
        ("config.yaml", b"a: [1\nb: }", ("YAML", "while parsing")),
        ("config.yaml", b"\xff\xfe\xfa", ("utf-8",)),
        ("config.yaml", b"", (None, "mapping")),
        ("config.yaml", b"- 1\n", ([1], "mapping")),
        ("config.yaml", b"regularizer: 3", ("regularizer=3", "null", "class_path", "list")),
        ("config.yaml", b"regularizer: {rate: 1}", ("regularizer={'rate': 1}", "null", "class_path", "list")),
    ],
)
def test_broken_runs_are_refused_with_the_reason(
    tmp_path: Path, name: str, content: bytes | None, parts: tuple[object, ...]
) -> None:
    folder = make_run(tmp_path / "digits" / "version_0")
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_bytes(content)
    with refused(name, *parts, error=RunError) as caught:
        load_run(folder)
    assert "\n" not in str(caught.value)


def test_what_is_no_folder_is_refused(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "digits" / "version_0")
    with refused("file", "folder", error=RunError):
        load_run(folder / "metrics.csv")
    (folder / "metrics.csv").unlink()
    (folder / "metrics.csv").mkdir()
    with refused("metrics.csv", "Is a directory", error=RunError):
        load_run(folder)


def test_a_missing_metric_is_named(tmp_path: Path) -> None:
    run = load_run(make_run(tmp_path / "digits" / "version_0", test=None))
    with refused("metrics.csv", "'test/accuracy'", error=RunError):
        run.series("test/accuracy")


def test_rows_that_were_cut_off_or_have_no_epoch_are_read(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("epoch,step,val/accuracy,x\n0,1,0.5,\n,2,0.6,\nnan,3,0.7,\n1,4,0.8")
    series = read_history(path)["val/accuracy"]
    assert series.last == 0.8
    assert series.by_epoch == {0: 0.5, 1: 0.8}


def test_a_value_that_is_not_finite_is_kept(tmp_path: Path) -> None:
    run = load_run(make_run(tmp_path / "digits" / "version_0", test=math.nan))
    assert math.isnan(run.series("test/accuracy").last)


def test_runs_are_found_at_any_depth_once_and_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = make_runs(tmp_path / "runs" / "deep" / "digits", [0.9] * 11)
    named = make_run(tmp_path / "runs" / "mnist" / "final")
    (tmp_path / "runs" / "digits" / "version_0" / "checkpoints").mkdir(parents=True)
    broken = tmp_path / "runs" / "digits" / "version_0"
    (tmp_path / "runs" / "circle").symlink_to(tmp_path / "runs")
    everything = [*runs, broken, named]
    assert find_runs([tmp_path]) == everything
    assert find_runs([tmp_path, runs[0], tmp_path / "runs"]) == everything
    assert find_runs([runs[0].parent, tmp_path]) == everything
    assert find_runs([runs[0].parent, tmp_path / "runs" / "deep"]) == runs
    monkeypatch.chdir(runs[4])
    assert find_runs([Path()]) == [Path()]
    assert load_run(Path()).experiment == "digits"
    assert load_run(Path()).version == 4


def test_a_folder_that_cannot_be_listed_is_not_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = make_runs(tmp_path / "digits", [0.8, 0.9])
    listed = Path.iterdir

    def refuse(folder: Path) -> Any:
        if folder == second:
            raise PermissionError(13, "Permission denied", str(folder))
        return listed(folder)

    monkeypatch.setattr(Path, "iterdir", refuse)
    assert find_runs([tmp_path]) == [first, second]


def test_a_container_may_be_called_like_a_version(tmp_path: Path) -> None:
    run = make_run(tmp_path / "version_2" / "digits" / "version_0")
    assert find_runs([tmp_path]) == [run]
