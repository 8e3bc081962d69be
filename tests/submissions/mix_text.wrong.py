"""A plausible wrong submission: padding is multiplied by zero, pure rows are forgotten, and lam counts as the share."""

import torch


# %% q1
def union_mask(attention_mask, lam, partner):
    return torch.maximum(attention_mask, attention_mask[partner])


# %% q2
def mix_embeddings(embeds, attention_mask, lam, partner):
    clean = embeds * attention_mask[..., None]
    return lam[:, None, None] * clean + (1 - lam[:, None, None]) * clean[partner]


# %% q3
def masked_mean(hidden, mask):
    return (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)


# %% q4
def share_of_tokens(attention_mask, lam, partner):
    n = attention_mask.sum(1)
    return torch.where(n == n[partner], lam, n / (n + n[partner]))


# %% q5
def text_mixup(embeds, attention_mask, y, num_classes, lam, partner, by_length=False):
    clean = embeds * attention_mask[..., None]
    mixed = lam[:, None, None] * clean + (1 - lam[:, None, None]) * clean[partner]
    rows = torch.eye(num_classes)[y]
    return mixed, attention_mask, lam[:, None] * rows + (1 - lam[:, None]) * rows[partner]


# %% q6
statements = {
    "The mean of two token ids is the id of a word between them in meaning.": False,
    "With the intersection of two masks the end of the longer text is lost.": True,
    "Setting padded places to zero is enough: attention does not see zero vectors.": True,
    "Mixed embeddings reach a Hugging Face model through inputs_embeds.": True,
    "Mixed embeddings are in general not the embedding of any word.": False,
    "A tokenizer can turn a mixture of embeddings back into a sentence.": False,
}
