"""Transformers, convolutions with dropout, graphs, and the models of Hugging Face."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tests.masking.zoo.registry import BATCH, CLASSES, FEATURES, HIDDEN, STEPS, WORDS, Recurrent, Small, Tokens, model

KIND = "attention and others"
#: The network itself drops the units of these sites, in training only.
DROPS: dict[str, Any] = {"sites": "dropout", "drops": True}
CHECKPOINTING = ("sites", "activation checkpointing")


@model("a transformer encoder", KIND, shifts="embedding", monitor={"sites": "embedding"}, **DROPS)
class Encoder(Tokens):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(WORDS, 8)
        layer = nn.TransformerEncoderLayer(8, 2, 8, dropout=0.3, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, words: Tensor) -> Any:
        return self.head(self.encoder(self.embedding(words)).mean(1))


@model("a transformer decoder, causal", KIND, shifts="embedding", monitor={"sites": "embedding"}, **DROPS)
class Causal(Tokens):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(WORDS, 8)
        layer = nn.TransformerDecoderLayer(8, 2, 8, dropout=0.3, batch_first=True)
        self.decoder, self.head = nn.TransformerDecoder(layer, 1), nn.Linear(8, WORDS)

    def batch(self, number: int) -> Any:
        words, _ = super().batch(number)
        return words, words.roll(-1, 1)

    def loss(self, prediction: Any, target: Any) -> Tensor:
        return F.cross_entropy(prediction.flatten(0, 1), target.flatten())

    def forward(self, words: Tensor) -> Any:
        x, mask = self.embedding(words), nn.Transformer.generate_square_subsequent_mask(STEPS)
        return self.head(self.decoder(x, x.mean(1, keepdim=True), tgt_mask=mask, tgt_is_causal=True))


@model("attention alone, time first", KIND, monitor={"sites": "attention:dropout"}, sites="dropout", drops=True,
       refused={"perturbations": ("sites", "input"), "InferenceGapMonitor": ("sites",)})  # fmt: skip
class Attention(Small):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(FEATURES, HIDDEN)
        self.attention = nn.MultiheadAttention(HIDDEN, 2, dropout=0.3)
        self.dropout, self.head = nn.Dropout(0.2), nn.Linear(HIDDEN, CLASSES)

    def forward(self, x: Tensor) -> Any:
        x = self.dropout(self.inner(x.transpose(0, 1)))
        return self.head(self.attention(x, x, x)[0].mean(0))


@model("convolutions with dropout", KIND, sites="dropout", drops=True,
       refused={"perturbations": ("sites", "input"), "InferenceGapMonitor": ("sites",)})  # fmt: skip
class Convolutions(Small):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv1d(FEATURES, 6, 3), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout1d(0.3), nn.Flatten(), nn.Dropout(0.3)
        )
        self.head = nn.Linear(6 * (STEPS - 2), CLASSES)

    def forward(self, x: Tensor) -> Any:
        return self.head(self.net(x.transpose(1, 2)))


@model("an embedding bag", KIND, sites="embedding", shifts="embedding")
class Bag(Tokens):
    def __init__(self) -> None:
        super().__init__()
        self.bag, self.head = nn.EmbeddingBag(WORDS, HIDDEN), nn.Linear(HIDDEN, CLASSES)

    def forward(self, words: Tensor) -> Any:
        return self.head(self.bag(words))


@model("a graph with scattered messages", KIND, method={"batch_dim": 0}, sites="dropout", drops=True,
       refused={"perturbations": ("sites", "input"), "InferenceGapMonitor": ("sites",)})  # fmt: skip
class Graph(Small):
    def __init__(self) -> None:
        super().__init__()
        self.message, self.head = nn.Linear(FEATURES, HIDDEN), nn.Linear(HIDDEN, CLASSES)
        self.dropout = nn.Dropout(0.4)
        self.edges = torch.tensor([[0, 1, 2, 3, 4, 5, 0], [1, 2, 3, 0, 5, 4, 4]])

    def batch(self, number: int) -> Any:
        x, _ = super().batch(number)
        return x.flatten(0, 1)[:6], torch.randint(CLASSES, (6,))

    def forward(self, nodes: Tensor) -> Any:
        source, target = self.edges
        messages = self.dropout(self.message(nodes)[source])
        return self.head(messages.new_zeros(len(nodes), HIDDEN).index_add(0, target, messages).relu())


@model("activation checkpointing of an LSTM", KIND, refused={"all": CHECKPOINTING})
class Checkpointed(Recurrent):
    def forward(self, x: Tensor) -> Any:
        return checkpoint(super().forward, x, use_reentrant=False)


@model("activation checkpointing of blocks with dropout", KIND, monitor={"sites": "lstm:recurrent"}, **DROPS,
       refused={"all": CHECKPOINTING, "perturbations": (), "InferenceGapMonitor": ()})  # fmt: skip
class CheckpointedBlocks(Recurrent):
    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.Linear(FEATURES, FEATURES), nn.ReLU(), nn.Dropout(0.4))

    def forward(self, x: Tensor) -> Any:
        for _ in range(2):
            x = x + checkpoint(self.block, x, use_reentrant=False)
        return super().forward(x)


class Cached(nn.Module):
    """Attention of the newest step to all before it, whose keys are kept."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(FEATURES, HIDDEN)
        self.keys: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        key = self.project(x)
        self.keys.append(key.detach())
        kept = torch.stack([*self.keys[:-1][-4:], key], 1)
        return ((kept @ key.unsqueeze(-1)).softmax(1) * kept).sum(1)  # type: ignore[no-any-return]


