"""What the learner knows, in the form in which it outlives a restart."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LearnedSpeed:
    """One model on one node, alone: seconds per prompt token, per answer token, and per load.

    `weights` identifies what runs (the digest), `model` is a canonical name under which it was asked for. Each
    `..._seen` counts observations; 0 means that the value beside it is a guess from the node's class.
    """

    node_id: int
    weights: str
    model: str
    prompt_s: float
    prompt_seen: int
    output_s: float
    output_seen: int
    load_s: float
    load_seen: int


@dataclass(frozen=True, slots=True)
class LearnedNode:
    """How a node's total speed grows with k requests at once: k ** alpha; `seen` counts observations."""

    node_id: int
    alpha: float
    seen: int


@dataclass(frozen=True, slots=True)
class LearnedLength:
    """The answers of one model to one kind of task, in tokens: their mean and the last of them, oldest first."""

    task: str
    model: str
    mean: float
    seen: int
    last: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class LearnedText:
    """How many characters of text one token of a model stands for."""

    model: str
    characters_per_token: float
    seen: int


@dataclass(frozen=True, slots=True)
class Learned:
    """All of it."""

    speeds: tuple[LearnedSpeed, ...] = ()
    nodes: tuple[LearnedNode, ...] = ()
    lengths: tuple[LearnedLength, ...] = ()
    texts: tuple[LearnedText, ...] = ()
