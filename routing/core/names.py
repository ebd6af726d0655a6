"""Model names as Ollama reads them: `[host/][namespace/]model[:tag]`."""

from functools import lru_cache

DEFAULT_HOST = "registry.ollama.ai"
DEFAULT_NAMESPACE = "library"
DEFAULT_TAG = "latest"


def parts(name: str) -> tuple[str, str, str, str]:
    """Host, namespace, model and tag of a name, defaults filled in, the spelling kept; `:local` counts as no suffix."""
    name = name.strip()
    if "://" in name:
        name = name.split("://", 1)[1]
    if name.lower().endswith(":local"):
        name = name[: -len(":local")]
    path, slash, last = name.rpartition("/")
    model, colon, tag = last.rpartition(":")
    if not colon:
        model, tag = last, DEFAULT_TAG
    host, namespace = DEFAULT_HOST, DEFAULT_NAMESPACE
    if slash:
        before, _, namespace = path.rpartition("/")
        host = before or host
    return host, namespace, model, tag or DEFAULT_TAG


@lru_cache(maxsize=8192)
def canonical(name: str) -> str:
    """The key under which two spellings of one model are equal: all parts, lower case."""
    host, namespace, model, tag = parts(name)
    return f"{host}/{namespace}/{model}:{tag}".lower()


@lru_cache(maxsize=8192)
def is_cloud(name: str) -> bool:
    """Whether the name asks for a model at ollama.com: `:cloud` at its end, or a tag that ends with `-cloud`."""
    tag = name.strip().lower().rpartition("/")[2].partition(":")[2]
    return tag == "cloud" or tag.endswith((":cloud", "-cloud"))


@lru_cache(maxsize=8192)
def display(name: str) -> str:
    """The short form that lists show: default host and namespace dropped, the tag always there."""
    host, namespace, model, tag = parts(name)
    prefix = "" if namespace == DEFAULT_NAMESPACE else f"{namespace}/"
    if host != DEFAULT_HOST:
        prefix = f"{host}/{namespace}/"
    return f"{prefix}{model}:{tag}"
