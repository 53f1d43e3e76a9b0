"""An encoder–decoder or a language model, both with `generate`, or an image classifier as `transformers` knows models,
for evaluation and exported folders alike.

Importing this module registers the models with the Auto classes, so that `AutoModelForSeq2SeqLM`,
`AutoModelForCausalLM` and `AutoModelForImageClassification` load from a folder (`from_pretrained`) what `nasformer`
saved.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageClassification,
    AutoModelForSeq2SeqLM,
    GenerationMixin,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_outputs import (
    CausalLMOutputWithPast,
    ImageClassifierOutputWithNoAttention,
    ModelOutput,
    Seq2SeqLMOutput,
)
from transformers.utils import logging

from nasformer.models.build import FAMILIES
from nasformer.models.image_cell import ImageSettings
from nasformer.models.network import SequenceToSequence
from nasformer.models.transformer import PAD, ModelSettings
from nasformer.operators.attention import Memory
from nasformer.operators.operator import Cache, reorder
from nasformer.spaces.families import read_architecture

BOS, EOS = 1, 2
"""The tokens that begin and end every target."""


class NasformerConfig(PretrainedConfig):
    """The architecture and the model's settings, as plain data."""

    model_type = "nasformer"
    is_composition = False

    def __init__(self, architecture: dict | None = None, settings: dict | None = None, **others: Any) -> None:
        self.architecture, self.settings = architecture, settings
        self.vocab_size = (settings or {}).get("target_vocabulary")
        fixed: dict[str, Any] = {"is_encoder_decoder": True, "tie_word_embeddings": False}
        others = (
            fixed
            | {"pad_token_id": PAD, "bos_token_id": BOS, "eos_token_id": EOS, "decoder_start_token_id": BOS}
            | others
        )
        super().__init__(**others)


class NasformerLanguageConfig(PretrainedConfig):
    """The architecture and the settings of a language model, as plain data. A text begins with EOS."""

    model_type = "nasformer-language"

    def __init__(self, architecture: dict | None = None, settings: dict | None = None, **others: Any) -> None:
        self.architecture, self.settings = architecture, settings
        self.vocab_size = (settings or {}).get("target_vocabulary")
        fixed: dict[str, Any] = {"tie_word_embeddings": False}
        super().__init__(**(fixed | {"pad_token_id": PAD, "bos_token_id": EOS, "eos_token_id": EOS} | others))


class NasformerImageConfig(PretrainedConfig):
    """The architecture and the settings of an image classifier, as plain data, and the names of its classes."""

    model_type = "nasformer-images"

    def __init__(self, architecture: dict | None = None, settings: dict | None = None, **others: Any) -> None:
        self.architecture, self.settings = architecture, settings
        if "id2label" not in others:
            others["num_labels"] = (settings or {}).get("classes", 2)
        super().__init__(**others)


class LanguageNetwork(Protocol):
    """The parts of a language model that exported folders use (each family's decoder-only network has them)."""

    architecture: Any
    settings: ModelSettings
    training: bool

    def decode(self, tokens: Tensor, cache: Cache | None = None) -> Tensor:
        """tokens (batch, time) → hidden states (batch, time, dim); with a cache, of the new positions."""
        ...

    def output(self, hidden: Tensor) -> Tensor:
        """hidden (…, dim) → logits (…, vocab)."""
        ...


