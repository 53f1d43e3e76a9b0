"""Networks of sequence cells: their wiring by hand, their size, and what a cell that mixes nothing cannot know."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

from nasformer.models.build import build, outline
from nasformer.models.pretrained import BOS
from nasformer.models.sequence_cell import edge, parts, places
from nasformer.models.size import core_flops, core_parameters, part_parameters, total_parameters
from nasformer.models.transformer import PAD, ModelSettings
from nasformer.operators.catalogue import Dropout
from nasformer.operators.operator import reset
from nasformer.report.wiring import read_wirings
from nasformer.spaces.cell import Cell, Edge, Fourier, Node, Noise, Skip, searched_edges
from nasformer.spaces.sequence_cell import CellDecoderOnly, CellEncoder, CellEncoderDecoder
from nasformer.spaces.sequence_spaces import OPERATORS, t0, t4
from nasformer.spaces.transformer import (
    Attention,
    CrossAttention,
    Decoder,
    DecoderLayer,
    DecoderOnly,
    FeedForward,
    Zero,
)
from nasformer.tasks.pretrained import save_language_model, save_pretrained
from nasformer.tasks.vocabulary import bytes_vocabulary

NONE = Dropout(residual=0.0, attention=0.0, weight=0.0)
SETTINGS = ModelSettings(source_vocabulary=30, target_vocabulary=25, dropout=NONE)
LAYER = DecoderLayer(mixer=Attention(heads=2), cross=CrossAttention(heads=2), feed_forward=FeedForward(ratio=2))
DECODER = Decoder(dim=12, layers=(LAYER,))


def cell_of(*operators: Any, nodes: int = 2) -> Cell:
    """Every node reads the two states before it, through these operators in turn."""
    found = [
        Node(edges=tuple(Edge(source=n + i, operator=operators[(2 * n + i) % len(operators)]) for i in (0, 1)))
        for n in range(nodes)
    ]
    return Cell(nodes=tuple(found))


def language_model(*operators: Any, nodes: int = 2, blocks: int = 2, **fields: Any) -> CellDecoderOnly:
    """A language model of such cells."""
    return CellDecoderOnly(dim=16, blocks=blocks, cell=cell_of(*operators, nodes=nodes), **fields)


def tokens(rows: int, time: int, vocabulary: int = 25, seed: int = 0) -> Tensor:
    """Random real tokens (rows, time)."""
    return torch.randint(1, vocabulary, (rows, time), generator=torch.Generator().manual_seed(seed))


def close(first: Tensor, second: Tensor) -> bool:
    """Equal but for rounding in float64."""
    return torch.allclose(first, second, rtol=0, atol=1e-9)


def test_a_chain_of_nodes_with_residuals_is_a_transformer() -> None:
    """The same weights give the same logits, with dropout too."""
    attention, feed = Attention(heads=2), FeedForward(ratio=2)
    nodes = [Node(edges=(Edge(source=n + 1, operator=feed if n % 2 else attention),)) for n in range(4)]
    cells = CellDecoderOnly(dim=16, blocks=1, cell=Cell(nodes=tuple(nodes)), output="unread", residual_edges=True)
    layers = (DecoderLayer(mixer=attention, cross=None, feed_forward=feed),) * 2
    transformer = DecoderOnly(norm="pre", tables="separate", decoder=Decoder(dim=16, layers=layers))
    assert core_parameters(cells) == core_parameters(transformer)
    assert core_flops(cells) == core_flops(transformer)
    settings = SETTINGS.__class__(target_vocabulary=25, dropout=Dropout(residual=0.3, attention=0.0, weight=0.0))
    first, second = (build(one, settings, seed=1).double().train() for one in (cells, transformer))
    pairs = zip(first.parameters(), second.parameters(), strict=True)
    with torch.no_grad():
        for mine, theirs in pairs:
            theirs.copy_(mine)
    text = tokens(2, 6)
    found = []
    for model in (first, second):
        torch.manual_seed(3)
        found.append(model(text))
    assert close(*found)
    assert not close(found[0], first.eval()(text))


def test_branches_that_no_node_reads_are_averaged() -> None:
    attention, feed = Attention(heads=2), FeedForward(ratio=2)
    nodes = (
        Node(edges=(Edge(source=1, operator=attention),)),
        Node(edges=(Edge(source=1, operator=feed),)),
        Node(edges=(Edge(source=2, operator=feed),)),
    )
    cells = CellDecoderOnly(dim=16, blocks=1, cell=Cell(nodes=nodes), output="unread", residual_edges=True)
    model: Any = build(cells, SETTINGS, seed=1).double().eval()
    x = model.embedding(tokens(2, 6), None)
    states = model.cells[0].nodes([x, x], None)
    assert model.cells[0].nodes.unread(2) == [1, 2]
    assert close(model.cells[0]([x, x], None), (states[1] + states[2]) / 2)
    (wiring,) = read_wirings(cells.data())
    assert wiring.output == (3, 4)


@pytest.mark.parametrize("output", ["linear", "mean"])
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("final_norm", [False, True])
def test_the_blocks_are_wired_as_they_are_written(output: Any, residual: bool, final_norm: bool) -> None:
    mix, feed = Fourier(), FeedForward(ratio=2)
    cell = Cell(
        nodes=(
            Node(edges=(Edge(source=0, operator=Skip()), Edge(source=1, operator=feed))),
            Node(edges=(Edge(source=0, operator=mix), Edge(source=2, operator=feed))),
            Node(edges=(Edge(source=3, operator=Skip()),)),
        )
    )
    fields: dict[str, Any] = {"output": output, "residual": residual, "final_norm": final_norm}
    model: Any = build(CellDecoderOnly(dim=16, blocks=3, cell=cell, **fields), SETTINGS, seed=1).double().eval()
    text = tokens(2, 6)
    x = model.embedding(text, None)
    before, last = x, x
    for block in range(3):
        states, part = [before, last], model.cells[block].nodes

        def forward(x: Tensor, at: Any) -> Tensor:
            normed: Tensor = at.operator(F.layer_norm(x, (16,)))
            return normed

        states.append(before + forward(last, getattr(part, "0")["from_1"]))
        states.append(getattr(part, "1")["from_0"](before) + forward(states[2], getattr(part, "1")["from_2"]))
        states.append(states[3])
        made = model.cells[block].output(torch.cat(states[2:], -1)) if output == "linear" else sum(states[2:]) / 3
        before, last = last, last + made if residual else made
    assert close(model.decode(text), F.layer_norm(last, (16,)) if final_norm else last)


@pytest.mark.slow
@pytest.mark.parametrize("encoder", [False, True])
@pytest.mark.parametrize("output", ["linear", "mean"])
def test_predicted_is_built(encoder: bool, output: Any) -> None:
    space, random = t0(dim=16, output=output, encoder=encoder), Random(1)
    outside = ("embedding.", "source_embedding.", "output.")
    for number in range(20):
        member = space.sample(random)
        model = build(member, SETTINGS, seed=1) if number < 3 else outline(member, SETTINGS)
        sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
        assert core_parameters(member) == sum(n for name, n in sizes.items() if not name.startswith(outside))
        assert total_parameters(member, SETTINGS) == sum(sizes.values())
        assert core_flops(member, 20, 20) > core_flops(member, 10, 10) > 0


def test_sizes_by_hand() -> None:
    architecture = language_model(Attention(heads=4), Skip(), blocks=3)
    attention, norm, joined = 4 * 16 * 16 + 4 * 16, 2 * 16, 2 * 16 * 16 + 16
    assert core_parameters(architecture) == 3 * (2 * (attention + norm) + joined) + norm
    time = 10
    flops = 2 * (4 * time * 16 * 16 + 2 * time * time * 16)
    assert core_flops(architecture, target=time) == 3 * (2 * flops + 2 * time * 2 * 16 * 16)


def test_places_and_edges_are_those_of_the_network() -> None:
    for encoder in (False, True):
        space = t0(dim=16, blocks=3, encoder=encoder)
        member = space.sample(Random(3))
        model: Any = outline(member, SETTINGS)
        path = "encoder.cell" if encoder else "cell"
        assert [(place.index, place.cell, place.channels) for place in places(member)] == [
            (i, path, 16) for i in range(3)
        ]
        assert {found.cell for found in searched_edges(space)} == {path}
        cell = member.encoder.cell if encoder else member.cell
        shapes = {name: p.shape for name, p in model.named_parameters()}
        expected = {}
        for place in places(member):
            for number, node in enumerate(cell.nodes):
                for own in node.edges:
                    with torch.device("meta"):
                        inside = edge(member, SETTINGS, place, own).named_parameters()
                    prefix = f"cells.{place.index}.nodes.{number}.from_{own.source}"
                    expected |= {f"{prefix}.{name}": p.shape for name, p in inside}
        assert expected == {name: shape for name, shape in shapes.items() if ".nodes." in name}


def test_the_wire_lends_the_edges() -> None:
    architecture = language_model(Attention(heads=4), Fourier())
    plain: Any = build(architecture, SETTINGS, seed=1).double().eval()
    lent: Any = type(plain)(
        architecture,
        SETTINGS,
        wire=lambda place: [
            [(source, getattr(plain.cells[place.index].nodes, str(n))[f"from_{source}"]) for source in sources]
            for n, sources in enumerate(plain.cells[place.index].nodes.sources)
        ],
    )
    frame = {name: p for name, p in plain.state_dict().items() if ".nodes." not in name}
    lent.double().eval().load_state_dict(frame, strict=False)
    assert torch.equal(lent(tokens(2, 5)), plain(tokens(2, 5)))


def test_norms_stand_before_operators_with_weights_alone() -> None:
    for operator in (*OPERATORS, Zero(), Noise()):
        architecture = language_model(operator)
        (part, *_) = [part for _, _, part in parts(architecture)]
        has_norm = any(name.startswith("norm.") for name, _ in part.build(SETTINGS).named_parameters())
        assert has_norm == bool(part_parameters(part))


MIXING = [operator for operator in OPERATORS if operator.kind not in ("skip", "feed_forward")]


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("operators", [(Skip(),), (Skip(), FeedForward(ratio=2)), (Zero(), Skip())], ids=str)
def test_a_cell_that_mixes_nothing_knows_the_present_token_alone(operators: Any, residual: bool) -> None:
    """§8, test 7: what such a model predicts at t is a function of the token at t and of t, to the last bit of the
    others' influence: it sits on the floor of a bigram model (with positions)."""
    model: Any = build(language_model(*operators, nodes=4, residual=residual), SETTINGS, seed=1).double().eval()
    every = torch.arange(1, 25)
    predicted = []
    for seed in range(3):
        context = tokens(24, 8, seed=seed)
        context[:, 4] = every
        predicted.append(model(context)[:, 4])  # (token at position 4, vocab), each in another context
    assert torch.equal(predicted[0], predicted[1])
    assert torch.equal(predicted[0], predicted[2])
    assert not close(predicted[0][0], predicted[0][1])


