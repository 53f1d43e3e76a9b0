"""Networks of image cells: one architecture of a family of `nasformer.spaces.image_cell` made into a plain network.

Each family says, in one generator (`frame`), which layers stand around its cells; networks are built from it and sizes
are counted by it, so what is counted is what is built. On a CPU images run in channels-last, where depthwise
convolutions are faster (one training step measured: 0.74 of the time for all options of S0, 0.76 to 0.98 for plain
networks); the input is the only tensor to convert. Elsewhere images keep their layout.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from nasformer.errors import RequestError
from nasformer.models.cell import Nodes, Place, Wire, Wiring, cell_at, plain_wire
from nasformer.operators.image import (
    AuxiliaryHead,
    BatchNorm,
    Classifier,
    FactorisedReduction,
    Projection,
    ResidualReduction,
    image_operator,
    side_by_side,
)
from nasformer.spaces.cell import Edge
from nasformer.spaces.image_cell import BlockChain, ImageCells, StagedCells
from nasformer.spaces.transformer import Positive
from nasformer.spaces.value import Value


class ImageSettings(Value):
    """What a network for images needs besides its architecture.

    Args:
        classes: how many there are to tell apart.
        size: height and width of the images, in pixels.
        input_channels: 3 for colours.
        drop_path: the probability with which an edge brings nothing for an image, at the end of training.
        auxiliary: a second classifier after the second reduction, for training (`image_cells` only).
        searching: norms as in a supernet, without weights of their own and with the statistics of the batch.
    """

    classes: Annotated[int, Field(ge=2)]
    size: Positive = 32
    input_channels: Positive = 3
    drop_path: Annotated[float, Field(ge=0, lt=1)] = 0.0
    auxiliary: bool = False
    searching: bool = False


@dataclass(frozen=True)
class ImagePart:
    """One layer of a network: what makes it and of what, and the (channels, size, size) of the image it reads."""

    make: Callable[..., nn.Module]
    arguments: tuple[Any, ...]
    channels: int
    size: int

    def build(self, settings: Any = None) -> nn.Module:
        """The layer, on the current default device, weights not yet drawn."""
        return self.make(*self.arguments, searching=isinstance(settings, ImageSettings) and settings.searching)

    def example(self, time: int, source: int) -> tuple[Tensor, ...]:
        """One image as the layer reads it, (1, channels, size, size), on the meta device."""
        return (torch.empty(1, self.channels, self.size, self.size, device="meta"),)


Frame = Iterator[tuple[str, ImagePart]]
"""The layers of a network around the edges of its cells, by name."""
_COUNTED = ImageSettings(classes=2)
"""What sizes are told for: images of 32×32 pixels in colours."""


def halved(size: int, times: int) -> int:
    """The size of an image after so many halvings, each rounded up."""
    return -(-size // 2**times)


class _ImageNetwork(nn.Module):
    """What the three families share: stem, cells, classifier, and drop-path.

    `progress`, from 0 to 1, is how far training has come; drop-path grows with it (whoever trains sets it).
    """

    def __init__(self, architecture: Any, settings: ImageSettings, wire: Wire | None = None) -> None:
        super().__init__()
        self.architecture: Any = architecture
        self.settings = settings
        self.progress = 1.0
        frame = {name: part.build(settings) for name, part in self.frame(architecture, settings)}
        wire = wire or plain_wire(architecture, lambda place, edge: self.edge(architecture, settings, place, edge))
        self.stem = frame["stem"]
        cells = [_Cell([frame[name] for name in _preprocess(place) if name in frame], wire(place))
                 for place in self.places(architecture)]  # fmt: skip
        self.cells = nn.ModuleList(cells)
        between = [layer for name, layer in frame.items() if name.startswith("between.")]
        self.between = nn.ModuleList(between)
        self.last = frame.get("last")
        self.classifier = Classifier(self.features(architecture), settings.classes)

    @staticmethod
    def places(architecture: Any) -> tuple[Place, ...]:
        """Where the cells stand, in their order."""
        raise NotImplementedError

    @staticmethod
    def frame(architecture: Any, settings: ImageSettings) -> Frame:
        """The layers around the edges, the classifiers left out."""
        raise NotImplementedError

    @staticmethod
    def features(architecture: Any) -> int:
        """How many features the classifier reads."""
        raise NotImplementedError

    @staticmethod
    def edge(architecture: Any, settings: ImageSettings, place: Place, edge: Edge) -> nn.Module:
        """The operator of an edge, on the current default device, weights not yet drawn."""
        return edge_part(architecture, settings, place, edge).build(settings)

    def hidden(self, images: Tensor) -> Tensor:
        """images (batch, channels, height, width) → what the classifier reads (batch, features)."""
        return self._features(images)[0]

    def forward(self, images: Tensor) -> Any:
        """images (batch, channels, height, width) → logits (batch, classes); in training, with an auxiliary head,
        (logits, auxiliary logits)."""
        features, auxiliary = self._features(images)
        logits = self.classifier(features)
        return logits if auxiliary is None else (logits, auxiliary)

    def _features(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        raise NotImplementedError

    def _stem(self, images: Tensor) -> Tensor:
        if images.device.type == "cpu":
            images = images.contiguous(memory_format=torch.channels_last)
        x: Tensor = self.stem(images)
        return x

    def _context(self) -> tuple[float, ...]:
        """What goes to every edge: the probability of drop-path, where there is any."""
        probability = self.settings.drop_path * self.progress if self.training else 0.0
        return (probability,) if probability > 0.0 else ()


class _Cell(nn.Module):
    """A cell: what prepares its inputs, and its nodes."""

    def __init__(self, preprocess: Sequence[nn.Module], wiring: Wiring) -> None:
        super().__init__()
        self.preprocess = nn.ModuleList(preprocess)
        self.nodes = Nodes(wiring)

    def forward(self, inputs: Sequence[Tensor], *context: Any) -> list[Tensor]:
        if len(self.preprocess):
            inputs = [prepare(x) for prepare, x in zip(self.preprocess, inputs, strict=True)]
        return self.nodes(inputs, *context)


def _preprocess(place: Place) -> tuple[str, str]:
    return (f"cells.{place.index}.preprocess.0", f"cells.{place.index}.preprocess.1")


class ImageCellsModel(_ImageNetwork):
    """DARTS' network of normal and reduction cells."""

    def __init__(self, architecture: ImageCells, settings: ImageSettings, wire: Wire | None = None) -> None:
        super().__init__(architecture, settings, wire)
        self.auxiliary_after = 2 * architecture.cells // 3
        self.auxiliary: AuxiliaryHead | None = None
        if settings.auxiliary:
            place = self.places(architecture)[self.auxiliary_after]
            size = _size(architecture, settings, place)
            if not 8 <= size <= 10:
                raise RequestError(
                    f"the auxiliary head reads features of 8 to 10 pixels, got {size} after cell {place.index} for "
                    f"images of {settings.size}; set auxiliary to false"
                )
            channels = place.channels * len(architecture.reduction.nodes)
            self.auxiliary = AuxiliaryHead(channels, settings.classes, searching=settings.searching)

    @staticmethod
    def places(architecture: ImageCells) -> tuple[Place, ...]:
        """Where the cells stand, in their order."""
        found, channels = [], architecture.channels
        for index in range(architecture.cells):
            reduction = index in architecture.reductions
            channels *= 2 if reduction else 1
            found.append(Place(index, "reduction" if reduction else "normal", channels, reduction))
        return tuple(found)

    @staticmethod
    def frame(architecture: ImageCells, settings: ImageSettings) -> Frame:
        """Stem, and for each cell what prepares its two inputs, which have gone through one ReLU for both cells that
        read them: kept once for the backward pass."""
        stem, size = architecture.stem * architecture.channels, settings.size
        yield "stem", ImagePart(Projection, (settings.input_channels, stem, 3), settings.input_channels, size)
        (first, first_size), (second, size) = (stem, size), (stem, size)
        reduced = False
        for place in ImageCellsModel.places(architecture):
            names = _preprocess(place)
            if reduced:
                yield names[0], ImagePart(FactorisedReduction, (first, place.channels, False), first, first_size)
            else:
                yield names[0], ImagePart(Projection, (first, place.channels), first, first_size)
            yield names[1], ImagePart(Projection, (second, place.channels), second, size)
            first, first_size = second, size
            second = place.channels * len(cell_at(architecture, place.cell).nodes)
            size = _size(architecture, settings, place)
            reduced = place.reduction

    @staticmethod
    def features(architecture: ImageCells) -> int:
        """All nodes of the last cell."""
        place = ImageCellsModel.places(architecture)[-1]
        return place.channels * len(cell_at(architecture, place.cell).nodes)

    def _features(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        output = self._stem(images)
        first = second = F.relu(output)
        context, auxiliary = self._context(), None
        for index, cell in enumerate(self.cells):
            output = side_by_side(cell((first, second), *context))
            if index == self.auxiliary_after and self.auxiliary is not None and self.training:
                auxiliary = self.auxiliary(output)
            if index < len(self.cells) - 1:
                first, second = second, F.relu(output)
        return output.mean((2, 3)), auxiliary


class StagedCellsModel(_ImageNetwork):
    """NAS-Bench-201's network of three stages of one cell."""

    def __init__(self, architecture: StagedCells, settings: ImageSettings, wire: Wire | None = None) -> None:
        _no_auxiliary(architecture, settings)
        super().__init__(architecture, settings, wire)

    @staticmethod
    def places(architecture: StagedCells) -> tuple[Place, ...]:
        """Where the cells stand, in their order."""
        cells = architecture.cells
        return tuple(Place(i, "cell", architecture.channels * 2 ** (i // cells)) for i in range(3 * cells))

    @staticmethod
    def frame(architecture: StagedCells, settings: ImageSettings) -> Frame:
        """Stem, the residual blocks between the stages, and the last norm."""
        channels, inputs = architecture.channels, settings.input_channels
        yield "stem", ImagePart(Projection, (inputs, channels, 3), inputs, settings.size)
        for stage in (0, 1):
            wide, size = channels * 2**stage, halved(settings.size, stage)
            yield f"between.{stage}", ImagePart(ResidualReduction, (wide, 2 * wide), wide, size)
        yield "last", ImagePart(BatchNorm, (4 * channels,), 4 * channels, halved(settings.size, 2))

    @staticmethod
    def features(architecture: StagedCells) -> int:
        """The channels of the last stage."""
        return 4 * architecture.channels

    def _features(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        x, context = self._stem(images), self._context()
        for index, cell in enumerate(self.cells):
            if index and index % self.architecture.cells == 0:
                x = self.between[index // self.architecture.cells - 1](x)
            x = cell((x,), *context)[-1]
        assert self.last is not None
        return F.relu(self.last(x)).mean((2, 3)), None


class BlockChainModel(_ImageNetwork):
    """NAS-Bench-Macro's chain of blocks."""

    def __init__(self, architecture: BlockChain, settings: ImageSettings, wire: Wire | None = None) -> None:
        _no_auxiliary(architecture, settings)
        super().__init__(architecture, settings, wire)

    @staticmethod
    def places(architecture: BlockChain) -> tuple[Place, ...]:
        """Where the blocks stand, in their order."""
        found: list[Place] = []
        for stage, blocks in enumerate(architecture.stages, 1):
            channels = architecture.channels * 2**stage
            for block in range(blocks):
                found.append(Place(len(found), f"blocks.{len(found)}", channels, reduction=block == 0))
        return tuple(found)

    @staticmethod
    def frame(architecture: BlockChain, settings: ImageSettings) -> Frame:
        """Stem, and the 1×1 convolution at the end."""
        inputs, stages = settings.input_channels, len(architecture.stages)
        yield "stem", ImagePart(Projection, (inputs, architecture.channels, 3, 1, True), inputs, settings.size)
        wide, size = architecture.channels * 2**stages, halved(settings.size, stages)
        yield "last", ImagePart(Projection, (wide, architecture.features, 1, 1, True), wide, size)

    @staticmethod
    def features(architecture: BlockChain) -> int:
        """The channels of the last convolution."""
        return architecture.features

    def _features(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        x, context = self._stem(images), self._context()
        for cell in self.cells:
            (x,) = cell((x,), *context)
        assert self.last is not None
        return self.last(x).mean((2, 3)), None


NETWORKS: dict[str, type[_ImageNetwork]] = {
    "image_cells": ImageCellsModel,
    "staged_cells": StagedCellsModel,
    "block_chain": BlockChainModel,
}
"""The network of each family."""


def _no_auxiliary(architecture: Any, settings: ImageSettings) -> None:
    if settings.auxiliary:
        raise RequestError(f"{architecture.family} has no auxiliary head; set auxiliary to false")


def _size(architecture: Any, settings: ImageSettings, place: Place, *, inside: bool = True) -> int:
    """The size of images in a cell's nodes, or of what it reads: every doubling of channels is a halving of size."""
    halvings = (place.channels // architecture.channels).bit_length() - 1
    return halved(settings.size, halvings - (place.reduction and not inside))


def edge_part(architecture: Any, settings: ImageSettings, place: Place, edge: Edge) -> ImagePart:
    """An edge of the cell at a place. In a chain, the block that halves the resolution also doubles the channels, and
    skips there by a 1×1 convolution and a norm."""
    chain = architecture.family == "block_chain"
    inputs = place.channels // 2 if chain and place.reduction else place.channels
    stride = place.stride(edge.source)
    size = _size(architecture, settings, place, inside=stride == 1)
    if chain and place.reduction and edge.operator.kind == "skip":
        return ImagePart(Projection, (inputs, place.channels, 1, stride), inputs, size)
    return ImagePart(image_operator, (edge.operator, inputs, place.channels, stride), inputs, size)


def parts(architecture: Any) -> Iterator[tuple[str, int, ImagePart]]:
    """Every layer but the classifiers, for colour images of 32×32 pixels: what it belongs to, cell number, layer."""
    network = NETWORKS[architecture.family]
    for _, part in network.frame(architecture, _COUNTED):
        yield "frame", 0, part
    for place in network.places(architecture):
        for node in cell_at(architecture, place.cell).nodes:
            for edge in node.edges:
                yield place.cell, place.index, edge_part(architecture, _COUNTED, place, edge)


def table_parameters(architecture: Any, settings: ImageSettings) -> int:
    """Parameters of the classifier, and what a stem for other than three input channels has more or less."""
    network = NETWORKS[architecture.family]
    stem = dict(network.frame(architecture, _COUNTED))["stem"].arguments[1]
    more = 9 * stem * (settings.input_channels - _COUNTED.input_channels)
    return more + settings.classes * (network.features(architecture) + 1)
