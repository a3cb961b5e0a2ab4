"""An MLX model of which only the tokenizer is read: it renders and tokenizes, and computes nothing; needs no MLX."""

from pathlib import Path

from heylook_llm import core
from heylook_llm.catalog.mlx_folder import Folder
from heylook_llm.worker.providers import defaults
from heylook_llm.worker.providers.mlx_vocabulary import Vocabulary


def open_vocabulary(load: core.Load) -> "WordsOnly":
    """The vocabulary of a Load frame's model. Raises LoadFailed."""
    return WordsOnly(load)


class WordsOnly(Vocabulary):
    """See the module's docstring."""

    engine_defaults = defaults.ENGINE_DEFAULTS
    images = None

    def __init__(self, load: core.Load) -> None:
        folder, options = Folder(Path(load.path), load.model), load.options
        super().__init__(folder, load.model, folder.end_tokens())
        pooling: core.Pooling = options.get("pooling") or folder.pooling()
        answers = ("completion",) if self.infill is None else ("completion", "insert")
        self.defaults = defaults.of_model(options, {})
        self.info = core.ModelInfo(
            "mlx",
            folder.architecture,
            int(options.get("n_ctx") or folder.context_length or 0),
            n_ctx_trained=folder.context_length,
            n_vocab=folder.number("vocab_size") or self.size,
            chat_template="" if pooling else str(options.get("chat_template") or folder.chat_template()),
            capabilities=("embedding",) if pooling else answers,
            pooling=pooling,
        )
