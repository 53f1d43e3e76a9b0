"""A model as a folder that `transformers` loads: weights, configuration, and vocabularies with the way of decoding, or
how images are prepared.

Importing this module registers models and tokenizers with the Auto classes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL.Image import Resampling
from tokenizers import Tokenizer
from torch import nn
from transformers import AutoTokenizer, GenerationConfig, PreTrainedTokenizerFast

from nasformer.errors import RequestError
from nasformer.models.network import SequenceToSequence
from nasformer.models.pretrained import (
    BOS,
    EOS,
    LanguageNetwork,
    NasformerConfig,
    NasformerForCausalLM,
    NasformerForImageClassification,
    NasformerForSeq2SeqLM,
)
from nasformer.models.transformer import PAD
from nasformer.tasks.vocabulary import SPECIALS, Vocabulary

_LOADER = '''"""Lets transformers find nasformer's classes in this folder (`trust_remote_code=True`)."""

from nasformer.models.pretrained import NasformerConfig, NasformerForSeq2SeqLM  # noqa: F401
from nasformer.tasks.pretrained import NasformerTokenizer  # noqa: F401
'''
_IMAGE_LOADER = '''"""Lets transformers find nasformer's classes in this folder (`trust_remote_code=True`)."""

from nasformer.models.pretrained import NasformerForImageClassification, NasformerImageConfig  # noqa: F401
'''
_LANGUAGE_LOADER = '''"""Lets transformers find nasformer's classes in this folder (`trust_remote_code=True`)."""

