"""What an architecture is called in one line."""

from __future__ import annotations

from nasformer.spaces.known_cells import darts_v2, nasbench_macro
from nasformer.spaces.named import transformer
from nasformer.spaces.sequence_spaces import t0
from nasformer.strategies.objective import summary


def test_cells_are_told_node_by_node() -> None:
    normal, reduction = summary(darts_v2()).split("; ")
    assert normal == (
        "normal 2: 0 separable_convolution_3, 1 separable_convolution_3 | 3: 0 separable_convolution_3, "
        "1 separable_convolution_3 | 4: 0 skip, 1 separable_convolution_3 | 5: 0 skip, 2 dilated_convolution_3"
    )
    assert reduction.startswith("reduction 2: 0 max_pool_3, 1 max_pool_3 | 3: 1 max_pool_3, 2 skip | ")


def test_a_chain_is_told_block_by_block() -> None:
    chain = nasbench_macro().close(lambda choice: int(choice.name.startswith("blocks.7")))
    assert summary(chain) == "blocks" + " skip" * 7 + " inverted_residual_3_3"


def test_operators_that_share_a_label_are_told_apart() -> None:
    edges = ["attention_2", "feed_forward_4"]
    member = t0(encoder=True, nodes=1).close(
        lambda choice: (0, 1) if choice.count == 2 else choice.options.index(edges["from_1" in choice.name])
    )
    said = "encoder.cell 2: 0 attention_2, 1 feed_forward_4; decoder 48 × 2 (attention attention)"
    assert summary(member) == said


def test_stacks_are_told_as_before() -> None:
    assert summary(transformer(dim=32, encoder_layers=2, decoder_layers=1)) == (
        "encoder 32 × 2 (attention attention), decoder 32 × 1 (attention)"
    )
