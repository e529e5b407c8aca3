"""Finding sites of every kind: their names, paths and rates, and what is said where there is nothing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from lightning_advdrop.masking import SiteSpecs, check_sites, find_sites
from tests.helpers.messages import refused


def build() -> nn.Module:
    encoder = nn.ModuleDict({"table": nn.Embedding(9, 4), "gru": nn.GRU(4, 3, 3, bidirectional=True)})
    encoder["attention"] = nn.MultiheadAttention(6, 2, dropout=0.1)
    decoder = nn.ModuleDict({"cell": nn.LSTMCell(6, 5), "rnn": nn.RNN(5, 2), "drop": nn.Dropout1d(0.2)})
    return nn.ModuleDict({"encoder": encoder, "decoder": decoder, "bag": nn.EmbeddingBag(7, 2), "off": nn.Dropout(0.0)})


def names(sites: SiteSpecs) -> list[str]:
    return [site.name for site in find_sites(build(), sites)]


GRU = [f"encoder.gru.l{layer}{suffix}" for layer in range(3) for suffix in ("", "_reverse")]


@pytest.mark.parametrize(
    ("kind", "places"),
    [
        ("recurrent", [*GRU, "decoder.cell", "decoder.rnn.l0"]),
        ("weight", [*GRU, "decoder.cell", "decoder.rnn.l0"]),
        ("embedding", ["encoder.table", "bag"]),
        ("input", ["encoder.gru", "decoder.rnn"]),
        ("hidden", ["encoder.gru.l1", "encoder.gru.l2"]),
        ("output", ["encoder.gru", "decoder.rnn"]),
        ("dropout", ["encoder.attention", "decoder.drop"]),
    ],
)
def test_every_place_of_a_kind(kind: str, places: list[str]) -> None:
    assert names(kind) == [f"{place}:{kind}" for place in places]


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        ("encoder:embedding", ["encoder.table:embedding"]),
        ("encoder.gru.l2:hidden", ["encoder.gru.l2:hidden"]),
        ("encoder.gru.l1_reverse:weight", ["encoder.gru.l1_reverse:weight"]),
        ("decoder.cell:weight", ["decoder.cell:weight"]),
        ("decoder:recurrent", ["decoder.cell:recurrent", "decoder.rnn.l0:recurrent"]),
        ("encoder.attention:dropout", ["encoder.attention:dropout"]),
        ("encoder.gru:dropout", ["encoder.gru:dropout"]),
        ("bag:dropout", ["bag:dropout"]),
        ("off:dropout", ["off:dropout"]),
    ],
)
def test_paths(spec: str, found: list[str]) -> None:
    """Where no module drops, the one that was named stands for what will be found."""
    assert names(spec) == found


def test_shapes_and_anchors() -> None:
    model: Any = build()
    layer = model["encoder"]["gru"]
    expected = {
        "encoder.table:embedding": ((9, 1), 9, model["encoder"]["table"].weight),
        "encoder.gru:input": ((2, 1, 4), 4, layer.weight_ih_l0),
        "encoder.gru.l1:hidden": ((2, 1, 6), 6, layer.weight_ih_l1),
        "encoder.gru:output": ((2, 1, 6), 6, layer.weight_hh_l2_reverse),
        "encoder.gru.l0_reverse:recurrent": ((2, 3), 3, layer.weight_hh_l0_reverse),
        "encoder.gru.l0_reverse:weight": ((9, 3), 3, layer.weight_hh_l0_reverse),
        "decoder.cell:recurrent": ((2, 5), 5, model["decoder"]["cell"].weight_hh),
        "decoder.cell:weight": ((20, 5), 5, model["decoder"]["cell"].weight_hh),
    }
    sites = {site.name: site for site in find_sites(model, list(expected))}
    for name, (shape, units, anchor) in expected.items():
        assert (sites[name].shape(2), sites[name].units, sites[name].kind) == (shape, units, name.partition(":")[2])
        assert sites[name].anchor is anchor
        assert tuple(sites[name].ones(2).shape) == shape
        assert (sites[name].as_rows(sites[name].sample_one_drop(2)) == 0).sum(-1).eq(1).all()


def test_projections_narrow_what_is_given_on() -> None:
    layer = nn.LSTM(4, 5, 2, proj_size=2, bidirectional=True)
    sites = find_sites(layer, ["input", "hidden", "output", "l0:recurrent", "l0:weight"])
    assert {site.name: site.shape(3) for site in sites} == {
        **dict.fromkeys((":input", "l1:hidden", ":output"), (3, 1, 4)),
        "l0:recurrent": (3, 2),
        "l0:weight": (20, 2),
    }


def test_a_dropout_site_tells_its_rate_but_no_shape() -> None:
    model = build()
    sites = {site.name: site for site in find_sites(model, "dropout")}
    assert {name: site.drop_rate for name, site in sites.items()} == {
        "encoder.attention:dropout": 0.1,
        "decoder.drop:dropout": 0.2,
    }
    site = sites["decoder.drop:dropout"]
    calls: list[Any] = [site.shape, site.ones, site.sample_one_drop, lambda batch: site.sample(batch, 0.5)]
    for call in calls:
        with refused("decoder.drop:dropout", "batch_size", 4, "RecordedForward.observed"):
            call(4)


@pytest.mark.parametrize("kind", ["recurrent", "embedding", "input"])
def test_shared_layers_are_one_site(kind: str) -> None:
    shared = nn.ModuleDict({"layer": nn.GRU(3, 3), "table": nn.Embedding(4, 3)})
    model = nn.ModuleDict({"first": shared, "second": shared})
    (site,), (named,) = find_sites(model, kind), find_sites(model, f"second:{kind}")
    assert [each.layer.partition(".")[0] for each in (site, named)] == ["first", "second"]
    assert site.anchor is named.anchor


def test_tied_tables_are_one_site() -> None:
    model = nn.ModuleDict({"source": nn.Embedding(4, 3), "target": nn.Embedding(4, 3)})
    model["target"].weight = model["source"].weight
    assert [site.name for site in find_sites(model, "embedding")] == ["source:embedding"]


def test_a_mapping_gives_rates() -> None:
    rates = {"encoder:recurrent": 0.1, "recurrent": 0.2, "encoder.gru.l0:weight": 0.0, "dropout": 1}
    found = {site.name: site.rate for site in find_sites(build(), rates)}
    assert found == {
        **{f"{place}:recurrent": 0.1 for place in GRU},
        "decoder.cell:recurrent": 0.2,
        "decoder.rnn.l0:recurrent": 0.2,
        "encoder.gru.l0:weight": 0.0,
        "encoder.attention:dropout": 1,
        "decoder.drop:dropout": 1,
    }
    assert {site.rate for site in find_sites(build(), ["recurrent", "dropout"])} == {None}


def test_a_path_that_repeats_modules_stands_for_functional_dropout_below_it() -> None:
    assert names(["encoder:dropout", "decoder:dropout", "dropout"]) == [
        "encoder.attention:dropout",
        "decoder.drop:dropout",
        ":dropout",
    ]
    assert names(["dropout", "encoder:dropout"])[:2] == ["encoder.attention:dropout", "decoder.drop:dropout"]


@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan")])
def test_rates_that_are_no_share_are_refused(rate: float) -> None:
    for check in (check_sites, lambda sites: find_sites(build(), sites)):
        with refused("rate", "[0, 1]", rate):
            check({"recurrent": 0.1, "weight": rate})


@pytest.mark.parametrize("sites", [[], {}])
def test_no_sites_are_refused(sites: Any) -> None:
    with refused("sites", sites):
        find_sites(build(), sites)


RECURRENT = "LSTM, GRU or RNN"


@pytest.mark.parametrize(
    ("spec", "module", "parts"),
    [
        ("recurrent", nn.Linear(1, 1), ("'recurrent'", "Linear", RECURRENT, "cell", "none")),
        ("weight", nn.Linear(1, 1), ("'weight'", "Linear", RECURRENT, "cell", "none")),
        ("embedding", nn.GRU(1, 1), ("'embedding'", "GRU", "embedding", "none")),
        ("input", nn.GRUCell(1, 1), ("'input'", "GRUCell", RECURRENT, "none")),
        ("output", nn.GRUCell(1, 1), ("'output'", "GRUCell", RECURRENT, "none")),
        ("hidden", nn.ModuleDict({"a": nn.GRU(1, 1)}), ("'hidden'", "ModuleDict", RECURRENT, "num_layers", 2, "a")),
        (
            "b:embedding",
            nn.ModuleDict({"a": nn.Embedding(1, 1)}),
            ("'embedding'", "'b'", "ModuleDict", "embedding", "a"),
        ),
        ("b:dropout", nn.ModuleDict({"a": nn.Dropout()}), ("'dropout'", "'b'", "ModuleDict", "a")),
        ("l1:weight", nn.LSTM(2, 3), ("'weight'", "'l1'", "LSTM", RECURRENT, "(the module itself)")),
    ],
)
def test_nothing_found(spec: str, module: nn.Module, parts: tuple[object, ...]) -> None:
    with refused("sites", *parts):
        find_sites(module, spec)


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (nn.ModuleList([nn.Embedding(3, 2), nn.Dropout(0.1)]), "it has places of the kinds 'embedding', 'dropout'"),
        (nn.TransformerEncoderLayer(4, 2), "it has places of the kind 'dropout'"),
        (nn.ModuleList([nn.Linear(2, 2), nn.AlphaDropout(0.1)]), "and has none."),
    ],
    ids=["several", "one", "none"],
)
def test_a_module_without_such_places_is_told_which_it_has(module: nn.Module, said: str) -> None:
    with refused("sites", "'recurrent'", said):
        find_sites(module, "recurrent")


def test_rows_and_rescaling() -> None:
    recurrent, locked, table = find_sites(nn.ModuleList([nn.GRU(2, 4, 2), nn.Embedding(4, 2)]), [
        "0.l0:recurrent", "hidden", "embedding",
    ])  # fmt: skip
    mask = torch.tensor([[1.0, 1.0, 0.0, 0.0], [1.0, 1.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    scaled = torch.tensor([[2.0, 2.0, 0.0, 0.0], [4 / 3, 4 / 3, 4 / 3, 0.0], [0.0, 0.0, 0.0, 0.0]])
    assert torch.equal(recurrent.rescale(mask), scaled)
    assert torch.equal(recurrent.rescale(mask.expand(5, 3, 4)), scaled.expand(5, 3, 4))
    assert torch.equal(locked.rescale(mask.unsqueeze(1)), scaled.unsqueeze(1))
    assert torch.equal(table.rescale(mask[0].unsqueeze(1)), scaled[0].unsqueeze(1))
    assert tuple(locked.as_rows(mask.unsqueeze(1)).shape) == (3, 4)
    assert tuple(table.as_rows(mask[0].unsqueeze(1)).shape) == (1, 4)


def test_dropout_is_rescaled_as_the_network_does() -> None:
    (site,) = find_sites(nn.Dropout(0.2), "dropout")
    mask = torch.tensor([[1.0, 0.0]], requires_grad=True)
    scaled = site.rescale(mask)
    assert torch.equal(scaled, torch.tensor([[1 / 0.8, 0.0]]))
    assert torch.equal(torch.autograd.grad(scaled.sum(), mask)[0], torch.full((1, 2), 1 / 0.8))


@pytest.mark.parametrize("kind", ["recurrent", "hidden", "embedding"])
def test_one_more_drop_in_each_row(kind: str) -> None:
    (site,) = find_sites(nn.ModuleDict({"gru": nn.GRU(2, 6, 2), "table": nn.Embedding(6, 2)}), [
        {"recurrent": "gru.l0:recurrent"}.get(kind, kind)
    ])  # fmt: skip
    mask = site.sample(4, 0.4, torch.Generator().manual_seed(1))
    dropped = site.drop_one(mask, torch.Generator().manual_seed(2))
    assert dropped.shape == mask.shape
    assert torch.equal(site.as_rows(mask - dropped).sum(-1), torch.ones(len(site.as_rows(mask))))
    assert torch.equal(dropped, site.drop_one(mask, torch.Generator().manual_seed(2)))
