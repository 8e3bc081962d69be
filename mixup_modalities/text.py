"""Mixup for text: token ids cannot be averaged, embeddings can.

Three places to mix, all with one :class:`~mixup_modalities.Mixture`:

- *word level*: token embeddings ``(B, T, D)``, with :class:`EmbeddingMixup` (wordMixup; Guo, Mao and Zhang, 2019, arXiv
  1905.08941, section 3.2);
- *hidden layer*: the output of any layer of a stock encoder, with :func:`mix_hidden` (TMix; Chen, Yang and Yang, 2020,
  arXiv 2004.12239, section 3.1);
- *sentence level*: the pooled vector ``(B, F)``, with ``mixture.mix(pooled)`` (Guo et al., senMixup).

Texts differ in length, so each place raises the question what stands beside a token whose partner has none. Here the
answer is: nothing. A padded position contributes zero, whatever is stored there, and the mixture is attended wherever
either text has a token: its mask is the union of the two.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from .kernels import mix_lookup, mix_tokens
from .mixture import Mixture, MixupModule, Pairing, Per, check_generator, values_readable

_MASK_NAMES = ("attention_mask", "attn_mask")  # what Hugging Face encoder layers call their mask


class EmbeddingMixup(MixupModule):
    """Mixup of token embeddings, with the mask got right.

    >>> embeds = model.get_input_embeddings()(input_ids)
    >>> embeds, mask, mixture = EmbeddingMixup(alpha=0.2)(embeds, attention_mask)
    >>> logits = model(inputs_embeds=embeds, attention_mask=mask).logits
    >>> loss = mixture.loss(F.cross_entropy, logits, labels)

    A decoder whose head reads a text's last token (``GPT2ForSequenceClassification``) needs padding on the left: given
    embeddings, it reads the last position.

    Args:
        alpha: lam ~ Beta(alpha, alpha); 0 switches mixing off.
        per: one lam for the ``"batch"``, each ``"pair"`` or each ``"sample"``.
        pairing: ``"shuffle"``, ``"roll"`` or ``"flip"``; see :func:`~mixup_modalities.draw_mixture`.
        lam_by_length: label a mixture by each text's share of its tokens, not by lam; see :func:`share_of_tokens`.
        check_finite: look for NaN and infinity at the real tokens, and at the values of the mask on every device. On a
            GPU this waits for the device.
    """

    def __init__(
        self,
        alpha: float = 0.2,
        *,
        per: Per = "batch",
        pairing: Pairing = "shuffle",
        lam_by_length: bool = False,
        check_finite: bool = False,
    ):
        super().__init__(alpha, per=per, pairing=pairing)
        self.lam_by_length, self.check_finite = bool(lam_by_length), bool(check_finite)

    def forward(
        self, embeds: Tensor, attention_mask: Tensor | None = None, *, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor | None, Mixture]:
        """Mix a batch of texts.

        Args:
            embeds: ``(B, T, D)`` floating token embeddings, T positions a text. Never changed.
            attention_mask: ``(B, T)``, 1 (or True) at tokens and 0 at padding, left or right; None: no padding.
            generator: a CPU generator; default torch's global one.

        Returns:
            The mixed embeddings ``(B, T, D)``, zero where neither text has a token; their mask ``(B, T)``, of the dtype
            of ``attention_mask``, or None; and the mixture, whose ``lam`` weighs the labels (with ``lam_by_length``
            that is not the lam of the embeddings). In evaluation mode, or with alpha = 0: the input as it is and the
            identity.

        Raises:
            TypeError: token ids, or anything else that is not floating embeddings; a mask that is not a tensor.
            ValueError: shapes or devices that disagree, a text without tokens, a mask that is not 0 and 1.
        """
        _check(embeds, attention_mask, self.check_finite)
        check_generator(generator)
        mixture = self.draw(embeds.shape[0], embeds.device, generator)
        if not self.training or self.alpha == 0:
            return embeds, attention_mask, mixture
        mixed, mask = mix_embeddings(embeds, attention_mask, mixture)
        if self.lam_by_length:
            mixture = share_of_tokens(mixture, attention_mask)
        return mixed, mask, mixture

    def lookup(
        self,
        embedding: nn.Embedding | Tensor,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor | None, Mixture]:
        """Look up and mix in one pass: the same as ``mixup(embedding(input_ids), attention_mask)``, with less memory.

        The unmixed embeddings are never made. Where one pass is not possible (another device or dtype than float32 on
        the CPU, ``check_finite``, an embedding with ``max_norm``, ``sparse``, hooks or a trained padding token) it is
        done in two.

        Args:
            embedding: ``model.get_input_embeddings()``, or its table ``(V, D)``; the gradient reaches it.
            input_ids: int64 ``(B, T)``, below V.
            attention_mask: as for :meth:`forward`.
            generator: as for :meth:`forward`.

        Returns:
            As :meth:`forward`.

        Raises:
            TypeError: floating ``input_ids``; an ``embedding`` that is no module with a table and no floating table.
            ValueError: an id outside of the table, ``input_ids`` that are not ``(B, T)``, and as :meth:`forward`.
        """
        table = _table(embedding)
        _check_ids(input_ids, table)
        if attention_mask is not None:
            _check_mask(attention_mask, input_ids, self.check_finite, "input_ids")
        mixes = self.training and self.alpha > 0
        if not mixes or self.check_finite or not _one_pass(embedding, input_ids, attention_mask):
            looked_up = nn.functional.embedding(input_ids, table) if table is embedding else embedding(input_ids)
            return self(looked_up, attention_mask, generator=generator)
        check_generator(generator)
        mixture = self.draw(len(input_ids), input_ids.device, generator)
        mixed = mix_lookup(table, input_ids, attention_mask, mixture.partner, mixture.lam)
        mask = None if attention_mask is None else union_mask(attention_mask, mixture)
        return mixed, mask, share_of_tokens(mixture, attention_mask) if self.lam_by_length else mixture

    def extra_repr(self) -> str:
        """The settings, for printing."""
        return super().extra_repr() + (", lam_by_length=True" if self.lam_by_length else "")


def mix_embeddings(embeds: Tensor, attention_mask: Tensor | None, mixture: Mixture) -> tuple[Tensor, Tensor | None]:
    """Mix features that have a mask by a given mixture: token embeddings, or hidden states.

    Args:
        embeds: ``(B, T, D)`` floating features.
        attention_mask: ``(B, T)`` of 0 and 1, or None for no padding.
        mixture: of B rows.

    Returns:
        ``lam * e[i] + (1 - lam) * e[partner[i]]``, in which a padded position counts as zero, even if NaN is stored
        there, and :func:`union_mask` of the mask.

    Raises:
        TypeError: ``embeds`` that are not floating; a mask that is not a tensor.
        ValueError: shapes or devices that disagree.
    """
    mixture.check_rows("embeds", embeds)
    if attention_mask is None:
        return mixture.mix(embeds), None
    _check(embeds, None, False)
    _check_shape(attention_mask, embeds)
    return mix_tokens(embeds, attention_mask, mixture.partner, mixture.lam), union_mask(attention_mask, mixture)


def union_mask(attention_mask: Tensor, mixture: Mixture) -> Tensor:
    """The mask of a mixture: 1 where a text that has weight in it has a token.

    A row with lam = 1 keeps its own mask, and one with lam = 0 takes its partner's, so that pure rows are the texts
    themselves; in between it is the union.

    Args:
        attention_mask: ``(B, T)`` of 0 and 1.
        mixture: of B rows.

    Returns:
        ``(B, T)`` in the dtype of ``attention_mask``.

    Raises:
        TypeError, ValueError: ``attention_mask`` is not a tensor ``(B, T)`` on the device of the mixture.
    """
    _check_shape(attention_mask)
    mixture.check_rows("attention_mask", attention_mask)
    own, lam = attention_mask != 0, mixture.lam_like(attention_mask)
    partners = own.index_select(0, mixture.partner)
    return ((own & (lam > 0)) | (partners & (lam < 1))).to(attention_mask.dtype)


def share_of_tokens(mixture: Mixture, attention_mask: Tensor | None) -> Mixture:
    """The mixture that weighs labels by length: a text of three tokens beside one of thirty counts for less.

    With n tokens in a text, its share of the mixed tokens is ``lam n / (lam n + (1 - lam) n[partner])``. This is the W
    of the embeddings over the whole text: the mean token of a mixture is the mixture of the two mean tokens with
    exactly this weight. At a single position where both have a token, the embeddings are still weighed by lam.

    Args:
        mixture: as drawn.
        attention_mask: ``(B, T)`` of the unmixed texts; None: all have the same length, and the mixture stays as it is.

    Returns:
        A mixture with the same partners and ``lam`` of shape ``(B,)``.

    Raises:
        TypeError, ValueError: as :func:`union_mask`.
    """
    if attention_mask is None:
        return mixture
    _check_shape(attention_mask)
    mixture.check_rows("attention_mask", attention_mask)
    length = (attention_mask != 0).sum(1).float()
    own, partners = mixture.lam * length, (1 - mixture.lam) * length.index_select(0, mixture.partner)
    total = own + partners
    return Mixture(torch.where(total > 0, own / total.clamp(min=1e-30), mixture.lam), mixture.partner)


def position_ids(attention_mask: Tensor, first: int = 0) -> Tensor:
    """Positions counted over the tokens alone, for models that get ``inputs_embeds`` of texts padded on the left.

    Given embeddings, a model counts positions from the left edge. With padding on the right that is right. With padding
    on the left, pass these: GPT-2 counts from 0, RoBERTa from ``config.pad_token_id + 1``.

    Args:
        attention_mask: ``(B, T)`` of 0 and 1.
        first: position of a text's first token.

    Returns:
        int64 ``(B, T)``; padding before the first token has ``first`` too.
    """
    return ((attention_mask != 0).long().cumsum(1) - 1).clamp(min=0) + first


@contextmanager
def mix_hidden(
    model: nn.Module,
    layer: int,
    mixture: Mixture,
    attention_mask: Tensor | None = None,
    *,
    layers: nn.ModuleList | None = None,
) -> Iterator[Tensor | None]:
    """Mix at a hidden layer of a stock encoder while the ``with`` block runs (TMix; Chen et al., 2020).

    Below the layer each text is read with its own mask; there the hidden states are mixed, padded positions as zero;
    above it every mixture is read with the union of the two masks. Hooks do it, and leave the model as it was.

    A decoder whose head reads a text's last token needs padding on the left: it looks for it in the unmixed
    ``input_ids``.

    >>> mixture = mixup.draw(len(input_ids), input_ids.device, generator)
    >>> with mix_hidden(model, 3, mixture, attention_mask):
    ...     logits = model(input_ids, attention_mask=attention_mask).logits

    Args:
        model: a Hugging Face model, with or without a head.
        layer: how many layers run before the mixing, from 0 (mix what enters the first layer) to all of them.
        mixture: of the batch's B rows. It mixes in evaluation mode too: a module's ``draw`` gives the identity there.
        attention_mask: ``(B, T)``, the same that the model gets; None: no padding.
        layers: the layers, where the model has several stacks; default: found by ``config.num_hidden_layers``.

    Yields:
        :func:`union_mask`, for pooling what comes out; None without a mask.

    Raises:
        TypeError: the layers take a mask of a kind that has no union (flex attention): load the model with
            ``attn_implementation="sdpa"`` or ``"eager"``.
        ValueError: no such layer, the layers cannot be found, the mask does not fit, or gradient checkpointing is
            on in a version of transformers whose checkpoints repeat hooks.
    """
    blocks = encoder_layers(model) if layers is None else layers
    if isinstance(layer, bool) or not isinstance(layer, int) or not 0 <= layer <= len(blocks):
        raise ValueError(f"layer: expected an integer from 0 to {len(blocks)}, the number of layers, got {layer!r}")
    if attention_mask is not None:
        _check_mask(attention_mask, None, False)
        if attention_mask.shape[0] != len(mixture):
            raise ValueError(
                f"attention_mask: expected {len(mixture)} rows as the mixture has, got {tuple(attention_mask.shape)}"
            )
    if any(map(_runs_again_without_hooks, blocks)):
        raise ValueError(
            "model: its gradient checkpointing would run the layers again, unmixed, in the backward pass: switch it "
            "off, or use a transformers whose checkpoints leave hooks alone (5.23 does)"
        )

    def mix(hidden: Tensor) -> Tensor:
        if attention_mask is not None and attention_mask.shape != hidden.shape[:2]:
            raise ValueError(
                f"attention_mask: expected shape {tuple(hidden.shape[:2])} as the hidden states have, got "
                f"{tuple(attention_mask.shape)}"
            )
        return mix_embeddings(hidden, attention_mask, mixture)[0]

    def before(index: int):
        def hook(block: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
            named = inspect.signature(block.forward).bind(*args, **kwargs).arguments
            if index == layer:
                args, kwargs = _replaced(block, args, kwargs, next(iter(named)), mix)
            for name in (n for n in _MASK_NAMES if n in named):
                args, kwargs = _replaced(block, args, kwargs, name, lambda mask: _union_of(mask, mixture))
            return args, kwargs

        return hook

    def after(block: nn.Module, args: tuple, output: Tensor | tuple) -> Tensor | tuple:
        return (mix(output[0]), *output[1:]) if isinstance(output, tuple) else mix(output)

    with ExitStack() as hooks:
        for index in range(layer, len(blocks)):
            hooks.callback(blocks[index].register_forward_pre_hook(before(index), with_kwargs=True).remove)
        if layer == len(blocks):
            hooks.callback(blocks[-1].register_forward_hook(after).remove)
        yield None if attention_mask is None else union_mask(attention_mask, mixture)


def encoder_layers(model: nn.Module) -> nn.ModuleList:
    """The layers of a Hugging Face model: its one list of ``config.num_hidden_layers`` modules that take a mask.

    Raises:
        ValueError: there is none, or more than one.
    """
    count = getattr(getattr(model, "config", None), "num_hidden_layers", None)
    found = [
        blocks
        for blocks in model.modules()
        if isinstance(blocks, nn.ModuleList)
        and len(blocks) == count
        and all(set(_MASK_NAMES) & set(inspect.signature(block.forward).parameters) for block in blocks)
    ]
    if len(found) != 1:
        raise ValueError(
            f"model: expected one list of config.num_hidden_layers = {count} layers in {type(model).__name__}, found "
            f"{len(found)}; name it with layers=, such as layers=model.encoder.layer"
        )
    return found[0]


def _runs_again_without_hooks(block: nn.Module) -> bool:
    """Whether a checkpoint wraps the call of a layer, hooks included: the hooks are gone when it is repeated."""
    checkpoints = getattr(block, "gradient_checkpointing", False) and block.training
    return checkpoints and type(block).__call__ is not nn.Module.__call__


def _replaced(block: nn.Module, args: tuple, kwargs: dict, name: str, change) -> tuple[tuple, dict]:
    """Arguments of a layer with one of them changed, wherever it stands."""
    if name in kwargs:
        return args, kwargs | {name: change(kwargs[name])}
    at = list(inspect.signature(block.forward).parameters).index(name)
    return (*args[:at], change(args[at]), *args[at + 1 :]), kwargs


def _union_of(mask: Tensor | None, mixture: Mixture) -> Tensor | None:
    """The union of a layer's mask with the partners': what is seen has the larger value, True, 1, or a bias of 0."""
    if mask is None:  # no padding, or a causal mask that the attention makes itself
        return None
    if not isinstance(mask, Tensor):
        raise TypeError(
            f"model: its layers take a mask of type {type(mask).__name__}, which has no union; load the model with "
            'attn_implementation="sdpa" or "eager"'
        )
    if mask.shape[0] != len(mixture):  # one mask for all rows
        return mask
    lam, partners = mixture.lam_like(mask), mask.index_select(0, mixture.partner)
    return torch.where(lam >= 1, mask, torch.where(lam <= 0, partners, torch.maximum(mask, partners)))


def _one_pass(embedding: nn.Module | Tensor, input_ids: Tensor, attention_mask: Tensor | None) -> bool:
    """Whether looking up is nothing but reading rows of the table."""
    if isinstance(embedding, Tensor):
        return True
    if type(embedding) is not nn.Embedding or embedding.max_norm is not None or embedding.scale_grad_by_freq:
        return False
    if embedding.sparse or embedding._forward_hooks or embedding._forward_pre_hooks or embedding._backward_hooks:
        return False
    if embedding.padding_idx is None or not embedding.weight.requires_grad:
        return True
    if input_ids.device.type != "cpu":
        return False
    padding = input_ids == embedding.padding_idx  # as a token it would get a gradient here, and gets none there
    return not bool((padding if attention_mask is None else padding & (attention_mask != 0)).any())


def _table(embedding: nn.Module | Tensor) -> Tensor:
    """The table of an embedding, or of whatever a model has in its place."""
    table = embedding if isinstance(embedding, Tensor) else getattr(embedding, "weight", None)
    if not isinstance(table, Tensor):
        raise TypeError(f"embedding: expected an nn.Embedding or its table (V, D), got {type(embedding).__name__}")
    if table is embedding and not (table.is_floating_point() and table.ndim == 2):
        raise TypeError(f"embedding: expected a floating table (V, D), got {table.dtype} of shape {tuple(table.shape)}")
    return table


def _check_ids(input_ids: Tensor, table: Tensor) -> None:
    if not isinstance(input_ids, Tensor) or input_ids.dtype not in (torch.int64, torch.int32):
        came = input_ids.dtype if isinstance(input_ids, Tensor) else type(input_ids).__name__
        raise TypeError(f"input_ids: expected token ids, an int64 tensor (B, T), got {came}")
    if input_ids.ndim != 2 or 0 in input_ids.shape:
        raise ValueError(f"input_ids: expected shape (B, T), B and T at least 1, got {tuple(input_ids.shape)}")
    if input_ids.device != table.device:
        raise ValueError(
            f"input_ids is on {input_ids.device} but embedding is on {table.device}: put both on one device"
        )
    if values_readable(input_ids):
        low, high = int(input_ids.min()), int(input_ids.max())
        if low < 0 or high >= len(table):
            raise ValueError(f"input_ids: expected ids in [0, {len(table)}), got {low if low < 0 else high}")


def _check(embeds: Tensor, attention_mask: Tensor | None, check_finite: bool) -> None:
    if not isinstance(embeds, Tensor):
        raise TypeError(f"embeds: expected a tensor (B, T, D), got {type(embeds).__name__}")
    if not embeds.is_floating_point():
        raise TypeError(
            f"embeds: expected floating token embeddings (B, T, D), got {embeds.dtype} of shape {tuple(embeds.shape)}. "
            "Token ids are names, and names have no average: look them up, model.get_input_embeddings()(input_ids)"
        )
    if embeds.ndim != 3:
        raise ValueError(
            f"embeds: expected shape (B, T, D), got {tuple(embeds.shape)}. Pooled features are mixed with mixture.mix"
        )
    if embeds.shape[1] == 0:
        raise ValueError(f"embeds: expected at least one token a text, got shape {tuple(embeds.shape)}")
    if attention_mask is not None:
        _check_mask(attention_mask, embeds, check_finite)
    if check_finite:
        bad = ~embeds.isfinite().all(2)
        bad = (bad if attention_mask is None else bad & (attention_mask != 0)).any(1)
        if bool(bad.any()):
            rows = bad.nonzero().flatten().tolist()
            raise ValueError(f"embeds: expected finite embeddings, got NaN or infinity at a token of rows {rows[:8]}")


def _check_shape(mask: Tensor, like: Tensor | None = None, name: str = "embeds") -> None:
    if not isinstance(mask, Tensor):
        raise TypeError(f"attention_mask: expected a tensor (B, T) of 0 and 1, or None, got {type(mask).__name__}")
    if mask.ndim != 2 or (like is not None and mask.shape != like.shape[:2]):
        expected = "(B, T)" if like is None else f"{tuple(like.shape[:2])} as {name} has"
        raise ValueError(f"attention_mask: expected shape {expected}, got {tuple(mask.shape)}")
    if like is not None and mask.device != like.device:
        raise ValueError(f"attention_mask is on {mask.device} but {name} is on {like.device}: put both on one device")


def _check_mask(mask: Tensor, like: Tensor | None, check_values: bool, name: str = "embeds") -> None:
    _check_shape(mask, like, name)
    if check_values or values_readable(mask):
        if mask.dtype != torch.bool and not bool(((mask == 0) | (mask == 1)).all()):
            odd = mask[(mask != 0) & (mask != 1)].flatten()[0].item()
            raise ValueError(
                f"attention_mask: expected 1 at tokens and 0 at padding, got {odd:g}. Biases (0 and -inf) are for the "
                "layers of a model: pass the mask that the tokenizer made"
            )
        empty = ~(mask != 0).any(1)
        if bool(empty.any()):
            rows = empty.nonzero().flatten().tolist()
            raise ValueError(
                f"attention_mask: expected a token in every text, but rows {rows[:8]} are all zero. Drop empty texts, "
                "or give them one token"
            )