from nasformer.models.pretrained import NasformerForCausalLM, NasformerLanguageConfig  # noqa: F401
'''


_PREPARATION = "preprocessor_config.json"


class NasformerTokenizer(PreTrainedTokenizerFast):
    """Encodes with the source vocabulary, `text_target=` and decoding with the target vocabulary."""

    vocab_files_names = {"tokenizer_file": "tokenizer.json", "target_file": "target_tokenizer.json"}  # noqa: RUF012
    model_input_names = ["input_ids", "attention_mask"]  # noqa: RUF012

    def __init__(self, tokenizer_file: str, target_file: str, **others: Any) -> None:
        names = dict(zip(("pad_token", "bos_token", "eos_token", "unk_token"), SPECIALS, strict=True))
        super().__init__(tokenizer_file=tokenizer_file, **(names | {"split_special_tokens": True} | others))
        self._source: Any = self._tokenizer
        self._target: Any = Tokenizer.from_file(str(target_file))

    @classmethod
    def convert_to_native_format(cls, trust_remote_code: bool = False, **settings: Any) -> dict[str, Any]:
        """Nothing to convert: both files are read as they are."""
        return settings

    def _switch_to_input_mode(self) -> None:
        self._tokenizer = self._source

    def _switch_to_target_mode(self) -> None:
        self._tokenizer = self._target

    def _decode(self, token_ids: Any, skip_special_tokens: bool = False, **others: Any) -> str:  # type: ignore[override]
        self._switch_to_target_mode()
        try:
            return super()._decode(token_ids, skip_special_tokens=skip_special_tokens, **others)
        finally:
            self._switch_to_input_mode()

    def _save_pretrained(self, save_directory: str, file_names: Any, *others: Any, **more: Any) -> Any:  # type: ignore[override]
        target = Path(save_directory) / self.vocab_files_names["target_file"]
        self._target.save(str(target))
        return (*super()._save_pretrained(save_directory, file_names, *others, **more), str(target))


def save_pretrained(
    network: SequenceToSequence, source: Vocabulary, target: Vocabulary, folder: Path, decoding: dict[str, Any]
) -> None:
    """Write the folder: `AutoModelForSeq2SeqLM.from_pretrained(folder)` and `AutoTokenizer` read it once this package's
    classes are known (`import nasformer.tasks.pretrained`, or `trust_remote_code=True`)."""
    model = NasformerForSeq2SeqLM.of(network)
    model.generation_config = _decoding(bos_token_id=BOS, decoder_start_token_id=BOS, **decoding)
    _save(model, "AutoModelForSeq2SeqLM", _LOADER, folder)
    source.save(folder / "tokenizer.json")
    target.save(folder / "target_tokenizer.json")
    tokenizer = NasformerTokenizer(str(folder / "tokenizer.json"), str(folder / "target_tokenizer.json"))
    tokenizer.save_pretrained(folder)


def _decoding(**settings: Any) -> GenerationConfig:
    return GenerationConfig(pad_token_id=PAD, eos_token_id=EOS, do_sample=False, **settings)


def _save(model: Any, auto: str, loader: str, folder: Path) -> None:
    """Write a model with its configuration, and the file by which transformers' class `auto` finds ours."""
    folder.mkdir(parents=True, exist_ok=True)
    model.config.architectures = [type(model).__name__]
    classes = {"AutoConfig": type(model.config).__name__, auto: type(model).__name__}
    model.config.auto_map = {name: f"nasformer_auto.{ours}" for name, ours in classes.items()}
    model.save_pretrained(folder)
    (folder / "nasformer_auto.py").write_text(loader, encoding="utf-8")


def load_pretrained(folder: Path) -> tuple[nn.Module, Vocabulary, Vocabulary]:
    """The network and the two vocabularies of a folder that `save_pretrained` wrote."""
    model = NasformerForSeq2SeqLM.from_pretrained(folder)
    vocabularies = [Vocabulary.read(folder / name) for name in ("tokenizer.json", "target_tokenizer.json")]
    return model.network.eval(), *vocabularies


def save_language_model(
    network: LanguageNetwork, vocabulary: Vocabulary, folder: Path, decoding: dict[str, Any]
) -> None:
    """Write the folder: `AutoModelForCausalLM.from_pretrained(folder)` reads it once this package's classes are known;
    its tokenizer is one of transformers' own. Prompts of different lengths are padded on the left."""
    model = NasformerForCausalLM.of(network)
    model.generation_config = _decoding(bos_token_id=EOS, **decoding)
    _save(model, "AutoModelForCausalLM", _LANGUAGE_LOADER, folder)
    pad, _, eos, unknown = SPECIALS
    PreTrainedTokenizerFast(
        tokenizer_object=vocabulary.tokenizer,
        **{"pad_token": pad, "bos_token": eos, "eos_token": eos, "unk_token": unknown},
        split_special_tokens=True,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    ).save_pretrained(folder)
    vocabulary.save(folder / "tokenizer.json")  # as it is: transformers writes it in its own words


def load_language_model(folder: Path) -> tuple[nn.Module, Vocabulary]:
    """The network and the vocabulary of a folder that `save_language_model` wrote."""
    model = NasformerForCausalLM.from_pretrained(folder)
    return model.network.eval(), Vocabulary.read(folder / "tokenizer.json")


Channels = tuple[float, ...]
"""A number for each channel of an image."""


def save_image_classifier(
    network: Any, classes: Sequence[str], normalisation: tuple[Channels, Channels], folder: Path
) -> None:
    """Write the folder: `AutoModelForImageClassification.from_pretrained(folder)` reads it once this package's classes
    are known, and `AutoImageProcessor` prepares images for it: brought to the size by averaging over areas, cut square,
    scaled to 0 to 1, `normalisation` (mean, deviation) applied. A classifier of colour images takes images of any kind,
    one of grey images only those."""
    model = NasformerForImageClassification.of(network)
    model.config.id2label = dict(enumerate(classes))
    model.config.label2id = {name: number for number, name in enumerate(classes)}
    _save(model, "AutoModelForImageClassification", _IMAGE_LOADER, folder)
    size, (mean, deviation) = network.settings.size, normalisation
    preparation = {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": network.settings.input_channels == 3,
        "do_resize": True,
        "size": {"shortest_edge": size},
        "resample": int(Resampling.BOX),
        "do_center_crop": True,
        "crop_size": {"height": size, "width": size},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(mean),
        "image_std": list(deviation),
    }
    (folder / _PREPARATION).write_text(json.dumps(preparation, indent=2), encoding="utf-8")


def load_image_classifier(folder: Path) -> tuple[Any, tuple[str, ...], tuple[Channels, Channels]]:
    """The network, the classes and the normalisation of a folder that `save_image_classifier` wrote."""
    model: Any = NasformerForImageClassification.from_pretrained(folder)
    try:
        preparation = json.loads((folder / _PREPARATION).read_text(encoding="utf-8"))
        mean, deviation = (tuple(map(float, preparation[name])) for name in ("image_mean", "image_std"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RequestError(f"expected {_PREPARATION} with image_mean and image_std in {folder}: {error}") from None
    names = model.config.id2label
    return model.network.eval(), tuple(str(names[number]) for number in sorted(names)), (mean, deviation)


AutoTokenizer.register(NasformerConfig, NasformerTokenizer, exist_ok=True)
