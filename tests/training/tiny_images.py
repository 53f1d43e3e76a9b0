"""A small network for images with batch normalisation, drop-path and an auxiliary classifier: quick to train."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from nasformer.tasks.images import Images


class TinyNetwork(nn.Module):
    """Two convolutions with norms, the second dropped for some images as training goes on, and two classifiers."""

    def __init__(self, drop_path: float = 0.0) -> None:
        super().__init__()
        self.progress, self.drop_path = 0.0, drop_path
        self.first = nn.Sequential(nn.Conv2d(1, 24, 3, padding=1, bias=False), nn.BatchNorm2d(24), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(24, 24, 3, padding=1, bias=False), nn.BatchNorm2d(24), nn.ReLU())
        self.pool, self.classifier = nn.MaxPool2d(2), nn.Linear(24 * 16, 10)
        self.auxiliary = nn.Sequential(nn.BatchNorm2d(24), nn.Flatten(), nn.Linear(24 * 64, 10))
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for name, weight in self.named_parameters():
                if weight.dim() > 1:
                    weight.normal_(0, (2 / weight[0].numel()) ** 0.5, generator=generator)
                elif name.endswith("bias"):
                    weight.zero_()

    def forward(self, images: Tensor) -> Any:
        """images (batch, 1, 8, 8) → logits (batch, 10); in training also the auxiliary ones."""
        x = self.first(images)
        brought = self.second(x)
        if self.training and self.drop_path:
            kept = 1 - self.drop_path * self.progress
            brought = brought * (torch.rand(len(x), 1, 1, 1) < kept) / kept
        logits = self.classifier(self.pool(x + brought).flatten(1))
        return (logits, self.auxiliary(x)) if self.training else logits


DIGITS = Images(auxiliary_weight=0.4, train_images=600, evaluation_images=100)
"""A part of the digits."""
