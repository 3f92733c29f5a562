"""The rules of Go by their names: what repeats are forbidden, and whether a stone may kill itself."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from apps.go.state import NO_KO, SIMPLE, SITUATIONAL, SUPERKO

KO_RULES = {"none": NO_KO, "simple": SIMPLE, "positional": SUPERKO, "situational": SITUATIONAL}
RULES = {
    "tromp-taylor": ("positional", True), "chinese": ("simple", False), "chinese-ogs": ("positional", False),
    "chinese-kgs": ("positional", False), "aga": ("situational", False), "bga": ("situational", False),
    "new-zealand": ("situational", True), "japanese": ("simple", False), "korean": ("simple", False),
}
"""Names as in KataGo: the ko rule and whether suicide is allowed. Area is counted under all of them, and White gets
no points for a handicap."""
TERRITORY = ("japanese", "korean")
_ALSO = {"nz": "new-zealand", "newzealand": "new-zealand", "tromptaylor": "tromp-taylor", "tt": "tromp-taylor"}
SPELT = {"tromp-taylor": "Tromp-Taylor", "aga": "AGA", "bga": "BGA", "new-zealand": "NZ", "chinese": "Chinese",
          "japanese": "Japanese", "korean": "Korean"}
_STRING = re.compile(r"ko(none|simple|positional|situational)scorearea(?:taxnone)?sui([01])")


def read_rules(rules: str | Mapping[str, Any]) -> tuple[str, int, bool]:
    """The rules' name, the number of their ko rule, and whether suicide is allowed.

    Raises:
        ValueError: if they are not known, or count otherwise than by area.
    """
    if isinstance(rules, str):
        word = re.sub(r"[\s_]+", "-", rules.strip().lower().removesuffix(" rules"))
        word = _ALSO.get(word, word)
        if word in RULES:
            ko, suicide = RULES[word]
            return word, KO_RULES[ko], suicide
        if found := _STRING.fullmatch(word):
            return rules.strip(), KO_RULES[found[1]], found[2] == "1"
        raise ValueError(f"rules {rules[:40]!r} are not known; choose one of {', '.join(RULES)}")
    given = {str(key).lower(): value.lower() if isinstance(value, str) else value for key, value in rules.items()}
    if given.get("scoring", "area") != "area":
        raise ValueError(f"scoring {given['scoring']!r} is not known: the area is counted here, not the territory")
    if given.get("tax", "none") != "none" or given.get("hasbutton", False):
        raise ValueError("there is no group tax and no button in the rules that are played here")
    if str(given.get("whitehandicapbonus", "0")) != "0":
        raise ValueError("White gets no points for a handicap here; set whiteHandicapBonus to 0 and raise the komi")
    if unknown := set(given) - {"ko", "suicide", "scoring", "tax", "hasbutton", "whitehandicapbonus", "friendlypassok"}:
        raise ValueError(f"rules do not say {', '.join(sorted(unknown))}; ko and suicide are wanted")
    named, allowed = given.get("ko", "positional"), given.get("suicide", True)
    if named not in KO_RULES or not isinstance(allowed, bool):
        raise ValueError(f"ko is {named!r} and suicide {allowed!r}; one of {', '.join(KO_RULES)} and a bool are wanted")
    return f"ko{named.upper()}scoreAREAtaxNONEsui{allowed:d}", KO_RULES[named], allowed
