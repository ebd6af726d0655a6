"""Request options: their types, their defaults, and which of them decide what a runner is."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any

from simulator.models import ModelSpec
from simulator.wire import Refusal

_INTEGERS = {"num_ctx", "num_batch", "num_gpu", "main_gpu", "num_thread", "draft_num_predict"}
_INTEGERS |= {"num_keep", "seed", "num_predict", "top_k", "repeat_last_n"}
_FLOATS = {"top_p", "min_p", "typical_p", "temperature", "repeat_penalty", "presence_penalty", "frequency_penalty"}
_BOOLEANS = {"use_mmap"}
LEAST_CONTEXT = 4
LEAST_VISION_CONTEXT = 2048
DEFAULT_BATCH = 512


class WrongOption(Refusal):
    def __init__(self, name: str, kind: str) -> None:
        super().__init__(HTTPStatus.INTERNAL_SERVER_ERROR, f'option "{name}" must be of type {kind}')


@dataclass(frozen=True, slots=True)
class RunnerOptions:
    """Options that cannot change without a reload; None (and num_gpu -1) is automatic."""

    num_ctx: int | None = None
    num_batch: int | None = None
    num_gpu: int = -1
    main_gpu: int = 0
    use_mmap: bool | None = None
    num_thread: int = 0
    draft_num_predict: int = 0
    shift: bool = True

    def clamped(self, spec: ModelSpec) -> "RunnerOptions":
        """num_ctx within what the model can do."""
        if self.num_ctx is None:
            return self
        least = LEAST_VISION_CONTEXT if "vision" in spec.capabilities else LEAST_CONTEXT
        return replace(self, num_ctx=max(least, min(self.num_ctx, spec.train_context)))

    def needs_reload(self, loaded: "RunnerOptions", loaded_context: int, default_context: int) -> bool:
        """Whether a runner with the `loaded` options and context length cannot serve a request with these."""
        # Automatic on both sides counts as equal, whatever length the loader chose.
        both_automatic = self.num_ctx is None and loaded.num_ctx is None
        context_differs = not both_automatic and (self.num_ctx or default_context) != loaded_context
        return (
            context_differs
            or (self.num_batch or DEFAULT_BATCH) != (loaded.num_batch or DEFAULT_BATCH)
            or (self.num_gpu not in {-1, loaded.num_gpu})
            or (self.use_mmap is not None and self.use_mmap != loaded.use_mmap)
            or (self.main_gpu, self.num_thread, self.draft_num_predict, self.shift)
            != (loaded.main_gpu, loaded.num_thread, loaded.draft_num_predict, loaded.shift)
        )


@dataclass(frozen=True, slots=True)
class Options:
    """What a request asks of the engine; `num_predict` None is unlimited."""

    runner: RunnerOptions
    num_predict: int | None = None
    num_keep: int = 4
    stop: tuple[str, ...] = ()


def read_options(given: Mapping[str, Any], modelfile: Mapping[str, Any], *, shift: bool = True) -> Options:
    """Options of the request over those of the Modelfile over the defaults; unknown ones are ignored."""
    merged = {**modelfile, **{name: value for name, value in given.items() if value is not None}}
    values = {name: _checked(name, value) for name, value in merged.items()}
    runner = RunnerOptions(
        num_ctx=values.get("num_ctx"),
        num_batch=values.get("num_batch"),
        num_gpu=values.get("num_gpu", -1),
        main_gpu=values.get("main_gpu", 0),
        use_mmap=values.get("use_mmap"),
        num_thread=values.get("num_thread", 0),
        draft_num_predict=values.get("draft_num_predict", 0),
        shift=shift,
    )
    num_predict = values.get("num_predict", -1)
    return Options(
        runner=runner,
        num_predict=None if num_predict < 0 else num_predict,
        num_keep=values.get("num_keep", 4),
        stop=tuple(values.get("stop", ())),
    )


def _checked(name: str, value: Any) -> Any:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if name in _INTEGERS:
        if not number:
            raise WrongOption(name, "integer")
        return int(value)
    if name in _FLOATS and not number:
        raise WrongOption(name, "float32")
    if name in _BOOLEANS and not isinstance(value, bool):
        raise WrongOption(name, "boolean")
    if name == "stop" and not (isinstance(value, list) and all(isinstance(item, str) for item in value)):
        raise WrongOption(name, "array" if not isinstance(value, list) else "an array of strings")
    return value
