"""Text classifiers: a conv net, an LSTM, a small transformer, a pre-trained encoder; and three places to mix in them.

All read token ids `(B, T)`, 0 being the padding, and pass through the same stages:

    ids -> embed -> (embeddings, mask) -> hidden -> (features of each token, mask) -> pool -> vector -> head -> logits

Mixup can enter at three of them: the embeddings (*word* level), the features of each token (*hidden*), the vector
(*sentence*). `mixed_at(level)` gives `fit` the forward pass that mixes there. No stage lets the padding count.
"""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from mixup_modalities.lab.errors import LabError
from mixup_modalities.lab.text_data import PAD_ID
from mixup_modalities.lab.training import as_tuple, mixed_forward
from mixup_modalities.mixture import Mixture, values_readable
from mixup_modalities.text import mix_embeddings, mix_hidden

Level = Literal["word", "hidden", "sentence"]


class TextModel(nn.Module):
    """What the text models share; a subclass has `table`, `hidden`, `pool` and `head`.

    Attributes:
        table: embedding of the token ids, `(vocabulary, D)`.
        head: linear layer from the pooled vector to the logits.
    """

    table: nn.Embedding
    head: nn.Linear

    def embed(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return token embeddings `(B, T, D)` and their mask `(B, T)`, True at tokens, of ids int64 `(B, T)`.

        On the CPU, positions on the right where no text of the batch has a token are cut off; on a GPU, looking for
        them would stall it.
        """
        mask = x != PAD_ID
        if values_readable(x):
            longest = max(1, int(mask.any(0).sum()))
            x, mask = x[:, :longest], mask[:, :longest]
        return self.table(x), mask

    def hidden(self, embeds: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return features of each token `(B, T, H)`, and the mask, of embeddings `(B, T, D)`."""
        raise NotImplementedError

    def pool(self, h: Tensor, mask: Tensor) -> Tensor:
        """Return one vector a text, `(B, F)`, of the features of its tokens."""
        raise NotImplementedError

    def classify(self, embeds: Tensor, mask: Tensor) -> Tensor:
        """Return the logits `(B, num_classes)` of embeddings, perhaps mixed, and their mask."""
        return self.head(self.pool(*self.hidden(embeds, mask)))

    def classify_mixed(self, embeds: Tensor, mask: Tensor, mixture: Mixture, level: Level) -> Tensor:
        """Return the logits of embeddings that are mixed on their way, at the level named."""
        if level == "word":
            return self.classify(*mix_embeddings(embeds, mask, mixture))
        h, mask = self.hidden(embeds, mask)
        if level == "hidden":
            return self.head(self.pool(*mix_embeddings(h, mask, mixture)))
        if level == "sentence":
            return self.head(mixture.mix(self.pool(h, mask)))
        raise ValueError(f"level must be one of {', '.join(map(repr, Level.__args__))}, got {level!r}")

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits `(B, num_classes)` of token ids `(B, T)`."""
        return self.classify(*self.embed(x))


def mixed_at(level: Level) -> Callable:
    """Return the forward pass for `fit(forward=...)` that mixes at a level of a `TextModel`.

    Args:
        level: "word", "hidden" or "sentence".

    Returns:
        A function like `training.mixed_forward`. The mixture is drawn by the `mixup` module, `EmbeddingMixup(alpha)`,
        so that one seed gives the same mixtures at every level.
    """
    if level not in Level.__args__:
        raise ValueError(f"level must be one of {', '.join(map(repr, Level.__args__))}, got {level!r}")

    def forward(model: TextModel, x: Tensor, mixup, generator: torch.Generator) -> tuple[Tensor, Mixture]:
        if mixup is None or level == "word":
            return mixed_forward(model, x, mixup, generator)
        embeds, mask = as_tuple(model.embed(x))
        mixture = mixup.draw(len(x), x.device, generator)
        return model.classify_mixed(embeds, mask, mixture, level), mixture

    return forward


class TextCNN(TextModel):
    """Convolutions over neighbouring tokens, and the largest response of each filter (Kim, 2014, arXiv 1408.5882).

    Args:
        vocab_size: number of token ids.
        num_classes: classes to tell apart.
        dim: width D of an embedding.
        widths: tokens that a filter spans.
        filters: filters of each width.
        dropout: share of the pooled vector that is dropped.
    """

    def __init__(
        self,
        vocab_size: int,
        num_classes: int,
        *,
        dim: int = 64,
        widths: tuple[int, ...] = (2, 3, 4),
        filters: int = 64,
        dropout: float = 0.3,
    ):
        super().__init__()
        self.table = nn.Embedding(vocab_size, dim, padding_idx=PAD_ID)
        self.convs = nn.ModuleList(nn.Conv1d(dim, filters, width) for width in widths)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(filters * len(widths), num_classes)

    def hidden(self, embeds: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return the response of each filter around each token, `(B, T, F)`, at least 0."""
        x = embeds.masked_fill(~mask.bool().unsqueeze(-1), 0).transpose(1, 2)
        spans = [conv.kernel_size[0] - 1 for conv in self.convs]
        maps = [conv(F.pad(x, (span // 2, span - span // 2))) for conv, span in zip(self.convs, spans)]
        return torch.cat(maps, dim=1).relu().transpose(1, 2), mask

    def pool(self, h: Tensor, mask: Tensor) -> Tensor:
        """Return the largest response of each filter, `(B, F)`."""
        return self.dropout(h.masked_fill(~mask.bool().unsqueeze(-1), 0).amax(1))


class BiLSTM(TextModel):
    """An LSTM in each direction, and the largest value of each output (Conneau et al., 2017, arXiv 1705.02364).

    Args:
        vocab_size: number of token ids.
        num_classes: classes to tell apart.
        dim: width D of an embedding.
        width: units of each direction.
        dropout: share of the pooled vector that is dropped.
    """

    def __init__(self, vocab_size: int, num_classes: int, *, dim: int = 64, width: int = 64, dropout: float = 0.3):
        super().__init__()
        self.table = nn.Embedding(vocab_size, dim, padding_idx=PAD_ID)
        self.lstm = nn.LSTM(dim, width, batch_first=True, bidirectional=True)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(2 * width, num_classes)

    def hidden(self, embeds: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return the outputs of both directions, `(B, T, 2 * width)`; texts are padded on the right."""
        lengths = mask.sum(1).cpu()  # the backward direction has to start at each text's own end
        packed = pack_padded_sequence(embeds, lengths, batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=embeds.shape[1])[0], mask

    def pool(self, h: Tensor, mask: Tensor) -> Tensor:
        """Return the largest value of each output over the tokens, `(B, 2 * width)`."""
        return self.dropout(h.masked_fill(~mask.bool().unsqueeze(-1), -torch.inf).amax(1))


class TransformerClassifier(TextModel):
    """Any Hugging Face encoder, the mean over its tokens, and a linear layer.

    Args:
        encoder: takes `inputs_embeds` and `attention_mask`; texts are padded on the right.
        num_classes: classes to tell apart.
        layer: layers below the *hidden* level; default half of them.
        dropout: share of the pooled vector that is dropped.

    Attributes:
        provenance: columns that a row of the ledger has besides the usual ones, such as the checksum of the weights.
    """

    def __init__(self, encoder: nn.Module, num_classes: int, *, layer: int | None = None, dropout: float = 0.1):
        super().__init__()
        self.encoder = encoder
        self.provenance: dict[str, str] = {}
        self.layer = encoder.config.num_hidden_layers // 2 if layer is None else layer
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(encoder.config.hidden_size, num_classes)

    @property
    def table(self) -> nn.Embedding:
        """The encoder's embedding of the token ids."""
        return self.encoder.get_input_embeddings()

    def hidden(self, embeds: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return the encoder's last hidden states, `(B, T, H)`."""
        return self.encoder(inputs_embeds=embeds, attention_mask=mask).last_hidden_state, mask

    def pool(self, h: Tensor, mask: Tensor) -> Tensor:
        """Return the mean of the tokens' features, `(B, H)`."""
        seen = mask.to(h.dtype).unsqueeze(-1)
        return self.dropout((h * seen).sum(1) / seen.sum(1).clamp(min=1))

    def classify_mixed(self, embeds: Tensor, mask: Tensor, mixture: Mixture, level: Level) -> Tensor:
        """As in `TextModel`; the hidden level is inside the encoder, after `layer` layers."""
        if level != "hidden":
            return super().classify_mixed(embeds, mask, mixture, level)
        with mix_hidden(self.encoder, self.layer, mixture, mask) as union:
            h, _ = self.hidden(embeds, mask)
        return self.head(self.pool(h, union))


def small_transformer(
    vocab_size: int, num_classes: int, *, dim: int = 64, layers: int = 2, heads: int = 4, max_length: int = 128
) -> TransformerClassifier:
    """Return an untrained BERT of a few layers, made from a configuration: nothing is downloaded.

    Args:
        vocab_size: number of token ids.
        num_classes: classes to tell apart.
        dim: width of embeddings and hidden states.
        layers: number of layers.
        heads: attention heads of a layer.
        max_length: longest text, in tokens.
    """
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=vocab_size,
        hidden_size=dim,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=2 * dim,
        max_position_embeddings=max_length,
        type_vocab_size=1,
        pad_token_id=PAD_ID,
    )
    return TransformerClassifier(BertModel(config, add_pooling_layer=False), num_classes)


class HubUnavailable(LabError):
    """A pre-trained model is not on this machine, and no hub can be reached."""


def load_pretrained(name: str | os.PathLike = "distilbert-base-uncased", *, timeout: float = 3.0):
    """Return a pre-trained encoder and its tokenizer, from a folder, the local cache, or the hub.

    Args:
        name: a folder, or an id on the hub.
        timeout: seconds after which a hub that does not answer counts as unreachable.

    Returns:
        The encoder (a `transformers` model without head) and a `tokenizers.Tokenizer`.

    Raises:
        HubUnavailable: there is no such folder, it is not in the cache, and the hub cannot be reached or may not be
            asked (`HF_HUB_OFFLINE` or `MIXUP_OFFLINE` is set). It is raised within `timeout`; nothing hangs.
    """
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging

    local = Path(name).expanduser().is_dir()
    source = str(Path(name).expanduser()) if local else str(name)

    def fetch(local_files_only: bool):
        before = logging.get_verbosity(), logging.is_progress_bar_enabled()
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        try:
            encoder = AutoModel.from_pretrained(source, local_files_only=local_files_only)
            tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=local_files_only).backend_tokenizer
            tokenizer.no_padding()  # `encode` cuts and pads
            tokenizer.no_truncation()
            return encoder, tokenizer
        finally:
            logging.set_verbosity(before[0])
            if before[1]:
                logging.enable_progress_bar()

    try:
        return fetch(local_files_only=True)
    except (OSError, ValueError) as error:
        if local:
            raise HubUnavailable(f"{source} holds no model that transformers can read: {error}") from error
    reason = _unreachable(timeout)
    if reason:
        raise HubUnavailable(f"{source} is no folder, not in the local cache, and {reason}")
    return fetch(local_files_only=False)


def weights_checksum(name: str | os.PathLike) -> str:
    """Return "sha256:..." of the file `model.safetensors` of a pre-trained model, in its folder or in the cache."""
    from transformers.utils.hub import cached_file

    local = Path(name).expanduser()
    path = cached_file(str(local if local.is_dir() else name), "model.safetensors", local_files_only=True)
    with open(path, "rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def _unreachable(timeout: float) -> str:
    """Why the hub cannot be asked; empty if it can."""
    import urllib.error
    import urllib.request

    from huggingface_hub import constants

    for switch in ("HF_HUB_OFFLINE", "MIXUP_OFFLINE"):
        if os.environ.get(switch, "0") not in ("", "0"):
            return f"{switch} is set"
    try:
        urllib.request.urlopen(urllib.request.Request(constants.ENDPOINT, method="HEAD"), timeout=timeout).close()
    except urllib.error.HTTPError:  # it answers
        return ""
    except OSError as error:
        return f"the hub cannot be reached ({getattr(error, 'reason', error)})"
    return ""
