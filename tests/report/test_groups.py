from pathlib import Path

import pytest

from lightning_advdrop.report import ReportError, find_runs, group_runs, load_run
from tests.helpers.messages import each_names, refused
from tests.helpers.runs import ADVERSARIAL, FRATERNAL, make_run, make_runs, regularizer


def groups_below(root: Path, baseline: str = "plain") -> tuple[dict[tuple[str, str], list[int | None]], list[str]]:
    groups, notes = group_runs([load_run(folder) for folder in find_runs([root])], baseline)
    found = {(group.experiment, group.method): [run.seed for run in group.runs] for group in groups}
    assert len(found) == len(groups)
    return found, notes


def test_seeds_of_a_method_go_together_and_the_baseline_comes_first(tmp_path: Path) -> None:
    make_runs(tmp_path / "b_10", [0.9, 0.8], regularizer(rate=0.1))
    make_runs(tmp_path / "b_10", [0.9, 0.8, 0.7], first=5)
    make_runs(tmp_path / "b_2", [0.9])
    groups, notes = groups_below(tmp_path)
    assert list(groups.items()) == [
        (("b_2", "plain"), [0]),
        (("b_10", "plain"), [0, 1, 2]),
        (("b_10", "adversarial dropout"), [0, 1]),
    ]
    assert notes == []
    assert list(groups_below(tmp_path, "adversarial dropout")[0])[1:] == [
        ("b_10", "adversarial dropout"),
        ("b_10", "plain"),
    ]


def test_arguments_that_differ_are_named_and_sorted_as_numbers(tmp_path: Path) -> None:
    for version, rate in enumerate([0.1, 0.05, 0.2]):
        make_run(tmp_path / "digits" / f"version_{version}", 0, regularizer(rate=rate, seed=version))
    assert list(groups_below(tmp_path)[0]) == [
        ("digits", "adversarial dropout (rate=0.05)"),
        ("digits", "adversarial dropout (rate=0.1)"),
        ("digits", "adversarial dropout (rate=0.2)"),
    ]


def test_arguments_are_compared_within_the_same_regularizers_only(tmp_path: Path) -> None:
    make_run(tmp_path / "digits" / "version_0", 0, regularizer(rate=0.1))
    make_run(tmp_path / "digits" / "version_1", 0, [regularizer(rate=0.2), regularizer(FRATERNAL)])
    make_run(tmp_path / "digits" / "version_2", 0, [regularizer(rate=0.2), regularizer(FRATERNAL, sites=["a", None])])
    make_run(tmp_path / "mnist" / "version_0", 0, regularizer(rate=0.3))
    assert list(groups_below(tmp_path)[0]) == [
        ("digits", "adversarial dropout"),
        ("digits", 'adversarial dropout + fraternal dropout (sites=["a", null])'),
        ("digits", "adversarial dropout + fraternal dropout (sites=recurrent)"),
        ("mnist", "adversarial dropout"),
    ]


def test_an_argument_may_be_unset(tmp_path: Path) -> None:
    make_run(tmp_path / "digits" / "version_0", 0, {"class_path": ADVERSARIAL})
    make_run(tmp_path / "digits" / "version_1", 0, {"class_path": ADVERSARIAL, "init_args": {"rate": 0.1, "weight": 2}})
    assert list(groups_below(tmp_path)[0]) == [
        ("digits", "adversarial dropout (rate=0.1, weight=2)"),
        ("digits", "adversarial dropout (rate=unset, weight=unset)"),
    ]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("digits/version_2", 500), ("digits/version_10", 100)),
        (("monday/digits/version_9", 100), ("tuesday/digits/version_0", 500)),
    ],
    ids=["higher version", "later in another folder"],
)
def test_of_one_seed_the_newer_run_counts(tmp_path: Path, first: tuple[str, float], second: tuple[str, float]) -> None:
    older, newer = (make_run(tmp_path / path, 3, modified=time) for path, time in (first, second))
    groups, notes = group_runs([load_run(newer), load_run(older)])
    assert [[run.folder for run in group.runs] for group in groups] == [[newer]]
    assert each_names(notes, [(str(older), str(newer), "seed 3")])


