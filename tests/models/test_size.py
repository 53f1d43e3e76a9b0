"""Sizes and FLOPs: the published tables to the last digit, and predicted = built."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from nasformer.models.build import build, outline
from nasformer.models.image_cell import ImageSettings
from nasformer.models.size import core_flops, core_parameters, published_parameters, total_parameters
from nasformer.models.transformer import ModelSettings, Part
from nasformer.spaces.families import reads_images
from nasformer.spaces.modern import modern, modern_language
from nasformer.spaces.named import (
    ARCHITECTURES,
    OPERATORS,
    hat_result,
    language_model,
    light_convolution,
    lite_transformer,
    mixer,
    shrinknas,
    shrinknas_small,
    sized,
    transformer,
    uniform,
)
from nasformer.spaces.open import one_of
from nasformer.spaces.space import Space
from nasformer.spaces.transformer import CrossAttention
from nasformer.strategies.objective import Objective

SETTINGS = ModelSettings(source_vocabulary=50, target_vocabulary=40)


@pytest.mark.parametrize(
    ("architecture", "core", "published"),
    [
        (transformer(128), 1_987_584, 2_836_480),
        (transformer(192), 4_455_936, 5_729_280),
        (transformer(240), 6_952_320, 8_544_000),
        (light_convolution(128), 1_691_820, 2_540_716),
        (light_convolution(192), 3_790_572, 5_063_916),
        (light_convolution(256), 6_724_908, 8_422_700),
        (lite_transformer(160), 1_713_584, 2_774_704),
        (lite_transformer(240), 3_837_104, 5_428_784),
        (lite_transformer(320), 6_805_424, 8_927_664),
    ],
)
def test_the_nine_rows(architecture: Any, core: int, published: int) -> None:
    assert core_parameters(architecture) == core
    assert published_parameters(architecture, 6_632) == published


@pytest.mark.parametrize(
    ("widths", "core"),
    [
        ((2048,), 16_820_736),
        ((2048, 1024), 19_975_168),
        ((1024, 1024, 2048), 23_129_600),
        ((1024, 2048, 2048, 1024), 27_333_632),
        ((2048, 2048, 2048, 1024, 1024), 31_537_664),
    ],
)
def test_the_five_released_hat_architectures(widths: tuple[int, ...], core: int) -> None:
    assert core_parameters(hat_result(widths)) == core


def _extreme(operator: str, option: int) -> Any:
    """The member of the paper's space with this operator everywhere and every size first (0) or last (−1)."""

    def answer(choice: Any) -> int:
        return choice.options.index(operator) if choice.operators else range(len(choice.options))[option]

    return shrinknas().close(answer)


def test_smallest_and_largest_of_the_papers_space() -> None:
    assert core_parameters(_extreme("long_short_light", 0)) == 740_882
    assert core_parameters(_extreme("attention", -1)) == 12_341_760
    assert core_parameters(Objective().smallest(shrinknas(), SETTINGS)) == 740_882


@pytest.mark.parametrize(
    ("operator", "counts"),
    [
        ("attention", (410_880,) * 4),
        ("light_convolution", (205_452, 205_468, 205_500, 205_564)),
        ("dynamic_convolution", (209_280, 214_400, 224_640, 245_120)),
        ("long_short_light", (154_572, 154_588, 154_620, 154_684)),
        ("long_short_dynamic", (156_480, 159_040, 164_160, 174_400)),
    ],
)
def test_operator_counts_at_320(operator: Any, counts: tuple[int, ...]) -> None:
    for kernel, count in zip((3, 7, 15, 31), counts, strict=True):
        part = Part("mixer", mixer(operator, 4, kernel), 320, 0, True, "post")
        built = part.build(SETTINGS).operator
        assert sum(parameter.numel() for parameter in built.parameters()) == count


