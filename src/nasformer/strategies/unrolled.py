"""The loss after one step of the weights, exactly: DARTS' second order (Liu et al., arXiv 1806.09055, Eq. 6 and 7).

d/dα L_val(w − ξ (momentum · v + ∇_w L_train(w, α) + decay · w), α), differentiated through the inner gradient by a
second backward pass. DARTS' code takes finite differences for the mixed second derivative; on a network with ReLU these
are mostly noise. How ours differs further: with Adam the step that is looked ahead along is the plain gradient's
(docs/papers/rome.md, our reading 40).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from nasformer.errors import RequestError
from nasformer.supernets.elastic import leading
from nasformer.supernets.sgd import SliceSgd

if TYPE_CHECKING:
    from nasformer.strategies.bilevel import BilevelSearch

Step = Callable[[Any, Tensor], Tensor]
"""(weight, gradient) → what the weight follows."""


def check_unrolled(supernet: Any, micro_batches: int) -> None:
    """Raises `RequestError` where a supernet's backward pass cannot itself be differentiated."""
    if getattr(supernet, "backward", "stored") != "stored":
        raise RequestError("second_order=true differentiates twice, which rebuilt activations cannot; backward=stored")
    if micro_batches > 1:
        raise RequestError(f"second_order=true needs whole batches; expected micro_batches=1, got {micro_batches}")


def unrolled(search: BilevelSearch, model: Any, batch: Any) -> Tensor:
    """The loss of a model on a batch of the logits after the step that the weights would take on this update's batch
    of theirs; it differentiates into whatever the model's selection was made of."""
    path = search.path
    device = path.device.device

    def step(value: Any, gradient: Tensor) -> Tensor:
        if isinstance(path.optimizer, SliceSgd):
            velocity = leading(path.optimizer.velocity[value.source], value.shape)
            gradient = gradient + path.optimizer.momentum * velocity + path.optimizer.weight_decay * value.detach()
        return gradient

    with sdpa_kernel(SDPBackend.MATH):  # the other kernels have no second derivative
        inner = path.task.loss(model, search.weights_batch().to(device))
        rate = search.slower * path.training.rate(path.updates)
        ahead = looked_ahead(model, inner, rate, step)
        return loss_with(path.task, model, ahead, batch.to(device))


def _plain(value: Any, gradient: Tensor) -> Tensor:
    return gradient


def looked_ahead(model: Any, loss: Tensor, rate: float, step: Step = _plain) -> dict[str, Tensor]:
    """The weights of a model after a step of this rate along the gradient of a loss, as functions of all that the loss
    is a function of; `step(weight, gradient)` says how the gradient is followed."""
    named = dict(model.named_parameters())
    gradients = torch.autograd.grad(loss, list(named.values()), create_graph=True, allow_unused=True)
    return {
        name: value.detach() if gradient is None else value.detach() - rate * step(value, gradient)
        for (name, value), gradient in zip(named.items(), gradients, strict=True)
    }


def loss_with(task: Any, model: Any, weights: Mapping[str, Tensor], batch: Any) -> Tensor:
    """A task's loss of a model on a batch, with other weights in the places of its own, by name."""
    found: Tensor = functional_call(_Loss(task, model), {f"model.{n}": w for n, w in weights.items()}, (batch,))
    return found


class _Loss(nn.Module):
    """A task's loss of a model as a module, so that the model's weights can be put in from outside."""

    def __init__(self, task: Any, model: Any) -> None:
        super().__init__()
        self.task, self.model = task, model

    def forward(self, batch: Any) -> Tensor:
        """A batch → the loss, a scalar."""
        found: Tensor = self.task.loss(self.model, batch)
        return found