@pytest.mark.parametrize("folder", ["digits", "later/digits"])
def test_a_run_that_only_tested_replaces_none_that_trained(folder: str, tmp_path: Path) -> None:
    trained = make_run(tmp_path / "digits" / "version_0", 3)
    tested = [
        make_run(tmp_path / folder / f"version_{n}", 3, val=(), test=0.1, modified=500 + n, trainer={"max_epochs": 2})
        for n in (1, 2)
    ]
    runs = [load_run(path) for path in (trained, *tested)]
    assert [run.trained for run in runs] == [True, False, False]
    groups, notes = group_runs(runs)
    assert [[run.folder for run in group.runs] for group in groups] == [[trained]]
    assert each_names(notes, [(str(path), "trained nothing", str(trained)) for path in tested])
    assert [[run.folder for run in group.runs] for group in group_runs(runs[1:])[0]] == [[tested[1]]]


def test_runs_without_a_seed_all_count(tmp_path: Path) -> None:
    for version in range(3):
        make_run(tmp_path / "digits" / f"version_{version}", None if version < 2 else 5)
    assert groups_below(tmp_path) == ({("digits", "plain"): [5, None, None]}, [])


def test_other_differences_are_said(tmp_path: Path) -> None:
    make_run(tmp_path / "digits" / "version_0", 0, model={"init_args": {"lr": 0.1, "units": 8, "seed": 1}})
    make_run(tmp_path / "digits" / "version_1", 0, regularizer(), model={"init_args": {"lr": 0.01, "units": 8}})
    _, notes = groups_below(tmp_path)
    assert each_names(notes, [("digits", "model.init_args.lr (0.01, 0.1)")])


def test_a_list_of_regularizers_has_a_readable_name(tmp_path: Path) -> None:
    virtual = regularizer("lightning_advdrop.VirtualAdversarialCallback")
    make_run(tmp_path / "imdb" / "version_0", 0, [regularizer(), virtual])
    make_run(tmp_path / "imdb" / "version_1", 0, regularizer("lightning_advdrop.RDropCallback"))
    make_run(tmp_path / "imdb" / "version_2", 0)
    assert [method for _, method in groups_below(tmp_path)[0]] == [
        "plain",
        "adversarial dropout + virtual adversarial",
        "R-Drop",
    ]


def test_paths_that_end_alike_are_told_apart(tmp_path: Path) -> None:
    for version, folder in enumerate(["one", "two"]):
        model = {"init_args": {"pretrained": f"runs/{folder}/best.ckpt"}}
        make_run(tmp_path / "imdb" / f"version_{version}", 0, model=model)
    groups, notes = group_runs(
        [load_run(folder) for folder in find_runs([tmp_path])], by=["model.init_args.pretrained"]
    )
    assert [group.method for group in groups] == [
        "plain (pretrained=runs/one/best.ckpt)",
        "plain (pretrained=runs/two/best.ckpt)",
    ]
    assert notes == []


def test_settings_tell_runs_apart_where_that_is_asked_for(tmp_path: Path) -> None:
    for version, path in enumerate([None, "runs/pretrained/small.ckpt"]):
        model = {"init_args": {"pretrained": path, "hidden_size": 8 + version}}
        make_run(tmp_path / "imdb" / f"version_{version}", 0, model=model)
        make_run(tmp_path / "imdb" / f"version_{version + 2}", 0, regularizer(rate=0.1), model=model)
    runs = [load_run(folder) for folder in find_runs([tmp_path])]
    groups, notes = group_runs(runs, by=["model.init_args.pretrained"])
    assert [(group.method, [run.seed for run in group.runs]) for group in groups] == [
        ("adversarial dropout (pretrained=null)", [0]),
        ("adversarial dropout (pretrained=small.ckpt)", [0]),
        ("plain (pretrained=null)", [0]),
        ("plain (pretrained=small.ckpt)", [0]),
    ]
    assert each_names(notes, [("imdb", "model.init_args.hidden_size (8, 9)")])
    both = group_runs(runs, by=["model.init_args.pretrained", "model.init_args.hidden_size"])
    assert both[0][2].method == "plain (pretrained=null, hidden_size=8)"
    assert both[1] == []
    with refused("by", "'model.hidden'", "model.init_args.hidden_size", error=ReportError):
        group_runs(runs, by=["model.hidden"])