TABLES = ("separate", "tied_output")
_MODERN = modern(tables=TABLES, key_value_heads=(None, 1), query_key_norm=(False, True))
_FINAL_NORM = one_of(None, True, False)
COUNTED = {
    "post": Space(shrinknas_small().template.but(norm="post")),
    "pre": shrinknas_small(),
    "modern": Space(_MODERN.template.but(final_norm=_FINAL_NORM)),
    "modern-post": Space(_MODERN.template.but(final_norm=_FINAL_NORM, norm="post")),
    "modern-language": modern_language(tables=TABLES, key_value_heads=(1, 2)),
}


@pytest.mark.parametrize("name", COUNTED)
def test_predicted_is_built(name: str) -> None:
    space = COUNTED[name]
    random = Random(1)
    for number in range(30):
        member = space.sample(random)
        model = build(member, SETTINGS, seed=1) if number < 5 else outline(member, SETTINGS)
        sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
        outside = ("embedding.", "source_embedding.", "output.")
        assert core_parameters(member) == sum(n for name, n in sizes.items() if not name.startswith(outside))
        assert total_parameters(member, SETTINGS) == sum(sizes.values())


def test_a_language_model_is_counted_too() -> None:
    architecture = language_model(dim=16, layers=2)
    model = outline(architecture, SETTINGS)
    assert total_parameters(architecture, SETTINGS) == sum(parameter.numel() for parameter in model.parameters())
    assert core_flops(architecture, target=20) > core_flops(architecture, target=10) > 0


@pytest.mark.parametrize("operator", OPERATORS)
def test_flops_grow_with_every_size(operator: Any) -> None:
    sizes = {"ratio": 1.0, "encoder_layers": 2, "decoder_layers": 1}
    small = uniform(operator, 32, **sizes)
    assert core_flops(small) > 0
    assert core_flops(uniform(operator, 64, **sizes)) > 2 * core_flops(small)
    assert core_flops(small, source=60, target=60) > 1.5 * core_flops(small)
    for name, more in (("ratio", 2.0), ("encoder_layers", 3), ("decoder_layers", 2)):
        assert core_flops(uniform(operator, 32, **sizes | {name: more})) > core_flops(small)


def test_flops_of_attention_by_hand() -> None:
    dim, time = 32, 10
    layer = uniform("attention", dim, ratio=2.0, heads=2, encoder_layers=2, decoder_layers=1)
    attention = 2 * (4 * time * dim * dim + 2 * time * time * dim)
    feed_forward = 2 * (2 * time * dim * 2 * dim)
    assert core_flops(layer, time, time) == 2 * (attention + feed_forward) + 2 * attention + feed_forward


def test_a_span_beyond_the_encoder_costs_what_the_whole_encoder_does() -> None:
    whole = uniform("attention", 16, ratio=2.0, encoder_layers=2, decoder_layers=1)
    spans = []
    for span in (1, 2, 3):
        layer = whole.decoder.layers[0].but(cross=CrossAttention(heads=4, span=span))
        spans.append(core_flops(whole.but(decoder=whole.decoder.but(layers=(layer,)))))
    assert spans[0] < spans[1] == spans[2]


@pytest.mark.slow
@pytest.mark.parametrize("tables", TABLES)
@pytest.mark.parametrize("count", [core_parameters, lambda a: total_parameters(a, SETTINGS)], ids=["core", "total"])
@pytest.mark.parametrize("operator", OPERATORS)
def test_an_operator_is_sized_to_a_target(operator: Any, count: Any, tables: Any) -> None:
    for size in (60_000, 1_000_000):
        settings: dict[str, Any] = {"encoder_layers": 3, "decoder_layers": 2, "norm": "pre", "tables": tables}
        found = sized(operator, 1.0, size, count, **settings)
        assert abs(count(found) / size - 1) < 0.01
        assert (found.norm, found.tables) == ("pre", tables)
        assert (len(found.encoder.layers), len(found.decoder.layers)) == (3, 2)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_known_architecture_has_an_outline(name: str) -> None:
    architecture = ARCHITECTURES[name]()
    settings = ImageSettings(classes=10) if reads_images(architecture) else SETTINGS
    count = sum(parameter.numel() for parameter in outline(architecture, settings).parameters())
    assert count == total_parameters(architecture, settings)
