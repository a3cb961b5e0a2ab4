"""Write tests/golden/bert_vectors.json: what torch computes for the random BERT of benchmarks/random_bert.py.

    pip install torch transformers
    python tools/write_bert_golden.py

The weights go into `transformers`' own BertModel and BertForSequenceClassification, and the texts through its own
WordPiece tokenizer, so nothing but the weights and the vocabulary is ours. All tokens are of the first sentence, also a
document's, as llama.cpp has it. torch is needed to run this, not to test against what it wrote.
"""

import importlib
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
GOLDEN = ROOT / "tests" / "golden" / "bert_vectors.json"
SEED = 1
TEXTS = [
    "The capital of France is Paris.",
    "The cat sat on the mat",
    "x",
    "",
    "Z\u00fcrich, caf\u00e9 & 42% (unbelievable!)",
    "and in " * 40,
]
QUERY = "capital of france"
DOCUMENTS = ["Paris is the capital of France.", "The cat sat on the mat.", "paris", "7 of 9"]


def main() -> None:
    """See the module's docstring."""
    torch: Any = importlib.import_module("torch")
    transformers: Any = importlib.import_module("transformers")
    random_bert: Any = importlib.import_module("benchmarks.random_bert")
    shape = random_bert.SHAPES["tiny"]
    config = transformers.BertConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.width,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=shape.feed_forward,
        max_position_embeddings=shape.context,
        num_labels=1,
    )
    model = transformers.BertForSequenceClassification(config).eval()
    own = {name: torch.from_numpy(values) for name, values in random_bert.weights(shape, SEED).items()}
    named = {name if name.startswith("classifier") else f"bert.{name}": values for name, values in own.items()}
    missing, unexpected = model.load_state_dict(named, strict=False)
    assert not unexpected, unexpected
    assert all("position_ids" in name or "token_type_ids" in name for name in missing), missing
    tokenizer = _tokenizer(transformers, random_bert.tokens(shape.vocabulary))

    def states(ids: list[int]) -> Any:
        with torch.no_grad():
            return model.bert(torch.tensor([ids])).last_hidden_state[0]

    texts = [tokenizer(text)["input_ids"] for text in TEXTS]
    pairs = [tokenizer(QUERY, document)["input_ids"] for document in DOCUMENTS]
    with torch.no_grad():
        scores = [float(model(torch.tensor([ids])).logits[0, 0]) for ids in pairs]
    golden = {
        "written_by": "tools/write_bert_golden.py",
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "shape": "tiny",
        "seed": SEED,
        "texts": [{"text": text, "tokens": ids} for text, ids in zip(TEXTS, texts, strict=True)],
        "mean": [_rounded(states(ids).mean(dim=0)) for ids in texts],
        "cls": [_rounded(states(ids)[0]) for ids in texts],
        "query": QUERY,
        "documents": [{"text": text, "tokens": ids} for text, ids in zip(DOCUMENTS, pairs, strict=True)],
        "scores": [round(score, 6) for score in scores],
    }
    GOLDEN.parent.mkdir(exist_ok=True)
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(value)}" for name, value in golden.items())
    GOLDEN.write_text("{\n" + lines + "\n}\n")
    print(GOLDEN, file=sys.stderr)


def _tokenizer(transformers: Any, tokens: list[str]) -> Any:
    """transformers' BERT tokenizer over our vocabulary."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vocab.txt"
        path.write_text("\n".join(tokens) + "\n")
        return transformers.BertTokenizerFast.from_pretrained(folder)


def _rounded(vector: Any) -> list[float]:
    return [round(float(value), 6) for value in vector]


if __name__ == "__main__":
    main()
