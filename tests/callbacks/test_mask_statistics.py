"""What the statistics of masks count, write, draw and leave behind."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger, WandbLogger
from matplotlib.image import imread
from torch import Tensor, nn

from lightning_advdrop import AdversarialDropoutCallback, FraternalDropoutCallback, MaskStatistics
from lightning_advdrop.drawing import as_png, heat_maps, histograms
from lightning_advdrop.mask_shares import as_matrix, share_rows
from lightning_advdrop.masking import MaskSite, find_sites
from lightning_advdrop.regularizers import Penalty
from tests.helpers.messages import names, refused
from tests.helpers.plain_models import PlainModel, fitted_weights, loader, quiet_trainer, seeded

FILES = {"masks.csv", "masks_heat_map.png", "masks_histogram.png"}


def read(folder: str | Path | None) -> list[dict[str, str]]:
    with Path(str(folder), "masks.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def fit(*callbacks: L.Callback, version: str | None = None, ckpt_path: str | None = None, **trainer: Any) -> L.Trainer:
    L.seed_everything(3, verbose=False)
    logger = CSVLogger("logs", version=version)
    made = quiet_trainer(callbacks=list(callbacks), logger=logger, log_every_n_steps=1, **trainer)
    made.fit(seeded(PlainModel), loader(), ckpt_path=ckpt_path)
    return made


class Undrawn(MaskStatistics):
    """Saves the time for the pictures, which is most of it."""

    def _draw(self, trainer: L.Trainer) -> None: ...


class Collector:
    """Counts for itself, from the same penalties."""

    def __init__(self) -> None:
        self.masks: dict[str, list[Tensor]] = {}

    def __call__(self, penalty: Penalty) -> None:
        for site, mask in penalty.masks.items():
            self.masks.setdefault(site.name, []).append(mask)


def test_the_file_holds_the_share_of_rows_in_which_each_unit_is_dropped() -> None:
    callback, collector = AdversarialDropoutCallback(rate=0.2), Collector()
    callback.listeners.append(collector)
    trainer = fit(callback, MaskStatistics())
    rows = read(trainer.log_dir)
    assert list(rows[0]) == ["epoch", "site", "unit", "units", "share"]
    assert sorted(collector.masks) == ["lstm.l0:recurrent", "lstm.l1:recurrent"]
    for site, masks in collector.masks.items():
        for epoch in (0, 1):
            dropped = torch.cat([mask == 0 for mask in masks[4 * epoch : 4 * epoch + 4]]).double().mean(0)
            found = [row for row in rows if (row["epoch"], row["site"]) == (str(epoch), site)]
            assert [int(row["unit"]) for row in found] == list(range(12))
            assert {row["units"] for row in found} == {"1"}
            np.testing.assert_allclose([float(row["share"]) for row in found], dropped.numpy(), rtol=1e-5)
    assert len(rows) == 2 * 2 * 12
    assert {path.name for path in Path(str(trainer.log_dir)).iterdir()} >= FILES
    assert callback.listeners == [collector]


def test_training_is_the_same_with_it() -> None:
    plain = fitted_weights(seeded(PlainModel), AdversarialDropoutCallback(rate=0.2))
    counted = fitted_weights(seeded(PlainModel), AdversarialDropoutCallback(rate=0.2), MaskStatistics())
    assert all(torch.equal(plain[name], counted[name]) for name in plain)
    assert not list(Path().glob("**/masks*"))  # there is no log folder


def site(kind: str, units: int) -> MaskSite:
    return MaskSite(f"part:{kind}", kind, "part", nn.Identity(), units)


def test_every_kind_is_counted_by_the_places_of_its_rows() -> None:
    statistics = MaskStatistics()
    embedding, per_step, own = site("embedding", 4), site("recurrent", 3), site("dropout", 2)
    masks = {
        embedding: torch.tensor([[1.0], [0.0], [0.0], [1.0]]),
        per_step: torch.tensor([[[1.0, 0.0, 1.0]], [[1.0, 0.0, 0.0]]]),
        own: torch.tensor([[1.0, 0.0]]),
    }
    statistics.count(Penalty(torch.zeros(()), masks=masks))
    statistics.count(Penalty(torch.zeros(()), masks={site("dropout", 3): torch.tensor([[0.0, 0.0, 0.0]])}))
    assert {name: count.tolist() for name, count in statistics.counts.items()} == {
        "part:embedding": [[0, 1, 1, 0], [1, 1, 1, 1]],
        "part:recurrent": [[0, 2, 1], [2, 2, 2]],
        "part:dropout": [[1, 2, 1], [2, 2, 1]],  # an activation that is longer in the second batch
    }


def test_neighbours_in_wide_sites_are_taken_together() -> None:
    trainer = fit(AdversarialDropoutCallback(rate=0.2), Undrawn(max_units=5), max_epochs=1)
    found = [row for row in read(trainer.log_dir) if row["site"] == "lstm.l0:recurrent"]
    assert [(row["unit"], row["units"]) for row in found] == [("0", "3"), ("3", "3"), ("6", "3"), ("9", "3")]
    uneven = fit(AdversarialDropoutCallback(rate=0.2), Undrawn(max_units=3), max_epochs=1)
    single = fit(AdversarialDropoutCallback(rate=0.2), Undrawn(), max_epochs=1)
    every = [float(row["share"]) for row in read(single.log_dir)][:12]
    binned = [float(row["share"]) for row in read(uneven.log_dir)][:3]
    np.testing.assert_allclose(binned, np.array(every).reshape(3, 4).mean(1), rtol=1e-4)


@pytest.mark.filterwarnings(
    "ignore:The dirpath has changed", "ignore:Experiment logs directory", "ignore:Checkpoint dir"
)
def test_a_resumed_run_goes_on_with_the_file() -> None:
    whole = fit(AdversarialDropoutCallback(rate=0.2), Undrawn(), max_epochs=3, version="whole")
    checkpointed: dict[str, Any] = {"version": "part", "enable_checkpointing": True}
    first = fit(AdversarialDropoutCallback(rate=0.2), Undrawn(), max_epochs=2, **checkpointed)
    path = first.checkpoint_callback.best_model_path  # type: ignore[union-attr]
    file = Path(str(first.log_dir), "masks.csv")
    file.write_text(file.read_text() + "2,left over,0,1,0.5\n")
    statistics = Undrawn()
    resumed = fit(AdversarialDropoutCallback(rate=0.2), statistics, max_epochs=3, ckpt_path=path, **checkpointed)
    found, expected = read(resumed.log_dir), read(whole.log_dir)
    assert found[:48] == expected[:48]
    # The network's own dropout is not that of the uninterrupted run, so that other units are dropped.
    assert [(row["epoch"], row["site"], row["unit"]) for row in found] == [
        (row["epoch"], row["site"], row["unit"]) for row in expected
    ]
    # A new run in the same folder does not go on with the old one.
    again = fit(AdversarialDropoutCallback(rate=0.2), Undrawn(), max_epochs=1, version="part")
    assert {row["epoch"] for row in read(again.log_dir)} == {"0"}


def test_counts_within_an_epoch_are_in_the_checkpoint() -> None:
    statistics, resumed = MaskStatistics(), MaskStatistics()
    statistics.count(Penalty(torch.zeros(()), masks={site("recurrent", 2): torch.tensor([[1.0, 0.0]])}))
    statistics._epoch = 4
    resumed.load_state_dict(statistics.state_dict())
    trainer: Any = type("Trainer", (), {"current_epoch": 4})
    resumed.on_train_epoch_start(trainer, PlainModel())
    assert resumed.counts["part:recurrent"].tolist() == [[0, 1], [1, 1]]
    trainer.current_epoch = 5
    resumed.on_train_epoch_start(trainer, PlainModel())
    assert resumed.counts == {}


@pytest.mark.filterwarnings("ignore:Experiment logs directory")
def test_a_damaged_file_is_written_anew() -> None:
    Path("logs/lightning_logs/damaged").mkdir(parents=True)
    Path("logs/lightning_logs/damaged/masks.csv").write_text("epoch,site,unit,units,share\n0,a,0,1,much\n")
    with pytest.warns(UserWarning, match=names("masks.csv", "MaskStatistics", "0,a,0,1,much")):
        trainer = fit(AdversarialDropoutCallback(), Undrawn(), max_epochs=1, version="damaged")
    assert len(read(trainer.log_dir)) == 2 * 12


class StubWandb(WandbLogger):
    """Keeps what is logged; there is no run behind it."""

    def __init__(self) -> None:
        self.images: list[tuple[str, Any, int | None]] = []

    name = version = save_dir = log_dir = None

    def log_image(self, key: str, images: list[Any], step: int | None = None, **kwargs: Any) -> None:
        self.images.append((key, images, step))

    def log_metrics(self, *args: Any, **kwargs: Any) -> None: ...
    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None: ...
    def log_graph(self, *args: Any, **kwargs: Any) -> None: ...
    def finalize(self, status: str) -> None: ...
    def save(self) -> None: ...
    def after_save_checkpoint(self, checkpoint_callback: Any) -> None: ...


def test_weights_and_biases_gets_the_pictures_also_without_a_log_folder() -> None:
    logger = StubWandb()
    callbacks = [AdversarialDropoutCallback(), MaskStatistics(plot_every_n_epochs=2)]
    quiet_trainer(callbacks=callbacks, logger=logger, max_epochs=3, log_every_n_steps=1).fit(PlainModel(), loader())
    assert [(key, step) for key, _, step in logger.images] == [
        (name, step) for step in (8, 12) for name in ("masks_heat_map", "masks_histogram")
    ]
    assert all(np.asarray(image).shape == (720, 1760, 4) for _, (image,), _ in logger.images)  # two panels
    assert not list(Path().glob("**/masks*"))


def test_the_pictures_show_what_was_counted() -> None:
    first = share_rows(0, np.array([[1.0, 1.0, 4.0], [10.0, 10.0, 10.0]]), 2)
    third = share_rows(2, np.array([[3.0, 3.0, 2.0], [10.0, 10.0, 10.0]]), 2)
    sites = {"$a:recurrent$": np.concatenate([first, third]), "b": first[:1], "c": first, "d": third}
    axes = heat_maps([(site, as_matrix(rows)) for site, rows in sites.items()]).axes
    (image,) = axes[0].get_images()
    np.testing.assert_allclose(np.asarray(image.get_array()), [[0.1, np.nan, 0.3], [0.4, np.nan, 0.2]])
    assert list(image.get_extent()) == [0.5, 3.5, 0, 3]
    assert axes[0].get_title() == "$a:recurrent$"
    assert (axes[0].get_xlabel(), axes[0].get_ylabel()) == ("Training time (epochs)", "Unit")
    bars = histograms(sites.items()).axes[0]
    assert sum(patch.get_height() for patch in bars.patches) == 3  # type: ignore[attr-defined]
    assert bars.get_xlabel() == "Share of masks that drop a unit, epoch 3"
    assert as_png(lambda: histograms(sites.items())).startswith(b"\x89PNG")


def test_pictures_are_files_and_nothing_else_is_left() -> None:
    trainer = fit(AdversarialDropoutCallback(), MaskStatistics(plot_every_n_epochs=0))
    folder = Path(str(trainer.log_dir))
    written = {path.name for path in folder.iterdir()} - {"hparams.yaml"}  # which Lightning before 2.6 writes
    assert written == {*FILES, "metrics.csv"}
    assert imread(folder / "masks_heat_map.png").ndim == 3


def test_nothing_to_listen_to_or_to_count_is_said() -> None:
    with pytest.warns(UserWarning, match=names("MaskStatistics", "trainer", "none")):
        fit(MaskStatistics(), max_epochs=1)
    with pytest.warns(UserWarning, match=names("MaskStatistics", "nothing", "no regularizer")):
        trainer = fit(FraternalDropoutCallback(), MaskStatistics(), max_epochs=1)
    assert not {path.name for path in Path(str(trainer.log_dir)).iterdir()} & FILES


class Failing(PlainModel):
    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Any:
        if batch_idx == 2:
            raise RuntimeError("the user's own")
        return super().training_step(batch, batch_idx)


def test_an_exception_ends_the_listening() -> None:
    callback = AdversarialDropoutCallback()
    with pytest.raises(RuntimeError, match="the user's own"):
        quiet_trainer(callbacks=[callback, MaskStatistics()]).fit(Failing(), loader())
    assert callback.listeners == []


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ({"max_units": 0}, ("max_units", 1, 0)),
        ({"plot_every_n_epochs": -1}, ("plot_every_n_epochs", 0, -1)),
    ],
)
def test_arguments_are_checked(arguments: dict[str, Any], parts: tuple[object, ...]) -> None:
    with refused(*parts):
        MaskStatistics(**arguments)


def test_sites_of_a_network_are_counted_under_their_names() -> None:
    lstm = nn.LSTM(4, 3)
    (place,) = find_sites(lstm, "weight")
    statistics = MaskStatistics()
    statistics.count(Penalty(torch.zeros(()), masks={place: torch.ones(12, 3)}))
    assert statistics.counts[place.name].tolist() == [[0, 0, 0], [12, 12, 12]]
