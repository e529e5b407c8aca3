"""What was measured, as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import median

from tests.benchmarks.price import formula
from tests.benchmarks.price.growth import METHOD, exponents
from tests.benchmarks.price.methods import TITLES
from tests.benchmarks.price.results import Results, ShapeResult, Spread, spread
from tests.benchmarks.price.shapes import SHAPES, Sizes
from tests.benchmarks.price.targets import TARGETS, Value

_MIB = 2**20


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """The lines of a table, and an empty one.

    >>> list(table(["a", "b"], [["1", "2"]]))
    ['| a | b |', '| --- | --- |', '| 1 | 2 |', '']
    """
    yield f"| {' | '.join(head)} |"
    yield f"|{' --- |' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"
    yield ""


def shown(value: Value, form: str = "{:.2f}") -> str:
    """A value in a cell; empty where there is none."""
    if value is None:
        return ""
    return str(value) if isinstance(value, Spread) else form.format(value)


def by_sizes(sizes: Sequence[int]) -> str:
    """Time steps, batch and units."""
    return " x ".join(str(each) for each in sizes[:3])


def shape_table(name: str, result: ShapeResult) -> Iterator[str]:
    """The cost of each method's step at one shape."""
    yield f"**{SHAPES[name].title}**, {by_sizes(result.sizes)}:"
    yield ""
    head = ["method", "s", "time / plain", "time / R-Drop", "memory, MiB", "memory / plain", "memory / R-Drop"]
    methods = [method for method in TITLES if method in {**result.seconds, **result.bytes}]
    yield from table(
        head,
        (
            [
                TITLES[method],
                shown(median(result.seconds[method]) if method in result.seconds else None, "{:.3f}"),
                shown(result.time_ratio(method, "plain")),
                shown(result.time_ratio(method, "r_drop")),
                shown(result.bytes[method] / _MIB if method in result.bytes else None, "{:.0f}"),
                shown(result.memory_ratio(method, "plain")),
                shown(result.memory_ratio(method, "r_drop")),
            ]
            for method in methods
        ),
    )
    for method, reason in result.left_out.items():
        yield f"Left out: {TITLES[method]}: {reason}"
        yield ""


def layer_table(layers: Mapping[str, Mapping[str, Sequence[float]]]) -> Iterator[str]:
    """Forward and backward of masked layers beside their stock layers."""
    yield "**Layers**, forward and backward without a model:"
    yield ""
    rows = []
    for name, times in layers.items():
        ratios = [ours / stock for ours, stock in zip(times["masked"], times["stock"], strict=True)]
        rows.append([name, *(f"{median(times[kind]):.3f}" for kind in ("stock", "masked")), str(spread(ratios))])
    yield from table(["layer", "stock, s", "masked, s", "masked / stock"], rows)


def growth_table(results: Results) -> Iterator[str]:
    """Time and memory by T, and time by K."""
    growth = results.growth
    yield f"**Growth**, sequential MNIST: {TITLES[METHOD]} by T; seconds that K rounds add to a gradient search of one:"
    yield ""
    cells = growth.get("bytes", [None] * len(growth["steps"]))
    yield from table(
        ["T", "s", "memory, MiB"],
        (
            [str(steps), f"{seconds:.3f}", each if isinstance(each, str) else shown(each and each / _MIB, "{:.0f}")]
            for steps, seconds, each in zip(growth["steps"], growth["seconds"], cells, strict=True)
        ),
    )
    pairs = zip(growth["rounds"], growth["added"], strict=True)
    yield from table(["K", "s"], ([str(rounds), f"{seconds:.3f}"] for rounds, seconds in pairs))
    yield "; ".join(f"{name}: exponent {value:.2f}" for name, value in exponents(growth).items()) + "."
    yield ""


def formula_table(results: Results) -> Iterator[str]:
    """The formula, and how far off it is."""
    points = [formula.Point(**each) for each in results.formula]
    found = formula.fit(points)
    yield "**Formula**, one thread in each process:"
    yield ""
    yield from ("```text", *str(found).split("; "), "```", "")
    rows = []
    for point in points:
        if not point.fitted:
            says = found.seconds(point.sizes, point.method, point.processes)
            place = [by_sizes(point.sizes), point.method.replace("@", ", K = "), str(point.processes)]
            rows.append([*place, f"{point.seconds:.3f}", f"{says:.3f}", f"{says / point.seconds - 1:+.0%}"])
    yield from table(["not used for the fit: T x b x H", "method", "P", "measured, s", "formula, s", "error"], rows)
    for name, errors in formula.errors(points, found).items():
        sizes = [abs(each) for each in errors]
        yield f"Error at the {len(sizes)} {name} points: median {median(sizes):.0%}, at most {max(sizes):.0%}."
    yield ""


def target_table(results: Results) -> Iterator[str]:
    """Each target beside its value."""
    rows = [[each.what, each.limit, shown(each.value(results)), each.reached(results)] for each in TARGETS]
    yield from table(["target", "limit", "measured", "reached"], rows)


def report(results: Results) -> str:
    """All tables."""
    where = results.environment
    lines = [
        f"torch {where['torch']}, Lightning {where['lightning']}, {where['device']}, {where['threads']} threads, "
        f"{where['clock']} clock, float32. Medians; quartiles in brackets; ratios are of steps within one round.",
        "",
    ]
    for name, result in results.shapes.items():
        lines += shape_table(name, result)
    if results.layers:
        lines += layer_table(results.layers)
    if results.growth:
        lines += growth_table(results)
    if results.formula:
        lines += formula_table(results)
    lines += ["**Targets**:", "", *target_table(results)]
    return "\n".join(lines)


def comparison(before: Results, now: Results) -> str:
    """What both hold: seconds, memory, and the values that have targets, with the ratio of now to before."""
    rows = []
    for name in before.shapes.keys() & now.shapes.keys():
        one, two = before.shapes[name], now.shapes[name]
        for method in TITLES:
            if method in one.seconds and method in two.seconds:
                values = [median(each.seconds[method]) for each in (one, two)]
                rows.append(_compared(f"{SHAPES[name].title}: {TITLES[method]}, s", values, "{:.3f}"))
            if method in one.bytes and method in two.bytes:
                values = [each.bytes[method] / _MIB for each in (one, two)]
                rows.append(_compared(f"{SHAPES[name].title}: {TITLES[method]}, MiB", values, "{:.0f}"))
    for target in TARGETS:
        middles = [each.middle if isinstance(each, Spread) else each for each in map(target.value, (before, now))]
        if None not in middles:
            rows.append(_compared(target.what, [each or 0.0 for each in middles]))
    return "\n".join(table(["", "earlier", "now", "now / earlier"], sorted(rows)))


def _compared(what: str, values: Sequence[float], form: str = "{:.2f}") -> list[str]:
    before, now = values
    return [what, form.format(before), form.format(now), f"{now / before:.2f}"]


def sizes_of(name: str, *, small: bool) -> Sizes:
    """The sizes at which a shape is measured."""
    return SHAPES[name].small if small else SHAPES[name].sizes