@pytest.mark.parametrize("operator", MIXING, ids=lambda operator: operator.label)
def test_one_mixing_edge_is_enough_to_know_more(operator: Any) -> None:
    cell = cell_of(Skip(), operator, Skip(), Skip())
    model: Any = build(CellDecoderOnly(dim=16, blocks=1, cell=cell), SETTINGS, seed=1).double().eval()
    text = tokens(2, 8)
    changed = text.clone()
    changed[:, 4] = text[:, 4] % 24 + 1
    assert close(model(changed)[:, :4], model(text)[:, :4])
    assert not close(model(changed)[:, 5], model(text)[:, 5])


def test_zeros_everywhere_know_nothing_and_noise_does_not_listen() -> None:
    for operator in (Zero(), Noise()):
        model: Any = build(language_model(operator), SETTINGS, seed=1).double().eval()
        assert torch.equal(model(tokens(2, 8)), model(tokens(2, 8, seed=1)))
    assert not torch.equal(model.train()(tokens(2, 8)), model(tokens(2, 8)))


def test_dropout_acts_on_blocks_while_training() -> None:
    settings = SETTINGS.but(dropout=Dropout(residual=0.5))
    for residual in (False, True):
        architecture = language_model(Skip(), residual=residual, final_norm=False, output="mean", blocks=1)
        model: Any = build(architecture, settings, seed=1)
        cell, x = model.double().cells[0], torch.ones(1, 50, 16, dtype=torch.float64)
        dropped, whole = (cell.train(training)((x, x), None) - (x if residual else 0) for training in (True, False))
        kept = dropped != 0
        assert kept.unique().tolist() == [False, True]
        assert torch.allclose(dropped[kept], 2 * whole[kept], rtol=0, atol=1e-12)


