"""What a word is, to those that count words: also in scripts that put no space between them."""

from __future__ import annotations

# Thai, Lao, Myanmar, Khmer, kana (of half width too) and the characters of Chinese, as a class of a regular expression.
UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3041-\u30fa\u30fc-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\uff66-\uff9f\U00020000-\U0003ffff"
)
# Letters, digits and _ in a row are a word; of a script without spaces each character is one.
WORD = rf"[^\W{UNSPACED}]+|[{UNSPACED}]"