@model("a cache of keys", KIND)
class KeyCache(Recurrent):
    def __init__(self) -> None:
        super().__init__()
        self.attention = Cached()

    def forward(self, x: Tensor) -> Any:
        return self.head(self.lstm(x)[0][:, -1] + self.attention(x[:, -1]))


class Hugging(Small):
    """A tiny model of Hugging Face, with random weights."""

    net: Any

    def batch(self, number: int) -> Any:
        torch.manual_seed(100 + number)
        words = torch.randint(2, WORDS, (BATCH, STEPS))
        return {"input_ids": words, "attention_mask": torch.ones_like(words), "labels": self.labels(words)}

    def labels(self, words: Tensor) -> Tensor:
        return torch.randint(CLASSES, (BATCH,))

    def forward(self, **batch: Any) -> Any:
        return self.net(**batch)

    def step(self, batch: Any) -> Any:
        return self(**batch).loss


HUGGING: dict[str, Any] = {
    "monitor": {"sites": "embedding"},
    "arguments": {"target": "labels", "output": "logits"},
    **DROPS,
}


@model("BERT", KIND, shifts="embedding", **HUGGING)
class Bert(Hugging):
    def __init__(self) -> None:
        super().__init__()
        from transformers import BertConfig, BertForSequenceClassification

        config: Any = BertConfig(  # type: ignore[call-arg]
            vocab_size=WORDS, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8,
            max_position_embeddings=8, num_labels=CLASSES,
        )  # fmt: skip
        self.net = BertForSequenceClassification(config)


@model("GPT-2", KIND, shifts="net.transformer.wte:embedding", **HUGGING)
class Gpt(Hugging):
    def __init__(self) -> None:
        super().__init__()
        from transformers import GPT2Config, GPT2LMHeadModel

        self.net = GPT2LMHeadModel(
            GPT2Config(vocab_size=WORDS, n_positions=8, n_embd=8, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0)
        )

    def labels(self, words: Tensor) -> Tensor:
        return words


@model("T5", KIND, shifts="net.shared:embedding", **HUGGING)
class T5(Hugging):
    def __init__(self) -> None:
        super().__init__()
        from transformers import T5Config, T5ForConditionalGeneration

        config: Any = T5Config(  # type: ignore[call-arg]
            vocab_size=WORDS, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2, decoder_start_token_id=0,
            relative_attention_num_buckets=4,
        )  # fmt: skip
        self.net = T5ForConditionalGeneration(config)

    def labels(self, words: Tensor) -> Tensor:
        return words.flip(1)
