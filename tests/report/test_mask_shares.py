from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from lightning_advdrop.drawing import heat_maps
from lightning_advdrop.mask_shares import read_shares, share_rows, write_shares
from lightning_advdrop.report import MaskShares, ReportError, RunError, draw_masks, read_masks
from tests.helpers.messages import refused
from tests.helpers.runs import write_masks

HEADING = "epoch,site,unit,units,share\n"


def test_the_file_is_read_into_matrices(tmp_path: Path) -> None:
    file = tmp_path / "masks.csv"
    file.write_text(f"{HEADING}2,a,0,4,0.5\n2,a,4,2,0.25\n4,a,0,4,1\n4,b,0,1,0\n")
    found = read_masks(file)
    np.testing.assert_array_equal(found["a"].shares, [[0.5, np.nan, 1.0], [0.25, np.nan, np.nan]])
    assert (found["a"].first_epoch, found["a"].units) == (2, 6)
    assert found["b"].shares.tolist() == [[0.0]]


def test_what_is_written_is_read_by_epoch_and_site(tmp_path: Path) -> None:
    later, earlier = (share_rows(epoch, np.array([[1.0, 2.0, 0.0], [3.0, 3.0, 3.0]]), 2) for epoch in (10, 9))
    sites = {"b": np.concatenate([later, earlier]), "a": later}
    write_shares(tmp_path / "new" / "masks.csv", sites)
    lines = (tmp_path / "new" / "masks.csv").read_text().splitlines()
    assert lines[1:] == ["9,b,0,2,0.5", "9,b,2,1,0", "10,a,0,2,0.5", "10,a,2,1,0", "10,b,0,2,0.5", "10,b,2,1,0"]
    found = read_shares(tmp_path / "new" / "masks.csv")
    assert {site: rows.tolist() for site, rows in found.items()} == {
        "b": [*earlier.tolist(), *later.tolist()],
        "a": later.tolist(),
    }


def test_sites_become_matrices(tmp_path: Path) -> None:
    write_masks(tmp_path, [[0.5, 0.25], [0.25, 0.75]], [[1.0]])
    found = read_masks(tmp_path / "masks.csv")
    assert {site: shares.shares.tolist() for site, shares in found.items()} == {
        "lstm.l0:recurrent": [[0.5, 0.25], [0.25, 0.75]],
        "lstm.l1:recurrent": [[1.0]],
    }


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (None, ("MaskStatistics",)),
        (b"", ("begin", "epoch,site,unit,units,share")),
        (b"epoch,share\n", ("begin", "epoch,site,unit,units,share")),
        (HEADING.encode(), ("no value",)),
        (f"{HEADING}0,a,0,1\n".encode(), ("'0,a,0,1'", "line 2", "epoch, site, unit, units and share")),
        (f"{HEADING}0,a,0,1,x\n".encode(), ("'0,a,0,1,x'", "line 2", "share")),
        (f"{HEADING}0,a,0,1,2\n".encode(), ("'0,a,0,1,2'", "line 2", "share")),
        (f"{HEADING}0,a,-1,1,0\n".encode(), ("'0,a,-1,1,0'", "line 2", "share")),
        (b"\xff", ("utf-8",)),
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, content: bytes | None, parts: tuple[str, ...]) -> None:
    if content is not None:
        (tmp_path / "masks.csv").write_bytes(content)
    with refused("masks.csv", *parts, error=RunError):
        read_masks(tmp_path / "masks.csv")


def test_a_file_that_is_a_folder_is_refused(tmp_path: Path) -> None:
    with refused(tmp_path.name, "directory", error=RunError):
        read_masks(tmp_path)


def test_each_site_has_a_panel(tmp_path: Path) -> None:
    shares = MaskShares(np.array([[0.1, 0.2], [0.3, 0.4]]), 4, 6)
    panels = [(f"$digits$, plain\n{number}", shares) for number in range(2)]
    first, second, *bars = heat_maps(panels).axes
    assert [first.get_title(), second.get_title()] == ["$digits$, plain\n0", "$digits$, plain\n1"]
    (image,) = first.get_images()
    assert list(image.get_extent()) == [4.5, 6.5, 0, 6]
    assert len(bars) == 2
    draw_masks(panels, tmp_path / "masks.png")
    assert [path.name for path in tmp_path.iterdir()] == ["masks.png"]
    assert imread(tmp_path / "masks.png").shape == (720, 1760, 4)


def test_nothing_to_draw_is_refused(tmp_path: Path) -> None:
    with refused("panels", "one", "none", error=ReportError):
        draw_masks([], tmp_path / "masks.png")