class DecodingCache:
    """The operators' caches of all layers, with the two things that `generate` asks of a cache."""

    is_compileable = False

    def __init__(self) -> None:
        self.cache: Cache = {}
        self.length = 0

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """How many target positions have been seen."""
        return self.length

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Keep the caches of these beams, in this order."""
        reorder(self.cache, beam_idx)


@dataclass
class EncoderOutput(ModelOutput):
    """The outputs of the last three encoder layers (fewer in a shallow encoder), each (batch, source, dim)."""

    last_hidden_state: Tensor | None = None
    second_last: Tensor | None = None
    third_last: Tensor | None = None

    def memory(self, padding: Tensor) -> Memory:
        """What the decoder attends to; padding (batch, source) is true where padded."""
        outputs = [x for x in (self.last_hidden_state, self.second_last, self.third_last) if x is not None]
        return Memory(outputs, padding)


class _Encoder(nn.Module):
    """The encoder by itself, as `generate` calls it."""

    main_input_name = "input_ids"

    def __init__(self, model: SequenceToSequence) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, **_: Any) -> EncoderOutput:
        return EncoderOutput(*self.model.encode(_masked(input_ids, attention_mask)).outputs)


def _masked(tokens: Tensor, attention_mask: Tensor | None) -> Tensor:
    return tokens if attention_mask is None else tokens.masked_fill(attention_mask == 0, PAD)


class _Nasformer(PreTrainedModel):
    """What all models share: the network inside, made by its family from the settings that are its own."""

    base_model_prefix = "network"
    settings_type: Any = ModelSettings

    def __init__(self, config: Any, network: Any = None) -> None:
        super().__init__(config)
        if network is None:
            architecture = read_architecture(config.architecture)
            network = FAMILIES[architecture.family].network(architecture, self.settings_type.read(config.settings))
        self.network: Any = network
        self.post_init()

    @classmethod
    def of(cls, network: Any) -> Self:
        """The same network (not a copy) with `generate`."""
        config: Any = cls.config_class
        mode = network.training
        return cls(config(network.architecture.data(), network.settings.data()), network).train(mode)

    def _init_weights(self, module: nn.Module) -> None:
        """Weights are drawn by `nasformer.models.build` or loaded, never here."""


class _Generating(_Nasformer, GenerationMixin):
    """What the models that write text share."""

    main_input_name = "input_ids"

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        return False

    @staticmethod
    def _decoding(past: DecodingCache | None, use_cache: bool | None) -> tuple[DecodingCache | None, int]:
        """The cache of a step of `generate` (a new one at the first step, None where none is wanted), and how many
        positions it has seen."""
        if past is None and use_cache is not False:
            past = DecodingCache()
        return past, 0 if past is None else past.length


class NasformerForSeq2SeqLM(_Generating):
    """A found (or any) encoder–decoder with `generate`, `save_pretrained` and `from_pretrained`."""

    config_class = NasformerConfig

    def get_encoder(self, *_: Any, **__: Any) -> nn.Module:
        """The encoder by itself."""
        return _Encoder(self.network)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        encoder_outputs: EncoderOutput | None = None,
        past_key_values: DecodingCache | None = None,
        labels: Tensor | None = None,
        **_: Any,
    ) -> Seq2SeqLMOutput:
        """input_ids (batch, source) and decoder_input_ids (batch, target) → logits (batch, target, vocab).

        With `labels` (batch, target; −100 where nothing is to be predicted) also the loss, and the decoder's input
        where none is given: the labels shifted to the right.
        """
        if decoder_input_ids is None:
            assert labels is not None, "expected decoder_input_ids or labels"
            decoder_input_ids = F.pad(labels.masked_fill(labels == -100, PAD)[:, :-1], (1, 0), value=BOS)
        if encoder_outputs is None:
            assert input_ids is not None, "expected input_ids or encoder_outputs"
            memory = self.network.encode(_masked(input_ids, attention_mask))
        else:
            assert attention_mask is not None, "expected the attention mask of the encoder outputs"
            memory = encoder_outputs.memory(attention_mask == 0)
        cache = None if past_key_values is None else past_key_values.cache
        logits = self.network.output(self.network.decode(decoder_input_ids, memory, cache))
        if past_key_values is not None:
            past_key_values.length += logits.shape[1]
        loss = None if labels is None else F.cross_entropy(logits.flatten(0, 1), labels.flatten())
        return Seq2SeqLMOutput(loss=loss, logits=logits, past_key_values=past_key_values)  # type: ignore[arg-type]

    def prepare_inputs_for_generation(  # type: ignore[override]
        self,
        input_ids: Tensor,
        past_key_values: DecodingCache | None = None,
        encoder_outputs: EncoderOutput | None = None,
        attention_mask: Tensor | None = None,
        use_cache: bool | None = None,
        **_: Any,
    ) -> dict[str, Any]:
        """The new positions only, with the caches of those before."""
        past_key_values, seen = self._decoding(past_key_values, use_cache)
        return {
            "decoder_input_ids": input_ids[:, seen:],
            "past_key_values": past_key_values,
            "encoder_outputs": encoder_outputs,
            "attention_mask": attention_mask,
        }


class NasformerForCausalLM(_Generating):
    """A found (or any) language model with `generate`, `save_pretrained` and `from_pretrained`."""

    config_class = NasformerLanguageConfig

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        past_key_values: DecodingCache | None = None,
        labels: Tensor | None = None,
        **_: Any,
    ) -> CausalLMOutputWithPast:
        """input_ids (batch, time) → logits (batch, time, vocab), where attention_mask (batch, time) is 0 for padding.

        With `labels` (batch, time; −100 where nothing is to be predicted) also the loss of predicting each from the
        positions before it. With a cache, input_ids are the new positions only.
        """
        cache = None if past_key_values is None else past_key_values.cache
        logits = self.network.output(self.network.decode(_masked(input_ids, attention_mask), cache))
        if past_key_values is not None:
            past_key_values.length += logits.shape[1]
        loss = None if labels is None else F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
        return CausalLMOutputWithPast(loss=loss, logits=logits, past_key_values=past_key_values)  # type: ignore[arg-type]

    def prepare_inputs_for_generation(  # type: ignore[override]
        self,
        input_ids: Tensor,
        past_key_values: DecodingCache | None = None,
        attention_mask: Tensor | None = None,
        use_cache: bool | None = None,
        **_: Any,
    ) -> dict[str, Any]:
        """The new positions only, with the caches of those before."""
        past_key_values, seen = self._decoding(past_key_values, use_cache)
        return {
            "input_ids": input_ids[:, seen:],
            "past_key_values": past_key_values,
            "attention_mask": None if attention_mask is None else attention_mask[:, seen:],
        }


class NasformerForImageClassification(_Nasformer):
    """A found (or any) image classifier with `save_pretrained` and `from_pretrained`."""

    config_class = NasformerImageConfig
    main_input_name = "pixel_values"
    settings_type = ImageSettings

    def forward(
        self, pixel_values: Tensor, labels: Tensor | None = None, **_: Any
    ) -> ImageClassifierOutputWithNoAttention:
        """pixel_values (batch, channels, height, width), normalised → logits (batch, classes); with labels (batch,)
        also the loss. In training the auxiliary classifier, where there is one, is left out."""
        found = self.network(pixel_values)
        logits = found[0] if isinstance(found, tuple) else found
        loss = None if labels is None else F.cross_entropy(logits, labels)
        return ImageClassifierOutputWithNoAttention(loss=loss, logits=logits)


@torch.no_grad()
def beam_search(
    network: SequenceToSequence, source: Tensor, *, beams: int, length_penalty: float = 1.0, longest: int
) -> list[list[int]]:
    """The best target of each source row, as token ids without BOS, EOS and padding.

    source is (batch, source); scores are log-probabilities divided by length^length_penalty; `longest` bounds the
    number of tokens. The model's mode is left as it was.
    """
    mode = network.training
    model = NasformerForSeq2SeqLM.of(network).eval()
    found = model.generate(
        input_ids=source,
        attention_mask=(source != PAD).long(),
        num_beams=beams,
        length_penalty=length_penalty,
        max_new_tokens=longest,
        do_sample=False,
        early_stopping=False,
        use_cache=True,
    )
    network.train(mode)
    return [[token for token in row if token > EOS] for row in found.tolist()]


logging.disable_progress_bar()
AutoConfig.register("nasformer", NasformerConfig, exist_ok=True)
AutoModelForSeq2SeqLM.register(NasformerConfig, NasformerForSeq2SeqLM, exist_ok=True)
AutoConfig.register("nasformer-language", NasformerLanguageConfig, exist_ok=True)
AutoModelForCausalLM.register(NasformerLanguageConfig, NasformerForCausalLM, exist_ok=True)
AutoConfig.register("nasformer-images", NasformerImageConfig, exist_ok=True)
AutoModelForImageClassification.register(NasformerImageConfig, NasformerForImageClassification, exist_ok=True)
