"""The model's fast tokenizer, set up so that one tokenization gives chunk borders and model input."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tokenizers import Tokenizer as RustTokenizer

from consumer.errors import Exit, Stop

if TYPE_CHECKING:
    from consumer.content import Encoding

# Words, punctuation, runs of white space, scripts with and without blanks, marks, controls: where tokenizers differ.
_SAMPLE = (
    "The quick brown-fox, naïvely, paid $3.50 for it's (un)usual HTTP_request/response code.\n\n"
    "  Ünïcode and Ελληνικά, русский текст; 漢字かな交じり文 and 한국어 in one line\t... "
    "e\u0301te\u0301 ﬁn\u200bal 👩‍🚀!\n"
    "tabs\tand    runs of   blanks, 1,000,000 numbers"
)


class FastTokenizer:
    """Content tokens of texts: no special tokens, no truncation, no padding, offsets in the original text.

    Its own copy of the model's tokenizer, which nothing else sets up anew; safe to use from several threads.
    """

    def __init__(self, serialized: str, *, max_tokens: int, added_tokens: int) -> None:
        settings = json.loads(serialized)
        # Special tokens are the post-processor's, and trimmed offsets too, which would lose blanks that are tokens.
        settings.update(truncation=None, padding=None, post_processor=None)
        self._tokenizer = RustTokenizer.from_str(json.dumps(settings))
        self._max_tokens, self._added_tokens = max_tokens, added_tokens

    @property
    def max_tokens(self) -> int:
        """Tokens that one model input may have, special tokens and the document prompt included."""
        return self._max_tokens

    @property
    def added_tokens(self) -> int:
        """How many of them every input spends on special tokens and the document prompt."""
        return self._added_tokens

    def encode(self, text: str) -> Encoding:
        """Tokenize one text."""
        return self._tokenizer.encode(text, add_special_tokens=False)

    def encode_batch(self, texts: Sequence[str]) -> Sequence[Encoding]:
        """Tokenize many texts at once, in their order."""
        return self._tokenizer.encode_batch(list(texts), add_special_tokens=False)


def refuse_context(tokenizer: FastTokenizer, model: str) -> None:
    """Raise Stop if the tokens of a word depend on the words around it.

    Chunks could not be cut from one tokenization then, and equal chunks would not be equal input. Tried on a sample at
    each of its word borders.
    """
    whole = tokenizer.encode(_SAMPLE)
    ids, offsets, words = list(whole.ids), whole.offsets, whole.word_ids
    for border in range(1, len(ids)):
        if words[border] == words[border - 1] or offsets[border][0] < offsets[border - 1][1]:
            continue
        left, right = tokenizer.encode_batch([_SAMPLE[: offsets[border - 1][1]], _SAMPLE[offsets[border][0] :]])
        if list(left.ids) != ids[:border] or list(right.ids) != ids[border:]:
            raise Stop(
                f"The tokenizer of {model} cannot be cut at word borders.",
                "Its tokens depend on the words around them, so equal chunks could get different vectors.",
                "Choose another model.",
                exit_code=Exit.USAGE,
            )
