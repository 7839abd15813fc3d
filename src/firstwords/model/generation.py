"""Text from a model, token by token."""

from __future__ import annotations

import torch

from firstwords.model.attention import Layout
from firstwords.model.llama import Llama
from firstwords.tokens.tokenizer import Vocabulary


@torch.no_grad()
def generate(
    model: Llama,
    vocabulary: Vocabulary,
    prompt: str,
    *,
    add_bos: bool,
    seed: int = 0,
    max_length: int = 50,
    temperature: float = 0.7,
) -> str:
    """The prompt and its continuation, sampled at `temperature` (0: always the likeliest token).

    max_length counts tokens, the prompt's too, as in the cards' `generate(max_length=50, temperature=0.7)`; EOS ends.
    """
    generator = torch.Generator().manual_seed(seed)
    ids = ([vocabulary.bos_id] if add_bos else []) + vocabulary.encode([prompt])[0]
    ids = ids or [vocabulary.bos_id]
    model.eval()
    device = model.embedding.weight.device
    while len(ids) < max_length:
        seen = ids[-model.shape.positions :]
        hidden_ND = model.hidden(torch.tensor(seen, device=device), Layout.of([len(seen)], device))
        logits_V = model.unembedding(hidden_ND[-1]).float().cpu()
        if vocabulary.pad_id != vocabulary.eos_id:
            logits_V[vocabulary.pad_id] = -torch.inf
        if temperature > 0:
            chosen = int(torch.multinomial((logits_V / temperature).softmax(0), 1, generator=generator))
        else:
            chosen = int(logits_V.argmax())
        if chosen == vocabulary.eos_id:
            break
        ids.append(chosen)
    return vocabulary.decode(ids)