def test_a_noisy_member_learns_and_decodes() -> None:
    member = t4(dim=16).sample(Random(1))
    assert "noise" in member.json_text()
    model: Any = build(member, SETTINGS, seed=1)
    text = tokens(2, 7)
    text[0, :3] = PAD
    model.double().eval()
    cache: dict[str, Any] = {}
    steps = [model.decode(text[:, t : t + 1], cache) for t in range(7)]
    assert close(torch.cat(steps, 1)[text != PAD], model.decode(text)[text != PAD])


def test_the_encoder_decoder_reads_the_last_block() -> None:
    architecture = CellEncoderDecoder(encoder=CellEncoder(dim=16, blocks=3, cell=cell_of(Fourier())), decoder=DECODER)
    model: Any = build(architecture, SETTINGS, seed=1).eval()
    source = tokens(2, 7, 30)
    memory = model.encode(source)
    assert [output.shape for output in memory.outputs] == [(2, 7, 16)]
    assert not torch.equal(model.encode(source.flip(1)).outputs[0], memory.outputs[0])
    changed = source.clone()
    changed[:, 6] = source[:, 6] % 29 + 1  # an encoder sees what comes later
    assert not torch.equal(model.encode(changed).outputs[0][:, 0], memory.outputs[0][:, 0])


