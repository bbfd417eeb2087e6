"""Whether a metric is better when it is larger or smaller, by its name."""

from __future__ import annotations

import re
from typing import Literal

Mode = Literal["min", "max"]

# fmt: off
_SMALLER = frozenset((
    "loss", "losses", "error", "errors", "err", "perplexity", "ppl", "nll", "mse", "rmse", "mae",
    "mape", "wer", "cer", "ter", "bpc", "bpb", "fid", "regret", "divergence", "kl", "latency",
    "runtime", "time", "cost", "hamming", "brier", "ece", "distance", "logloss", "valloss",
    "trainloss", "testloss",
))
_LARGER = frozenset((
    "accuracy", "acc", "auc", "auroc", "auprc", "roc", "f1", "f2", "fbeta", "precision", "recall",
    "sensitivity", "specificity", "iou", "miou", "jaccard", "dice", "map", "ap", "ndcg", "mrr",
    "bleu", "rouge", "meteor", "reward", "return", "score", "psnr", "ssim", "kappa", "mcc", "r2",
    "top1", "top5", "correct", "success",
))
# Words that turn the direction of another one, or may.
_TURNS = frozenset((
    "neg", "negative", "minus", "inverse", "inverted", "no", "not", "drop", "gap",
    "reduction", "reduced", "saved", "gain", "improvement", "penalty", "failure", "between", "code",
))
# fmt: on
_WORDS = re.compile(r"[a-z]+[0-9]*|[0-9]+")


def mode_of(metric: str) -> Mode | None:
    """Return the mode that a metric's name implies; None if its words say nothing or contradict.

    Args:
        metric: the metric's name, such as "val_loss" or "eval/top-1 accuracy".

    Example:
        >>> mode_of("val_loss"), mode_of("eval/accuracy"), mode_of("speed")
        ('min', 'max', None)
    """
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", metric)  # valLoss
    words = _WORDS.findall(spaced.lower())
    if metric.startswith(("-", "1-", "1 -")) or not _TURNS.isdisjoint(words):
        return None
    known = [word for word in words if word in _SMALLER or word in _LARGER]
    if not known:
        return None
    if known[-1] in _SMALLER:  # "dice_loss" is a loss
        return "min"
    return "max" if _SMALLER.isdisjoint(known) else None
