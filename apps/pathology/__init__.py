"""Pathology: does lymph-node tissue hold tumour?

>>> from apps import pathology
>>> predictor = pathology.load()
>>> result = predictor(images)          # doctest: +SKIP
>>> result.probability, result.uncertain, result.saliency()  # doctest: +SKIP
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from apps.pathology.predict import Predictor, Result, load
    from apps.pathology.slide import SlideResult

__all__ = ["Predictor", "Result", "SlideResult", "load"]


def __getattr__(name: str) -> Any:
    """Imports torch only when something that needs it is asked for, so that a site of many rooms starts fast."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    room = "apps.pathology.slide" if name == "SlideResult" else "apps.pathology.predict"
    return getattr(import_module(room), name)