def test_a_saved_folder_loads_with_transformers(tmp_path: Path) -> None:
    vocabulary = bytes_vocabulary()
    settings = ModelSettings(source_vocabulary=vocabulary.size, target_vocabulary=vocabulary.size)
    model: Any = build(t0(dim=16).sample(Random(2)), settings, seed=1).eval()
    save_language_model(model, vocabulary, tmp_path / "language", {"max_new_tokens": 5})
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "language").eval()
    text = tokens(2, 9, vocabulary.size)
    text[0, :3] = PAD
    mask = (text != PAD).long()
    assert torch.equal(loaded(input_ids=text, attention_mask=mask).logits, model(text))
    cached, plain = (
        loaded.generate(text, attention_mask=mask, use_cache=use, max_new_tokens=5) for use in (True, False)
    )
    assert torch.equal(cached, plain)

    both: Any = build(t0(dim=16, encoder=True).sample(Random(2)), settings, seed=1).eval()
    save_pretrained(both, vocabulary, vocabulary, tmp_path / "both", {})
    again = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "both").eval()
    start = torch.full((2, 1), BOS)
    found = again(input_ids=text, attention_mask=mask, decoder_input_ids=start).logits
    assert torch.equal(found, both(text, start))


def test_constructors_draw_nothing() -> None:
    member, state = t0(dim=16).sample(Random(1)), torch.get_rng_state()
    first, second = (build(member, SETTINGS, seed=seed) for seed in (1, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    reset(second, torch.Generator().manual_seed(2))
    assert not all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
